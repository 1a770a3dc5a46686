"""The layer at work: beside runtimes other than Python, in an older root, as nobody, over TLS."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import platform as system
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import ClassVar

import pytest

from helpers.kinesis_server import KinesisServer
from helpers.layer_kit import ROOT, alone, build, certificate, debootstrap, unpack
from helpers.lifecycle import Stage, settings, until
from helpers.scanner import widest_vectors
from helpers.scripted_platform import NEXT, ScriptedPlatform, file_sink, line, runtime_done
from layer.authorities import hashed
from telemetryd.local import LocalLambda

EXTENSIONS = ROOT / "tests" / "extensions"
RUNTIMES = {
    "sh": ["/bin/sh", str(EXTENSIONS / "bootstrap.sh")],
    "node": ["node", str(EXTENSIONS / "bootstrap.mjs")],
}
# A mount namespace in which the root is read-only and /tmp is not; then the layer as nobody.
READ_ONLY = """
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && mount -t tmpfs -o mode=1777 tmp "$1/tmp"
shift
exec chroot --userspec=65534:65534 "$@"
"""
ONLY = file_sink(Path("/tmp/only-this"))  # noqa: S108 - of the namespace
TELL_WHAT_IS_LEFT = (
    """printf '{"event":"left","names":"%s"}\\n' "$(ls -A /tmp | tr '\\n' ' ')" >&2"""
)


def runtime(name: str) -> list[str]:
    """The command of a runtime; skips when a tool of it is missing."""
    tool = {"sh": "curl", "node": "node"}[name]
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool}")
    return RUNTIMES[name]


def in_root(directory: Path, root: Path, launcher: Path) -> Path:
    """An executable that becomes the launcher, which lies in `root`, inside that root."""
    script = directory / "telemetryd"
    inside = Path("/", launcher.relative_to(root))
    script.write_text(f"#!/bin/sh\nexec chroot {root} {inside}\n")
    script.chmod(0o755)
    return script


@pytest.fixture
def old(old_root: Path, opt: Path, tmp_path: Path) -> Iterator[Path]:
    """The layer's launcher in the older root's /opt, where Lambda unpacks layers."""
    place = old_root / "opt"
    with alone(old_root):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(opt, place)
        yield in_root(tmp_path, old_root, place / "extensions" / "telemetryd")


def play(
    stage: Stage, launcher: Path, name: str, variables: dict[str, str] | None = None
) -> LocalLambda:
    """Invoke a function three times; the environment when all is over."""
    config = stage.config(variables, extensions=[launcher], bootstrap=runtime(name))

    async def scenario() -> LocalLambda:
        async with LocalLambda(config) as env:
            for number in range(3):
                result = await env.invoke({"number": number})
                assert (result.status, json.loads(result.payload)) == (
                    "success",
                    {"number": number},
                )
        return env

    return asyncio.run(scenario())


@pytest.mark.parametrize("name", RUNTIMES)
def test_beside_a_runtime_that_is_not_python(launcher: Path, tmp_path: Path, name: str) -> None:
    """Every line of the function is in the file, and every line is in the books."""
    stage = Stage(tmp_path)
    stage.assert_nothing_lost(play(stage, launcher, name))
    handled = [text for text in stage.records("function") if f"{name} handled" in text]
    assert len(handled) == 3


@pytest.mark.parametrize("name", RUNTIMES)
def test_in_a_root_with_an_older_c_library(
    old: Path, old_root: Path, tmp_path: Path, name: str
) -> None:
    """Glibc 2.31 and nothing else installed, as `chroot` shows it to the extension."""
    stage = Stage(tmp_path)
    stage.file = old_root / "tmp" / f"{name}.ndjson"
    stage.file.unlink(missing_ok=True)
    inside = settings(SINKS__FILE__PATH=f"/tmp/{name}.ndjson")  # noqa: S108 - of that root
    stage.assert_nothing_lost(play(stage, old, name, inside))


@pytest.mark.usefixtures("old")
def test_as_nobody_on_a_read_only_file_system(old_root: Path) -> None:
    """Nothing is written but what is configured, to /tmp; no home, no user name, no rights."""
    if subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0:
        pytest.skip("needs the right to unshare mounts")
    inside = ("sh", "-c", f"/opt/extensions/telemetryd && {TELL_WHAT_IS_LEFT}")
    command = ("unshare", "-m", "sh", "-c", READ_ONLY, "sh", str(old_root), str(old_root), *inside)
    with ScriptedPlatform(ONLY, command=command) as platform:
        telemetry, call = platform.begin()
        telemetry.sendall(line(1))
        call.shutdown()
        platform.finish()
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 1
        assert platform.log("left")[0]["names"] == "only-this "


def kinesis_variables(server: KinesisServer) -> dict[str, str]:
    """The environment of a function whose Kinesis is `server`."""
    return {
        "AWS_ENDPOINT_URL_KINESIS": server.url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "eu-west-1",
    } | settings(SINKS__K__TYPE="kinesis", SINKS__K__STREAM="s")


@pytest.mark.parametrize("client", ["lean", "aiobotocore"])
@pytest.mark.parametrize("trusted", [True, False])
def test_kinesis_over_tls(launcher: Path, tmp_path: Path, trusted: bool, client: str) -> None:
    """The client in lib/, the pruned models, the OpenSSL inside; who is not known is refused."""
    pem = certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    with KinesisServer(tls=tls) as server:
        variables = kinesis_variables(server)
        variables |= settings(SINKS__K__CLIENT=client)
        variables |= {"AWS_CA_BUNDLE": str(pem)} if trusted else {}
        with ScriptedPlatform(variables, command=(str(launcher),)) as platform:
            telemetry, call = platform.begin()
            telemetry.sendall(line(1) + line(2))
            call.shutdown(20.0 if trusted else 3.0)
            platform.finish()
            delivered = platform.ledger()["sinks"]["k"]["delivered"]["lines"]
        assert delivered == (2 if trusted else 0)
        assert len(server.accepted) == (1 if trusted else 0)
        assert server.violations == []


def test_kinesis_needs_nothing_of_an_sdk(opt: Path, tmp_path: Path) -> None:
    """The authority is found by the hash of its name, in the directory that the layer has."""
    own = tmp_path / "opt"
    shutil.copytree(opt, own)
    lib = own / "telemetryd" / "lib"
    for name in ("aiobotocore", "aiohttp", "botocore"):
        shutil.rmtree(lib / name)
    pem = certificate(tmp_path)
    for name, data in hashed(pem.read_bytes()).items():
        (lib / "certificates" / name).write_bytes(data)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    with KinesisServer(tls=tls) as server:
        command = (str(own / "extensions" / "telemetryd"),)
        with ScriptedPlatform(kinesis_variables(server), command=command) as platform:
            telemetry, call = platform.begin()
            telemetry.sendall(line(1) + line(2))
            call.shutdown(20.0)
            platform.finish()
            assert platform.ledger()["sinks"]["k"]["delivered"]["lines"] == 2


class LogsServer(http.server.BaseHTTPRequestHandler):
    """Says yes to every call, and remembers what was called."""

    targets: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        """Any call."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.targets.append(self.headers["X-Amz-Target"])
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Not on stderr."""


@pytest.mark.parametrize("client", ["lean", "aiobotocore"])
def test_metrics_by_put_log_events(launcher: Path, client: str) -> None:
    """The other service with pruned models: the calls it needs can be made."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), LogsServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        variables = {
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": f"http://127.0.0.1:{server.server_port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "eu-west-1",
            "AWS_LAMBDA_FUNCTION_NAME": "f",
        } | settings(SINKS__M__TYPE="emf", SINKS__M__DELIVERY="logs", SINKS__M__CLIENT=client)
        LogsServer.targets.clear()
        with ScriptedPlatform(variables, command=(str(launcher),)) as platform:
            telemetry, call = platform.begin()
            call.invoke("a")
            telemetry.sendall(start("a") + runtime_done("a") + report("a"))
            platform.expect(NEXT).shutdown(5.0)
            platform.finish()
        server.shutdown()
    assert "Logs_20140328.PutLogEvents" in LogsServer.targets


def start(request_id: str) -> bytes:
    """`platform.start`."""
    record = {"requestId": request_id, "version": "$LATEST"}
    return event("platform.start", record)


def report(request_id: str) -> bytes:
    """`platform.report`, which becomes metrics."""
    metrics = {"durationMs": 1.5, "billedDurationMs": 2, "memorySizeMB": 128, "maxMemoryUsedMB": 40}
    record = {"requestId": request_id, "status": "success", "metrics": metrics}
    return event("platform.report", record)


def event(kind: str, record: Mapping[str, object]) -> bytes:
    """One line of telemetry."""
    stamped = {"time": "2026-03-14T10:15:30.123Z", "type": kind, "record": record}
    return json.dumps(stamped).encode() + b"\n"


@pytest.mark.parametrize(("kind", "suffix"), [("gzip", "gz"), ("zstd", "zst")])
def test_every_kind_of_compression(launcher: Path, tmp_path: Path, kind: str, suffix: str) -> None:
    """Linked in: a rotated file is compressed."""
    place = tmp_path / "f"
    keys = {"SINKS__FILE__COMPRESSION": kind, "SINKS__FILE__ROTATE_BYTES": 4096}
    variables = file_sink(place) | settings(**keys)
    with ScriptedPlatform(variables, command=(str(launcher),)) as platform:
        telemetry, call = platform.begin()
        telemetry.sendall(b"".join(map(line, range(50))))
        until(lambda: place.exists() and place.stat().st_size)
        telemetry.sendall(b"".join(map(line, range(50))))
        until(lambda: list(tmp_path.glob(f"*.{suffix}")))
        call.shutdown(5.0)
        platform.finish()
        assert platform.log("configuration_invalid") == []
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 100


def test_the_scanner_is_linked_in_and_takes_the_widest_vectors(opt: Path) -> None:
    program = opt / "telemetryd" / "telemetryd"
    done = subprocess.run([program, "version"], capture_output=True, text=True, check=True, env={})
    assert f"scanner: compiled ({widest_vectors()})" in done.stdout


def test_version_names_everything_inside(opt: Path, own_zip: Path) -> None:
    """Each component of the bill of materials, at its version."""
    program = opt / "telemetryd" / "telemetryd"
    done = subprocess.run([program, "version"], capture_output=True, text=True, check=True, env={})
    text = done.stdout.lower().replace("_", "-")
    bill = json.loads(own_zip.with_suffix(".cdx.json").read_text())
    assert len(bill["components"]) > 20
    # musl is in the launcher; of what CPython and the compiler bring along the build alone knows.
    brought = {"cpython", "ziglang"}
    inside = [
        item
        for item in bill["components"]
        if item["name"] != "musl"
        and brought.isdisjoint(map(itemgetter("value"), item.get("properties", ())))
    ]
    for item in inside:
        assert f"{item['name'].lower()} {item['version']}" in text


@pytest.mark.parametrize("arguments", [("schema",), ("schema", "list"), ("--help",), ("check",)])
def test_the_commands_print_what_they_print_elsewhere(
    launcher: Path, arguments: tuple[str, ...]
) -> None:
    """Docstrings that become output are in the layer as well."""
    env = {"COLUMNS": "100", "PATH": os.environ["PATH"]}
    here = [sys.executable, "-c", "from telemetryd.__main__ import main; main()"]
    results = [
        subprocess.run([*command, *arguments], env=env, capture_output=True, text=True, check=False)
        for command in ([launcher], here)
    ]
    layer, elsewhere = [(r.returncode, _without_name(r.stdout)) for r in results]
    assert layer == elsewhere


def _without_name(text: str) -> str:
    """A usage line is wrapped by the length of the program's name."""
    return " ".join(text.replace("usage: -c ", "usage: telemetryd ").split())


def test_the_other_architecture_runs_too(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """Under qemu's user emulation, with that architecture's own C library, from start to ledger."""
    other = {"x86_64": ("arm64", "aarch64"), "aarch64": ("x86_64", "x86_64")}[system.machine()]
    emulator = shutil.which(f"qemu-{other[1]}-static")
    if emulator is None or os.geteuid() != 0 or shutil.which("debootstrap") is None:
        pytest.skip("needs root, debootstrap and qemu-user-static")
    debian = {"arm64": "arm64", "x86_64": "amd64"}[other[0]]
    root = debootstrap("bullseye", debian)
    opt = unpack(build(other[0], tmp_path_factory.mktemp("dist-other")), tmp_path / "opt")
    # The launcher's execve would need the kernel to know the emulator; the interpreter does not.
    program = opt / "telemetryd" / "telemetryd"
    command = (emulator, "-L", str(root), "-0", "/opt/extensions/telemetryd", str(program))
    with ScriptedPlatform(file_sink(tmp_path / "f"), command=command) as platform:
        telemetry, call = platform.begin()
        telemetry.sendall(line(1))
        call.shutdown(20.0)
        platform.finish()
        assert (tmp_path / "f").read_bytes() == line(1)
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 1


def test_the_other_architectures_launcher_serves_without_its_interpreter(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """The emulated launcher registers, finds nothing to become, and serves `next`."""
    other = {"x86_64": ("arm64", "aarch64"), "aarch64": ("x86_64", "x86_64")}[system.machine()]
    emulator = shutil.which(f"qemu-{other[1]}-static")
    if emulator is None:
        pytest.skip("needs qemu-user-static")
    opt = unpack(build(other[0], tmp_path_factory.mktemp("dist-other")), tmp_path / "opt")
    command = (emulator, str(opt / "extensions" / "telemetryd"))
    with ScriptedPlatform({}, command=command) as platform:
        platform.register()
        platform.expect(NEXT).shutdown()
        platform.finish(status=0)
        assert any("interpreter_not_started" in text for text in platform.printed)

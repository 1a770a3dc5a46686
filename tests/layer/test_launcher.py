"""The launcher: registers, becomes the interpreter, and serves `next` where there can be none."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from helpers.layer_kit import HERE, build, unpack
from helpers.lifecycle import settings, until
from helpers.ports import reserved
from helpers.scripted_platform import (
    NEXT,
    REGISTER,
    TELEMETRY,
    ScriptedPlatform,
    file_sink,
    line,
    runtime_done,
)

PARK = settings(LAMBDA__START="park", FLUSH__MAX_ADDED_MS=10_000)
LOST = "no telemetry is delivered; the function is not affected"


def run(launcher: Path, variables: dict[str, str] | None = None, **more: Any) -> ScriptedPlatform:
    """The extension, as the platform starts it."""
    return ScriptedPlatform(variables or {}, command=(str(launcher),), **more)


@pytest.fixture
def broken(launcher: Path, tmp_path: Path) -> Path:
    """A layer whose interpreter can't start."""
    (tmp_path / "extensions").mkdir()
    (tmp_path / "telemetryd").mkdir()
    interpreter = tmp_path / "telemetryd" / "telemetryd"
    interpreter.write_text("not a program")
    interpreter.chmod(0o755)
    return Path(shutil.copy(launcher, tmp_path / "extensions"))


def printed(platform: ScriptedPlatform, event: str) -> dict[str, Any]:
    """The one line with `event`."""
    found: dict[str, Any]
    (found,) = [json.loads(text) for text in platform.printed if f'"{event}"' in text]
    return found


def test_it_registers_as_the_interpreter_would_have(launcher: Path) -> None:
    """Once, in the same words; then the interpreter subscribes and asks for `next`."""
    with run(launcher) as platform:
        register = platform.register()
        assert (register.method, register.path) == ("POST", REGISTER)
        assert register.headers["lambda-extension-name"] == "telemetryd"
        assert register.headers["lambda-extension-accept-feature"] == "accountId"
        assert register.json() == {"events": ["INVOKE", "SHUTDOWN"]}
        platform.subscribe()
        platform.expect(NEXT).shutdown()
        platform.finish()
        platform.ledger()


def test_it_delivers(launcher: Path, tmp_path: Path) -> None:
    """All the way to a file."""
    with run(launcher, file_sink(tmp_path / "f")) as platform:
        telemetry, call = platform.begin()
        telemetry.sendall(line(1) + line(2))
        call.shutdown()
        platform.finish()
        assert (tmp_path / "f").read_bytes() == line(1) + line(2)
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 2


def test_parked_it_delivers_at_the_end_of_the_first_invocation(
    launcher: Path, tmp_path: Path
) -> None:
    """The launcher makes the calls and waits; the same process is the interpreter afterwards."""
    with run(launcher, file_sink(tmp_path / "f") | PARK) as platform:
        exe = Path(f"/proc/{platform.process.pid}/exe")
        telemetry, call = platform.begin()
        call.invoke("a", 900)
        telemetry.sendall(line(1) + line(2))
        assert exe.resolve() == launcher.resolve()
        telemetry.sendall(runtime_done("a"))
        call = platform.expect(NEXT)
        assert exe.resolve() == launcher.parents[1] / "telemetryd" / "telemetryd"
        assert (tmp_path / "f").read_bytes() == line(1) + line(2) + runtime_done("a")
        call.shutdown()
        platform.finish()
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 3
        assert platform.log("started")[0]["parked"] is True


def test_parked_it_leaves_without_an_interpreter(launcher: Path) -> None:
    """Nothing has arrived: the launcher has a ledger of its own."""
    with run(launcher, PARK) as platform:
        _, call = platform.begin()
        call.shutdown()
        platform.finish()
        assert platform.ledger()["parked"] is True
        assert len(platform.printed) == 1


def test_a_layer_built_with_a_configuration(tmp_path: Path) -> None:
    """It is in effect with no variable set, and the launcher can judge it."""
    file = tmp_path / "own.toml"
    file.write_text(
        '[lambda]\nstart = "park"\n[flush]\nmax_added_ms = 10000\n'
        f'[sinks.file]\ntype = "file"\npath = "{tmp_path / "f"}"\n'
    )
    opt = unpack(build(HERE, tmp_path / "dist", "--config", str(file)), tmp_path / "opt")
    with run(opt / "extensions" / "telemetryd") as platform:
        telemetry, call = platform.begin()
        call.invoke("a", 900)
        telemetry.sendall(line(1) + runtime_done("a"))
        platform.expect(NEXT).shutdown()
        platform.finish()
        assert (tmp_path / "f").read_bytes() == line(1) + runtime_done("a")
        assert platform.log("started")[0]["parked"] is True


def test_the_name_is_that_of_the_file(launcher: Path, tmp_path: Path) -> None:
    """A layer whose launcher was renamed registers under the new name."""
    (tmp_path / "extensions").mkdir()
    renamed = shutil.copy(launcher, tmp_path / "extensions" / "shipper")
    (tmp_path / "telemetryd").symlink_to(launcher.parents[1] / "telemetryd")
    with run(Path(renamed)) as platform:
        assert platform.register().headers["lambda-extension-name"] == "shipper"
        platform.subscribe()
        platform.expect(NEXT).shutdown()
        platform.finish()


def test_on_managed_instances_it_registers_for_shutdown_alone(launcher: Path) -> None:
    """INVOKE would be refused there."""
    with run(launcher, {"AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances"}) as platform:
        assert platform.register().json() == {"events": ["SHUTDOWN"]}
        platform.subscribe()
        platform.expect(NEXT).shutdown()
        platform.finish()


def test_a_signal_before_the_interpreter_runs(launcher: Path, tmp_path: Path) -> None:
    """It has registered, so it leaves with a ledger."""
    with run(launcher, file_sink(tmp_path / "f")) as platform:
        call = platform.expect(REGISTER)
        platform.process.send_signal(signal.SIGTERM)
        call.accept()
        platform.subscribe().sendall(line(1))
        platform.finish()
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 1
        assert platform.log("stopping")[0]["signal"] == "SIGTERM"


@pytest.mark.parametrize("where", ["variable", "file"])
def test_configured_events_are_the_interpreters_to_register(
    launcher: Path, tmp_path: Path, where: str
) -> None:
    """`lambda.events` may stand in a file, which C does not read."""
    (tmp_path / "t.toml").write_text('[lambda]\nevents = "shutdown"\n')
    variables = {
        "variable": settings(LAMBDA__EVENTS="shutdown"),
        "file": {"TELEMETRYD_CONFIG": str(tmp_path / "t.toml")},
    }
    with run(launcher, variables[where]) as platform:
        assert platform.register().json() == {"events": ["SHUTDOWN"]}
        platform.subscribe()
        platform.expect(NEXT).shutdown()
        platform.finish()


def test_invoke_refused_in_the_launchers_name_is_asked_for_again_without(launcher: Path) -> None:
    """The interpreter reads the answer that the launcher did not wait for."""
    with run(launcher) as platform:
        platform.expect(REGISTER).answer(403, b'{"errorType":"Extension.InvalidEventType"}')
        assert platform.register().json() == {"events": ["SHUTDOWN"]}
        platform.subscribe()
        platform.expect(NEXT).shutdown()
        platform.finish()


def test_it_stays_one_process_and_ends_with_its_status(launcher: Path) -> None:
    """The platform's child becomes the interpreter; a refused registration is status 1."""
    with run(launcher) as platform:
        exe = Path(f"/proc/{platform.process.pid}/exe")
        call = platform.expect(REGISTER)
        until(lambda: exe.resolve() == launcher.parents[1] / "telemetryd" / "telemetryd")
        assert Path(f"/proc/{platform.process.pid}/task").exists()
        call.answer(403, b"Extension.InvalidExtensionName")
        platform.finish(status=1)
        assert platform.log("register_failed")


def test_signals_reach_the_interpreter(launcher: Path, tmp_path: Path) -> None:
    """SIGTERM to the process the platform started: what was received is delivered."""
    with run(launcher, file_sink(tmp_path / "f")) as platform:
        telemetry, _ = platform.begin()
        telemetry.sendall(line(1))
        until(lambda: platform.log("started"))
        until(lambda: (tmp_path / "f").exists() and (tmp_path / "f").read_bytes())
        platform.process.send_signal(signal.SIGTERM)
        platform.finish()
        assert platform.log("stopping")[0]["signal"] == "SIGTERM"


def test_nothing_of_the_functions_environment_has_an_effect(launcher: Path, tmp_path: Path) -> None:
    """PYTHON*, LD_*, OpenSSL's and the C library's own variables, all of them harmful."""
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit(3)")
    (tmp_path / "asyncio.py").write_text("raise SystemExit(4)")
    (tmp_path / "openssl.cnf").write_text("openssl_conf = nonsense\n[nonsense]\nx = missing\n")
    harmful = {
        "PYTHONHOME": "/nonexistent",
        "PYTHONPATH": str(tmp_path),
        "PYTHONSTARTUP": str(tmp_path / "asyncio.py"),
        "PYTHONMALLOC": "debug",
        "PYTHONINSPECT": "1",
        "PYTHONVERBOSE": "1",
        "LD_PRELOAD": str(tmp_path / "missing.so"),
        "LD_LIBRARY_PATH": str(tmp_path),
        "LD_DEBUG": "all",
        "GLIBC_TUNABLES": "glibc.malloc.check=3",
        "OPENSSL_CONF": str(tmp_path / "openssl.cnf"),
        "LC_ALL": "xx_XX.nonsense",
    }
    with run(launcher, file_sink(tmp_path / "f") | harmful) as platform:
        telemetry, call = platform.begin()
        telemetry.sendall(line(1))
        call.shutdown()
        platform.finish()
        assert (tmp_path / "f").read_bytes() == line(1)
        assert all(text.startswith("{") for text in platform.printed if text.strip())


def test_without_an_interpreter_it_keeps_the_function_running(broken: Path) -> None:
    """One line, then `next` until SHUTDOWN, whatever else the platform says at the same time."""
    with run(broken) as platform:
        platform.register()
        platform.expect(NEXT).invoke("a")
        platform.expect(NEXT).drop()
        platform.expect(NEXT).answer(200, b"not an event")
        call = platform.expect(NEXT)
        assert call.headers["lambda-extension-identifier"]
        call.shutdown()
        platform.finish(status=0)
        told = printed(platform, "interpreter_not_started")
        assert "Exec format error" in told["error"]
        assert told["consequence"] == LOST
        assert len(platform.printed) == 1


def test_without_an_interpreter_managed_instances_are_served_too(broken: Path) -> None:
    """INVOKE refused: registered again without."""
    with run(broken) as platform:
        platform.expect(REGISTER).answer(403, b'{"errorType":"Extension.InvalidEventType"}')
        assert platform.register().json() == {"events": ["SHUTDOWN"]}
        platform.expect(NEXT).shutdown()
        platform.finish(status=0)


@pytest.mark.parametrize("status", [403, 500])
def test_without_an_interpreter_a_refused_next_is_the_end(broken: Path, status: int) -> None:
    """It says what the platform answered."""
    with run(broken) as platform:
        platform.register()
        platform.expect(NEXT).answer(status, b"over")
        platform.finish(status=1)
        assert str(status) in printed(platform, "platform_gone")["error"]


def test_without_an_interpreter_a_platform_that_left_is_the_end(broken: Path) -> None:
    """No busy loop."""
    with run(broken) as platform:
        platform.register()
        call = platform.expect(NEXT)
        platform.leave()
        call.drop()
        platform.finish(status=1)
        assert printed(platform, "platform_gone")


def too_little(launcher: Path) -> int:
    """KiB in which the interpreter can be executed, and Python can't start."""
    interpreter = launcher.parents[1] / "telemetryd" / "telemetryd"
    return interpreter.stat().st_size // 1024 + 4700


def test_an_interpreter_that_fails_early_keeps_the_function_running(
    launcher: Path, tmp_path: Path
) -> None:
    """Too little memory to start Python: the same line, the same service."""
    command = ("sh", "-c", f"ulimit -v {too_little(launcher)}; exec {launcher}")
    with ScriptedPlatform({}, command=command) as platform:
        platform.register()
        platform.expect(NEXT).shutdown()
        platform.finish(status=0)
        assert printed(platform, "interpreter_not_started")["consequence"] == LOST


def test_an_interpreter_that_fails_after_it_was_parked_loses_nothing_unsaid(
    launcher: Path,
) -> None:
    """What had waited is counted, and what still comes."""
    command = ("sh", "-c", f"ulimit -v {too_little(launcher)}; exec {launcher}")
    with ScriptedPlatform(PARK, command=command) as platform:
        telemetry, call = platform.begin()
        call.invoke("a")
        telemetry.sendall(line(1) + runtime_done("a"))
        call = platform.expect(NEXT)
        telemetry.sendall(line(2))
        call.shutdown()
        platform.finish(status=0)
        assert printed(platform, "interpreter_not_started")["consequence"] == LOST
        ledger = platform.ledger()
        assert ledger["degraded"] is True
        assert ledger["received"]["lines"] == ledger["unrouted"]["lines"] == 3


@pytest.mark.parametrize("variables", [{}, PARK], ids=["init", "park"])
@pytest.mark.parametrize("library", ["none", "old", "musl"])
def test_a_root_without_a_usable_c_library(
    launcher: Path, tmp_path: Path, library: str, variables: dict[str, str]
) -> None:
    """Nothing but the layer; a loader with an old glibc; musl's: one line, and `next` is served."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for chroot")
    opt = tmp_path / "opt"
    shutil.copytree(launcher.parents[1], opt)
    for directory in ("lib64", "lib"):
        (tmp_path / directory).mkdir()
    if library == "musl":
        (tmp_path / "lib" / "ld-musl-x86_64.so.1").write_bytes(b"\x7fELF")
    elif library == "old":
        for loader in ("lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1"):
            (tmp_path / loader).write_bytes(b"\x7fELF")
            (tmp_path / loader).chmod(0o755)
        (tmp_path / "lib64" / "libc.so.6").write_bytes(b"\x7fELF... GLIBC_2.17 ...")
    command = ("chroot", str(tmp_path), "/opt/extensions/telemetryd")
    with ScriptedPlatform(variables, command=command) as platform:
        platform.register()
        platform.expect(NEXT).invoke("a")
        platform.expect(NEXT).shutdown()
        platform.finish(status=0)
        error = printed(platform, "interpreter_not_started")["error"]
        assert "glibc 2.26" in error
        assert ("older" in error) == (library == "old")


def test_an_address_that_is_a_name_is_left_to_the_interpreter(launcher: Path) -> None:
    """The launcher resolves nothing."""
    with run(launcher, host="localhost") as platform:
        platform.register()
        platform.subscribe()
        platform.expect(NEXT).shutdown()
        platform.finish(status=0)


def test_it_is_the_command_line_too(launcher: Path) -> None:
    """With arguments it registers nothing."""
    done = subprocess.run(
        [launcher, "check", "--lambda"],
        env={"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_two_of_them_at_once(launcher: Path, tmp_path: Path) -> None:
    """Two layers with telemetryd under different names: the port is taken, both deliver."""
    (tmp_path / "extensions").mkdir()
    other = Path(shutil.copy(launcher, tmp_path / "extensions" / "other"))
    (tmp_path / "telemetryd").symlink_to(launcher.parents[1] / "telemetryd")
    with (
        reserved() as number,
        run(launcher, file_sink(tmp_path / "a") | settings(TELEMETRY__PORT=number)) as first,
    ):
        one, call_one = first.begin()
        port = settings(TELEMETRY__PORT=number)
        with run(other, file_sink(tmp_path / "b") | port) as second:
            two, call_two = second.begin()
            one.sendall(line(1))
            two.sendall(line(2))
            call_one.shutdown()
            call_two.shutdown()
            second.finish()
            assert second.log("port_not_available")
        first.finish()
    assert (tmp_path / "a").read_bytes() == line(1)
    assert (tmp_path / "b").read_bytes() == line(2)


def test_a_platform_without_the_telemetry_api(launcher: Path) -> None:
    """202, as AWS's own emulator answers: one line, and `next` is served."""
    with run(launcher) as platform:
        platform.register()
        platform.expect(TELEMETRY).answer(202, b'{"errorType":"Telemetry.NotSupported"}')
        platform.expect(NEXT).invoke("a", seconds=900)
        platform.expect(NEXT).shutdown()
        platform.finish()
        assert len(platform.log("subscription_refused")) == 1
        platform.ledger()


@pytest.mark.parametrize("fault", ["missing", "unreadable", "no TOML"])
def test_a_configuration_that_can_not_be_used(launcher: Path, tmp_path: Path, fault: str) -> None:
    """Told once with its path; the function is served."""
    path = tmp_path / "telemetryd.toml"
    if fault == "unreadable":
        path.mkdir()
    elif fault == "no TOML":
        path.write_text("events = = 1")
    with run(launcher, {"TELEMETRYD_CONFIG": str(path)}) as platform:
        platform.register()
        platform.subscribe()
        platform.expect(NEXT).shutdown()
        platform.finish()
        assert str(path) in json.dumps(platform.log("configuration_invalid"))


def test_without_a_platform_it_says_what_it_is(launcher: Path) -> None:
    """Neither arguments nor AWS_LAMBDA_RUNTIME_API: the help, which says how it is used."""
    done = subprocess.run([launcher], env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "As a Lambda extension it takes no arguments" in done.stdout

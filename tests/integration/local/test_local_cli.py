"""The command `telemetryd local`, started as a user starts it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from extensions.local_kit import HANDLER, Record, install, wait_for

COMMAND = [
    sys.executable,
    "-c",
    "import sys; from telemetryd.local.cli import main; sys.exit(main(sys.argv[1:]))",
]
LIMIT = 120
Start = Callable[..., tuple[subprocess.Popen[str], Record]]
"""Starts the command: the process, and the extension's record."""


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Start]:
    """Start the command with the test extension; returns (process, the extension's record)."""
    record = Record(tmp_path / "record.ndjson")
    started = []

    def start(
        *arguments: str, extension: bool = True, environment: Mapping[str, str] | None = None
    ) -> tuple[subprocess.Popen[str], Record]:
        command = [*COMMAND, *arguments]
        if extension:
            command += ["--extension", str(install(tmp_path / "extensions"))]
        process = subprocess.Popen(
            [*command, "--env", f"LISTENER_FILE={record.path}"],
            cwd=HANDLER,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process, record

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_invoke_tells_what_happens_and_succeeds(cli: Start) -> None:
    """One line per event on standard error, exit status 0."""
    process, record = cli("--handler", "app.handler", "--invoke", "2")
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, err
    assert out == ""
    words = [line.split()[0] for line in err.splitlines()]
    assert words == [
        "init",
        "invoke",
        "freeze",
        "invoke",
        "freeze",
        "shutdown",
        "exit",
        "exit",
        "stopped",
        "telemetry",
    ]
    assert re.search(r"1: success, .* ms, cold start, billed \d+ ms, extensions added", err)
    assert len(record.records("platform.report")) == 2


def test_event_prints_the_response_and_reports_failure(cli: Start) -> None:
    """The event from standard input; an exception of the handler makes the exit status 1."""
    process, _ = cli("--handler", "app.handler", "--event", "-", "--echo", "all")
    out, err = process.communicate('{"raise": "no stock"}', timeout=LIMIT)
    assert process.returncode == 1
    assert json.loads(out)["errorType"] == "OutOfStockError"
    assert "function error:" in err
    assert "function   runtime-0: order accepted i=0" in err


def test_managed_instances_by_option(cli: Start) -> None:
    """Mode and concurrency reach the environment."""
    arguments = ("--mode", "managed-instances", "--concurrency", "2", "--invoke", "2")
    process, record = cli("--handler", "app.handler", *arguments)
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, err
    assert "runtime-1" in err
    assert record.records("platform.initStart")[0]["initializationType"].endswith("instances")


def test_serves_until_interrupted_and_leaves_nothing(
    cli: Start, request: pytest.FixtureRequest
) -> None:
    """POST to the invocations path; Ctrl-C shuts down by the clock, also in mid-invocation."""
    process, record = cli("--handler", "app.handler", "--port", "0", "--timeout", "60")
    url = ""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("serving"):
            url = line.split()[1]
            break
    address = re.fullmatch(r"http://([^/]*)(/.*)", url)
    assert address is not None, url
    host, path = address.groups()
    connection = http.client.HTTPConnection(host, timeout=LIMIT)
    request.addfinalizer(connection.close)
    connection.request("POST", path, b'{"print": 3}', {"X-Amz-Client-Context": "e30="})
    answer = connection.getresponse()
    body = json.loads(answer.read())
    assert (answer.status, body["lines"]) == (200, 3)
    assert body["requestId"] == answer.headers["X-Amzn-RequestId"]
    connection.request("POST", path, b'{"raise": "x"}')
    answer = connection.getresponse()
    assert answer.headers["X-Amz-Function-Error"] == "Unhandled"
    answer.read()
    connection.request("POST", path.replace("/function/", "/another/"), b"{}")
    answer = connection.getresponse()
    assert answer.status == 404
    answer.read()
    connection.request("POST", path, b"{}", {"X-Amz-Invocation-Type": "DryRun"})
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (204, b"")
    connection.request("POST", path, b'{"sleep": 50}', {"X-Amz-Invocation-Type": "Event"})
    assert connection.getresponse().status == 202
    wait_for(lambda: len([e for e in record.events() if e["eventType"] == "INVOKE"]) == 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, err
    assert record.events()[-1]["shutdownReason"] == "spindown"
    assert record.all("end")
    with pytest.raises(ProcessLookupError):
        os.kill(record.all("started")[0]["pid"], 0)


def test_own_variables_reach_the_extension(cli: Start, tmp_path: Path) -> None:
    """TELEMETRYD_* and credentials of the shell, and --config as TELEMETRYD_CONFIG."""
    settings = tmp_path / "telemetryd.toml"
    settings.write_text("")
    process, record = cli(
        *("--handler", "app.handler", "--invoke", "1", "--config", str(settings)),
        environment={
            "TELEMETRYD_TEST": "1",
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_REGION": "eu-west-1",
            "AWS_LAMBDA_FUNCTION_NAME": "not-from-here",
            "UNRELATED": "1",
        },
    )
    process.communicate(timeout=LIMIT)
    environment = record.all("started")[0]["environment"]
    assert environment["TELEMETRYD_TEST"] == "1"
    assert environment["TELEMETRYD_CONFIG"] == str(settings)
    assert environment["AWS_ACCESS_KEY_ID"] == "AKIDEXAMPLE"
    assert environment["AWS_REGION"] == "eu-west-1"
    assert environment["AWS_LAMBDA_FUNCTION_NAME"] == "function"
    assert "UNRELATED" not in environment


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--handler", "nope.handler", "--invoke", "1"), ("nope.py", "--task-root")),
        (("--handler", "handler", "--invoke", "1"), ("module.function",)),
        (("--handler", "app.handler", "--event", "no.json"), ("no.json", "No such file")),
        (("--handler", "app.handler", "--config", "no.toml"), ("--config", "no.toml")),
        (("--handler", "app.handler", "--env", "X"), ("NAME=VALUE",)),
        (("--handler", "app.handler", "--concurrency", "2"), ("managed-instances",)),
        (("--handler", "app.handler", "--timeout", "0"), ("timeout",)),
        (("--handler", "app.handler", "--extension", "app.py"), ("not executable", "chmod +x")),
        (("--handler", "app.handler", "--extension", "no"), ("not a file",)),
        (("--bootstrap", " "), ("bootstrap",)),
        ((), ("--handler",)),
    ],
)
def test_wrong_usage_says_what_to_change(
    cli: Start, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """Exit status 64 and one message, before anything is started."""
    process, record = cli(*arguments)
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 64
    for word in words:
        assert word in err
    assert "Traceback" not in err
    assert not record.path.exists()


def test_a_taken_port_is_named(cli: Start) -> None:
    """The environment is shut down again, and the port is in the message."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process, record = cli("--handler", "app.handler", "--port", str(port))
        _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 64
    assert f"--port: cannot listen on {port}" in err
    assert record.all("end")


def test_help_explains_itself(cli: Start) -> None:
    """The life cycle, every option, examples."""
    process, _ = cli("--help", extension=False)
    out, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    for word in ("freeze", "--handler", "--bootstrap", "--extension", "--config", "examples:"):
        assert word in out


def test_missing_packages_are_named(tmp_path: Path) -> None:
    """Without aiohttp, or without awslambdaric: what to install, and no traceback of ours."""
    bare = [sys.executable, "-S", "-c"]
    library = next(path for path in sys.path if path.endswith("site-packages"))
    sources = [str(HANDLER.parent.parent / name) for name in ("daemon", "proto")]
    code = f"import sys; sys.path += {sources}; from telemetryd.local import LocalLambda"
    answer = subprocess.run([*bare, code], capture_output=True, text=True, check=False)
    assert "ImportError: telemetryd local needs aiohttp" in answer.stderr
    assert "pip install 'telemetryd[local]'" in answer.stderr

    for entry in Path(library).iterdir():
        if not entry.name.startswith(("awslambdaric", "__editable__", "_telemetryd")):
            (tmp_path / entry.name).symlink_to(entry)
    code = (
        f"import sys; sys.path += {[*sources, str(tmp_path)]}; "
        "from telemetryd.local.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["--handler", "app.handler", "--no-extension", "--invoke", "1"]
    answer = subprocess.run(
        [*bare, code, *arguments], cwd=HANDLER, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 64, answer.stderr
    assert "pip install awslambdaric" in answer.stderr

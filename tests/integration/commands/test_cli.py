"""The command line as its users meet it: help, errors that help, exit statuses."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import telemetryd
from helpers.measured import MEASURED

ROOT = Path(__file__).parents[3]
COMMANDS = ("listen", "check", "health", "iam", "schema", "version")


def run(
    *arguments: str, cwd: Path | None = None, **environment: object
) -> subprocess.CompletedProcess[str]:
    """Run `telemetryd` to its end, with nothing but `environment`."""
    return subprocess.run(
        [sys.executable, "-m", "telemetryd", *arguments],
        env=MEASURED | {f"TELEMETRYD_{key}": str(value) for key, value in environment.items()},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,  # as long as it takes where no one answers for names
        check=False,
    )


def records(stderr: str) -> list[dict[str, object]]:
    """The log of a run."""
    return [json.loads(line) for line in stderr.splitlines()]


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_names_every_command_and_exit_status(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    for command in COMMANDS:
        assert re.search(rf"^ +{command} ", done.stdout, re.MULTILINE), command
    for status in ("0", "64", "69", "70", "73", "78"):
        assert re.search(rf"\b{status} ", done.stdout.split("exit status:")[1]), status
    assert "TELEMETRYD_CONFIG" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert f"telemetryd {command}" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("lisen",),
        ("listen", "--address=http"),
        ("check", "more"),
        ("iam", "--account", "12"),
        ("schema", "nonsense"),
    ],
)
def test_wrong_arguments_end_with_64_and_say_what_is_right(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 64
    assert done.stdout == ""
    assert arguments[-1] in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_command_lists_those_there_are() -> None:
    done = run("lisen")
    for command in COMMANDS:
        assert command in done.stderr


def test_version_tells_what_it_runs_on() -> None:
    done = run("version")
    assert done.returncode == 0
    assert done.stdout.startswith(f"telemetryd {telemetryd.__version__} (CPython 3.")
    assert "msgspec" in done.stdout
    assert "\n  scanner: Python\n" in done.stdout or "\n  scanner: compiled (" in done.stdout


def test_the_option_version_prints_one_line() -> None:
    """As every program does."""
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"telemetryd {telemetryd.__version__}\n")


@pytest.mark.parametrize("command", ["listen", "check", "replay", "health", "iam"])
def test_a_configuration_is_named_by_an_option(command: str, tmp_path: Path) -> None:
    """It goes before the variable, and what is wrong in it is told by its name."""
    named, other = tmp_path / "named.toml", tmp_path / "other.toml"
    named.write_text("[telemetry]\nporte = 1\n")
    other.write_text("[telemetry]\nwrong = 1\n")
    needed = (str(named), "--sink", "archive") if command == "replay" else ()
    done = run(command, *needed, "--config", str(named), CONFIG=other)
    assert done.returncode == 78
    assert "porte" in done.stderr
    assert "wrong" not in done.stderr


def test_a_port_is_named_by_an_option() -> None:
    """Above what the environment says."""
    done = run("check", "--port", "5151", TELEMETRY__PORT=6161)
    assert done.returncode == 0
    assert "5151" in done.stdout
    assert "6161" not in done.stdout


def test_listen_receives_at_the_port_of_its_option() -> None:
    """Which it names where it is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("listen", "--port", str(port), SINKS__A__TYPE="null")
    assert done.returncode == 69
    assert str(port) in done.stderr


@pytest.mark.parametrize("port", ["", "-1", "65536", "http", "4243.0", "٤٢", "9" * 5000])
def test_what_is_no_port_is_refused(port: str) -> None:
    """With the range there is."""
    done = run("check", f"--port={port}")
    assert done.returncode == 64
    assert "a number from 0 to 65535" in done.stderr


def test_help_leads_to_what_an_installed_user_has() -> None:
    """No path in a checkout: an address."""
    said = run("--help").stdout
    assert "https://github.com/telemetryd/telemetryd/blob/main/docs/configuration.md" in said
    assert not re.search(r"(?<![\w/])docs/", said)


def test_iam_prints_a_policy_and_nothing_else() -> None:
    """So that standard output can be a file; the rest is for people."""
    done = run(
        "iam",
        "--region",
        "eu-west-1",
        SINKS__S__TYPE="kinesis",
        SINKS__S__STREAM="telemetry",
    )
    assert done.returncode == 0
    resources = json.loads(done.stdout)["Statement"][0]["Resource"]
    assert resources == ["arn:aws:kinesis:eu-west-1:ACCOUNT:stream/telemetry"]
    assert all(line.startswith("# ") for line in done.stderr.splitlines())


def test_schema_prints_one_json_document() -> None:
    done = run("schema")
    assert done.returncode == 0
    assert done.stdout == (ROOT / "proto/schema/event.schema.json").read_text()
    assert json.loads(done.stdout)["title"]


def test_schema_prints_the_documents_it_lists() -> None:
    names = run("schema", "list").stdout.split()
    assert "subscription-request" in names
    assert len(names) == len(list((ROOT / "proto/schema").iterdir()))
    clickhouse = (ROOT / "proto/schema/flat.clickhouse.sql").read_text()
    assert run("schema", "flat.clickhouse.sql").stdout == clickhouse
    for name in names[:2]:
        committed = ROOT / "proto/schema" / f"{name}.schema.json"
        assert run("schema", name).stdout == committed.read_text()


def test_schema_writes_all(tmp_path: Path) -> None:
    done = run("schema", "--write", str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {p.name: p.read_text() for p in (ROOT / "proto/schema").iterdir()}


def test_schema_says_where_it_can_not_write(tmp_path: Path) -> None:
    done = run("schema", "--write", str(tmp_path / "missing"))
    assert done.returncode == 73
    assert str(tmp_path / "missing") in done.stderr
    assert "Traceback" not in done.stderr


def test_check_shows_what_is_in_effect_and_from_where(tmp_path: Path) -> None:
    config = tmp_path / "telemetryd.toml"
    config.write_text('[sinks.archive]\ntype = "file"\npath = "/tmp/x.ndjson"\n')
    done = run("check", CONFIG=config, TELEMETRY__PORT=5000)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(
        r"^port = 5000 +# environment TELEMETRYD_TELEMETRY__PORT$", done.stdout, re.MULTILINE
    )
    assert re.search(rf'^path = "/tmp/x.ndjson" +# {config}$', done.stdout, re.MULTILINE)


def test_check_ends_with_78_and_names_every_problem() -> None:
    done = run("check", TELEMETRY__PORT="many", TELEMETRY__PROT=1)
    assert done.returncode == 78
    assert "TELEMETRYD_TELEMETRY__PORT" in done.stderr
    assert "TELEMETRYD_TELEMETRY__PROT" in done.stderr
    assert "2 problems" in done.stderr


def test_listen_ends_with_78_and_logs_every_problem() -> None:
    done = run("listen", TELEMETRY__PORT="many", TELEMETRY__PROT=1)
    assert (done.returncode, done.stdout) == (78, "")
    (record,) = records(done.stderr)
    assert (record["event"], record["level"]) == ("not_started", "error")
    problems = record["problems"]
    assert isinstance(problems, list)
    assert len(problems) == 2
    assert any("TELEMETRYD_TELEMETRY__PORT" in problem for problem in problems)


def test_listen_ends_with_69_where_the_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("listen", TELEMETRY__PORT=port, SINKS__A__TYPE="null")
    assert done.returncode == 69
    (record,) = records(done.stderr)
    assert record["event"] == "not_started"
    problems = record["problems"]
    assert isinstance(problems, list)
    (problem,) = problems
    assert f"127.0.0.1:{port}" in problem
    assert "in use" in problem
    assert "telemetry.port" in problem


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "::2"])
def test_listen_ends_with_69_where_the_address_is_not_ours(host: str) -> None:
    done = run("listen", TELEMETRY__HOST=host, SINKS__A__TYPE="null")
    assert done.returncode == 69
    (record,) = records(done.stderr)
    assert host in str(record["problems"])


def test_a_reader_that_has_enough_is_no_error() -> None:
    """As in `telemetryd schema | head -1`."""
    command = [sys.executable, "-m", "telemetryd", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141, "as the shell says for SIGPIPE"

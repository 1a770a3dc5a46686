"""A file as the layer's launcher reads it: variables that mean the same, or a clear error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from telemetryd.config import load
from telemetryd.config.prepared import MOST_BYTES, main, prepare
from telemetryd.errors import EXIT_CONFIG, ConfigError

FILE = """
fail_closed = false
tags = { stage = "prod", Team = "a=b,c" }
[telemetry]
types = ["platform", "function"]
[telemetry.buffering]
timeout_ms = 50
[lambda]
start = "park"
[sinks.file]
type = "file"
path = "/tmp/\\u00fc {function}.ndjson"
include = ["a,b", "c"]
[sinks.down]
type = "kinesis"
stream = "s"
failover = "file"
[dead_letter]
path = "/tmp/x.ndjson"
"""


def write(directory: Path, text: str) -> str:
    file = directory / "telemetryd.toml"
    file.write_text(text)
    return str(file)


def variables(prepared: bytes) -> dict[str, str]:
    entries = prepared.decode().split("\0")
    assert entries.pop() == ""
    return dict(entry.split("=", 1) for entry in entries)


def test_the_variables_mean_what_the_file_means(tmp_path: Path) -> None:
    """All of it, and nothing else; a list of names as the launcher can read it."""
    file = write(tmp_path, FILE)
    found, warnings = prepare(file)
    given = variables(found)
    expected = load({"TELEMETRYD_CONFIG": file}, mode="lambda").config
    assert load(given, default_paths=(), mode="lambda").config == expected
    assert given["TELEMETRYD_TELEMETRY__TYPES"] == "platform,function"
    assert given["TELEMETRYD_LAMBDA__START"] == "park"
    assert warnings == ()


def test_an_empty_file_is_no_variable(tmp_path: Path) -> None:
    assert prepare(write(tmp_path, "")) == (b"", ())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("port = ", "invalid TOML"),
        ('[telemetry]\nport = "x"\n', "telemetry.port"),
        ("[telemetry]\nporto = 1\n", "did you mean telemetry.port"),
        ('[sinks.a]\ntype = "fil"\n', "did you mean file"),
        ('[sinks.a]\ntype = "file"\npath = "/tmp/a\\u0000b"\n', "NUL"),
        (f'[tags]\na = "{"x" * MOST_BYTES}"\n', ""),
    ],
)
def test_what_can_not_be_used_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    """With the file's name and what is wrong, and nothing on standard output."""
    file = write(tmp_path, text)
    assert main([file]) == EXIT_CONFIG
    printed = capsys.readouterr()
    assert printed.out == ""
    assert file in printed.err
    assert told in printed.err


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        prepare(str(tmp_path / "none.toml"))


def test_the_command_reads_nothing_of_its_own_environment(tmp_path: Path) -> None:
    """Only the file counts when a layer is built; a warning goes beside it."""
    file = write(tmp_path, "[telemetry]\nidle_seconds = 60\n")
    command = [sys.executable, "-m", "telemetryd.config.prepared", file]
    done = subprocess.run(
        command, env={"TELEMETRYD_TELEMETRY__PORT": "1"}, capture_output=True, check=True
    )
    assert variables(done.stdout) == {"TELEMETRYD_TELEMETRY__IDLE_SECONDS": "60"}
    assert b"telemetry.idle_seconds" in done.stderr

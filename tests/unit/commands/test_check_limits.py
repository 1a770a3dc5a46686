"""The limits that `telemetryd check` says a configuration would run into."""

from __future__ import annotations

import io
import os
import re
import resource
from pathlib import Path
from typing import Any

import pytest

from telemetryd.commands.check import check

MIB = 1024 * 1024
TMP = "/tmp/a.ndjson"  # noqa: S108 - a function's
HTTP = {"TYPE": "http", "URL": "https://collector.example.com/v1"}
OTLP = {"TYPE": "otlp", "ENDPOINT": "https://collector.example.com", "MAX_BODY_BYTES": MIB}
KINESIS = {"TYPE": "kinesis", "STREAM": "telemetry"}
NULL = {"TYPE": "null"}


def limits(sink: dict[str, Any], mode: Any = "listen", **others: object) -> list[tuple[str, str]]:
    """The keys and texts of the limits of a sink `a`."""
    environ = {f"TELEMETRYD_SINKS__A__{key}": str(value) for key, value in sink.items()}
    environ |= {f"TELEMETRYD_{key}": str(value) for key, value in others.items()}
    out, err = io.StringIO(), io.StringIO()
    assert check(environ, out, err, mode=mode, default_paths=()) == 0, err.getvalue()
    return re.findall(r"^# limit: ([\w.]+): (.*)$", out.getvalue(), re.MULTILINE)


@pytest.mark.parametrize("sink", [NULL, {"TYPE": "stdout"}, {"TYPE": "emf"}])
def test_a_usual_configuration_runs_into_none(sink: dict[str, str]) -> None:
    assert limits(sink) == []


@pytest.mark.parametrize("sink", [HTTP, OTLP, KINESIS], ids=["http", "otlp", "kinesis"])
def test_a_line_that_fits_in_no_request(sink: dict[str, str]) -> None:
    ((key, text),) = limits(sink)
    assert key == "sinks.a"
    assert f"lines of at most {MIB} bytes" in text
    assert "lost as too_large" in text
    assert limits(sink, TELEMETRY__MAX_LINE_BYTES=MIB) == []


@pytest.mark.parametrize(
    ("sink", "calls"),
    [
        (HTTP | {"BATCH_MAX_BYTES": 4 * MIB}, 4),
        (HTTP | {"MAX_BODY_BYTES": 300_000}, 4),
        (OTLP | {"BATCH_MAX_BYTES": MIB + 1}, 2),
        (KINESIS | {"BATCH_MAX_BYTES": 12 * MIB}, 3),
    ],
)
def test_a_batch_that_takes_several_requests(sink: dict[str, Any], calls: int) -> None:
    found = dict(limits(sink, TELEMETRY__MAX_LINE_BYTES=262_144))
    assert f"a full batch takes {calls} requests" in found["sinks.a.batch_max_bytes"]


def test_a_preset_has_the_vendors_limits() -> None:
    vendor = HTTP | {"PRESET": "splunk_hec", "BATCH_MAX_BYTES": 4_000_000}
    found = dict(limits(vendor, TELEMETRY__MAX_LINE_BYTES=262_144))
    assert (
        "at most 1000000 bytes: a full batch takes 4 requests" in found["sinks.a.batch_max_bytes"]
    )


def test_a_batch_that_is_larger_than_its_queue() -> None:
    ((key, text),) = limits(NULL | {"BATCH_MAX_BYTES": 2 * MIB, "QUEUE_MAX_BYTES": MIB})
    assert (key, "no batch becomes larger" in text) == ("sinks.a.batch_max_bytes", True)


def test_what_lambda_sends_at_once_that_is_larger_than_a_queue() -> None:
    found = dict(limits(NULL | {"BATCH_MAX_BYTES": 65536, "QUEUE_MAX_BYTES": 65536}))
    assert "do not fit into the queue" in found["sinks.a.queue_max_bytes"]


def test_an_attempt_that_ends_before_its_phases() -> None:
    ((key, text),) = limits(HTTP | {"WRITE_TIMEOUT_MS": 5000}, TELEMETRY__MAX_LINE_BYTES=MIB)
    assert key == "sinks.a.write_timeout_ms"
    assert "may take 8000" in text


def test_queues_that_memory_bounds() -> None:
    """One alone in Lambda, or several together."""
    ((key, text),) = limits(NULL, "lambda")
    assert (key, "the queue is full at that" in text) == ("sinks.a.queue_max_bytes", True)
    ((key, text),) = limits(
        NULL, SINKS__B__TYPE="null", MEMORY__MAX_BYTES=16 * MIB, SINKS__B__QUEUE_MAX_BYTES=MIB
    )
    assert (key, "together they are full" in text) == ("memory.max_bytes", True)


def test_a_disk_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a spool or a dead letter that is still to be made."""

    class Full:
        f_frsize = 4096
        f_bavail = 10

    real = os.statvfs
    monkeypatch.setattr(
        os, "statvfs", lambda path: Full if str(path) == str(tmp_path) else real(path)
    )
    found = dict(
        limits(
            NULL | {"SPOOL__PATH": tmp_path / "new" / "spool"},
            DEAD_LETTER__PATH=tmp_path / "letter",
        )
    )
    assert found.keys() == {"sinks.a.spool.max_bytes", "dead_letter.max_bytes"}
    assert all("40960 bytes are free there now" in text for text in found.values())


def test_a_spool_that_fits() -> None:
    assert limits(NULL | {"SPOOL__MAX_BYTES": MIB}) == []


def test_the_tmp_of_a_function() -> None:
    found = dict(
        limits(
            {"TYPE": "file", "PATH": TMP, "QUEUE_MAX_BYTES": MIB,
             "SPOOL__MAX_BYTES": 600 * MIB}, "lambda",
        )
    )  # fmt: skip
    assert f"may take {600 * MIB} bytes" in found["spool.max_bytes"]
    assert "nothing bounds this file" in found["sinks.a.path"]
    rotated = {"TYPE": "file", "PATH": TMP, "ROTATE_BYTES": MIB, "KEEP": 3}
    assert "sinks.a.path" not in dict(limits(rotated, "lambda"))
    assert limits({"TYPE": "file", "PATH": "/mnt/a", "QUEUE_MAX_BYTES": MIB}, "lambda") == []


def test_more_connections_than_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 128))
    ((key, text),) = limits(NULL, TELEMETRY__MAX_CONNECTIONS=100)
    assert (key, "open files is 128" in text) == ("telemetry.max_connections", True)


def test_a_stream_must_permit_large_records() -> None:
    environ = {
        "TELEMETRYD_SINKS__A__TYPE": "kinesis", "TELEMETRYD_SINKS__A__STREAM": "s",
        "TELEMETRYD_SINKS__A__MAX_RECORD_BYTES": str(2 * MIB),
    }  # fmt: skip
    out = io.StringIO()
    assert check(environ, out, io.StringIO(), default_paths=()) == 0
    assert "only after UpdateMaxRecordSize" in out.getvalue()

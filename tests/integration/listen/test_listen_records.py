"""Records as runtimes and loggers write them, through `telemetryd listen`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from helpers.daemon import Daemon, file_sink, sink

FIXTURES: Final = Path(__file__).parents[2] / "fixtures"
FILES: Final = (FIXTURES / "records.ndjson", FIXTURES / "loggers" / "published.ndjson")
INVOCATIONS: Final[list[dict[str, Any]]] = [
    json.loads(line) for path in FILES for line in path.read_text(encoding="utf-8").splitlines()
]
SEVERE: Final = ("warn", "error", "fatal")


def event(kind: str, record: object) -> bytes:
    body = {"time": "2026-11-30T10:15:30.123Z", "type": kind, "record": record}
    return json.dumps(body).encode() + b"\n"


def request(number: int) -> str:
    return f"{number:08x}-1111-4333-8444-555555555555"


def test_each_logger_is_filtered_by_its_own_levels(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    levelled = [one for one in INVOCATIONS if "level" in one]
    lines = [event("function", one["records"][0]) for one in levelled]
    with Daemon(tmp_path, **file_sink(archive, min_level="warn")) as daemon:
        daemon.send(b"".join(lines))
        outcome = daemon.stop()
    expected = [line for line, one in zip(lines, levelled, strict=True) if one["level"] in SEVERE]
    assert len(lines) > len(expected) > 100
    assert archive.read_bytes() == b"".join(expected)
    assert outcome.sink()["dropped"] == {}


def test_errors_are_what_runtimes_report(tmp_path: Path) -> None:
    """One invocation after the other, each with what its runtime and its handler printed."""
    told = [one for one in INVOCATIONS if one["records"] and "names_request" not in one]
    told += [one for one in INVOCATIONS if one["case"] == "exception"]
    stream = b""
    for number, one in enumerate(told):
        own = {"requestId": request(number)}
        stream += event("platform.start", own)
        for record in one["records"]:
            text = json.dumps(record).replace(one["request_id"], request(number))
            stream += event("function", json.loads(text))
        stream += event("platform.runtimeDone", own | {"status": "success"})
    keys = {"metrics": '["errors"]', "self_metrics": "false", "linger_ms": 0}
    with Daemon(tmp_path, **sink("metrics", type="emf", **keys)) as daemon:
        daemon.send(stream)
        outcome = daemon.stop()
    errors = [json.loads(line)["errors"] for line in outcome.stdout.splitlines()]
    counted = sum(sum(one) if isinstance(one, list) else one for one in errors)
    assert counted == sum(one["fails"] for one in told) > 10
    assert outcome.sink("metrics")["dropped"] == {}


HALF: Final = rb"\ud83d"
PLACES: Final = {
    "a value": b'{"type":"function","record":{"level":"ERROR","m":"cut %b"}}\n',
    "a key": b'{"type":"function","record":{"level":"ERROR","%b":1}}\n',
    "a nested key": b'{"type":"function","record":{"level":"ERROR","a":[{"%b":{}}]}}\n',
    "a text": b'{"type":"function","record":"[ERROR]\\tt\\tid\\tcut %b"}\n',
    "beside the record": b'{"%b":1,"type":"function","record":{"level":"ERROR"}}\n',
    "an object in a text": rb'{"type":"function","record":"{\"level\":\"ERROR\",\"m\":\"\%b\"}"}'
    b"\n",
    "another sender": b'{"level":"error","msg":"%b"}\n',
    "the platform": b'{"time":"t","type":"platform.fault","record":"%b"}\n',
}


@pytest.mark.parametrize("half", [HALF, rb"\uDE00", rb"\udce9", rb"\ud83d\ud83d", rb"\ude00\ud83d"])
def test_half_a_surrogate_pair_costs_no_line_wherever_it_is(tmp_path: Path, half: bytes) -> None:
    sent = b"".join(line % half for line in PLACES.values())
    debug = sent.replace(b"ERROR", b"DEBUG").replace(b"error", b"debug")
    passed = PLACES["the platform"] % half
    archive, tagged = tmp_path / "archive", tmp_path / "tagged"
    sinks = file_sink(archive, "archive", min_level="error") | file_sink(
        tagged, "tagged", fields="function", types="function,platform.fault"
    )
    with Daemon(tmp_path, **sinks) as daemon:
        daemon.send(sent + debug)
        outcome = daemon.stop()
    assert archive.read_bytes() == sent + passed
    lines = (sent + debug).splitlines(keepends=True)
    assert tagged.read_bytes() == b"".join(b'{"function":"local",' + one[1:] for one in lines)
    for name in ("archive", "tagged"):
        assert outcome.sink(name)["dropped"] == {}


def test_the_platform_may_write_half_a_pair_too(tmp_path: Path) -> None:
    dropped = {"droppedRecords": 3, "droppedBytes": 30, "reason": "cut \ud83d"}
    with Daemon(tmp_path, **file_sink(tmp_path / "archive")) as daemon:
        daemon.send(event("platform.logsDropped", dropped))
        outcome = daemon.stop()
    assert outcome.ledger["upstream_dropped"] == {"lines": 3, "bytes": 30}

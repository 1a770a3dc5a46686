"""`types` on a sink: who gets which line, what becomes of lines without a type or an owner."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.daemon import NOTHING, Daemon, file_sink, leaf_of
from helpers.lines import event, sample_streams

EVERYTHING = b"".join(sample_streams().values())


def of_types(data: bytes, *types: str) -> bytes:
    """The lines of these types; one that ends in `.` stands for all that begin so."""
    return b"".join(
        line
        for line in data.splitlines(keepends=True)
        if any(
            (kind := json.loads(line)["type"]) == wanted
            or (wanted.endswith(".") and kind.startswith(wanted))
            for wanted in types
        )
    )


def test_sinks_get_the_types_they_ask_for(tmp_path: Path) -> None:
    """And the bytes of a line are never changed on the way."""
    wanted = {"logs": "function,extension", "reports": "platform.report", "platform": "platform"}
    paths = {name: tmp_path / name for name in wanted}
    sinks = {
        k: v for name in wanted for k, v in file_sink(paths[name], name, types=wanted[name]).items()
    }
    with Daemon(tmp_path, **sinks) as daemon:
        daemon.send(EVERYTHING)
        outcome = daemon.stop()
    expected = {
        "logs": of_types(EVERYTHING, "function", "extension"),
        "reports": of_types(EVERYTHING, "platform.report"),
        "platform": of_types(EVERYTHING, "platform."),
    }
    for name, data in expected.items():
        assert data, "the streams hold such events"
        assert paths[name].read_bytes() == data
        page = outcome.sink(name)
        assert page["enqueued"] == page["delivered"] == leaf_of(data)
        assert page["filtered"]["lines"] == EVERYTHING.count(b"\n") - data.count(b"\n")
    routed = len(expected["logs"]) + len(expected["platform"])
    assert outcome.ledger["unrouted"]["bytes"] == len(EVERYTHING) - routed


def test_what_no_sink_wants_is_unrouted(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    data = event(0) + event(1, kind="extension") + event(2, kind="odd.new")
    with Daemon(tmp_path, **file_sink(archive, types="function")) as daemon:
        daemon.send(data)
        outcome = daemon.stop()
    _, extension, odd = data.splitlines(keepends=True)
    assert archive.read_bytes() == event(0)
    assert outcome.ledger["unrouted"] == leaf_of(extension + odd)
    assert outcome.sink()["filtered"] == leaf_of(extension + odd)
    assert outcome.sink()["dropped"] == {}


def test_nothing_is_unrouted_where_a_sink_takes_all(tmp_path: Path) -> None:
    raw, reports = tmp_path / "raw", tmp_path / "reports"
    sinks = file_sink(raw, "raw") | file_sink(reports, "reports", types="platform.report")
    with Daemon(tmp_path, **sinks) as daemon:
        daemon.send(EVERYTHING)
        outcome = daemon.stop()
    assert raw.read_bytes() == EVERYTHING
    assert outcome.ledger["unrouted"] == NOTHING


UNTYPED = b'not json\n{"level":"INFO","msg":"of another sender"}\n[1]\n{"record":"cut\n'


def test_lines_without_a_type_are_surely_no_platform_events(tmp_path: Path) -> None:
    """They may be anybody's log lines: those who want logs get them as they came, counted."""
    logs, platform = tmp_path / "logs", tmp_path / "platform"
    start = event(0, kind="platform.start")
    sinks = file_sink(logs, "logs", types="function") | file_sink(
        platform, "platform", types="platform"
    )
    with Daemon(tmp_path, **sinks) as daemon:
        daemon.send(start + UNTYPED + event(1))
        outcome = daemon.stop()
    assert logs.read_bytes() == UNTYPED + event(1)
    assert platform.read_bytes() == start
    assert outcome.sink("platform")["filtered"] == leaf_of(UNTYPED + event(1))
    for name, unjudged in {"logs": 4, "platform": 0}.items():
        assert outcome.sink(name)["dropped"] == {}
        assert outcome.ledger["figures"]["sinks"][name]["unjudged_lines"] == unjudged

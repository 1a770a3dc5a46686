"""The flat format end to end: every line becomes a row; the ledger counts what was received."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import msgspec

from helpers.daemon import Daemon, file_sink, leaf_of
from helpers.lines import events
from telemetryd_proto.flat import COLUMNS, FlatLine

START = {
    "time": "2026-03-14T10:15:29.671Z", "type": "platform.start",
    "record": {"requestId": "r-1", "tenantId": "blue"},
}  # fmt: skip
LOG = {"time": "2026-03-14T10:15:29.700Z", "type": "function", "record": "order 17 shipped\n"}
OBJECT = {"time": "2026-03-14T10:15:29.701Z", "type": "function", "record": {"level": "error"}}
SENT = (
    *(json.dumps(line).encode() + b"\n" for line in (START, LOG, OBJECT)),
    b"plain text\n",
    b'{"level":"warn","msg":"of another sender"}\n',
    b" " * 3000 + b"{}\n",
    b"\xff\x00\n",
)


def rows_of(data: bytes) -> list[dict[str, Any]]:
    lines = data.splitlines()
    for line in lines:
        msgspec.json.decode(line, type=FlatLine)
        assert tuple(json.loads(line)) == COLUMNS
    return [json.loads(line) for line in lines]


def test_every_line_becomes_a_row_and_is_counted_as_it_came(tmp_path: Path) -> None:
    all_rows, logs, raw = tmp_path / "all", tmp_path / "logs", tmp_path / "raw"
    sinks = (
        file_sink(all_rows, "all", format="flat")
        | file_sink(logs, "logs", format="flat", types="function", min_level="warn")
        | file_sink(raw, "raw")
    )
    sent = b"".join(SENT)
    with Daemon(tmp_path, TAGS__STAGE="test", **sinks) as daemon:
        daemon.send(sent)
        outcome = daemon.stop()
    rows = rows_of(all_rows.read_bytes())
    assert [row["message"] for row in rows] == [
        None, "order 17 shipped", None, "plain text", "of another sender", None, "\ufffd\0",
    ]  # fmt: skip
    assert [row["level"] for row in rows] == [None, None, "ERROR", None, "WARN", None, None]
    assert {row["tags"] for row in rows} == {'{"stage":"test"}'}
    assert [row["tenant_id"] for row in rows[:3]] == ["blue"] * 3
    assert len({row["record_id"] for row in rows}) == len(rows)
    assert rows_of(logs.read_bytes()) == rows[1:]
    assert raw.read_bytes().count(b'"stage":"test"') == len(SENT) - 2
    for name, kept in (("all", SENT), ("logs", SENT[1:]), ("raw", SENT)):
        assert outcome.sink(name)["delivered"] == leaf_of(b"".join(kept))
    assert outcome.sink("logs")["filtered"] == leaf_of(SENT[0])


def test_rows_go_through_a_small_queue_in_small_batches(tmp_path: Path) -> None:
    """Blocks are cut and joined on the way: no row is lost, and no byte is counted twice."""
    archive = tmp_path / "archive"
    data = events(4000, size=300) + b"".join(SENT) * 50
    keys: dict[str, Any] = {
        "format": "flat",
        "queue_max_bytes": 256 * 1024,
        "batch_max_bytes": 4096,
    }
    with Daemon(tmp_path, **file_sink(archive, **keys)) as daemon:
        daemon.send(data)
        outcome = daemon.stop()
    rows = rows_of(archive.read_bytes())
    assert len(rows) == len({row["record_id"] for row in rows}) == data.count(b"\n")
    assert outcome.sink()["delivered"] == leaf_of(data)


def test_the_format_changes_between_two_lines(tmp_path: Path) -> None:
    archive, file = tmp_path / "archive", tmp_path / "telemetryd.toml"
    text = f'[sinks.archive]\ntype = "file"\npath = "{archive}"\n'
    file.write_text(text)
    line = SENT[1]
    with Daemon(tmp_path, CONFIG=str(file)) as daemon:
        daemon.send(line)
        for number, now in enumerate(('format = "flat"\n', "", 'format = "flat"\n'), 1):
            file.write_text(text + now)
            daemon.process.send_signal(signal.SIGHUP)
            daemon.wait_for("reloaded", reload=number)
            daemon.send(line)
        outcome = daemon.stop()
    raw, first, again, second = archive.read_bytes().splitlines(keepends=True)
    assert raw == again == line
    ids = [row["record_id"] for row in rows_of(first + second)]
    assert ids[0] != ids[1]
    assert outcome.sink()["delivered"] == leaf_of(line * 4)


def test_rows_that_fail_over_stay_rows(tmp_path: Path) -> None:
    spare, closed = tmp_path / "spare", tmp_path / "no-directory"
    closed.write_bytes(b"")
    sinks = file_sink(closed / "archive", format="flat", failover="spare") | file_sink(
        spare, "spare", exclude='["^"]'
    )
    with Daemon(tmp_path, **sinks) as daemon:
        daemon.send(b"".join(SENT))
        outcome = daemon.stop()
    assert len(rows_of(spare.read_bytes())) == len(SENT)
    assert outcome.sink()["failed_over"] == leaf_of(b"".join(SENT))

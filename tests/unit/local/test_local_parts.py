"""The small parts of the local Lambda that work without processes or sockets."""

from __future__ import annotations

import json
import re

import pytest

from telemetryd.local.clock import iso
from telemetryd.local.events import (
    CURRENT_SCHEMA,
    FIRST_SCHEMA,
    LineCounts,
    LogLines,
    PlatformEvent,
    platform_event,
)
from telemetryd.local.invocation import Failure
from telemetryd.local.lines import LineSplitter


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_splitter_gives_the_same_lines_whatever_the_chunks(size: int) -> None:
    """Cut at 0x0A only; the rest is kept for later."""
    text = "one\n\nthr\u2028ee \x85\r\nüm\nrest".encode()
    splitter = LineSplitter(1 << 20)
    blocks = [splitter.feed(text[i : i + size]) for i in range(0, len(text), size)]
    assert all(block.endswith(b"\n") for block in blocks if block)
    assert b"".join(blocks) == text[: text.rindex(b"\n") + 1]
    assert splitter.finish() == b"rest"
    assert splitter.finish() == b""


def test_splitter_cuts_a_line_without_end() -> None:
    """A program that never prints a newline cannot fill the memory."""
    splitter = LineSplitter(10)
    assert splitter.feed(b"123456") == b""
    assert splitter.feed(b"7890") == b"1234567890"
    assert splitter.feed(b"end\n") == b"end\n"


@pytest.mark.parametrize("character", ["\u00fc", "\u20ac", "\U0001f600"])
def test_splitter_cuts_no_character(character: str) -> None:
    """Wherever the limit falls, and however the bytes come."""
    text = character * 50
    for limit in range(10, 15):
        for size in (1, 7, 1000):
            splitter = LineSplitter(limit)
            data = text.encode()
            pieces = [splitter.feed(data[i : i + size]) for i in range(0, len(data), size)]
            pieces.append(splitter.finish())
            assert "".join(piece.decode() for piece in pieces) == text


def test_lines_become_strings_or_objects() -> None:
    """Objects where the log format asks for it and the line is one; strings otherwise."""
    text = '{"a": 1}\n{broken\n[1]\n"quoted"\nunfinished'
    lines = LogLines("2026-03-14T10:15:30.123Z", "function", text)
    strings = [json.loads(event) for event in lines.encode(objects=False, keep_newline=True)]
    assert [event["record"] for event in strings] == [
        '{"a": 1}\n',
        "{broken\n",
        "[1]\n",
        '"quoted"\n',
        "unfinished",
    ]
    assert {event["type"] for event in strings} == {"function"}
    assert {event["time"] for event in strings} == {"2026-03-14T10:15:30.123Z"}
    objects = [json.loads(event) for event in lines.encode(objects=True, keep_newline=False)]
    assert [event["record"] for event in objects] == [
        {"a": 1},
        "{broken",
        "[1]",
        '"quoted"',
        "unfinished",
    ]


def test_no_event_contains_a_newline() -> None:
    """Over TCP a raw newline ends an event."""
    lines = LogLines("t", "extension", 'a\r\x00"\\\n{"b":\t2}\n')
    for objects in (True, False):
        assert not [e for e in lines.encode(objects=objects, keep_newline=True) if b"\n" in e]


def test_older_schemas_lack_what_came_later() -> None:
    """The members that a schema version added are absent in those before it."""
    event = PlatformEvent(
        "t", "platform.initReport", {"phase": "init", "status": "success", "tracing": {}}
    )
    assert json.loads(event.encode(FIRST_SCHEMA))["record"] == {"phase": "init"}
    assert json.loads(event.encode(CURRENT_SCHEMA))["record"] == event.record


def test_absent_members_are_left_out() -> None:
    """None means that there is no such member."""
    event = platform_event("platform.report", {"status": "success", "errorType": None})
    assert event.record == {"status": "success"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event.time)


def test_time_stamps_have_milliseconds() -> None:
    """ISO-8601, UTC, three digits."""
    assert iso(1_773_483_330.0459) == "2026-03-14T10:15:30.045Z"


def test_line_counts_by_process_stream_and_request() -> None:
    """What a test compares with what arrived."""
    counts = LineCounts()
    counts.add("function", "runtime-0", "stdout", None, 1)
    counts.add("function", "runtime-0", "stdout", "r1", 3)
    counts.add("function", "runtime-0", "stderr", "r1", 2)
    counts.add("extension", "ext", "stdout", "r1", 5)
    assert counts.total() == 11
    assert counts.total("function") == 6
    assert counts.total("function", stream="stderr") == 2
    assert counts.total(name="ext") == 5
    assert counts.of_request("r1") == 5
    assert counts.of_request(None) == 1
    assert counts.of_request("r1", "extension") == 5


def test_failure_status_follows_its_origin() -> None:
    """The platform's own doing is a failure, everything else an error."""
    assert Failure("Sandbox.Timedout", "").status == "failure"
    assert Failure("Client.ExecutionEnvironmentShutDown", "").status == "failure"
    assert Failure("Runtime.ExitError", "").status == "error"

"""Which lines are decoded: all that can be of interest, each once, and where it starts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from telemetryd.sinks._emf_lines import events_with
from telemetryd_proto.envelope import decode_line

MARKS = (b'"platform.', b"errorType", b"Traceback")
PARTS = [
    b'{"type":"platform.start"}',
    b'{"record":{"errorType":"E"},"type":"platform.report"}',
    b'{"type":"function","record":"Traceback errorType"}',
    b'{"type":"function","record":"plain"}',
    b'"platform. is no event',
    b"errorType",
    b"{}",
    b"\xff",
]
LINES = st.lists(st.sampled_from(PARTS).map(lambda part: part + b"\n"), max_size=40)


@given(lines=LINES, marks=st.lists(st.sampled_from(MARKS), unique=True))
def test_the_events_with_a_mark_are_found_in_order_and_where_they_start(
    lines: list[bytes], marks: list[bytes]
) -> None:
    wanted, at = [], 0
    for line in lines:
        event = decode_line(line)
        if event is not None and (not marks or any(mark in line for mark in marks)):
            wanted.append((at, line, event))
        at += len(line)
    assert list(events_with(marks, b"".join(lines))) == wanted

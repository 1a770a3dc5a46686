"""Which lines are decoded: all that can be of interest, each once, and where it starts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.scanner import each_scanner  # noqa: F401 - each test runs with each
from telemetryd.sinks._platform.lines import decode_event, lines_with
from telemetryd_proto.envelope import Envelope, decode_line
from telemetryd_proto.events import decode_record

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
    b' \t{"type":"platform.start"}\r ',
    b'\v{"type":"platform.start"}\x00',
    b'{"errorType":',
    b'errorType"}',
]
EVENTS = [
    b'{"time":"t","type":"platform.start","record":{"requestId":"a","version":"1"}}',
    b'{"record":{"requestId":"a"},"type":"platform.start","more":1}\r\n',
    b'{"type":"platform.runtimeDone","record":{"requestId":"a","metrics":{"producedBytes":"5"}}}',
    b'{"type":"platform.report","time":5,"record":{"requestId":"a","metrics":null}}',
    b'{"type":"platform.report","record":{"requestId":"a","metrics":{"memorySizeMB":128.0}}}',
    b'{"type":"platform.report","record":{"requestId":"a","metrics":5}}',
    b'{"type":"platform.report","record":{"requestId":"\xff"}}',
    b'{"type":"platform.report","record":null}',
    b'{"type":"platform.report"}',
    b'{"type":"platform.unknown","record":{"requestId":"a"}}',
    b'{"type":"function"}',
    b'{"type":5,"record":{"requestId":"a"}}',
    b'{"type":["platform.start"],"time":[[]],"record":{"requestId":"a"}}',
    b'{"type":"platform.start","time":{"a":[]},"record":{"requestId":"a"}}',
    rb'{"type":"platform.start","time":"\ud83d","record":{"requestId":"a"}}',
    b'{"type":"platform.start","record":{"requestId":"a"}} {}',
]
LINES = st.lists(st.sampled_from(PARTS).map(lambda part: part + b"\n"), max_size=40)


@given(lines=LINES, marks=st.lists(st.sampled_from(MARKS), unique=True))
def test_the_objects_with_a_mark_are_found_in_order_and_where_they_start(
    lines: list[bytes], marks: list[bytes]
) -> None:
    wanted, at = [], 0
    for line in lines:
        may_be_object = line.lstrip()[:1] == b"{" and line.strip(bytes(range(33)))[-1:] == b"}"
        if not marks or (any(mark in line for mark in marks) and may_be_object):
            wanted.append((at, line))
        at += len(line)
    assert list(lines_with(marks, b"".join(lines))) == wanted


@pytest.mark.parametrize("line", [*PARTS, *EVENTS], ids=str)
def test_an_event_is_what_decoding_in_two_steps_finds(line: bytes) -> None:
    event, expected = decode_event(line), decode_line(line)
    if event is None or isinstance(event, Envelope):
        assert event == expected
    else:
        assert expected is not None
        assert (event.time, event.record) == (expected.time, decode_record(expected))

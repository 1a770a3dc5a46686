"""Envelopes: one entry a line, whatever the lines are; records stay bytes."""

import json
import sys
from pathlib import Path

import pytest

from telemetryd_proto.envelope import Envelope, decode_block, decode_line, decode_lines

STREAMS = sorted(Path(__file__).parents[3].joinpath("examples/streams").glob("*.ndjson"))
GOOD = b'{"time":"2026-05-07T06:41:12.208Z","type":"function","record":"good"}'
DEEP = 200_000
MALFORMED = {
    "empty": b"",
    "carriage return": b"\r",
    "spaces": b"  \t ",
    "garbage": b"GET / HTTP/1.1",
    "NUL bytes": b"\x00\x00\x00",
    "cut off": b'{"time":"2026-05-07T06:41:12.208Z","type":"func',
    "array": b'[{"type":"function","record":"x"}]',
    "string": b'"function"',
    "number": b"17",
    "null": b"null",
    "no type": b'{"time":"2026-05-07T06:41:12.208Z","record":"x"}',
    "type not a string": b'{"type":7,"record":"x"}',
    "type null": b'{"type":null,"record":"x"}',
    "two objects": b'{"type":"function","record":1}{"type":"function","record":2}',
    "two objects, a space between": b'{"type":"function"} {"type":"function"}',
    "two objects, a comma between": b'{"type":"function"},{"type":"function"}',
    "trailing garbage": GOOD + b"x",
    "bad record": b'{"type":"function","record":{"a":}}',
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "record nested too deep": b'{"type":"function","record":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "time and type wrong": b'{"time":1,"type":2}',
    "time wrong, then cut off": b'{"type":"function","time":1,"record":',
}


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_sample_streams_decode_line_by_line(path: Path) -> None:
    data = path.read_bytes()
    expected = [json.loads(line) for line in data.splitlines()]
    envelopes = decode_block(data, len(expected))
    found = [
        {"time": e.time, "type": e.type, "record": json.loads(bytes(e.record))}
        for e in envelopes
        if e is not None
    ]
    assert found == expected


def test_the_nine_sample_streams_are_there() -> None:
    assert len(STREAMS) == 9


@pytest.mark.parametrize("line", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_line_is_none_and_costs_itself_alone(line: bytes) -> None:
    assert decode_line(line) is None
    assert decode_line(line + b"\n") is None
    block = GOOD + b"\n" + line + b"\n" + GOOD + b"\n"
    first, middle, last = decode_block(block, 3)
    assert middle is None
    assert [bytes(e.record) for e in (first, last) if e] == [b'"good"', b'"good"']


ODD = {
    "not a number": b'{"a":NaN}',
    "infinite": b'[-Infinity,"NaN"]',
    "out of range": b'{"a":1e999,"b":-2E+400}',
    "very many digits": b"9" * 6000,
    "control character": b'"a\x01b"',
    "half a surrogate pair": rb'{"\ud83d":1}',
    "not UTF-8": b'"\xff"',
}


@pytest.mark.parametrize("record", ODD.values(), ids=ODD.keys())
def test_what_json_does_not_have_costs_no_event(record: bytes) -> None:
    line = b'{"time":"t","type":"platform.report","record":' + record + b"}"
    first, middle, last = decode_block(GOOD + b"\n" + line + b"\n" + GOOD + b"\n", 3)
    assert first is not None
    assert last is not None
    assert middle is not None
    assert (middle.time, middle.type) == ("t", "platform.report")


def test_a_type_that_is_not_utf_8_is_a_type() -> None:
    envelope = decode_line(b'{"type":"func\xfftion","record":"x"}')
    assert envelope is not None
    assert envelope.type == "func?tion"


def test_a_block_of_malformed_lines_only() -> None:
    lines = [line for line in MALFORMED.values() if line]
    assert decode_lines(lines) == [None] * len(lines)


def test_two_objects_on_a_line_do_not_make_up_for_one_over_two_lines() -> None:
    # decode_lines of msgspec finds as many values as there are lines here, all in wrong places
    lines = [
        b'{"type":"a"}{"type":"b"}',
        b'{"type":"c","record":',
        b"{}}",
        b'{"type":"d","record":3}',
    ]
    found = decode_block(b"\n".join(lines) + b"\n", 4)
    assert [envelope and envelope.type for envelope in found] == [None, None, None, "d"]


def test_an_object_over_two_lines_that_both_look_like_objects_is_no_event() -> None:
    first, second = decode_block(b'{"type":"a","record":\n{"type":"b"}}\n', 2)
    assert first is None
    assert second is None


@pytest.mark.parametrize(
    "line",
    [GOOD, GOOD + b"\n", GOOD + b"\r\n", b" \t" + GOOD + b"  ", GOOD + b"\r"],
    ids=["bare", "newline", "crlf", "spaces", "cr"],
)
def test_white_space_around_the_object_is_no_matter(line: bytes) -> None:
    envelope = decode_line(line)
    assert envelope is not None
    assert (envelope.time, envelope.type) == ("2026-05-07T06:41:12.208Z", "function")


def test_key_order_and_unknown_members_are_no_matter() -> None:
    envelope = decode_line(b'{"record":[1, 2],"shard":{"n":4},"type":"x.y","time":"t"}')
    assert envelope is not None
    assert (envelope.time, envelope.type, bytes(envelope.record)) == ("t", "x.y", b"[1, 2]")


@pytest.mark.parametrize(
    "record", [b'"text"', b'{"a": {"b":null}}', b"[1,2]", b"1.50", b"true", b"null", b'""']
)
def test_a_record_is_kept_byte_by_byte(record: bytes) -> None:
    envelope = decode_line(b'{"type":"function","record":' + record + b"}")
    assert envelope is not None
    assert bytes(envelope.record) == record


def test_a_missing_record_reads_as_null() -> None:
    envelope = decode_line(b'{"type":"function"}')
    assert envelope is not None
    assert bytes(envelope.record) == b"null"


@pytest.mark.parametrize("time", [b"null", b"1778148741666", b"[]"])
def test_a_time_that_is_no_string_is_left_empty(time: bytes) -> None:
    line = b'{"time":' + time + b',"type":"function","record":"x"}'
    single, (before, inside) = decode_line(line), decode_lines([GOOD, line])
    assert single is not None
    assert inside is not None
    assert before is not None
    assert before.time == "2026-05-07T06:41:12.208Z"
    assert single.time == inside.time == ""
    assert bytes(single.record) == bytes(inside.record) == b'"x"'


def test_invalid_utf8_inside_a_record_passes_through() -> None:
    envelope = decode_line(b'{"type":"function","record":"\xff\xfe"}')
    assert envelope is not None
    assert bytes(envelope.record) == b'"\xff\xfe"'


def test_a_record_outlives_its_block_and_does_not_hold_it() -> None:
    block = bytes(bytearray(GOOD + b"\n") * 1000)
    references = sys.getrefcount(block)
    envelopes = decode_block(block, 1000)
    assert sys.getrefcount(block) == references
    del block
    assert {bytes(e.record) for e in envelopes if e} == {b'"good"'}


def test_a_wrong_number_of_lines_is_a_callers_mistake() -> None:
    with pytest.raises(ValueError, match="holds 1 lines, not 2"):
        decode_block(GOOD + b"\n", 2)


def test_no_lines_no_envelopes() -> None:
    assert decode_block(b"", 0) == []


def test_an_envelope_cannot_be_changed() -> None:
    envelope = Envelope(type="function")
    with pytest.raises(AttributeError):
        envelope.type = "extension"  # type: ignore[misc]  # what is tried

"""JSON as loggers write it: what is read all the same, and what is given up."""

from __future__ import annotations

import msgspec
import pytest

from telemetryd.core.loose import decode_lines_loosely, decode_loosely
from telemetryd_proto.loose import loosen, loosen_lines
from telemetryd_proto.objects import decode_objects

BOM = b"\xef\xbb\xbf"
LONG = b'{"a":"' + b"x" * 5000 + b'"}'
LOOSE = [BOM + b'{"a":1}', b'{"a":NaN}', b'{"a":"\x01"}', b'{"a":1e999}']


def decode(data: bytes) -> object:
    return decode_loosely(msgspec.json.Decoder().decode, data)


@pytest.mark.parametrize("data", LOOSE)
def test_usual_sins_are_forgiven(data: bytes) -> None:
    assert isinstance(decode(data), dict)


@pytest.mark.parametrize("data", [b'{"a":', BOM + b'{"a":', b'{"a":NaN', b'{"a":"\x01"} {}'])
def test_what_is_no_json_for_another_reason_is_given_up(data: bytes) -> None:
    assert decode(data) is None


@pytest.mark.parametrize("long", [[], [LONG]], ids=["short", "long"])
def test_lines_are_loosened_together_as_each_alone(long: list[bytes]) -> None:
    lines = [*long, *LOOSE, *long]
    assert loosen_lines(lines) == [loosen(line) for line in lines]


@pytest.mark.parametrize("lines", [[b'{"a":1}', b'{"b":2}'], [LONG], [LONG, LONG]])
def test_where_there_is_nothing_to_loosen_the_lines_are_the_very_same(lines: list[bytes]) -> None:
    assert loosen_lines(lines) is lines


def test_lines_that_are_refused_are_read_loosely_in_their_places() -> None:
    lines = [b'{"type":"a"}', b'{"type":"b","x":NaN}', b"no object", b'{"type":"c","x":', LONG]
    found = [event and event.type for event in decode_lines_loosely(lines)]
    assert found == ["a", "b", None, None, ""]


@pytest.mark.parametrize(
    "line", [b'{"type":7,"record":', b'{"type":[],"record":1} {}', b'{"type":7,"record":\x01}']
)
def test_an_object_whose_type_is_no_text_must_be_one_to_its_end(line: bytes) -> None:
    assert decode_objects([line, b'{"type":"a"}', line])[::2] == [None, None]
    whole = decode_objects([b'{"type":7,"record":1}'])[0]
    assert whole is not None
    assert bytes(whole.record) == b"1"

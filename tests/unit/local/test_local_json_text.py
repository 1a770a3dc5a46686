"""JSON by its grammar: as Python's decoder reads it, and what that refuses for other reasons."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.local.events import LogLines
from telemetryd.local.json_text import _is_json, is_json, is_object

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def strict(text: str) -> bool:
    """True if Python's decoder accepts it as JSON. Its extra constants are refused."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


@given(VALUES, st.sampled_from([None, 1]))
def test_what_python_writes_is_json(value: object, indent: int | None) -> None:
    """Escaped and not, in one line and in several."""
    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only, indent=indent, allow_nan=False)
        assert _is_json(text)
        assert is_json(text)
        assert is_object(text) == isinstance(value, dict)


@given(VALUES, st.data())
def test_json_with_one_change_is_judged_as_python_judges_it(
    value: object, data: st.DataObject
) -> None:
    """A character out, in, or replaced."""
    text = json.dumps(value, allow_nan=False)
    place = data.draw(st.integers(0, len(text)))
    piece = data.draw(st.sampled_from(["", *'{}[],:"\\u0 e.-+1tn\t']))
    changed = text[:place] + piece + text[place + data.draw(st.integers(0, 1)) :]
    assert _is_json(changed) == is_json(changed) == strict(changed)


@pytest.mark.parametrize(
    "text",
    [
        r'{"half":"\ud83d"}',
        r'{"\udc00":1}',
        '{"big":1e999}',
        '{"digits":' + "9" * 5000 + "}",
        '{"deep":' + "[" * 5000 + "]" * 5000 + "}",
    ],
)
def test_what_decoders_refuse_is_an_object_all_the_same(text: str) -> None:
    """And reaches the subscriber as it was printed."""
    assert is_object(text)
    lines = LogLines("2026-03-14T10:15:30.123Z", "function", text + "\n")
    (event,) = lines.encode(objects=True, keep_newline=True)
    assert event.endswith(b'"record":' + text.encode() + b"}")


@pytest.mark.parametrize(
    "text", ["{no object}", '{"raw":"\t"}', "{", '{"a":1} x', "{'a':1}", '{"a":NaN}', '["a"]', ""]
)
def test_what_is_no_object_is_text(text: str) -> None:
    """Delivered as a string."""
    assert not is_object(text)
    lines = LogLines("2026-03-14T10:15:30.123Z", "function", text + "\n")
    (event,) = lines.encode(objects=True, keep_newline=True)
    assert json.loads(event)["record"] == text + "\n"


@pytest.mark.parametrize("piece", ['{"a":[', '"\\', '{"a":"', "[[[", '{"a":1,', "-", "{}"])
def test_many_times_a_piece_is_judged_in_no_time(piece: str) -> None:
    """Time grows with the text: what grew faster would be seen as a hang."""
    assert not _is_json("[" + piece * 50_000 + "!")


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (b"bad \xff\xfe end\n", "bad \ufffd\ufffd end\n"),
        (b"half a euro \xe2\x82\n", "half a euro \ufffd\ufffd\n"),
        (b"a surrogate \xed\xa0\xbd\n", "a surrogate \ufffd\ufffd\ufffd\n"),
        ("whole: \u20ac \U0001f600\n".encode(), "whole: \u20ac \U0001f600\n"),
    ],
)
def test_bytes_that_are_no_text_become_one_mark_each(block: bytes, text: str) -> None:
    """As Go's encoder has it, in which the platform is written."""
    assert LogLines.read("function", block).text == text

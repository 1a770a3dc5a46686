"""Bodies become lines: arrays, lines as they are, and what is neither."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.scanner import each_scanner  # noqa: F401 - runs each test with both
from telemetryd_proto.record_bodies import RecordLines, split_array, to_lines

A, B = b'{"record":"a, [b] {c}"}', b'{"record":{"x":[1,{}]}}'


def test_an_array_becomes_a_line_for_each_value() -> None:
    assert to_lines(b"[%b,%b]" % (A, B)) == RecordLines(A + b"\n" + B + b"\n", 2)
    assert to_lines(bytearray(b" [ ] ")) == RecordLines(b"", 0)
    assert to_lines(b"") == RecordLines(b"", 0)
    assert to_lines(b"\xef\xbb\xbf[1]") == RecordLines(b"1\n", 1)


def test_newlines_between_and_inside_records_break_no_line() -> None:
    pretty = json.dumps([json.loads(A), json.loads(B)], indent=2).encode().replace(b"\n", b"\r\n")
    found = to_lines(b"\n" + pretty + b"\n\n")
    assert found.lines == 2
    assert [json.loads(line) for line in found.data.split(b"\n")[:-1]] == json.loads(pretty)


def test_lines_pass_as_they_are() -> None:
    lines = A + b"\n\n" + B + b"\r\n"
    assert to_lines(lines) == RecordLines(lines, None)
    assert to_lines(b" " + A) == RecordLines(A + b"\n", None)
    assert to_lines(A + b"\nno json\n") == RecordLines(A + b"\nno json\n", None)


def test_one_object_over_several_lines_is_one_record() -> None:
    assert to_lines(b'{\n "a": 1\n}\n') == RecordLines(b'{  "a": 1 }\n', 1)


def test_what_is_no_record_is_told_apart() -> None:
    assert to_lines(b"hello\n") == RecordLines(b"", 0, "not_records", b"hello\n")
    assert to_lines(b"[1,2] x") == RecordLines(b"1\n2\n", 2, "garbage", b"x")
    assert to_lines(b"[1,2}") == RecordLines(b"1\n", 1, "garbage", b"2}")


@pytest.mark.parametrize(
    "bad", [b'{"record":"\\ud800"}', b'{"record":"\xff"}', b'{"record":NaN}', b'{"record":"\x01"}']
)
def test_a_record_that_a_decoder_refuses_costs_itself_alone(bad: bytes) -> None:
    found = to_lines(b"[%b, %b,%b]" % (A, bad, B))
    assert found == RecordLines(b"%b\n%b\n%b\n" % (A, bad, B), 3)


def test_what_is_cut_off_costs_its_last_record() -> None:
    whole = b"[%b,%b]" % (A, B)
    for end in range(len(A) + 2, len(whole)):
        found = to_lines(whole[:end])
        assert (found.data, found.lines, found.problem) == (A + b"\n", 1, "cut_off")
        assert found.rest == whole[len(A) + 2 : end]


def test_nesting_without_end_is_no_crash() -> None:
    for body in (b"[" * 100_000, b'{"a":' * 100_000 + b"\n{}", b"[" + b'{"a":' * 50_000):
        assert to_lines(body).data.count(b"{}") <= 1


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(values, max_size=6), st.sampled_from([None, 0, 2]), st.booleans())
def test_the_splitter_finds_what_a_decoder_finds(
    records: list[object], indent: int | None, ascii_only: bool
) -> None:
    body = json.dumps(records, indent=indent, ensure_ascii=ascii_only).encode()
    found = to_lines(body)
    assert [json.loads(line) for line in found.data.split(b"\n")[:-1]] == records
    assert found.lines == len(records)
    if b"\n" not in body:
        assert split_array(body) == found


@given(
    st.lists(st.sampled_from([b"[", b"]", b"{", b"}", b",", b'"', b"\\", b"\n", b"1", b" "])).map(
        b"".join
    )
)
def test_each_line_is_a_line_whatever_the_body(body: bytes) -> None:
    found = to_lines(body)
    assert found.lines is None or found.data.count(b"\n") == found.lines
    assert found.data == b"" or found.data.endswith(b"\n")

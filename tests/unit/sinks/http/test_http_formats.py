"""Formats of bodies, and which lines can be part of a JSON array."""

from __future__ import annotations

import json
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.sinks.http.formats import (
    FORMATS,
    FormatName,
    Lines,
    are_json_lines,
    is_json,
    is_json_line,
)


def body_of(name: FormatName, *runs: bytes) -> bytes:
    """The body of runs of whole lines."""
    form = FORMATS[name]
    fragments = [form.encode(Lines(run, run.count(b"\n"), "", 0, True, 0)) for run in runs]
    return form.opening + form.separator.join(fragments) + form.closing


GOOD = [b'{"a":1}', b" [1, 2] ", b"1", b'"x"', b"null", b'{"a":"\xc3\xa9"}', b"{}\r", b'"\\ud800x"']
BAD = [
    b"", b" ", b"\r", b"x", b"1,2", b"{", b"}", b'"a', b'a"', b'"a,', b",", b"[1", b"2]", b"1]",
    b"[", b'{"a":1} {"b":2}', b'"\xff"', b"NaN", b"01", b'"\x01"', b'{"a":1},', b"1 2",
    b"[" * 5000 + b"]" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("line", GOOD)
def test_lines_that_are_json(line: bytes) -> None:
    assert is_json_line(line + b"\n")
    assert json.loads(body_of("json", line + b"\n")) == [json.loads(line)]


@pytest.mark.parametrize("line", BAD)
def test_lines_that_are_not(line: bytes) -> None:
    assert not is_json_line(line + b"\n")


def test_two_bad_lines_make_no_good_ones() -> None:
    """Such as `[1` and `2]`, or `1,2` and an empty line."""
    for first, second in product(BAD, BAD):
        for lines in (b"%b\n%b\n" % (first, second), b"1\n%b\n%b\n" % (first, second)):
            assert not is_json(lines, lines.count(b"\n")), lines
            assert not are_json_lines(lines), lines


@given(st.lists(st.sampled_from(GOOD + BAD) | st.binary(max_size=8), min_size=1, max_size=4))
def test_all_at_once_or_one_by_one_is_the_same(lines: list[bytes]) -> None:
    lines = [line.replace(b"\n", b"") for line in lines]
    data = b"".join(line + b"\n" for line in lines)
    singly = all(is_json_line(line + b"\n") for line in lines)
    assert are_json_lines(data) is singly
    if is_json(data, len(lines)):
        assert singly
    if singly:
        body = body_of("json", data)
        assert json.loads(body) == [json.loads(line) for line in lines]


def test_runs_of_lines_become_one_body() -> None:
    runs = [b"1\n2\n", b"3\n"]
    assert body_of("ndjson", *runs) == b"1\n2\n3\n"
    assert body_of("json", *runs) == b"[1,2,3]"

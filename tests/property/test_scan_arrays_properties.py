"""The compiled scanner splits arrays as Python does, and as a decoder would."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from helpers.scanner import KINDS, Plain, compiled, using
from telemetryd_proto import scan
from telemetryd_proto.record_bodies import to_lines

PIECES = (
    *(b"[", b"]", b"{", b"}", b",", b'"', b"\\", b":", b" ", b"\t", b"\n", b"\r", b"\r\n", b"\v"),
    *(
        b"\0",
        b"\xff",
        b"\xed\xa0\x80",
        b'\\"',
        b"\\\\",
        b"\\ud800",
        b"1e999",
        b"-0.0",
        b"NaN",
        b"x",
    ),
    *(b"{}", b"[]", b'""', b"},{", b"],[", b'","', b'"}', b'{"', b'{"a":1,"a":2}'),
    *(b'{"type":"function","record":"[{}]\\n"},', b"x" * 61, b" " * 63, b"\\" * 63, b"\\" * 64),
    *(b"[" * 65, b"]" * 65, b",,", b"1" * 400, b'"' * 62, b"\n" * 66),
)
BODIES = st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=30).map(b"".join)
ON_EACH_KIND = pytest.mark.parametrize("scanner", KINDS, indirect=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=70),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)  # fmt: skip


@pytest.fixture(scope="module")
def scanner(request: pytest.FixtureRequest) -> scan.Scanner:
    return compiled(request.param)


@ON_EACH_KIND
@given(before=BODIES, body=BODIES, closed=st.booleans())
def test_anything_is_split_as_it_is_byte_by_byte(
    scanner: scan.Scanner, before: bytes, body: bytes, closed: bool
) -> None:
    whole = before + body + (b"]" if closed else b"")
    assert scanner.split_array(whole, len(before)) == Plain.split_array(whole, len(before))


@ON_EACH_KIND
@given(body=BODIES, end=st.sampled_from([b"]", b"", b" ]\r\n ", b"]]", b"}", b"] x"]))
@example(body=b'"\\ud800","\xff",' + b"{" * 3000, end=b"]")
def test_bodies_become_the_same_lines(scanner: scan.Scanner, body: bytes, end: bytes) -> None:
    whole = b"[" + body + end
    with using(None):
        expected = to_lines(whole)
    with using(scanner):
        assert to_lines(bytearray(whole)) == expected


@ON_EACH_KIND
@given(
    records=st.lists(VALUES, max_size=8),
    indent=st.sampled_from([None, 0, 3]),
    ascii_only=st.booleans(),
    pad=st.integers(0, 70),
)
def test_each_record_of_a_valid_array_is_a_line(
    scanner: scan.Scanner, records: list[object], indent: int | None, ascii_only: bool, pad: int
) -> None:
    body = " " * pad + json.dumps(records, indent=indent, ensure_ascii=ascii_only)
    found = scanner.split_array(body.encode(), pad + 1)
    assert found is not None
    data, lines = found
    assert [json.loads(line) for line in data.split(b"\n")[:-1]] == records
    assert lines == len(records)


@ON_EACH_KIND
@given(at=st.integers(0, 140), run=st.integers(0, 140))
def test_every_place_in_a_vector_may_end_a_record(scanner: scan.Scanner, at: int, run: int) -> None:
    quoted = b'"' + b"x" * at + b"\\" * (2 * run) + b'"'
    escaped = b'"' + b"x" * at + b"\\" * (2 * run + 1) + b'",]"'
    nested = b"[" * (run + 1) + b"," * at + b"]" * (run + 1)
    records = [quoted, escaped, nested, quoted]
    assert scanner.split_array(b"[%b]" % b",".join(records), 1) == (
        b"".join(record + b"\n" for record in records), 4,
    )  # fmt: skip
    assert scanner.split_array(b'["' + b"x" * at + b"\\" * (2 * run + 1) + b'"]', 1) is None


@ON_EACH_KIND
def test_large_arrays_and_deep_ones_are_split(scanner: scan.Scanner) -> None:
    many = b"[" + b",".join([b'{"a":"\\n"}'] * 200_000) + b"]"
    assert scanner.split_array(many, 1) == (b'{"a":"\\n"}\n' * 200_000, 200_000)
    deep = b"[" * 1_000_000 + b"]" * 1_000_000
    assert scanner.split_array(deep, 1) == (deep[1:-1] + b"\n", 1)
    assert scanner.split_array(deep[:-1], 1) is None
    assert scanner.split_array(b"[" + b" " * 1_000_000 + b"]", 1) == (b"", 0)


@ON_EACH_KIND
def test_what_it_can_not_read_is_refused(scanner: scan.Scanner) -> None:
    assert scanner.split_array(b"]", -1) is None
    assert scanner.split_array(b"]", 1 << 40) is None
    with pytest.raises(TypeError):
        scanner.split_array("[]", 1)  # type: ignore[arg-type]  # that is what is tested
    with pytest.raises(TypeError):
        scanner.split_array(b"[]", "1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a body and an offset"):
        scanner.split_array(b"[]")  # type: ignore[call-arg]

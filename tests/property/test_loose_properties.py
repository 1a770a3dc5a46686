"""Lines that strict readers refuse: what is made of one does not depend on its neighbours."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from telemetryd.core.loose import decode_lines_loosely
from telemetryd_proto.loose import loosen, loosen_lines
from telemetryd_proto.objects import AnyObject

PIECES = st.sampled_from(
    [
        b'{"type":"function","record":', b'{"type":7,"record":', b'{"type":"f\xff","record":',
        b'{"type":["\xff"],"record":', b'{"a":', b"{", b"}", b"[", b"]", b'"', b'\\"', b"\\\\",
        b"NaN", b"-Infinity", b'"NaN"', b"1e999", b"-1e+4000", b"1" * 400, b'"\\ud83d"', b"\\udc00",
        b"\xef\xbb\xbf", b"\x00", b"\t", b"\r", b" ", b"\xff", "\u00e9".encode(), b'"x"', b"1",
        b":", b",",
    ]
)  # fmt: skip
LINES = st.lists(PIECES, max_size=12).map(b"".join)


def seen(found: AnyObject | None) -> tuple[str, bytes] | None:
    """What can be told apart of an object."""
    return None if found is None else (found.type, bytes(found.record))


@settings(max_examples=600)
@given(st.lists(LINES, max_size=6), st.booleans())
def test_a_block_is_decoded_as_its_lines_are_one_by_one(lines: list[bytes], ended: bool) -> None:
    block = [line + b"\n" for line in lines]
    if block and not ended:
        block[-1] = lines[-1]
    alone = [seen(decode_lines_loosely([line])[0]) for line in block]
    assert [seen(found) for found in decode_lines_loosely(block)] == alone


@settings(max_examples=600)
@given(st.lists(LINES, min_size=1, max_size=6))
def test_lines_are_loosened_together_as_alone(lines: list[bytes]) -> None:
    """But for those with a string that does not end, which nothing makes an object."""
    for line, together in zip(lines, loosen_lines(lines), strict=True):
        if line.replace(rb"\\", b"").replace(rb"\"", b"").count(b'"') % 2 == 0:
            assert together == loosen(line)

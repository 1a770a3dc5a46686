"""The formats of a body: from runs of whole lines to the bytes of a request.

A format for a vendor is one more row of `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from telemetryd_proto.surrogates import without_lone_surrogates

FormatName: TypeAlias = Literal["ndjson", "json"]

_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])


class Format(NamedTuple):
    """One way to make a body."""

    content_type: str
    needs_json: bool
    """True if a line that is not JSON would break the whole body."""
    surplus: int
    """Most bytes that a body has more than its lines."""
    encode: Callable[[Sequence[bytes]], Sequence[bytes]]
    """Returns the body, in pieces, of at least one run of lines."""


def _ndjson(runs: Sequence[bytes]) -> Sequence[bytes]:
    return runs


def _json(runs: Sequence[bytes]) -> Sequence[bytes]:
    """Return an array: what ends a line becomes a comma. No JSON text has a newline in a string."""
    records = b"".join(runs)[:-1].replace(b"\n", b",")
    return (b"[", records, b"]")


FORMATS: Final[dict[FormatName, Format]] = {
    "ndjson": Format("application/x-ndjson", needs_json=False, surplus=0, encode=_ndjson),
    "json": Format("application/json", needs_json=True, surplus=1, encode=_json),
}


def is_json(lines: bytes, count: int) -> bool:
    """True if each of `count` lines is one JSON text in UTF-8, so that they can form an array.

    The lines are checked all at once, and no value is made of them. As many values as lines, and no
    newline within a value: then each line is exactly one, and not `1,2` beside an empty one.
    """
    try:
        if not lines.isascii():
            lines.decode()
        values = _ARRAY.decode(b"[%b]" % lines[:-1].replace(b"\n", b",\n"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return len(values) == count and b"\n" not in b"".join(values)


def is_json_line(line: bytes) -> bool:
    """True if `line` is JSON. A lone surrogate, which the decoder refuses, is legal in it."""
    return is_json(line, 1) or is_json(without_lone_surrogates(line), 1)


def are_json_lines(lines: bytes) -> bool:
    """True if each line is JSON, as `is_json_line` says."""
    each = lines.split(b"\n")[:-1]
    return is_json(lines, len(each)) or all(is_json_line(b"%b\n" % line) for line in each)

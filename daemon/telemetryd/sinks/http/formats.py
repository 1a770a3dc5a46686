"""The formats of a body: from whole lines to the bytes of a request.

A body is an opening, a fragment for each item, separators between them, and a closing. A preset
makes a format of its own (see `presets`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from telemetryd.sinks.http.answers import Reply, Verdict, judge
from telemetryd_proto.surrogates import without_lone_surrogates

FormatName: TypeAlias = Literal["ndjson", "json"]
Json: TypeAlias = Literal["ignored", "known", "needed"]
"""`known`: the format treats lines that are JSON in another way, so `pack` keeps them apart.
`needed`: a line that is not JSON would break the whole body."""

_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])


class Lines(NamedTuple):
    """Lines that become a fragment of a body."""

    data: bytes
    """The lines, each with its newline."""
    lines: int
    key: str
    """Unique, and the same in every attempt, as `Batch.key`."""
    first: int
    """Number of the first line among those with this key."""
    is_json: bool
    """True if each line is known to be JSON."""
    packed_at: int
    """Nanoseconds since the epoch when the lines were packed, for lines without a time."""


class Format(NamedTuple):
    """One way to make a body, and to read the answer."""

    content_type: str
    encode: Callable[[Lines], bytes]
    """Returns the fragment of some lines."""
    json: Json = "ignored"
    opening: bytes = b""
    separator: bytes = b""
    closing: bytes = b""
    judge: Callable[[Reply], Verdict] = judge
    """Returns what became of the lines of a request. Raises SinkError as `answers.judge` does."""
    max_lines: int = 0
    """Most lines in a request; 0: any number."""

    @property
    def surplus(self) -> int:
        """Bytes of a body besides its fragments and separators."""
        return len(self.opening) + len(self.closing)


FORMATS: Final[dict[FormatName, Format]] = {
    "ndjson": Format("application/x-ndjson", lambda lines: lines.data),
    "json": Format(
        "application/json",
        # what ends a line becomes a comma: no JSON text has a newline in a string
        lambda lines: lines.data[:-1].replace(b"\n", b","),
        json="needed", opening=b"[", separator=b",", closing=b"]",
    ),
}  # fmt: skip


def is_json(lines: bytes, count: int) -> bool:
    """True if each of `count` lines is one JSON text in UTF-8, so that they can form an array.

    The lines are checked all at once, and no value is made of them. As many values as lines, and no
    newline within a value: then each line is exactly one, and not `1,2` beside an empty one.
    """
    try:
        if not lines.isascii():
            lines.decode()
        # the 0 is behind the last comma, which it would take a copy of all lines to leave out
        values = _ARRAY.decode(b"".join((b"[", lines.replace(b"\n", b",\n"), b"0]")))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return len(values) == count + 1 and b"\n" not in b"".join(values)


def is_json_line(line: bytes) -> bool:
    """True if `line` is JSON. A lone surrogate, which the decoder refuses, is legal in it."""
    return is_json(line, 1) or is_json(without_lone_surrogates(line), 1)


def are_json_lines(lines: bytes) -> bool:
    """True if each line is JSON, as `is_json_line` says."""
    each = lines.split(b"\n")[:-1]
    return is_json(lines, len(each)) or all(is_json_line(b"%b\n" % line) for line in each)

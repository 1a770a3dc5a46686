"""Finds the lines of a block that may have something to tell, so that no other need be decoded.

Like `core.watch`, by a search of the bytes: a line without any of the marks can't be of interest,
one that has a mark is decoded to find out. A type or a name spelled with JSON escapes goes unseen;
the platform writes none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import accumulate

from telemetryd_proto.envelope import Envelope, decode_line, decode_lines


def events_with(marks: Sequence[bytes], data: bytes) -> Iterator[tuple[int, bytes, Envelope]]:
    """The events in the whole lines of `data` that hold one of `marks`; of all lines without marks.

    Each with where its line starts, and the line, in order.
    """
    if marks:
        for start, end in _spans(marks, data):
            line = data[start:end]
            if (event := decode_line(line)) is not None:
                yield start, line, event
    else:
        lines = BytesIO(data).readlines()
        starts = accumulate(map(len, lines), initial=0)
        for start, line, event in zip(starts, lines, decode_lines(lines), strict=False):
            if event is not None:
                yield start, line, event


def _spans(marks: Sequence[bytes], data: bytes) -> list[tuple[int, int]]:
    """Start and end of each line that holds a mark, in order."""
    found: dict[int, int] = {}
    for mark in marks:
        at = data.find(mark)
        while at >= 0:
            start = data.rfind(b"\n", 0, at) + 1
            end = found[start] = data.find(b"\n", at) + 1
            at = data.find(mark, end)
    return sorted(found.items())

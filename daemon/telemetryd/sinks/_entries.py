"""Lines on their way into a request: items of a batch, and parts of them.

A server may refuse some lines of an item. `Tally` keeps which lines failed, and makes failures of
whole items and of parts of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import BytesIO
from itertools import groupby
from typing import Final, NamedTuple, TypeAlias

import msgspec

from telemetryd.errors import PermanentSinkError
from telemetryd.sinks.base import Batch, Failure, Item
from telemetryd_proto.framing import Block


class Entry:
    """Neighbouring lines of the item at `index` of a batch, `first` being the first of them."""

    __slots__ = ("first", "fragment", "index", "item", "lines", "payload")

    def __init__(
        self, index: int, item: Item, first: int = 0, payload: bytes = b"", lines: int = 0
    ) -> None:
        self.index = index
        self.item = item
        self.first = first
        self.payload = payload or item.payload
        self.lines = lines or item.lines
        self.fragment: bytes | None = None
        """The bytes that stand for the lines in a body, once they are made."""

    def cut(self, ends: Iterable[int]) -> list[Entry]:
        """Return the lines in pieces, which end before each of the line numbers `ends`."""
        each = BytesIO(self.payload).readlines()
        pieces: list[Entry] = []
        start = 0
        for end in (*sorted(ends), len(each)):
            if start < end <= len(each):
                first = self.first + start
                payload = b"".join(each[start:end])
                pieces.append(Entry(self.index, self.item, first, payload, end - start))
                start = end
        return pieces


Run: TypeAlias = list[Entry]
"""Entries that follow each other in a request."""


def halve(run: Run) -> list[Run]:
    """Return the halves of `run`; nothing if it is one line."""
    middle = len(run) // 2
    if middle:
        return [run[:middle], run[middle:]]
    (entry,) = run
    return [[half] for half in entry.cut([entry.lines // 2])] if entry.lines > 1 else []


def isolate(run: Run, suspects: Iterable[int]) -> list[Run]:
    """Return `run` cut so that each of its lines whose number is in `suspects` is alone.

    Nothing if that changes nothing.
    """
    wanted = set(suspects)
    runs: list[Run] = []
    together: Run = []
    start = 0
    for entry in run:
        here = {number - start for number in wanted if start <= number < start + entry.lines}
        start += entry.lines
        for piece in entry.cut(here | {number + 1 for number in here}) if here else [entry]:
            if piece.first - entry.first not in here:
                together.append(piece)
                continue
            runs += [together, [piece]] if together else [[piece]]
            together = []
    if together:
        runs.append(together)
    return runs if len(runs) > 1 else []


class LineFault(NamedTuple):
    """One line that a destination did not take, by its number in the request."""

    line: int
    code: str
    retryable: bool


class Verdict(NamedTuple):
    """The fate of the lines of a request that was answered."""

    faults: Sequence[LineFault] = ()
    """Lines that were not accepted, unlike the rest."""
    detail: str = ""
    """Their fault, for people, without their text."""
    refusal: PermanentSinkError | None = None
    """The reason if the request was refused because of some of its lines."""
    suspects: Sequence[int] = ()
    """Lines of a refused request that are likely to be the reason, by their number."""


ACCEPTED: Final = Verdict()


class _Lost(NamedTuple):
    at: int
    """Index of the item."""
    first: int
    lines: int
    code: str
    retryable: bool


class Tally:
    """The lines of `batch` that failed in one attempt."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._lost: list[_Lost] = []

    def fail(self, run: Iterable[Entry], code: str, *, retryable: bool) -> None:
        """Note that all lines of `run` failed."""
        self._lost += [_Lost(e.index, e.first, e.lines, code, retryable) for e in run]

    def fail_lines(self, run: Run, faults: Sequence[LineFault]) -> None:
        """Note single lines of `run`."""
        by_line = {fault.line: fault for fault in faults}
        start = 0
        for entry in run:
            for number in range(entry.lines):
                if (fault := by_line.get(start + number)) is not None:
                    first = entry.first + number
                    self._lost.append(_Lost(entry.index, first, 1, fault.code, fault.retryable))
            start += entry.lines

    def failures(self) -> tuple[Failure, ...]:
        """Return what failed: items where all of their lines did, else parts of them."""
        found: list[Failure] = []
        for index, lost in groupby(sorted(self._lost), lambda each: each.at):
            item = self._batch.items[index]
            runs = _join(list(lost))
            if len(runs) == 1 and runs[0].lines == item.lines:
                found.append(Failure(index, runs[0].code, runs[0].retryable))
            else:
                found += _parts(item, runs)
        return tuple(found)


def _join(lost: Sequence[_Lost]) -> list[_Lost]:
    """Return `lost`, of one item and in order, with neighbours of one fate joined."""
    joined: list[_Lost] = []
    for each in lost:
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.first + last.lines == each.first
            and (last.code, last.retryable) == (each.code, each.retryable)
        ):
            joined[-1] = last._replace(lines=last.lines + each.lines)
        else:
            joined.append(each)
    return joined


def _parts(item: Item, lost: Sequence[_Lost]) -> list[Failure]:
    """Return failures of some lines of `item`."""
    added = len(item.payload) - item.size
    block = Block(item.payload, item.lines, item.source, item.offset, item.received_at, added)
    starts = [0]
    for line in BytesIO(item.payload).readlines():
        starts.append(starts[-1] + len(line))
    found: list[Failure] = []
    for each in lost:
        part = block.slice(starts[each.first], starts[each.first + each.lines], each.lines)
        changed = msgspec.structs.replace(
            item, payload=part.data, lines=part.lines, size=part.size, offset=part.offset
        )
        found.append(Failure(each.at, each.code, each.retryable, changed))
    return found

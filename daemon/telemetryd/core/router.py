"""Decides which lines of a block a sink gets, and adds the fields it asks for.

A sink that asks for nothing in particular gets every block as it is, undecoded. For the others the
block is split, and decoded if any of them needs it, once for all. A large block is opened piece by
piece: the lines and envelopes of all of it would outgrow the caches, and arenas of Python's
allocator would be mapped, faulted in and unmapped for each block, at a third of the whole cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Final, cast

import msgspec

from telemetryd.core.fields import FieldAdder, RequestTracker
from telemetryd.core.line_filter import LineFilter
from telemetryd_proto.envelope import Envelope, decode_lines
from telemetryd_proto.framing import Block

_PIECE_BYTES: Final = 128 * 1024


class Selection(msgspec.Struct, frozen=True, gc=False):
    """What one sink gets of one block."""

    wanted: Block | None
    """The lines to enqueue, in order."""
    malformed: Block | None
    """Lines whose type can't be told: to this sink, and to it alone, an error."""
    filtered_lines: int
    filtered_bytes: int


class RouteRules:
    """What one sink wants: a filter, and members to add."""

    __slots__ = ("fields", "filter")

    def __init__(self, line_filter: LineFilter, fields: FieldAdder | None) -> None:
        self.filter = line_filter
        self.fields = fields

    @property
    def needs_envelopes(self) -> bool:
        """Whether lines must be decoded for this sink."""
        return self.filter.needs_envelope or self.fields is not None

    @property
    def wants_requests(self) -> bool:
        """Whether lines must be attributed to invocations for this sink."""
        return self.fields is not None and self.fields.wants_request


class OpenBlock:
    """A block and, once somebody asks, its lines, envelopes and requests; shared by all sinks."""

    __slots__ = ("_envelopes", "_lines", "_requests", "_taken", "_tracker", "block")

    def __init__(
        self, block: Block, tracker: RequestTracker, lines: list[bytes] | None = None
    ) -> None:
        self.block = block
        self._tracker = tracker
        self._lines = lines
        self._taken: set[int] = set()
        self._envelopes: list[Envelope | None] | None = None
        self._requests: list[str] | None = None

    @property
    def lines(self) -> list[bytes]:
        """The block's lines, with their newlines."""
        if self._lines is None:
            self._lines = BytesIO(self.block.data).readlines()
        return self._lines

    @property
    def envelopes(self) -> list[Envelope | None]:
        """One entry for each line, None where the line is not a telemetry event."""
        if self._envelopes is None:
            self._envelopes = decode_lines(self.lines)
        return self._envelopes

    @property
    def requests(self) -> list[str]:
        """The request id of each line, empty where it is unknown."""
        if self._requests is None:
            request_of, source = self._tracker.request_of, self.block.source
            self._requests = [
                request_of(envelope, source) if envelope is not None else ""
                for envelope in self.envelopes
            ]
        return self._requests

    def select(self, rules: RouteRules) -> Selection:
        """What the sink with these rules gets."""
        wanted, malformed = self._judge(rules)
        self._taken.update(wanted, malformed)
        good, bad = self._part(wanted), self._part(malformed)
        size = self.block.size - sum(part.size for part in (good, bad) if part is not None)
        if good is not None and rules.fields is not None:
            good = self._with_fields(good, wanted, rules.fields)
        return Selection(good, bad, self.block.lines - len(wanted) - len(malformed), size)

    def unwanted(self) -> tuple[int, int]:
        """How many lines, of how many bytes, no sink that has selected takes or refuses."""
        lines = self.lines
        left = len(lines) - len(self._taken)
        if not left:
            return 0, 0
        return left, self.block.size - sum(len(lines[index]) for index in self._taken)

    def _judge(self, rules: RouteRules) -> tuple[list[int], list[int]]:
        """Indices of the lines that the sink wants, and of those that it can't judge."""
        wants, lines = rules.filter.wants, self.lines
        if not rules.needs_envelopes:
            return [index for index, line in enumerate(lines) if wants(line, None)], []
        envelopes = self.envelopes
        by_type = rules.filter.by_type
        if rules.filter.only_by_type:
            try:
                events = cast("list[Envelope]", envelopes)
                return [at for at, event in enumerate(events) if by_type[event.type]], []
            except AttributeError:  # a None: not an event, and the others are judged anew
                wanted = [at for at, e in enumerate(envelopes) if e is not None and by_type[e.type]]
        else:
            wanted = [at for at, e in enumerate(envelopes) if e is not None and wants(lines[at], e)]
        return wanted, [at for at, e in enumerate(envelopes) if e is None]

    def follow(self) -> None:
        """Attribute the lines, even if no sink wants any: the next block's depend on it."""
        _ = self.requests

    def _part(self, indices: list[int]) -> Block | None:
        block = self.block
        if not indices:
            return None
        if len(indices) == block.lines:
            return block
        data = b"".join([self.lines[index] for index in indices])
        return Block(data, len(indices), block.source, block.offset, block.received_at)

    def _with_fields(self, part: Block, indices: list[int], fields: FieldAdder) -> Block:
        requests = self.requests if fields.wants_request else None
        lines = self.lines
        data = b"".join(
            [fields.add(lines[i], requests[i] if requests is not None else "") for i in indices]
        )
        added = len(data) - part.size
        return Block(data, part.lines, part.source, part.offset, part.received_at, added)


def opened(block: Block, tracker: RequestTracker) -> Iterator[OpenBlock]:
    """The block in pieces, each open; whatever is asked of one must be asked before the next."""
    if len(block.data) <= _PIECE_BYTES:
        yield OpenBlock(block, tracker)
        return
    source, offset, received_at = block.source, block.offset, block.received_at
    text, start = BytesIO(block.data), 0
    while lines := text.readlines(_PIECE_BYTES):
        end = text.tell()
        data = block.data[start:end]
        yield OpenBlock(
            Block(data, len(lines), source, offset + start, received_at), tracker, lines
        )
        start = end


def merged(block: Block, selections: Sequence[Selection]) -> Selection:
    """What a sink gets of `block`, from what it gets of each piece."""
    if len(selections) == 1:
        return selections[0]
    return Selection(
        _joined(block, [one.wanted for one in selections if one.wanted is not None]),
        _joined(block, [one.malformed for one in selections if one.malformed is not None]),
        sum(one.filtered_lines for one in selections),
        sum(one.filtered_bytes for one in selections),
    )


def _joined(block: Block, parts: Sequence[Block]) -> Block | None:
    lines, added = sum(part.lines for part in parts), sum(part.added for part in parts)
    if not lines:
        return None
    if lines == block.lines and not added:
        return block
    data = b"".join([part.data for part in parts])
    return Block(data, lines, block.source, block.offset, block.received_at, added)

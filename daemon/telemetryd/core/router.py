"""Decides which lines of a block a sink gets, and adds the fields it asks for.

A sink that asks for nothing in particular gets every block as it is, undecoded. For the others the
block is split, and decoded if any of them needs it, once for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import msgspec

from telemetryd.core.fields import FieldAdder, RequestTracker
from telemetryd.core.line_filter import LineFilter
from telemetryd_proto.envelope import Envelope, decode_lines
from telemetryd_proto.framing import Block


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

    def takes(self, line: bytes, envelope: Envelope | None) -> bool:
        """Whether the line is this sink's business, if only to refuse it as malformed."""
        return (envelope is None and self.needs_envelopes) or self.filter.wants(line, envelope)


class OpenBlock:
    """A block and, once somebody asks, its lines, envelopes and requests; shared by all sinks."""

    __slots__ = ("_envelopes", "_lines", "_requests", "_tracker", "block")

    def __init__(self, block: Block, tracker: RequestTracker) -> None:
        self.block = block
        self._tracker = tracker
        self._lines: list[bytes] | None = None
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
        wants, lines = rules.filter.wants, self.lines
        malformed: list[int] = []
        if rules.needs_envelopes:
            wanted = []
            by_type = rules.filter.by_type if rules.filter.only_by_type else None
            for index, envelope in enumerate(self.envelopes):
                if envelope is None:
                    malformed.append(index)
                elif (
                    by_type[envelope.type] if by_type is not None else wants(lines[index], envelope)
                ):
                    wanted.append(index)
        else:
            wanted = [index for index, line in enumerate(lines) if wants(line, None)]
        good, bad = self._part(wanted), self._part(malformed)
        size = self.block.size - sum(part.size for part in (good, bad) if part is not None)
        if good is not None and rules.fields is not None:
            good = self._with_fields(good, wanted, rules.fields)
        return Selection(good, bad, self.block.lines - len(wanted) - len(malformed), size)

    def count_unwanted(self, rules: Sequence[RouteRules]) -> tuple[int, int]:
        """How many lines, of how many bytes, are no business of any of these sinks."""
        decoded = any(one.needs_envelopes for one in rules)
        lines = size = 0
        for index, line in enumerate(self.lines):
            envelope = self.envelopes[index] if decoded else None
            if not any(one.takes(line, envelope) for one in rules):
                lines += 1
                size += len(line)
        return lines, size

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

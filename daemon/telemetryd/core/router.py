"""Decides which lines of a block a sink gets.

A sink that asks for nothing in particular gets every block as it is, undecoded. One that names
`types` makes the block be decoded, once for all sinks that do.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import msgspec

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


class TypeFilter:
    """Selects lines by event type; `platform` stands for all that start with `platform.`."""

    __slots__ = ("_exact", "_prefixes")

    def __init__(self, types: tuple[str, ...]) -> None:
        self._exact = frozenset(types)
        self._prefixes = tuple(f"{name}." for name in types)

    def wants(self, envelope: Envelope) -> bool:
        """Whether the event's type was asked for."""
        return envelope.type in self._exact or envelope.type.startswith(self._prefixes)


class DecodedBlock:
    """A block and, once somebody asks, its lines and envelopes; shared by all filters."""

    __slots__ = ("_envelopes", "_lines", "block")

    def __init__(self, block: Block) -> None:
        self.block = block
        self._lines: list[bytes] | None = None
        self._envelopes: list[Envelope | None] | None = None

    @property
    def envelopes(self) -> list[Envelope | None]:
        """One entry for each line, None where the line is not a telemetry event."""
        if self._envelopes is None:
            self._envelopes = decode_lines(self.lines)
        return self._envelopes

    @property
    def lines(self) -> list[bytes]:
        """The block's lines, with their newlines."""
        if self._lines is None:
            self._lines = BytesIO(self.block.data).readlines()
        return self._lines

    def select(self, wants: Callable[[Envelope], bool]) -> Selection:
        """Part the block's lines by `wants`."""
        wanted: list[bytes] = []
        malformed: list[bytes] = []
        for line, envelope in zip(self.lines, self.envelopes, strict=True):
            if envelope is None:
                malformed.append(line)
            elif wants(envelope):
                wanted.append(line)
        good, bad = self._block_of(wanted), self._block_of(malformed)
        return Selection(
            good,
            bad,
            self.block.lines - len(wanted) - len(malformed),
            len(self.block.data) - sum(len(b.data) for b in (good, bad) if b),
        )

    def _block_of(self, lines: list[bytes]) -> Block | None:
        if not lines:
            return None
        if len(lines) == self.block.lines:
            return self.block
        block = self.block
        return Block(b"".join(lines), len(lines), block.source, block.offset, block.received_at)

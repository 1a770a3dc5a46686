"""Keeps telemetryd's own log from feeding itself.

With the `extension` type subscribed, whatever telemetryd prints comes back as an `extension` event
("Loop hazard", Telemetry API). Its lines carry a marker; a returning one is dropped here.
"""

from __future__ import annotations

from io import BytesIO
from typing import Final

from telemetryd_proto.envelope import decode_line
from telemetryd_proto.framing import Block

_NAME: Final = b"telemetryd"
_MARKERS: Final = (b'"logger":"telemetryd"', rb"\"logger\":\"telemetryd\"")


def without_own_lines(block: Block) -> tuple[Block | None, int, int]:
    """The block without our own lines, and the lines and bytes that were ours."""
    data = block.data
    if data.find(_NAME) < 0 or not any(marker in data for marker in _MARKERS):
        return block, 0, 0
    kept = [line for line in BytesIO(data) if not _is_own(line)]
    rest = b"".join(kept)
    lines = rest.count(b"\n")
    if lines == block.lines:
        return block, 0, 0
    ours = (block.lines - lines, len(data) - len(rest))
    if not lines:
        return None, *ours
    return Block(rest, lines, block.source, block.offset, block.received_at), *ours


def _is_own(line: bytes) -> bool:
    if not any(marker in line for marker in _MARKERS):
        return False
    envelope = decode_line(line)
    return envelope is not None and envelope.type == "extension"

"""Keeps telemetryd's own log from feeding itself.

With the `extension` type subscribed, whatever telemetryd prints comes back as an `extension` event
("Loop hazard", Telemetry API). Its lines carry a marker; a returning one is dropped here.
"""

from __future__ import annotations

from typing import Final

from telemetryd_proto.envelope import decode_line
from telemetryd_proto.framing import Block

_NAME: Final = b"telemetryd"
_MARKERS: Final = (b'"logger":"telemetryd"', rb"\"logger\":\"telemetryd\"")


def without_own_lines(block: Block) -> tuple[Block | None, int, int]:
    """The block without our own lines, and the lines and bytes that were ours.

    Each marked line is decoded once; lines without a marker are not even split off.
    """
    data = block.data
    if data.find(_NAME) < 0:
        return block, 0, 0
    hits = [data.find(marker) for marker in _MARKERS]
    kept: list[bytes] = []
    at = ours = 0  # what precedes `at` is judged; the lines that were ours
    while (hit := min((hit for hit in hits if hit >= 0), default=-1)) >= 0:
        start, end = data.rfind(b"\n", 0, hit) + 1, data.find(b"\n", hit) + 1
        if _is_own(data[start:end]):
            ours += 1
            kept.append(data[at:start])
            at = end
        hits = [
            data.find(marker, end) if 0 <= hit < end else hit
            for marker, hit in zip(_MARKERS, hits, strict=True)
        ]
    if not ours:
        return block, 0, 0
    rest = b"".join((*kept, data[at:]))
    if not rest:
        return None, block.lines, len(data)
    kept_block = Block(rest, block.lines - ours, block.source, block.offset, block.received_at)
    return kept_block, ours, len(data) - len(rest)


def _is_own(line: bytes) -> bool:
    envelope = decode_line(line)
    return envelope is not None and envelope.type == "extension"

"""Keeps telemetryd's own log from feeding itself.

If the type `extension` is subscribed, all output of telemetryd returns as an `extension` event
("Loop hazard", Telemetry API). Its lines have a mark. A returning one is dropped here.
"""

from __future__ import annotations

import re
from typing import Final

from telemetryd_proto.envelope import decode_line
from telemetryd_proto.framing import Block

_NAME: Final = b"telemetryd"
_MARKERS: Final = (b'"logger":"telemetryd"', rb"\"logger\":\"telemetryd\"")
_MEMBER: Final = re.compile(rb'"type"[ \t\r]*:[ \t\r]*"extension"')
_FREE_MISSES: Final = 8
"""Lines that mention us and are none of ours; after so many the search goes by their type."""


def without_own_lines(block: Block) -> tuple[Block | None, int, int]:
    """Return the block without our own lines, and the lines and bytes that were ours.

    Each marked line is decoded once at most; lines without a marker are not even split off.
    """
    data = block.data
    if data.find(_NAME) < 0:
        return block, 0, 0
    judged: dict[int, tuple[int, bool]] = {}
    for marker in _MARKERS:
        _judge(data, marker, judged)
    ours = sorted((start, end) for start, (end, own) in judged.items() if own)
    if not ours:
        return block, 0, 0
    kept: list[bytes] = []
    at = 0
    for start, end in ours:
        kept.append(data[at:start])
        at = end
    rest = b"".join((*kept, data[at:]))
    if not rest:
        return None, block.lines, len(data)
    left = block.with_lines(rest, block.lines - len(ours))
    return left, len(ours), len(data) - len(rest)


def _judge(data: bytes, marker: bytes, judged: dict[int, tuple[int, bool]]) -> None:
    """Note the end of each line that holds `marker`, by its start, and whether it is ours."""
    misses = 0
    hit = data.find(marker)
    while hit >= 0:
        start, end = data.rfind(b"\n", 0, hit) + 1, data.find(b"\n", hit) + 1
        if start not in judged:
            judged[start] = end, _is_own(data[start:end])
        if not judged[start][1]:
            misses += 1
            if misses > _FREE_MISSES:
                misses = 0
                if (member := _MEMBER.search(data, end)) is None:
                    return
                end = data.rfind(b"\n", 0, member.start()) + 1
        hit = data.find(marker, end)


def _is_own(line: bytes) -> bool:
    if _MEMBER.search(line) is None or not line.rstrip().endswith(b"}"):
        return False  # exceptions cost more than looking
    envelope = decode_line(line)
    return envelope is not None and envelope.type == "extension"

"""Removes platform events of other connections than the platform's: `telemetry.trust`.

A process of the sandbox may report anything but what the platform reports: sinks count invocations,
errors and costs from that.
"""

from __future__ import annotations

from io import BytesIO
from typing import Final

from telemetryd_proto.envelope import decode_line
from telemetryd_proto.framing import Block

_PLATFORM: Final = "platform."


def without_platform_events(block: Block) -> tuple[Block | None, int, int]:
    """Return the block without platform events, and the lines and bytes that were some.

    Each line is decoded once: what is escaped in a type is a type as well.
    """
    kept = [line for line in BytesIO(block.data) if not _is_platform_event(line)]
    left = block.select(kept)
    size = len(left.data) if left is not None else 0
    return left, block.lines - len(kept), len(block.data) - size


def _is_platform_event(line: bytes) -> bool:
    envelope = decode_line(line)
    return envelope is not None and envelope.type.startswith(_PLATFORM)

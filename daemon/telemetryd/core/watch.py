"""Finds the platform events the daemon itself must see, before any queue can drop them.

One byte search per block; only lines that look like one of ours are decoded. The text of a log
line can't fool it: a candidate counts only if its envelope says so.
"""

from __future__ import annotations

from typing import Final

from telemetryd_proto.envelope import Envelope, decode_line

_MARK: Final = b'"platform.'
WATCHED: Final = frozenset(
    {"platform.logsDropped", "platform.report", "platform.runtimeDone", "platform.start"}
)
_TAILS: Final = tuple(f'{name.removeprefix("platform.")}"'.encode() for name in sorted(WATCHED))


def watched_events(data: bytes) -> list[Envelope]:
    """The events of `WATCHED` among the whole lines of `data`, in order."""
    found: list[Envelope] = []
    at = data.find(_MARK)
    while at >= 0:
        at += len(_MARK)
        if data.startswith(_TAILS, at):
            end = data.find(b"\n", at)
            envelope = decode_line(data[data.rfind(b"\n", 0, at) + 1 : end])
            if envelope is not None and envelope.type in WATCHED:
                found.append(envelope)
                at = end
        at = data.find(_MARK, at)
    return found

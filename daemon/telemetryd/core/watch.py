"""Finds the platform events the daemon itself must see, before any queue can drop them.

One byte search per block; only lines that look like one of ours are decoded. The text of a log
line can't fool it: a candidate counts only if its envelope says so.
"""

from __future__ import annotations

from typing import Final

from telemetryd_proto.envelope import Envelope, decode_line

LOSSES: Final = frozenset({"platform.logsDropped"})
"""What every ledger needs."""
LIFE_CYCLE: Final = LOSSES | {"platform.report", "platform.runtimeDone", "platform.restoreStart"}
"""What the extension needs besides: when an invocation ends, and that a snapshot was restored."""


class EventWatch:
    """Looks for events of some types."""

    __slots__ = ("_mark", "_tails", "_types")

    def __init__(self, types: frozenset[str]) -> None:
        self._types = types
        names = sorted(f'"{name}"'.encode() for name in types)
        shared = 0  # what all names begin with is searched for: the longer, the faster
        while len({name[: shared + 1] for name in names}) == 1 and shared < len(names[0]):
            shared += 1
        self._mark = names[0][:shared]
        self._tails = tuple(name[shared:] for name in names)

    def find(self, data: bytes) -> list[Envelope]:
        """The events among the whole lines of `data`, in order."""
        found: list[Envelope] = []
        at = data.find(self._mark)
        while at >= 0:
            at += len(self._mark)
            if data.startswith(self._tails, at):
                end = data.find(b"\n", at)
                envelope = decode_line(data[data.rfind(b"\n", 0, at) + 1 : end])
                if envelope is not None and envelope.type in self._types:
                    found.append(envelope)
                    at = end
            at = data.find(self._mark, at)
        return found

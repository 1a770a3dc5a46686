"""Finds the platform events the daemon itself must see, before any queue can drop them.

One byte search per block; only lines that look like one of ours are decoded, each at most once. The
text of a log line can't fool it: a candidate counts only if its envelope says so.

Where the name that is searched for has a capital letter, that byte is searched for first: one byte
is found seven times faster than a name, and capital letters are rare in most logs. Where they are
not, this is noticed after a few, and the name is searched for after all.
"""

from __future__ import annotations

from typing import Final

from telemetryd_proto.envelope import Envelope, decode_line

LOSSES: Final = frozenset({"platform.logsDropped"})
"""What every ledger needs."""
LIFE_CYCLE: Final = LOSSES | {
    "platform.report", "platform.restoreStart", "platform.runtimeDone", "platform.start",
}  # fmt: skip
"""What the extension needs besides: when an invocation begins and ends, and that a snapshot was
restored."""

_FREE_MISSES: Final = 8
_BYTES_PER_MISS: Final = 1024
"""A byte that turns up more often is not rare: a miss costs as much as 550 bytes of search."""


class EventWatch:
    """Looks for events of some types."""

    __slots__ = ("_mark", "_rare", "_rare_at", "_tails", "_types")

    def __init__(self, types: frozenset[str]) -> None:
        self._types = types
        names = sorted(f'"{name}"'.encode() for name in types)
        shared = 0  # what all names begin with is searched for: the longer, the faster
        while len({name[: shared + 1] for name in names}) == 1 and shared < len(names[0]):
            shared += 1
        self._mark = names[0][:shared]
        self._tails = tuple(name[shared:] for name in names)
        rare = [at for at, byte in enumerate(self._mark) if chr(byte).isupper()]
        self._rare_at = rare[0] if len(rare) == 1 else 0
        self._rare = self._mark[rare[0] : rare[0] + 1] if len(rare) == 1 else b""

    def find(self, data: bytes) -> list[Envelope]:
        """The events among the whole lines of `data`, in order."""
        found: list[Envelope] = []
        at = self._next_mark(data, 0)
        while at >= 0:
            at += len(self._mark)
            if data.startswith(self._tails, at):
                end = data.find(b"\n", at)
                envelope = decode_line(data[data.rfind(b"\n", 0, at) + 1 : end])
                if envelope is not None and envelope.type in self._types:
                    found.append(envelope)
                at = end  # the whole line is judged, however often it names an event
            at = self._next_mark(data, at)
        return found

    def _next_mark(self, data: bytes, start: int) -> int:
        """Where the mark is found from `start` on, or -1."""
        if rare := self._rare:
            mark, before, misses = self._mark, self._rare_at, 0
            hit = data.find(rare, start + before)
            while hit >= 0:
                if data.startswith(mark, hit - before):
                    return hit - before
                misses += 1
                if misses > _FREE_MISSES + (hit - start) // _BYTES_PER_MISS:
                    start = hit + 1
                    break
                hit = data.find(rare, hit + 1)
            else:
                return -1
        return data.find(self._mark, start)

"""Finds the platform events that the daemon itself must see, before any queue can drop them.

It makes one byte search per block. Only lines that look like one of our events are decoded, each at
most once. The text of a log line can't deceive it: a candidate counts only if its envelope says so.
Nor can it make the search expensive. A name that is not the value of a member `type` is skipped. If
there are many such names, the search continues for the member.

If the name has a capital letter, that byte is searched for first. One byte is found seven times
faster than a name, and capital letters are rare in most logs. If they are not rare, this is noticed
after a few, and the name is searched for instead.
"""

from __future__ import annotations

import re
from operator import attrgetter
from typing import Final, cast

from telemetryd_proto import scan
from telemetryd_proto.envelope import Envelope, decode_line, decode_lines

LOSSES: Final = frozenset({"platform.logsDropped"})
"""The events that every ledger needs."""
LIFE_CYCLE: Final = LOSSES | {
    "platform.report", "platform.restoreStart", "platform.runtimeDone", "platform.start",
}  # fmt: skip
"""The events that the extension needs, too: the begin and end of invocations, and a restore."""

_FREE_MISSES: Final = 8
_BYTES_PER_MISS: Final = 1024
"""A byte that turns up more often is not rare: a miss costs as much as 550 bytes of search."""
_BEFORE_VALUES: Final = b": \t\r"
"""Bytes that may precede the value of a member."""
_type_of: Final = attrgetter("type")


class EventWatch:
    """Looks for events of some types."""

    __slots__ = (
        "_mark", "_member", "_names", "_rare", "_rare_at", "_tails", "_types", "starts",
        "undecodable",
    )  # fmt: skip

    def __init__(self, types: frozenset[str]) -> None:
        self.undecodable = 0
        """Lines of one of the types that are no JSON: of an event that was cut, most likely."""
        self.starts: list[int] = []
        """The offsets in its data of the lines of the events that were found last."""
        self._types = types
        names = sorted(f'"{name}"'.encode() for name in types)
        shared = 0  # what all names begin with is searched for: the longer, the faster
        while len({name[: shared + 1] for name in names}) == 1 and shared < len(names[0]):
            shared += 1
        self._names = tuple(names)
        self._mark = names[0][:shared]
        self._tails = tuple(name[shared:] for name in names)
        either = b"|".join(map(re.escape, names))
        self._member = re.compile(rb'"type"[ \t\r]*:[ \t\r]*(?=%s)' % either)
        rare = [at for at, byte in enumerate(self._mark) if chr(byte).isupper()]
        self._rare_at = rare[0] if len(rare) == 1 else 0
        self._rare = self._mark[rare[0] : rare[0] + 1] if len(rare) == 1 else b""

    def find(self, data: bytes) -> list[Envelope]:
        """Return the events among the whole lines of `data`, in order."""
        if scan.compiled is None:
            return self._search(data)
        lines, starts, cut = scan.compiled.find_events(data, (self._mark,), self._names)
        self.undecodable += cut
        self.starts = starts
        if not lines:
            return []
        events = decode_lines(lines)
        if self._are_watched(events):
            return cast("list[Envelope]", events)
        self.undecodable += events.count(None)
        both = zip(events, starts, strict=True)
        kept = [(event, at) for event, at in both if event and event.type in self._types]
        self.starts = [at for _, at in kept]
        return [event for event, _ in kept]

    def _are_watched(self, events: list[Envelope | None]) -> bool:
        """True if all are events of the types: nearly always, and cheaper to ask than of each."""
        try:
            return self._types.issuperset(map(_type_of, events))
        except AttributeError:  # a None: what is no JSON
            return False

    def _search(self, data: bytes) -> list[Envelope]:
        """Return the events, as `find`, in Python."""
        found: list[Envelope] = []
        starts = self.starts = []
        misses = 0
        at = self._next_mark(data, 0)
        while at >= 0:
            after = at + len(self._mark)
            if data.startswith(self._tails, after) and data[at - 1] in _BEFORE_VALUES:
                start, after = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", after)
                envelope = self._event_in(data[start:after])  # however often the line names one
                if envelope is None:
                    misses += 1
                else:
                    found.append(envelope)
                    starts.append(start)
            else:
                misses += 1
            if misses > _FREE_MISSES:
                misses = 0
                # the quote that ends a mark may open the member
                if (member := self._member.search(data, after - 1)) is None:
                    break
                after = member.end()
            at = self._next_mark(data, after)
        return found

    def _event_in(self, line: bytes) -> Envelope | None:
        """Return the event in `line`, None for any other line. Exceptions cost more than that."""
        if self._member.search(line) is None:
            return None
        envelope = decode_line(line) if _is_closed(line) else None
        if envelope is None:
            self.undecodable += 1
            return None
        return envelope if envelope.type in self._types else None

    def _next_mark(self, data: bytes, start: int) -> int:
        """Return the offset of the mark from `start` on, or -1."""
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


def _is_closed(line: bytes) -> bool:
    """True if a line ends as an object does. Exceptions cost more than this look."""
    return line.rstrip().endswith(b"}")

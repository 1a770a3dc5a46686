"""The ledger: where every line went. Its numbers are printed at exit, and they are the proof.

    received = framed + rejected{reason}
    offered  = filtered + sampled + enqueued                                          per sink
    enqueued + recovered
             = delivered + dropped{reason} + dead_lettered + failed_over + spooled + pending

Each side is counted where it happens (the socket, the framer, the queue, the settlement). It is
never derived from the other, so that a lost or doubled line shows as an imbalance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from telemetryd_proto.framing import REJECT_REASONS

OWN_LOG: Final = "own_log"
"""Lines telemetryd printed itself and got back, rejected by the pipeline."""
UNTRUSTED: Final = "untrusted"
"""Platform events that did not come from the platform, rejected by the pipeline."""
MAX_REASONS: Final = 32
"""Distinct drop reasons per sink: third-party sinks choose their own codes, labels stay bounded."""


class Count:
    """Lines and their bytes (newlines included)."""

    __slots__ = ("bytes", "lines")

    def __init__(self, lines: int = 0, size: int = 0) -> None:
        self.lines = lines
        self.bytes = size

    def add(self, lines: int, size: int) -> None:
        """Count `lines` lines of `size` bytes in all."""
        self.lines += lines
        self.bytes += size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Count) and (self.lines, self.bytes) == (other.lines, other.bytes)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Count(lines={self.lines}, size={self.bytes})"

    def leaf(self) -> dict[str, int]:
        """Return the form a leaf of the ledger has in JSON."""
        return {"lines": self.lines, "bytes": self.bytes}


def total(*counts: Count) -> Count:
    """Return the sum of `counts`."""
    return Count(sum(c.lines for c in counts), sum(c.bytes for c in counts))


class SinkAccount:
    """One sink's page of the ledger."""

    __slots__ = (
        "damaged_bytes",
        "dead_lettered",
        "delivered",
        "dropped",
        "enqueued",
        "failed_over",
        "filtered",
        "offered",
        "recovered",
        "sampled",
        "spooled",
    )

    def __init__(self) -> None:
        self.offered = Count()
        self.filtered = Count()
        self.sampled = Count()
        """Lines that its filter wants, and that its rules for sampling left out."""
        self.enqueued = Count()
        self.delivered = Count()
        self.dropped: dict[str, Count] = {}
        self.dead_lettered = Count()
        self.failed_over = Count()
        self.recovered = Count()
        """Lines that an earlier process of this environment had spooled and not delivered."""
        self.spooled = Count()
        """Lines on disk: for later, or for the next process of this environment."""
        self.damaged_bytes = 0
        """Bytes found in the spool that belong to no intact record. Their lines are not known."""

    @property
    def pending_lines(self) -> int:
        """Lines that wait or are in flight, by the books: to be shown, not to balance them."""
        gone = (self.delivered, self.dead_lettered, self.failed_over, self.spooled)
        ended = sum(count.lines for count in (*gone, *self.dropped.values()))
        return self.enqueued.lines + self.recovered.lines - ended

    def drop(self, reason: str, lines: int, size: int) -> None:
        """Count a loss. `reason` is a snake_case constant; beyond `MAX_REASONS` it is `other`."""
        if reason not in self.dropped and len(self.dropped) >= MAX_REASONS:
            reason = "other"
        self.dropped.setdefault(reason, Count()).add(lines, size)

    def is_balanced(self, pending: Count) -> bool:
        """True if every line offered is accounted for, `pending` being what the queue holds."""
        offered = total(self.filtered, self.sampled, self.enqueued)
        return self.offered == offered and total(self.enqueued, self.recovered) == total(
            self.delivered,
            *self.dropped.values(),
            self.dead_lettered,
            self.failed_over,
            self.spooled,
            pending,
        )

    def page(self, pending: Count) -> dict[str, Any]:
        """Return the account in the form of the ledger's JSON."""
        return {
            "offered": self.offered.leaf(),
            "filtered": self.filtered.leaf(),
            "sampled": self.sampled.leaf(),
            "enqueued": self.enqueued.leaf(),
            "delivered": self.delivered.leaf(),
            "dropped": {reason: count.leaf() for reason, count in sorted(self.dropped.items())},
            "dead_lettered": self.dead_lettered.leaf(),
            "failed_over": self.failed_over.leaf(),
            "recovered": self.recovered.leaf(),
            "spooled": self.spooled.leaf(),
            "damaged_bytes": self.damaged_bytes,
            "pending": pending.leaf(),
        }


class Ledger:
    """The accounts of one process."""

    __slots__ = (
        "framed",
        "received",
        "rejected",
        "sinks",
        "unrouted",
        "upstream_dropped",
    )

    def __init__(self, sinks: tuple[str, ...]) -> None:
        self.received = Count()
        """`bytes` grows with every read, `lines` when a line's end (or its loss) is known."""
        self.framed = Count()
        self.rejected = {reason: Count() for reason in (*REJECT_REASONS, OWN_LOG, UNTRUSTED)}
        self.upstream_dropped = Count()
        """Lines that the platform lost before us, by `platform.logsDropped`."""
        self.unrouted = Count()
        """Framed lines that no sink wanted."""
        self.sinks = {name: SinkAccount() for name in sinks}

    def is_balanced(self, pending: Mapping[str, Count], *, unfinished_bytes: int = 0) -> bool:
        """True if every line is accounted for.

        `pending` holds what each sink's queue and writes hold; `unfinished_bytes` are read bytes
        that belong to lines whose newline has not come (0 once all connections are closed).
        """
        framed = total(self.framed, *self.rejected.values())
        return (
            self.received.lines == framed.lines
            and self.received.bytes == framed.bytes + unfinished_bytes
            and all(account.is_balanced(pending[name]) for name, account in self.sinks.items())
        )

    def statement(
        self, pending: Mapping[str, Count], *, unfinished_bytes: int = 0
    ) -> dict[str, Any]:
        """Return the ledger as the JSON object that is printed at exit."""
        return {
            "received": self.received.leaf(),
            "framed": self.framed.leaf(),
            "rejected": {reason: count.leaf() for reason, count in self.rejected.items()},
            "upstream_dropped": self.upstream_dropped.leaf(),
            "unrouted": self.unrouted.leaf(),
            "sinks": {name: account.page(pending[name]) for name, account in self.sinks.items()},
            "balanced": self.is_balanced(pending, unfinished_bytes=unfinished_bytes),
        }

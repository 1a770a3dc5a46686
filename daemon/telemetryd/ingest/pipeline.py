"""The path from framed blocks to the sinks' queues.

    listener -> received/framed -> watch (life-cycle events) -> redact -> router -> queues

Everything here runs inside one socket read, synchronously. Nothing is awaited, so before the next
read a block is in every queue, or counted as lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from telemetryd.core.fields import RequestTracker
from telemetryd.core.ledger import OWN_LOG, UNTRUSTED, Count, Ledger
from telemetryd.core.own_lines import without_own_lines
from telemetryd.core.router import RouteRules, Selection, merge, open_pieces, reader_for
from telemetryd.core.stats import DaemonStats
from telemetryd.core.untrusted import without_platform_events
from telemetryd.core.watch import EventWatch
from telemetryd.delivery.worker import DeliveryWorker
from telemetryd.log import DaemonLog
from telemetryd_proto.envelope import Envelope
from telemetryd_proto.errors import ProtocolError
from telemetryd_proto.events import LogsDropped, decode_record
from telemetryd_proto.framing import Block, Framed, Rejected

if TYPE_CHECKING:
    from telemetryd.core.redaction.redactor import Redactor
    from telemetryd.delivery.dead_letter import DeadLetter

_IMPLAUSIBLE: Final = 1 << 48
"""Lines or bytes that no platform lost: one senseless number must not spoil the sum."""


class Observer(Protocol):
    """An observer of the life cycle in telemetry. Its methods must not wait."""

    def on_event(self, envelope: Envelope, block: Block, at: int) -> None:
        """Note an event of `core.watch.LIFE_CYCLE`, the line that begins at `at` in `block`."""

    def on_lines(self, count: int) -> None:
        """Note how many whole lines have arrived, after the events among them."""

    def on_loss(self, cause: str) -> None:
        """Note that telemetry was lost. `cause` is one of `core.lifecycle.CAUSES`."""

    def on_connections(self, count: int, *, lost: bool) -> None:
        """Note how many connections are open. `lost`: the platform's may have ended."""


class Route:
    """A sink's worker, and the rules before its queue (None: every line, as it came)."""

    __slots__ = ("rules", "worker")

    def __init__(self, worker: DeliveryWorker, rules: RouteRules | None) -> None:
        self.worker = worker
        self.rules = rules


class Pipeline:
    """Receives what the listener reads and hands it on."""

    def __init__(
        self,
        ledger: Ledger,
        routes: Sequence[Route],
        *,
        dead_letter: DeadLetter | None,
        observer: Observer | None,
        trusts: Callable[[int], bool] | None = None,
        is_anothers: Callable[[int], bool] = lambda _: False,
        watch: EventWatch,
        tracker: RequestTracker,
        drop_own_lines: bool,
        redactor: Redactor | None = None,
        tap: Callable[[Block], None] | None = None,
        stats: DaemonStats,
        log: DaemonLog,
    ) -> None:
        self._redactor = redactor
        self._tap = tap
        self._ledger = ledger
        self._stats = stats
        self._watch = watch
        self._drop_own_lines = drop_own_lines
        self._discarding = not routes
        self._tracker = tracker
        self.reroute(routes)
        self._dead_letter = dead_letter
        self._observer = observer
        self._trusts = trusts
        self._is_anothers = is_anothers
        self._log = log

    def reroute(self, routes: Sequence[Route]) -> None:
        """Route further lines by the rules that `routes` have now."""
        self._raw = [route.worker for route in routes if route.rules is None]
        self._ruled = [(route.worker, route.rules) for route in routes if route.rules is not None]
        self._tracks = any(rules.wants_requests for _, rules in self._ruled)
        self._reader = reader_for([rules for _, rules in self._ruled])
        shapers = [rules.shaper for _, rules in self._ruled if rules.shaper is not None]
        self._flat = next((each.flat for each in shapers if each.flat is not None), None)
        if any(rules.wants_facts for _, rules in self._ruled):
            keeper = self._tracker.keep_facts()
            keeper.wants_execution = any(each.wants_execution for each in shapers)

    def on_received(self, size: int) -> None:
        """Count `size` bytes that were read from a connection."""
        self._ledger.received.bytes += size

    def on_framed(self, parts: list[Framed]) -> None:
        """Count and route what the framer made of the bytes."""
        ledger = self._ledger
        bug: Exception | None = None
        for part in parts:
            ledger.received.lines += part.lines
            if isinstance(part, Block):
                block = self._admit(part)
                if block is None:
                    continue
                ledger.framed.add(block.lines, block.size)
                try:
                    self._accept(block)
                except Exception as error:  # noqa: BLE001 - ours; the books must continue
                    if not self._discarding:
                        ledger.unrouted.add(block.lines, block.size)
                        self.discard()
                    bug = error
            else:
                ledger.rejected[part.reason].add(part.lines, part.size)
                if part.reason != "empty":
                    self._report_rejected(part)
                    self._on_loss("line_rejected", part.source)
        if bug is not None:
            raise bug

    @property
    def is_discarding(self) -> bool:
        """True if lines are only counted: there is no sink, or there was a bug."""
        return self._discarding

    def discard(self) -> None:
        """Count lines as unrouted from now on, and keep none, because of a bug."""
        self._discarding = True

    def _accept(self, block: Block) -> None:
        if self._discarding:
            self._ledger.unrouted.add(block.lines, block.size)
        undecodable = self._watch.undecodable
        if events := self._watch.find(block.data):
            self._on_watched(events, block)
        if self._watch.undecodable > undecodable:
            self._stats.malformed_events += self._watch.undecodable - undecodable
            self._on_loss("event_malformed", block.source)
        if self._observer is not None and not self._is_anothers(block.source):
            self._observer.on_lines(block.lines)
        if self._discarding:
            return
        if self._redactor is not None:
            block = self._redactor.mask_block(block)
        if self._tap is not None:
            self._tap(block)
        for worker in self._raw:
            worker.offer(block)
        if self._ruled:
            self._route(block)

    def _admit(self, block: Block) -> Block | None:
        """Return the block without lines that no sink wants."""
        admitted = self._without_own_lines(block) if self._drop_own_lines else block
        if admitted is None or self._trusts is None or self._trusts(block.source):
            return admitted
        return self._without_forgeries(admitted)

    def _without_own_lines(self, block: Block) -> Block | None:
        rest, lines, size = without_own_lines(block)
        if lines:
            self._ledger.rejected[OWN_LOG].add(lines, size)
        return rest

    def _without_forgeries(self, block: Block) -> Block | None:
        rest, lines, size = without_platform_events(block)
        if lines:
            self._ledger.rejected[UNTRUSTED].add(lines, size)
            self._log.warning("event_untrusted", lines=lines, source=block.source)
        return rest

    def _report_rejected(self, part: Rejected) -> None:
        self._log.warning("line_rejected", reason=part.reason, bytes=part.size)
        if self._dead_letter is not None:
            head = part.head
            if self._redactor is not None:
                whole = len(head) == part.size and part.reason != "truncated"
                head = self._redactor.mask_head(head, whole=whole)
            self._dead_letter.keep_head(
                head, part.size, reason=part.reason, source=part.source, offset=part.offset
            )

    def _on_loss(self, cause: str, source: int) -> None:
        """Report a loss, unless it is another process's than the platform's."""
        if self._observer is not None and not self._is_anothers(source):
            self._observer.on_loss(cause)

    def _on_watched(self, events: list[Envelope], block: Block) -> None:
        observer = self._observer
        for envelope, at in zip(events, self._watch.starts, strict=True):
            if envelope.type == "platform.logsDropped":
                self._on_dropped(envelope, block.source)
            elif observer is not None:
                observer.on_event(envelope, block, at)

    def _on_dropped(self, envelope: Envelope, source: int) -> None:
        self._on_loss("logs_dropped", source)
        try:
            record = decode_record(envelope, lenient=True)
        except ProtocolError as error:
            self._on_malformed(envelope, error.code)
            return
        if isinstance(record, LogsDropped):
            lines, size = record.dropped_records or 0, record.dropped_bytes or 0
            if not (0 <= lines < _IMPLAUSIBLE and 0 <= size < _IMPLAUSIBLE):
                self._on_malformed(envelope, "range")
                return
            self._ledger.upstream_dropped.add(lines, size)
            reason = self._mask_text(record.reason or "")[:200]
            self._log.warning("upstream_dropped", lines=lines, bytes=size, reason=reason)

    def _mask_text(self, text: str) -> str:
        """Return text of a line, which the log repeats, as sinks get it."""
        if self._redactor is None:
            return text
        return self._redactor.mask_head(text.encode(), whole=True).decode()

    def _on_malformed(self, envelope: Envelope, code: str) -> None:
        self._stats.malformed_events += 1
        self._log.warning("event_malformed", type=envelope.type, code=code)

    def _route(self, block: Block) -> None:
        """Route a block to the sinks that do not want all of it unchanged."""
        selections: list[list[Selection]] = []
        unrouted = Count()
        for piece in open_pieces(block, self._tracker, self._reader, self._flat):
            if self._tracks:
                piece.follow()
            selections.append([piece.select(rules) for _, rules in self._ruled])
            if not self._raw:
                unrouted.add(*piece.count_unwanted())
        self._ledger.unrouted.add(unrouted.lines, unrouted.bytes)
        for (worker, _), found in zip(self._ruled, zip(*selections, strict=True), strict=True):
            selection = merge(block, found)
            if selection.filtered_lines:
                worker.filter_out(selection.filtered_lines, selection.filtered_bytes)
            if selection.sampled_lines:
                worker.sample_out(selection.sampled_lines, selection.sampled_bytes)
            if selection.unjudged_lines:
                worker.count_unjudged(selection.unjudged_lines)
            if selection.wanted is not None:
                worker.offer(selection.wanted)

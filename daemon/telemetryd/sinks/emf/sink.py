"""`type = "emf"`: metrics of the function, from its platform events, in embedded metric format.

One batch becomes as few documents as the format allows. See docs/metrics.md for what they hold.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

import msgspec

from telemetryd.sinks._platform.exceptions import HINTS
from telemetryd.sinks._platform.invocations import Invocations
from telemetryd.sinks._platform.lines import (
    PLATFORM,
    decode_event,
    has_function_line,
    lines_with,
)
from telemetryd.sinks._platform.measured import Measured
from telemetryd.sinks._standard_output import StandardOutput
from telemetryd.sinks.aws.logs import LogEvent, LogsDelivery
from telemetryd.sinks.base import (
    Batch,
    Failure,
    Item,
    Sink,
    SinkContext,
    WriteResult,
)
from telemetryd.sinks.emf import prices as _emf_prices
from telemetryd.sinks.emf.catalogue import OWN_METRICS, SYSTEM_METRICS
from telemetryd.sinks.emf.config import EmfConfig, expand
from telemetryd.sinks.emf.documents import Documents, Finished, Layout
from telemetryd.sinks.emf.event_time import EventTimes
from telemetryd.sinks.emf.forward import FORWARD_HINT, find_document
from telemetryd.sinks.emf.own_metrics import SelfMetrics
from telemetryd_proto.envelope import Envelope
from telemetryd_proto.errors import MalformedRecord
from telemetryd_proto.events import LogRecord, decode_record
from telemetryd_proto.framing import Block

_ARM: Final = frozenset({"aarch64", "arm64"})


class EmfItem(Item, frozen=True, gc=False):
    """One document, or lines that yield none, with the lines as they came."""

    timestamp: int = 0
    """The document's time, milliseconds since the Unix epoch."""
    origin: tuple[bytes, ...] = ()
    """The lines of a document."""
    data: bytes = b""
    """The whole block with the lines without a document. Copies of the pieces would cost more."""
    cuts: tuple[int, ...] = ()
    """Offsets where the pieces of `data` with those lines begin and end, in turn."""


class EmfSink(Sink):
    """Measures in `pack`, where each line is seen once, and delivers in `write`."""

    Config = EmfConfig
    item_type = EmfItem

    def __init__(self, config: EmfConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self._config = config
        self._times = EventTimes(context.clock.wall)
        wanted = config.wanted | (SYSTEM_METRICS if context.system is not None else frozenset())
        self._layout = Layout(
            namespace=config.namespace,
            dimensions=config.dimensions,
            properties=config.properties or {},
            resolution=config.resolution,
            metrics=wanted,
        )
        arm = os.uname().machine in _ARM
        gb_second = config.price_arm64 if arm else config.price_x86_64
        prices = _emf_prices.Prices(config.price_request, gb_second)
        self._invocations = Invocations(
            context.function, context.version, prices.invocation, context.system
        )
        self._self: SelfMetrics | None = None
        if config.self_metrics and context.figures is not None and config.wanted & OWN_METRICS:
            self._self = SelfMetrics(
                context.figures, context.clock.wall, context.function, context.version
            )
        self._stdout = StandardOutput(f"sink-{context.name}")
        self._logs: LogsDelivery | None = None
        if config.delivery == "logs":
            self._logs = LogsDelivery(
                *self._log_names(),
                context,
                client=config.client,
                region=config.region or "",
                endpoint_url=config.endpoint_url or "",
            )
        self._marks = _marks(config)
        self._reads_log_errors = config.reads_log_errors
        self._milliseconds = self._times.milliseconds
        self._measure_decoded = self._invocations.measure_decoded
        # printing is over in an instant, a conversation with CloudWatch Logs is not
        self.survives_freeze = self._logs is None  # type: ignore[misc]  # a constant elsewhere

    def on_restore(self, instance: str) -> None:
        """Use a new log stream, because the process continues from a snapshot."""
        super().on_restore(instance)
        if self._logs is not None:
            self._logs.redirect(*self._log_names())

    def _log_names(self) -> tuple[str, str]:
        config = self._config
        return expand(config.log_group, self.context), expand(config.log_stream, self.context)

    async def open(self) -> None:
        """Make the log stream, for `delivery = "logs"`."""
        if self._logs is not None:
            await self._logs.open()

    def pack(self, blocks: Sequence[Block]) -> list[Item]:
        """Return the batch's documents, and an item for the lines of each block that yield none."""
        documents = Documents(self._layout)
        items: list[Item] = []
        for block in blocks:
            self._pack_block(block, documents, items)
        items += map(_document_item, documents.finish())
        items = _with_received_sizes(items, sum(block.added for block in blocks))
        if self._self is not None and (measured := self._self.when_due()):
            items += self._own(measured)
        return items

    def _pack_block(self, block: Block, documents: Documents, items: list[Item]) -> None:
        rest, used, at, seen = list[int](), 0, 0, 0
        has_suspect = self._invocations.has_suspect
        watches = self._reads_log_errors
        for start, line in lines_with(self._marks, block.data):
            if watches and has_suspect(block.source):
                self._look_for_log(block, seen, start)
            if self._use(line, block, start, documents, items):
                if at < start:
                    rest += (at, start)
                used += 1
                at = start + len(line)
            seen = start + len(line)
        if watches and has_suspect(block.source):
            self._look_for_log(block, seen, len(block.data))
        if at < len(block.data):
            rest += (at, len(block.data))
        if rest:
            items.append(_rest_item(rest, block, block.lines - used))

    def own_items(self, end: str) -> list[Item]:
        """Return what no line reports: a failure known at the end, telemetryd's own figures."""
        items: list[Item] = []
        if measured := self._invocations.on_environment_end(end):
            items += self._own(measured)
        if self._self is not None:
            items += self._own(self._self.now())
        return items

    def _own(self, measured: Measured) -> list[Item]:
        documents = Documents(self._layout)
        nothing = Block(b"", 0, received_at=self.context.clock.monotonic())
        documents.add(measured, self._times.milliseconds(""), b"", nothing, 0)
        return [_document_item(document) for document in documents.finish()]

    def unpack(self, item: Item) -> bytes:
        """Return the lines an item stands for."""
        if not isinstance(item, EmfItem):
            return item.payload
        ends = iter(item.cuts)
        pieces = [item.data[start:end] for start, end in zip(ends, ends, strict=True)]
        return b"".join((*item.origin, *pieces))

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """Deliver the documents; lines without one are delivered by having been looked at."""
        if self._logs is None:
            return await self._stdout.write([item.payload for item in batch.items])
        indices = [index for index, item in enumerate(batch.items) if item.payload]
        if not indices:
            return WriteResult()
        events = [_log_event(batch.items[index]) for index in indices]
        result = await self._logs.write(events)
        return WriteResult(
            tuple(Failure(indices[f.index], f.code, f.retryable) for f in result.failures)
        )

    async def probe(self) -> str:
        """Offer CloudWatch Logs an event that is too old to be kept, in a stream for probes."""
        if self._logs is None:
            return "documents go to standard output, from which Lambda sends them to the log group"
        probing = msgspec.structs.replace(self.context, instance="probe")
        group = expand(self._config.log_group, probing)
        stream = expand(self._config.log_stream, probing)
        self._logs.redirect(group, stream)
        return await self._logs.probe(self.context.clock.wall())

    @property
    def awaits_answer(self) -> bool:
        """True if only the answer of CloudWatch Logs is missing."""
        return self._logs is not None and self._logs.awaits_answer

    async def close(self) -> None:
        """Close connections; standard output stays open."""
        self._stdout.close()
        if self._logs is not None:
            await self._logs.close()

    # -- one line ------------------------------------------------------------------------------

    def _use(
        self, line: bytes, block: Block, start: int, documents: Documents, items: list[Item]
    ) -> bool:
        """Put what a line tells into a document or an item of its own; False if that is nothing."""
        event = decode_event(line)
        if event is None:
            return False
        if not isinstance(event, Envelope):
            at = self._milliseconds(event.time)
            measured = self._measure_decoded(event, at, block.source)
            return measured is not None and documents.add(measured, at, line, block, start)
        if event.type != "function":
            return self._measure(event, line, block, start, documents)
        if self._reads_log_errors:
            self._invocations.clear_suspect(block.source)
        if item := self._forward(event, line, block, block.offset + start):
            items.append(item)
            return True
        return self._measure_log(event, line, block, start, documents)

    def _measure(
        self, event: Envelope, line: bytes, block: Block, start: int, documents: Documents
    ) -> bool:
        at = self._times.milliseconds(event.time)
        try:
            measured = self._invocations.measure(event, at, block.source)
        except MalformedRecord as error:
            self._log_malformed(event, error)
            return False
        return measured is not None and documents.add(measured, at, line, block, start)

    def _measure_log(
        self, event: Envelope, line: bytes, block: Block, start: int, documents: Documents
    ) -> bool:
        if not (self._reads_log_errors and any(hint in line for hint in HINTS)):
            return False
        try:
            record = decode_record(event, lenient=True)
        except MalformedRecord as error:
            self._log_malformed(event, error)
            return False
        measured = None
        if isinstance(record, LogRecord):
            measured = self._invocations.exception(record, block.source)
        at = self._times.milliseconds(event.time)
        return measured is not None and documents.add(measured, at, line, block, start)

    def _look_for_log(self, block: Block, start: int, end: int) -> None:
        """Clear the suspect if there is a log line of the function between two places."""
        if has_function_line(block.data, start, end):
            self._invocations.clear_suspect(block.source)

    def _forward(self, event: Envelope, line: bytes, block: Block, offset: int) -> EmfItem | None:
        if not (self._config.forward_emf and FORWARD_HINT in line):
            return None
        found = find_document(event, marked=self._logs is None)
        if found is None:
            return None
        place = (block.source, offset, block.received_at)
        return EmfItem(found.payload, 1, len(line), *place, found.timestamp, (line,))

    def _log_malformed(self, event: Envelope, error: MalformedRecord) -> None:
        self.context.log.warning(
            "event_malformed", sink=self.context.name, type=event.type, code=error.code
        )


def _marks(config: EmfConfig) -> tuple[bytes, ...]:
    """Return marks of interesting lines; empty if any line may be interesting."""
    if config.types and all(kind.startswith("platform") for kind in config.types):
        return ()
    marks: tuple[bytes, ...] = (PLATFORM,)
    if config.forward_emf:
        marks += (FORWARD_HINT,)
    return marks + HINTS if config.reads_log_errors else marks


def _rest_item(cuts: list[int], block: Block, lines: int) -> EmfItem:
    size = sum(cuts[1::2]) - sum(cuts[::2])
    place = (block.source, block.offset, block.received_at)
    return EmfItem(b"", lines, size, *place, data=block.data, cuts=tuple(cuts))


def _with_received_sizes(items: list[Item], added: int) -> list[Item]:
    """Return `items` whose sizes leave out the `added` bytes of the lines: only the sum matters."""
    for index, item in enumerate(items):
        if not added:
            break
        cut = min(added, item.size)
        items[index] = msgspec.structs.replace(item, size=item.size - cut)
        added -= cut
    return items


def _document_item(document: Finished) -> EmfItem:
    lines, place = document.lines, document.place
    return EmfItem(
        document.payload, len(lines), sum(map(len, lines)), place.source, place.offset,
        place.received_at, document.timestamp, lines,
    )  # fmt: skip


def _log_event(item: Item) -> LogEvent:
    timestamp = item.timestamp if isinstance(item, EmfItem) else 0
    return LogEvent(timestamp, item.payload.removesuffix(b"\n"))

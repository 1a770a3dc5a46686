"""`type = "otlp"`: logs, metrics and traces to OpenTelemetry Protocol endpoints, over HTTP.

`docs/otlp.md` explains what lines become, and which answers mean what.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from telemetryd import __version__
from telemetryd.errors import PermanentSinkError
from telemetryd.sinks._attempt import Attempt, Bodies
from telemetryd.sinks._entries import ACCEPTED, Entry, Run, Verdict
from telemetryd.sinks.base import (
    DELIVERED,
    Batch,
    Failure,
    Item,
    Sink,
    SinkContext,
    WriteResult,
)
from telemetryd.sinks.otlp.answers import PARTIAL
from telemetryd.sinks.otlp.config import OtlpConfig
from telemetryd.sinks.otlp.exporter import Clients, Exporter, probe_signal
from telemetryd.sinks.otlp.invocations import (
    NO_INVOCATION,
    Invocation,
    Invocations,
    trace_around,
)
from telemetryd.sinks.otlp.items import SETTINGS_CHANGED, LogItem
from telemetryd.sinks.otlp.records import START, Recorder, Writer
from telemetryd.sinks.otlp.resource import Resource
from telemetryd_proto.envelope import decode_line
from telemetryd_proto.errors import DECODE_FAILURES
from telemetryd_proto.framing import Block
from telemetryd_proto.otlp.logs import JsonLogs, ProtobufLogs
from telemetryd_proto.otlp.requests import JsonForm, ProtobufForm
from telemetryd_proto.otlp.trace_context import TraceContext

if TYPE_CHECKING:
    from telemetryd.sinks.otlp.derived import DerivedSignals

ITEM_BYTES: Final = 16 * 1024
"""Most bytes of an item of several lines, whose records are made together."""
_ITEMS_IN_A_TURN: Final = 4
"""Items whose records are made before the loop runs again: on a small share of a CPU they take
milliseconds."""
MAX_RECORDS: Final = 10_000
"""Most records of a request (platform limit, CloudWatch User Guide, OTLP Endpoints)."""
_PLATFORM: Final = b'"platform.'
"""The beginning of the type of a platform event."""
_INIT_START: Final = "platform.initStart"
_FOLLOWED: Final = {f'"{kind}"'.encode(): kind for kind in (_INIT_START, START)}
_ROOM_TO_LEARN: Final = 4096
"""Bytes by which the resource may grow after the start."""
_MAX_SOURCES: Final = 256
_MANAGED: Final = "lambda-managed-instances"

_decode: Final = msgspec.json.Decoder().decode


class OtlpSink(Sink):
    """POSTs a batch as log records, usually in one request, and what it says of invocations."""

    Config = OtlpConfig
    item_type = LogItem

    def __init__(self, config: OtlpConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        environ = os.environ
        clients = Clients(config, context)
        self._exporter = Exporter(config, "logs", context, environ, clients)
        self._resource = Resource(
            environ, config.resource, scope_version=__version__, account=context.account
        )
        one_at_a_time = environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != _MANAGED
        self._has_logs = "logs" in config.signals
        self._derived: DerivedSignals | None = None
        trace_of = trace_around
        if config.signals != ("logs",):
            from telemetryd.sinks.otlp.derived import DerivedSignals  # noqa: PLC0415 - where wanted

            self._derived = DerivedSignals(config, context, environ, self._resource, clients)
            if "traces" in config.signals:
                trace_of = self._derived.trace_of
        self._invocations = Invocations(one_at_a_time=one_at_a_time, trace_of=trace_of)
        self._running: dict[int, Invocation] = {}
        """The invocation that the lines of each connection belong to."""
        self._bodies = _RecordBodies(
            config, self._resource, self._invocations, as_json=self._exporter.is_json
        )

    async def open(self) -> None:
        """Make the clients; nothing is sent."""
        for exporter in self._exporters:
            await exporter.open()

    async def reopen(self) -> None:
        """Forget which size was too large: somebody may have changed the destination."""
        self._bodies.room = self._bodies.max_bytes

    def pack(self, blocks: Sequence[Block]) -> Iterator[Item]:
        """Yield items of a few lines, with the invocation that each begins in."""
        if not self._has_logs:
            for block in blocks:
                self._follow(block)
            assert self._derived is not None  # noqa: S101 - there is one signal at least
            yield from self._derived.pack_lines(blocks)
            return
        clock = self.context.clock
        since = clock.wall() - clock.monotonic()
        for block in blocks:
            observed = round((since + block.received_at) * 1e6) * 1000
            for piece in block.cut(ITEM_BYTES):
                request, trace = self._running.get(piece.source, NO_INVOCATION)
                yield LogItem(
                    piece.data, piece.lines, piece.size, piece.source, piece.offset,
                    piece.received_at, observed, request, *trace,
                )  # fmt: skip
                self._follow(piece)
            if self._derived is not None:
                self._derived.read(block)
        if self._derived is not None:
            yield from self._derived.take()

    def own_items(self, end: str) -> list[Item]:
        """Return metrics and spans of what no line says any more."""
        return [*self._derived.end(end)] if self._derived is not None else []

    def on_restore(self, instance: str) -> None:
        """Begin metrics again, because the process continues from a snapshot."""
        super().on_restore(instance)
        if self._derived is not None:
            self._derived.on_restore(instance)

    def unpack(self, item: Item) -> bytes | None:
        """Return the lines of an item; None for those that only the server knows."""
        return None if isinstance(item, LogItem) and item.is_gone else item.payload

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """Send each line once, in as few requests as the limits allow, one after the other.

        If the logs of a batch fail as a whole, so does the batch, before anything else is sent.
        """
        run = [Entry(index, item) for index, item in enumerate(batch.items) if _is_log(item)]
        logs = await self._write_logs(batch, run, deadline)
        others = await self._write_derived(batch)
        result = WriteResult((*logs, *others))
        error = self._derived.error if self._derived is not None and not logs else None
        fates = {(failure.code, failure.retryable) for failure in result.failures}
        if error is not None and len(fates) == 1 and result.refuses_all_of(batch):
            raise error
        if self._derived is not None:
            self._derived.report_refused()
        return result if result.failures else DELIVERED

    async def _write_derived(self, batch: Batch) -> list[Failure]:
        if self._derived is not None:
            return await self._derived.send(batch)
        return [
            Failure(index, SETTINGS_CHANGED, retryable=False)
            for index, item in enumerate(batch.items)
            if isinstance(item, LogItem) and item.message
        ]

    async def _write_logs(self, batch: Batch, run: Run, deadline: float) -> Sequence[Failure]:
        rejected = _Rejected()

        async def post(body: Sequence[bytes], lines: int, _key: str) -> Verdict:
            try:
                found = await self._exporter.post(body)
            except PermanentSinkError as error:
                if error.stops_sink:
                    raise
                return Verdict(refusal=error)
            rejected.add(min(found.items, lines), lines)
            return ACCEPTED

        now = self.context.clock.loop
        sending = Attempt(batch, self._bodies, post, now=now, deadline=deadline)
        for number, entry in enumerate(run):
            entry.fragment = self._bodies.encode(batch, entry)
            if number % _ITEMS_IN_A_TURN == _ITEMS_IN_A_TURN - 1:
                await asyncio.sleep(0)
        await sending.send(run)
        failures = rejected.spread(batch, sending.tally.failures())
        if not failures:
            return ()
        codes = {failure.code for failure in failures}
        refuses_all = WriteResult(failures).refuses_all_of(batch)
        if sending.refused and len(codes) == 1 and refuses_all:
            raise sending.refused[0]
        if details := [*sending.details, *rejected.details]:
            self.context.log.info(
                "records_refused", sink=self.context.name, requests=sending.requests,
                records=sum(_lines_of(batch, failure) for failure in failures),
                codes=",".join(sorted(codes)), detail=details[0],
            )  # fmt: skip
        return failures

    async def probe(self) -> str:
        """Send a request without records for each signal."""
        found = []
        if self._has_logs:
            found.append(await probe_signal(self._exporter, self._bodies.join([])))
        if self._derived is not None:
            found += await self._derived.probe()
        return "; ".join(found)

    @property
    def _exporters(self) -> list[Exporter]:
        logs = [self._exporter] if self._has_logs else []
        return logs if self._derived is None else [*logs, *self._derived.exporters]

    @property
    def awaits_answer(self) -> bool:
        """True if a request is fully sent, and only its answer is missing."""
        return any(exporter.awaits_answer for exporter in self._exporters)

    async def close(self) -> None:
        """Close the connections."""
        for exporter in {self._exporter, *self._exporters}:
            await exporter.close()

    def _follow(self, piece: Block) -> None:
        """Note what platform events in `piece` say of the function, and which invocation begins."""
        data = piece.data
        at = data.find(_PLATFORM)
        while at >= 0:
            kind = _FOLLOWED.get(data[at : data.find(b'"', at + 1) + 1])
            end = at + len(_PLATFORM)
            if kind is not None:
                end = data.find(b"\n", at) + 1
                self._on_event(kind, data[data.rfind(b"\n", 0, at) + 1 : end], piece.source)
            at = data.find(_PLATFORM, end)

    def _on_event(self, kind: str, line: bytes, source: int) -> None:
        envelope = decode_line(line)
        if envelope is None or envelope.type != kind:
            return
        try:
            record = _decode(envelope.record)
        except DECODE_FAILURES:
            return
        if kind == START:
            running = self._running
            running.pop(source, None)
            running[source] = self._invocations.start(record)
            if len(running) > _MAX_SOURCES:
                del running[next(iter(running))]
        self._resource.learn(record)


class _RecordBodies(Bodies):
    """Makes requests of log records."""

    def __init__(
        self, config: OtlpConfig, resource: Resource, invocations: Invocations, *, as_json: bool
    ) -> None:
        self._resource = resource
        self._as_json = as_json
        self._writer: Writer = JsonLogs() if as_json else ProtobufLogs()
        is_shaped = bool(config.tags or config.fields or config.sample)
        self._recorder = Recorder(self._writer, invocations, expects_more=is_shaped)
        self._form, self._changes = self._make_form(), resource.changes
        super().__init__(
            config.most_request_bytes,
            surplus=self._form.surplus + _ROOM_TO_LEARN,
            max_lines=MAX_RECORDS,
        )

    def encode(self, batch: Batch, entry: Entry) -> bytes:
        """Return the records of the lines of `entry`."""
        item = entry.item
        if not isinstance(item, LogItem):  # of a spool that another type of sink has left
            return b"".join(self._recorder.encode(entry.payload, 0, NO_INVOCATION))
        trace = TraceContext(item.trace_id, item.span_id, item.flags)
        before = Invocation(item.request_id, trace)
        if entry.first:
            before = self._recorder.invocation_behind(item.payload, entry.first, before)
        return b"".join(self._recorder.encode(entry.payload, item.observed, before))

    def join(self, fragments: Sequence[bytes]) -> Sequence[bytes]:
        """Return a request, in pieces."""
        if self._changes != self._resource.changes:
            self._form, self._changes = self._make_form(), self._resource.changes
        return self._form.body(fragments)

    def _make_form(self) -> JsonForm | ProtobufForm:
        source = self._resource.source()
        return JsonForm("logs", source) if self._as_json else ProtobufForm("logs", source)


class _Rejected:
    """Records that servers rejected of requests that they otherwise accepted.

    Which ones these are is not said. So as many lines are counted as dropped, and none of them is
    kept elsewhere: the wrong ones would be.
    """

    def __init__(self) -> None:
        self._lines = 0
        self.details: list[str] = []

    def add(self, lines: int, total: int) -> None:
        """Note that `lines` of the `total` in a request were rejected."""
        if lines:
            self._lines += lines
            self.details.append(f"the server rejected {lines} of {total} records")

    def spread(self, batch: Batch, failures: Sequence[Failure]) -> tuple[Failure, ...]:
        """Return `failures`, and as many more lines as were rejected, the last ones first."""
        if not self._lines:
            return tuple(failures)
        left, found = self._lines, list(failures)
        failed: dict[int, list[Failure]] = {}
        for failure in failures:
            failed.setdefault(failure.index, []).append(failure)
        for index in range(len(batch.items) - 1, -1, -1):
            item, gone = batch.items[index], failed.get(index, [])
            lines = item.lines - sum(_lines_of(batch, each) for each in gone)
            size = item.size - sum(_item_of(batch, each).size for each in gone)
            taken = min(left, lines)
            if taken:
                part = LogItem(
                    b"", taken, size * taken // lines, item.source, item.offset,
                    item.received_at, is_gone=True,
                )  # fmt: skip
                found.append(Failure(index, PARTIAL, retryable=False, part=part))
                left -= taken
        return tuple(found)


def _is_log(item: Item) -> bool:
    """True if the lines of an item are to be sent: also those that another type of sink left."""
    return not isinstance(item, LogItem) or item.signal == "logs"


def _item_of(batch: Batch, failure: Failure) -> Item:
    return batch.items[failure.index] if failure.part is None else failure.part


def _lines_of(batch: Batch, failure: Failure) -> int:
    return _item_of(batch, failure).lines

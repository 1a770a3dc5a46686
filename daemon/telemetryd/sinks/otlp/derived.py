"""Metrics and spans of an OTLP sink: made of the platform events of a batch, and sent besides.

They stand for no line: the lines are sent as logs. Without the signal `logs` all lines of a batch
are in one item with what was made of them. They are delivered with it, or lost with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.sinks._platform.invocation_spans import own_context
from telemetryd.sinks._platform.signals import PlatformSignals, Wanted
from telemetryd.sinks._posting import TOO_LARGE
from telemetryd.sinks.base import Batch, Failure, SinkContext
from telemetryd.sinks.otlp.config import OtlpConfig
from telemetryd.sinks.otlp.exporter import Clients, Exporter, probe_signal
from telemetryd.sinks.otlp.invocations import header_of, request_of, trace_around
from telemetryd.sinks.otlp.items import SETTINGS_CHANGED, LogItem
from telemetryd.sinks.otlp.resource import Resource
from telemetryd.sinks.otlp.settings import is_delta
from telemetryd_proto.framing import Block
from telemetryd_proto.otlp.metrics import OtlpMetric, json_metric, metric_message
from telemetryd_proto.otlp.requests import JsonForm, ProtobufForm
from telemetryd_proto.otlp.spans import OtlpSpan, json_span, span_message
from telemetryd_proto.otlp.trace_context import TraceContext

MESSAGE_BYTES: Final = 64 * 1024
"""Most bytes of an item of several metrics or spans."""
MOST: Final[dict[DerivedSignal, int]] = {"metrics": 1000, "traces": 10_000}
"""Most data points or spans of a request (CloudWatch User Guide, "OTLP Endpoints")."""
_KINDS: Final[dict[DerivedSignal, Literal["metrics", "spans"]]] = {
    "metrics": "metrics",
    "traces": "spans",
}

DerivedSignal: TypeAlias = Literal["metrics", "traces"]


class _Message(NamedTuple):
    """Metrics or spans in the form of a request."""

    data: bytes
    number: int


class DerivedSignals:
    """Makes items of what the lines of a sink say of invocations, and sends them."""

    def __init__(
        self,
        config: OtlpConfig,
        context: SinkContext,
        environ: Mapping[str, str],
        resource: Resource,
        clients: Clients,
    ) -> None:
        self._keeps_unsampled = config.sampler == "always"
        wanted = Wanted(
            metrics="metrics" in config.signals,
            traces="traces" in config.signals,
            is_delta=is_delta(config, environ),
            keeps_unsampled=self._keeps_unsampled,
        )
        self._context = context
        self._signals = PlatformSignals(context, wanted)
        signals: tuple[DerivedSignal, ...] = ("metrics", "traces")
        self._senders = {
            signal: _Sender(signal, config, context, environ, resource, clients)
            for signal in signals
            if signal in config.signals
        }

    def on_restore(self, instance: str) -> None:
        """Begin again, because the process continues from a snapshot."""
        self._signals.on_restore(instance)

    def trace_of(self, record: object) -> TraceContext:
        """Return the trace of the record of a platform event: its invocation's own span.

        Of a record without an invocation, or whose invocation has no span, it is its header's.
        """
        request_id = request_of(record)
        own = None
        if request_id:
            header = header_of(record)
            own = own_context(request_id, header, keeps_unsampled=self._keeps_unsampled)
        return own or trace_around(record)

    def read(self, block: Block) -> None:
        """Look at the lines of a block."""
        self._signals.read(block)

    def take(self) -> list[LogItem]:
        """Return items, which stand for no line, for what has been read since the last time."""
        items: list[LogItem] = []
        made: dict[DerivedSignal, Sequence[OtlpMetric | OtlpSpan]] = {
            "traces": self._signals.take_spans(),
            "metrics": self._signals.take_metrics(),
        }
        for signal, found in made.items():
            if found:
                items += self._senders[signal].pack(found)
        return items

    def pack_lines(self, blocks: Sequence[Block]) -> list[LogItem]:
        """Return items that stand for the lines of `blocks`, where they are not sent as logs."""
        for block in blocks:
            self.read(block)
        first = blocks[0]
        lines = LogItem(
            b"".join([block.data for block in blocks]), sum(block.lines for block in blocks),
            sum(block.size for block in blocks), first.source, first.offset, first.received_at,
            signal="",
        )  # fmt: skip
        made = self.take()
        if not made:
            return [lines]
        of_first = {
            "signal": made[0].signal, "message": made[0].message, "number": made[0].number,
            "is_json": made[0].is_json,
        }  # fmt: skip
        return [msgspec.structs.replace(lines, **of_first), *made[1:]]

    def end(self, reason: str) -> list[LogItem]:
        """Return items for what no line says, because the environment ends for `reason`."""
        self._signals.end(reason)
        return self.take()

    async def send(self, batch: Batch) -> list[Failure]:
        """Send the metrics and spans of a batch. Return the items that were not accepted.

        Each signal is sent, whatever becomes of the other.
        """
        runs: dict[str, list[tuple[int, LogItem]]] = {}
        for index, item in enumerate(batch.items):
            if isinstance(item, LogItem) and item.message:
                runs.setdefault(item.signal, []).append((index, item))
        failures: list[Failure] = []
        for signal, sender in self._senders.items():
            failures += await sender.send(runs.pop(signal, ()))
        for run in runs.values():  # of an earlier process, which had other signals
            failures += [Failure(index, SETTINGS_CHANGED, retryable=False) for index, _ in run]
        return failures

    def report_refused(self) -> None:
        """Log what of the last `send` was refused. No line is lost by it, so nothing else tells."""
        for sender in self._senders.values():
            sender.report_refused()

    async def probe(self) -> list[str]:
        """Send a request without items for each signal. Return what that says."""
        return [
            await probe_signal(sender.exporter, sender.body([]))
            for sender in self._senders.values()
        ]

    @property
    def error(self) -> SinkError | None:
        """Return the last error of the last `send`, if it had one."""
        return next((each.error for each in self._senders.values() if each.error), None)

    @property
    def exporters(self) -> list[Exporter]:
        """Return what sends each signal."""
        return [sender.exporter for sender in self._senders.values()]


class _Sender:
    """Sends one signal."""

    def __init__(
        self,
        signal: DerivedSignal,
        config: OtlpConfig,
        context: SinkContext,
        environ: Mapping[str, str],
        resource: Resource,
        clients: Clients,
    ) -> None:
        self._signal: DerivedSignal = signal
        self._context = context
        self._resource = resource
        self.exporter = Exporter(config, signal, context, environ, clients)
        self._is_json = self.exporter.is_json
        self._max_bytes = config.most_request_bytes
        self._form, self._changes = self._make_form(), resource.changes
        self.error: SinkError | None = None
        self._refused, self._refusal = 0, SinkError("")
        """How many parts of the last `send` were refused, and the last reason."""

    def pack(self, made: Iterable[OtlpMetric | OtlpSpan]) -> Iterator[LogItem]:
        """Yield items of metrics or spans, and count them."""
        data, number = list[bytes](), 0
        size = 0
        for message in map(self._encode, made):
            if data and (size + len(message.data) > MESSAGE_BYTES or number >= MOST["metrics"]):
                yield self._item(data, number)
                data, number, size = [], 0, 0
            data.append(message.data)
            number += message.number
            size += len(message.data)
        yield self._item(data, number)

    async def send(self, run: Sequence[tuple[int, LogItem]]) -> list[Failure]:
        """Send items, each with its index in the batch. Return those that were not accepted."""
        self.error = None
        self._refused = 0
        failures: list[Failure] = []
        todo = list(self._cut(run))
        while todo:
            part = todo.pop(0)
            if any(item.is_json != self._is_json for _, item in part):
                failures += [Failure(index, SETTINGS_CHANGED, retryable=False) for index, _ in part]
                continue
            try:
                await self._post([item for _, item in part])
            except SinkError as error:
                if error.code == TOO_LARGE and len(part) > 1:
                    middle = len(part) // 2
                    todo[:0] = [part[:middle], part[middle:]]
                    continue
                self.error = error
                failures += self._fail(part, error)
                if isinstance(error, TransientSinkError) or _stops(error):
                    failures += [failure for rest in todo for failure in self._fail(rest, error)]
                    break
        return failures

    async def _post(self, items: Sequence[LogItem]) -> None:
        """Send a request, and count what became of its parts. Raises SinkError."""
        total = sum(item.number for item in items)
        refusal = await self.exporter.post(self.body([item.message for item in items]))
        refused = min(refusal.items, total)
        self._count("delivered", total - refused)
        if refused:
            self._count("refused", refused)
            kind = _KINDS[self._signal]
            self._tell(refused, "partial", f"the server rejected {refused} of {total} {kind}")

    def _fail(self, run: Sequence[tuple[int, LogItem]], error: SinkError) -> list[Failure]:
        retryable = isinstance(error, TransientSinkError)
        if not retryable:
            refused = sum(item.number for _, item in run)
            self._count("refused", refused)
            self._refused, self._refusal = self._refused + refused, error
        return [Failure(index, error.code, retryable) for index, _ in run]

    def report_refused(self) -> None:
        """Log what of the last `send` was refused as a whole."""
        if self._refused:
            kind, error = _KINDS[self._signal], self._refusal
            self._tell(self._refused, error.code, f"{error.detail} to {kind}")

    def _tell(self, refused: int, code: str, detail: str) -> None:
        self._context.log.info(
            "records_refused", sink=self._context.name, requests=1, records=refused, codes=code,
            detail=detail,
        )  # fmt: skip

    def _cut(self, run: Sequence[tuple[int, LogItem]]) -> Iterator[list[tuple[int, LogItem]]]:
        """Yield the items of each request."""
        part: list[tuple[int, LogItem]] = []
        size = number = 0
        for index, item in run:
            size += len(item.message)
            number += item.number
            if part and (size > self._room or number > MOST[self._signal]):
                yield part
                part, size, number = [], len(item.message), item.number
            part.append((index, item))
        if part:
            yield part

    @property
    def _room(self) -> int:
        return self._max_bytes - self._form.surplus

    def _encode(self, made: OtlpMetric | OtlpSpan) -> _Message:
        if isinstance(made, OtlpSpan):
            number = 1
            message = json_span(made) if self._is_json else span_message(made)
        else:
            number = len(made.points)
            message = json_metric(made) if self._is_json else metric_message(made)
        return _Message(self._form.item(message), number)  # type: ignore[arg-type]  # its own form

    def _item(self, data: Sequence[bytes], number: int) -> LogItem:
        self._count("made", number)
        return LogItem(
            b"", 0, 0, signal=self._signal, message=b"".join(data), number=number,
            is_json=self._is_json,
        )  # fmt: skip

    def body(self, messages: Sequence[bytes]) -> Sequence[bytes]:
        """Return a request, in pieces."""
        if self._changes != self._resource.changes:
            self._form, self._changes = self._make_form(), self._resource.changes
        return self._form.body(messages)

    def _make_form(self) -> JsonForm | ProtobufForm:
        source = self._resource.source()
        kind = JsonForm if self._is_json else ProtobufForm
        return kind(self._signal, source)

    def _count(self, outcome: Literal["made", "delivered", "refused"], number: int) -> None:
        self._context.count_derived(_KINDS[self._signal], outcome, number)


def _stops(error: SinkError) -> bool:
    """True if whatever else is sent would be refused too."""
    return isinstance(error, PermanentSinkError) and error.stops_sink

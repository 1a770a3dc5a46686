"""`type = "emf"`: metrics of the function, from its platform events, in embedded metric format.

One batch becomes as few documents as the format allows. See docs/metrics.md for what they hold.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from telemetryd.sinks import _emf_prices
from telemetryd.sinks._aws import MISSING, endpoint_problems, is_available, region_problems
from telemetryd.sinks._emf_catalogue import DIMENSIONS, METRIC_NAMES, PROPERTIES
from telemetryd.sinks._emf_clock import EventTimes
from telemetryd.sinks._emf_documents import Documents, Finished, Layout, Measured
from telemetryd.sinks._emf_exceptions import HINTS
from telemetryd.sinks._emf_forward import FORWARD_HINT, forwarded
from telemetryd.sinks._emf_invocations import Invocations
from telemetryd.sinks._emf_lines import decode_event, lines_with
from telemetryd.sinks._emf_self import SelfMetrics
from telemetryd.sinks._logs_delivery import LogEvent, LogsDelivery, group_problem, stream_problem
from telemetryd.sinks.base import (
    Batch,
    Failure,
    Item,
    Sink,
    SinkConfig,
    SinkContext,
    WriteResult,
)
from telemetryd.sinks.stdout import StdoutSink
from telemetryd_proto.emf import (
    MAX_DIMENSIONS,
    MAX_DOCUMENT_BYTES,
    MAX_NAMESPACE,
    dimension_name_problem,
    dimension_value_problem,
    namespace_problem,
)
from telemetryd_proto.envelope import Envelope
from telemetryd_proto.errors import MalformedRecord
from telemetryd_proto.events import LogRecord, decode_record
from telemetryd_proto.framing import Block

if TYPE_CHECKING:
    from telemetryd.sinks.aws_needs import AwsNeed

_FUNCTION: Final = "function"
_PLATFORM: Final = b'"platform.'
"""Every platform event holds these bytes, the beginning of its type."""
_MAX_PROPERTIES: Final = 30
_MAX_COMMON_BYTES: Final = MAX_DOCUMENT_BYTES // 2
"""What dimension sets and properties may take of each document; the rest is for values."""
_PLACEHOLDER: Final = r"\{([^{}]*)\}"
_PLACEHOLDERS: Final = ("function", "version", "instance")
_ARM: Final = frozenset({"aarch64", "arm64"})
_PRICE: Final = "AWS Lambda Pricing"


class EmfConfig(SinkConfig, frozen=True, kw_only=True):
    """`[sinks.<name>]` with `type = "emf"`."""

    types: tuple[str, ...] = ("platform",)
    """Event types the sink gets; `function` is added when `forward_emf` or `count_log_errors`
    needs it."""
    linger_ms: Annotated[int, Meta(ge=0, le=60_000)] = 1000
    """How long a batch that is not full waits for more lines. What comes together becomes one
    document."""
    namespace: Annotated[str, Meta(min_length=1, max_length=MAX_NAMESPACE)] = "telemetryd"
    """CloudWatch namespace of the metrics."""
    dimensions: Annotated[tuple[tuple[str, ...], ...], Meta(min_length=1, max_length=10)] = (
        ("function_name",),
    )
    """Dimension sets, of `function_name`, `function_version` and the names of `properties`. Each
    set makes every metric once more, and each is billed."""
    properties: dict[str, str] | None = None
    """Texts to add to every document, such as `{stage = "prod"}`; usable as dimensions."""
    metrics: tuple[str, ...] = ()
    """Metrics to emit, by their names in docs/metrics.md; empty: all."""
    self_metrics: bool = True
    """Tell of telemetryd itself as well, once a minute while there are events and at the end: the
    metrics whose names begin with `telemetryd_`."""
    resolution: Literal[60, 1] = 60
    """Seconds of the finest period CloudWatch keeps. 1 is high resolution, which costs more where
    alarms use it."""
    delivery: Literal["stdout", "logs"] = "stdout"
    """`stdout`: printed, Lambda carries it to the function's log group; needs no permission.
    `logs`: PutLogEvents."""
    log_group: str = "/aws/lambda/{function}"
    """Log group for `delivery = "logs"`; `{function}`, `{version}`, `{instance}` are filled in.
    Made if it does not exist and the role permits it."""
    log_stream: str = "telemetryd/{instance}"
    """Log stream for `delivery = "logs"`, filled in likewise; made once."""
    region: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    """AWS region for `delivery = "logs"`; not set: the function's."""
    endpoint_url: Annotated[str, Meta(min_length=1, max_length=2048)] | None = None
    """URL of CloudWatch Logs for `delivery = "logs"`; not set: as any AWS tool would find it."""
    forward_emf: bool = False
    """Deliver EMF documents that the function itself prints. For functions whose role denies them
    CloudWatch Logs: elsewhere CloudWatch has read them already, and would count them twice."""
    count_log_errors: bool = False
    """Count as errors the exceptions of handlers, which only the function's log tells of. Every
    log line is then looked at."""
    price_request: Annotated[float, Meta(ge=0, le=1, extra={"note": _PRICE})] = _emf_prices.REQUEST
    """US dollars for one request."""
    price_x86_64: Annotated[float, Meta(ge=0, le=1, extra={"note": _PRICE})] = (
        _emf_prices.X86_64_GB_SECOND
    )
    """US dollars for one GB-second on x86_64."""
    price_arm64: Annotated[float, Meta(ge=0, le=1, extra={"note": _PRICE})] = (
        _emf_prices.ARM64_GB_SECOND
    )
    """US dollars for one GB-second on arm64."""

    def __post_init__(self) -> None:
        """Let the router pass on the lines that were asked for."""
        reads_logs = self.forward_emf or self.count_log_errors
        if reads_logs and self.types and _FUNCTION not in self.types:
            msgspec.structs.force_setattr(self, "types", (*self.types, _FUNCTION))

    def problems(self) -> Iterator[str]:
        """Names CloudWatch would refuse, dimensions and metrics that don't exist."""
        if problem := namespace_problem(self.namespace):
            yield f"namespace: {problem}"
        yield from self._property_problems()
        yield from self._dimension_problems()
        for name in self.metrics:
            if name not in METRIC_NAMES:
                yield f"metrics: unknown metric {name!a}; docs/metrics.md lists them"
        if self.delivery == "logs":
            if not is_available():
                yield f"delivery: {MISSING}"
            yield from _template_problems("log_group", self.log_group, group_problem)
            yield from _template_problems("log_stream", self.log_stream, stream_problem)
        yield from region_problems(self.region or "")
        yield from endpoint_problems(self.endpoint_url or "")

    def aws_needs(self) -> Iterator[AwsNeed]:
        """To make the log group and stream, and to write to it; nothing for what is printed."""
        from telemetryd.sinks.aws_needs import AwsNeed  # noqa: PLC0415 - only for `telemetryd iam`

        if self.delivery == "stdout":
            remark = "Lambda carries what is printed, if the function's own logs are permitted"
            yield AwsNeed(remark=remark)
            return
        group = _matching(self.log_group)
        arn = f"arn:{{partition}}:logs:{{region}}:{{account}}:log-group:{group}"
        yield AwsNeed(
            # CreateLogGroup is asked for on "<group>:log-stream:" (CloudWatch Logs User Guide,
            # "CloudWatch Logs resources and operations": the ARN that ends in :*)
            actions=("logs:CreateLogGroup", "logs:CreateLogStream"),
            resource=f"{arn}:*",
            region=self.region or "",
            vpc_endpoint="" if self.endpoint_url else "logs",
            remark="logs:CreateLogGroup can be left out if the log group exists",
        )
        yield AwsNeed(
            actions=("logs:PutLogEvents",),
            resource=f"{arn}:log-stream:{_matching(self.log_stream)}",
            region=self.region or "",
        )

    def _property_problems(self) -> Iterator[str]:
        properties = self.properties or {}
        if len(properties) > _MAX_PROPERTIES:
            yield f"properties: at most {_MAX_PROPERTIES}, not {len(properties)}"
        taken = {"_aws", *PROPERTIES, *DIMENSIONS, *METRIC_NAMES}
        for name, value in properties.items():
            if name in taken:
                yield f"properties: {name!a} is the name of something else in every document"
            elif problem := dimension_name_problem(name):
                yield f"properties: {problem}"
            elif problem := dimension_value_problem(value):
                yield f"properties: {name}: {problem}"

    def _dimension_problems(self) -> Iterator[str]:
        known = (*DIMENSIONS, *(self.properties or {}))
        if len({frozenset(names) for names in self.dimensions}) < len(self.dimensions):
            yield "dimensions: each set may be listed once"
        size = len(msgspec.json.encode((self.dimensions, self.properties)))
        if size > _MAX_COMMON_BYTES:
            yield (
                f"dimensions: with the properties they take {size} bytes of each document, more "
                f"than {_MAX_COMMON_BYTES}"
            )
        for names in self.dimensions:
            if len(names) > MAX_DIMENSIONS:
                yield f"dimensions: a set has at most {MAX_DIMENSIONS} names, not {len(names)}"
            if len(set(names)) < len(names):
                yield "dimensions: a set names each dimension once"
            for name in names:
                if name not in known:
                    yield f"dimensions: unknown dimension {name!a}; known: {', '.join(known)}"


class EmfItem(Item, frozen=True, gc=False):
    """One document, or lines that yield none, with the lines as they came."""

    timestamp: int = 0
    """The document's time, milliseconds since the Unix epoch."""
    origin: tuple[bytes, ...] = ()
    """The lines of a document."""
    data: bytes = b""
    """What holds the lines without one: the whole block, for copies of pieces cost more."""
    cuts: tuple[int, ...] = ()
    """Where pieces of `data` begin and end, in turn, that are those lines."""


class EmfSink(Sink):
    """Measures in `pack`, where each line is seen once, and delivers in `write`.

    `clock` gives epoch seconds, for events without a time.
    """

    Config = EmfConfig
    item_type = EmfItem

    def __init__(
        self,
        config: EmfConfig,
        context: SinkContext,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(config, context)
        self._config = config
        self._times = EventTimes(clock)
        self._layout = Layout(
            namespace=config.namespace,
            dimensions=config.dimensions,
            properties=config.properties or {},
            resolution=config.resolution,
            metrics=frozenset(config.metrics) or METRIC_NAMES,
        )
        arm = os.uname().machine in _ARM
        gb_second = config.price_arm64 if arm else config.price_x86_64
        prices = _emf_prices.Prices(config.price_request, gb_second)
        self._invocations = Invocations(context.function, context.version, prices)
        self._self: SelfMetrics | None = None
        if config.self_metrics and context.figures is not None:
            self._self = SelfMetrics(context.figures, clock, context.function, context.version)
        self._stdout = StdoutSink(config, context)
        self._logs: LogsDelivery | None = None
        if config.delivery == "logs":
            self._logs = LogsDelivery(
                *self._log_names(), region=config.region, endpoint_url=config.endpoint_url
            )
        self._marks = _marks(config)
        self._milliseconds = self._times.milliseconds
        self._measure_decoded = self._invocations.measure_decoded
        # printing is over in an instant, a conversation with CloudWatch Logs is not
        self.survives_freeze = self._logs is None  # type: ignore[misc]  # a constant elsewhere

    def restored(self, instance: str) -> None:
        """The process continues from a snapshot: from now on into a log stream of its own."""
        super().restored(instance)
        if self._logs is not None:
            self._logs.redirect(*self._log_names())

    def _log_names(self) -> tuple[str, str]:
        config = self._config
        return _expand(config.log_group, self.context), _expand(config.log_stream, self.context)

    async def open(self) -> None:
        """Make the log stream, for `delivery = "logs"`."""
        if self._logs is not None:
            await self._logs.open()

    def pack(self, blocks: Sequence[Block]) -> list[Item]:
        """The batch's documents, and an item for the lines of each block that yield none."""
        documents = Documents(self._layout)
        items: list[Item] = []
        for block in blocks:
            rest, used, at = list[int](), 0, 0
            for start, line in lines_with(self._marks, block.data):
                if self._use(line, block, start, documents, items):
                    if at < start:
                        rest += (at, start)
                    used += 1
                    at = start + len(line)
            if at < len(block.data):
                rest += (at, len(block.data))
            if rest:
                items.append(_rest_item(rest, block, block.lines - used))
        items += map(_document_item, documents.finish())
        items = _as_received(items, sum(block.added for block in blocks))
        if self._self is not None and (measured := self._self.when_due()):
            items += self._own(measured)
        return items

    def own_items(self, end: str) -> list[Item]:
        """What no line has told: a failure that only the end tells of, telemetryd's own figures."""
        items: list[Item] = []
        if measured := self._invocations.ended(end):
            items += self._own(measured)
        if self._self is not None:
            items += self._own(self._self.now())
        return items

    def _own(self, measured: Measured) -> list[Item]:
        documents = Documents(self._layout)
        nothing = Block(b"", 0, received_at=time.monotonic())
        documents.add(measured, self._times.milliseconds(""), b"", nothing, 0)
        return [_document_item(document) for document in documents.finish()]

    def unpack(self, item: Item) -> bytes:
        """The lines an item stands for."""
        if not isinstance(item, EmfItem):
            return item.payload
        ends = iter(item.cuts)
        pieces = [item.data[start:end] for start, end in zip(ends, ends, strict=True)]
        return b"".join((*item.origin, *pieces))

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """Deliver the documents; lines without one are delivered by having been looked at."""
        if self._logs is None:
            return await self._stdout.write(batch, attempt=attempt, deadline=deadline)
        indices = [index for index, item in enumerate(batch.items) if item.payload]
        if not indices:
            return WriteResult()
        events = [_log_event(batch.items[index]) for index in indices]
        result = await self._logs.write(events)
        return WriteResult(
            tuple(Failure(indices[f.index], f.code, f.retryable) for f in result.failures)
        )

    async def close(self) -> None:
        """Close connections; standard output stays open."""
        await self._stdout.close()
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
        if event.type != _FUNCTION:
            return self._measure(event, line, block, start, documents)
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
        if not (self._config.count_log_errors and any(hint in line for hint in HINTS)):
            return False
        try:
            record = decode_record(event)
        except MalformedRecord as error:
            self._log_malformed(event, error)
            return False
        measured = None
        if isinstance(record, LogRecord):
            measured = self._invocations.exception(record, block.source)
        at = self._times.milliseconds(event.time)
        return measured is not None and documents.add(measured, at, line, block, start)

    def _forward(self, event: Envelope, line: bytes, block: Block, offset: int) -> EmfItem | None:
        if not (self._config.forward_emf and FORWARD_HINT in line):
            return None
        found = forwarded(event, marked=self._logs is None)
        if found is None:
            return None
        place = (block.source, offset, block.received_at)
        return EmfItem(found.payload, 1, len(line), *place, found.timestamp, (line,))

    def _log_malformed(self, event: Envelope, error: MalformedRecord) -> None:
        self.context.log(
            "warning", "event_malformed", sink=self.context.name, type=event.type, code=error.code
        )


def _marks(config: EmfConfig) -> tuple[bytes, ...]:
    """What lines of interest hold; empty if all that come may be of interest."""
    if config.types and all(kind.startswith("platform") for kind in config.types):
        return ()
    marks: tuple[bytes, ...] = (_PLATFORM,)
    if config.forward_emf:
        marks += (FORWARD_HINT,)
    return marks + HINTS if config.count_log_errors else marks


def _rest_item(cuts: list[int], block: Block, lines: int) -> EmfItem:
    size = sum(cuts[1::2]) - sum(cuts[::2])
    place = (block.source, block.offset, block.received_at)
    return EmfItem(b"", lines, size, *place, data=block.data, cuts=tuple(cuts))


def _as_received(items: list[Item], added: int) -> list[Item]:
    """`items` with sizes that do not count the `added` bytes of the lines: only the sum matters."""
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


def _template_problems(
    key: str, template: str, judge: Callable[[str], str | None]
) -> Iterator[str]:
    unknown = [name for name in re.findall(_PLACEHOLDER, template) if name not in _PLACEHOLDERS]
    for name in unknown:
        known = ", ".join(f"{{{each}}}" for each in _PLACEHOLDERS)
        yield f"{key}: unknown placeholder {{{name}}}; known: {known}"
    if not unknown and (problem := judge(re.sub(_PLACEHOLDER, "x", template))):
        yield f"{key}: {problem}"


def _matching(template: str) -> str:
    """All names that `template` can become, as a resource of a policy matches them."""
    wildcards = {"function": "{function}", "version": "*", "instance": "*"}
    # "$" would begin a policy variable; "?" matches any one character, so both of them as well
    return re.sub(_PLACEHOLDER, lambda match: wildcards[match[1]], re.sub(r"[$?]", "?", template))


def _expand(template: str, context: SinkContext) -> str:
    """The name; what a version such as `$LATEST` has and a group name may not becomes `_`."""
    values = {
        "function": context.function,
        "version": context.version,
        "instance": context.instance,
    }
    return re.sub(
        _PLACEHOLDER,
        lambda match: re.sub(r"[^.\-_/#A-Za-z0-9]", "_", values[match[1]]),
        template,
    )

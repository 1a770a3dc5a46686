"""Makes spans of initialisations, restores and invocations, and of their phases, from their events.

An invocation's span is made of its `runtimeDone`: its `report` may come minutes later, or never. It
is made of the `report` where nothing came before, as on Managed Instances. The report then adds
only the phases that are new. An initialisation's or restore's span is made of its report.

All ids come from the events: who sends a span twice, also in another process, sends one span. The
trace and the parent are those of the invocation's header. Without one, the request id is hashed.
Events may be lost, and come in any order: what is known makes a span as good as it can be.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

import msgspec

from telemetryd.sinks._platform.invocations import IDLE_MS, LOCAL, MAX_ENVIRONMENTS, function_of
from telemetryd_proto.errors import MalformedRecord
from telemetryd_proto.events import Record
from telemetryd_proto.otlp.spans import (
    ERROR,
    HAS_IS_REMOTE,
    IS_REMOTE,
    SERVER,
    UNSET,
    OtlpSpan,
    SpanLink,
    derive_span_id,
    derive_trace_id,
    to_nanoseconds,
)
from telemetryd_proto.otlp.trace_context import NO_TRACE, SAMPLED, TraceContext, from_xray
from telemetryd_proto.records import (
    InitReport,
    InitRuntimeDone,
    InitStart,
    Report,
    RestoreReport,
    RestoreRuntimeDone,
    RestoreStart,
    RuntimeDone,
    Span,
    Start,
)
from telemetryd_proto.records import TraceContext as Tracing
from telemetryd_proto.request_ids import usable_id
from telemetryd_proto.timestamps import parse_nanoseconds
from telemetryd_proto.vocabulary import InitializationType, Phase, Status

MAX_OPEN: Final = 1024
"""Invocations that may wait for their report: above what one instance runs at a time."""
MAX_CLOSED: Final = 1024
"""Invocations remembered after their report, in case something is delivered twice."""
MAX_BEGINNINGS: Final = 4
"""Initialisations and restores of an environment that may wait for their report."""
MAX_PHASES: Final = 16
"""Phases of one invocation or initialisation."""
LATEST: Final = 1 << 63
"""Times beyond this, in the year 2262, are none: a span's end must have room behind its start."""
_MAX_NAME: Final = 128
_MAX_ERROR_TYPE: Final = 256
_UNSAMPLED: Final = "sampled=0"
_FATAL: Final = {"timeout": Status.TIMEOUT.value, "failure": Status.FAILURE.value}
_NO_LINKS: Final[tuple[SpanLink, ...]] = ()

_Made: TypeAlias = list[OtlpSpan]


class _Place(msgspec.Struct, frozen=True, gc=False):
    """The place of a span: its trace, its id and its parent."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes = b""
    is_remote: bool = False
    is_sampled: bool = True

    @property
    def flags(self) -> int:
        return SAMPLED | HAS_IS_REMOTE | (IS_REMOTE if self.is_remote else 0)

    @property
    def link(self) -> SpanLink:
        return SpanLink(self.trace_id, self.span_id)


class _Beginning(msgspec.Struct, gc=False):
    """An initialisation or a restore that is not reported yet."""

    name: str
    place: _Place
    start: int
    attributes: dict[str, Any]
    runtime_done_at: int | None = None
    status: str | None = None
    error_type: str | None = None
    spans: tuple[Span, ...] = ()


class _Invocation(msgspec.Struct, gc=False):
    """An invocation that is not reported yet."""

    place: _Place
    has_trace: bool
    name: str
    attributes: dict[str, Any]
    start: int | None = None
    links: tuple[SpanLink, ...] = _NO_LINKS
    is_made: bool = False
    """True if its span was returned."""
    error_type: str | None = None
    """The error that its log reported, before anything else did; empty for an unnamed one."""
    phases: set[str] = msgspec.field(default_factory=set)


class _Environment(msgspec.Struct, gc=False):
    """An execution environment: its function, and how it began."""

    function: str
    version: str = ""
    beginnings: dict[str, _Beginning] = msgspec.field(default_factory=dict)
    """By name and phase."""
    reported: tuple[str, int] = ("", 0)
    """Name and phase of what was reported last, and when, in case it is delivered twice."""
    is_known: bool = False
    """True if it has been seen to begin."""
    waited_for: _Place | None = None
    """The initialisation or restore that the next invocation waited for."""
    ready_at: int = 0
    current: str = ""
    """The invocation begun last."""


class InvocationSpans:
    """Follows the events of a process's life.

    `keeps_unsampled`: an invocation whose header says `Sampled=0` has spans too.
    """

    def __init__(self, function: str, instance: str, *, keeps_unsampled: bool = False) -> None:
        self._function = function
        self._instance = instance
        self._many = function == LOCAL
        self._keeps_unsampled = keeps_unsampled
        self._environments: dict[int, _Environment] = {}
        self._open = OrderedDict[str, _Invocation]()
        self._closed = OrderedDict[str, None]()
        self.unsampled = 0
        """Invocations without spans, because their caller did not sample them."""
        self.forgotten = 0
        """Invocations without spans, because too many were open."""
        self._handlers: dict[type, Callable[[_Environment, Any, int], _Made]] = {
            InitStart: self._init_start,
            InitRuntimeDone: self._init_runtime_done,
            InitReport: self._init_report,
            RestoreStart: self._restore_start,
            RestoreRuntimeDone: self._restore_runtime_done,
            RestoreReport: self._restore_report,
            Start: self._start,
            RuntimeDone: self._runtime_done,
            Report: self._report,
        }

    def add(self, record: Record, at: int, source: int) -> list[OtlpSpan]:
        """Return the spans that an event, made at `at` (ns), completes. Most complete none.

        `source` tells connections apart.
        """
        handler = self._handlers.get(type(record))
        return handler(self._environment(source), record, at) if handler is not None else []

    def fail(self, request_id: str, error_type: str | None) -> None:
        """Note that an invocation failed, which ends in `success` all the same: its log says so."""
        invocation = self._open.get(request_id)
        if invocation is not None and invocation.error_type is None:
            invocation.error_type = (error_type or "")[:_MAX_ERROR_TYPE]

    def end(self, reason: str, now: int) -> list[OtlpSpan]:
        """Return the spans of what ends unreported, because the environment ends for `reason`.

        That are the initialisations whose runtime was done and, where the environment is reset,
        the invocation that caused it.
        """
        made: _Made = []
        for env in self._environments.values():
            for key in [*env.beginnings]:
                made += self._finish(env.beginnings.pop(key), None)
            status = _FATAL.get(reason.lower())  # emulators write it in their own way
            invocation = self._open.get(env.current)
            if status is not None and invocation is not None and not invocation.is_made:
                made += self._make(invocation, now, None, status, None)
        return made

    # -- initialisation and restore ----------------------------------------------------------

    def _init_start(self, env: _Environment, record: InitStart, at: int) -> _Made:
        self._name(env, record.function_name, record.function_version)
        if record.initialization_type == InitializationType.SNAP_START:
            return []  # the snapshot's, which every environment that is restored from it has
        place = self._place_of_beginning(env, "init", record, at)
        attributes = _facts(record.initialization_type, record.phase)
        begun = _Beginning("init", place, at, attributes)
        if record.initialization_type in (None, InitializationType.ON_DEMAND):
            env.waited_for = place if record.phase != Phase.INVOKE else env.waited_for
        return self._begin(env, _key("init", record.phase), begun)

    def _restore_start(self, env: _Environment, record: RestoreStart, at: int) -> _Made:
        self._name(env, record.function_name, record.function_version)
        place = self._place_of_beginning(env, "restore", record, at)
        env.waited_for = place
        return self._begin(env, "restore", _Beginning("restore", place, at, {}))

    def _begin(self, env: _Environment, key: str, begun: _Beginning) -> _Made:
        """Remember a beginning. Return the spans of one of its kind whose report was lost."""
        env.is_known = True
        env.ready_at = max(env.ready_at, begun.start)
        known = env.beginnings.pop(key, None)
        if known is not None and known.start == begun.start:  # delivered twice
            env.beginnings[key] = known
            return []
        if len(env.beginnings) >= MAX_BEGINNINGS:
            del env.beginnings[next(iter(env.beginnings))]
        env.beginnings[key] = begun
        return [] if known is None else self._finish(known, None)

    def _init_runtime_done(self, env: _Environment, record: InitRuntimeDone, at: int) -> _Made:
        return self._note(env, _key("init", record.phase), record, at)

    def _restore_runtime_done(
        self, env: _Environment, record: RestoreRuntimeDone, at: int
    ) -> _Made:
        return self._note(env, "restore", record, at)

    def _note(
        self,
        env: _Environment,
        key: str,
        record: InitRuntimeDone | RestoreRuntimeDone,
        at: int,
    ) -> _Made:
        begun = env.beginnings.get(key)
        env.ready_at = max(env.ready_at, at)
        if begun is not None:
            begun.runtime_done_at = at
            begun.status, begun.error_type = record.status, record.error_type
            begun.spans = (record.spans or ())[:MAX_PHASES]
        return []

    def _init_report(self, env: _Environment, record: InitReport, at: int) -> _Made:
        if record.initialization_type == InitializationType.SNAP_START:
            return []
        key = _key("init", record.phase)
        return self._report_beginning(env, key, "init", record, at)

    def _restore_report(self, env: _Environment, record: RestoreReport, at: int) -> _Made:
        return self._report_beginning(env, "restore", "restore", record, at)

    def _report_beginning(
        self,
        env: _Environment,
        key: str,
        name: str,
        record: InitReport | RestoreReport,
        at: int,
    ) -> _Made:
        duration = to_nanoseconds(record.metrics.duration_ms if record.metrics else None)
        begun = env.beginnings.pop(key, None)
        is_again, env.reported = env.reported == (key, at), (key, at)
        env.ready_at = max(env.ready_at, at)
        if begun is None:  # its start was lost
            if duration is None or is_again:
                return []
            place = self._place_of_beginning(env, name, record, at - duration)
            begun = _Beginning(name, place, at - duration, {})
            if isinstance(record, InitReport):
                begun.attributes = _facts(record.initialization_type, record.phase)
        begun.status = record.status or begun.status
        begun.error_type = record.error_type or begun.error_type
        begun.spans = (*begun.spans, *(record.spans or ()))[: 2 * MAX_PHASES]
        return self._finish(begun, at if duration is None else begun.start + duration)

    def _finish(self, begun: _Beginning, end: int | None) -> _Made:
        """Return the spans of a beginning. `end`: its end; None if its report was lost."""
        done_at = begun.runtime_done_at
        end = end if end is not None else done_at
        if end is None or not begun.place.is_sampled:
            return []
        span = OtlpSpan(
            begun.place.trace_id,
            begun.place.span_id,
            begun.name,
            begun.start,
            max(begun.start, end),
            begun.place.parent_id,
            attributes=begun.attributes,
            flags=begun.place.flags,
        )
        made = [_with_status(span, begun.status, begun.error_type)]
        if done_at is not None and done_at >= begun.start:
            made.append(_phase(f"{begun.name} runtime", begun.start, done_at, begun.place))
        return made + _phases(begun.spans, begun.place, set())

    def _place_of_beginning(
        self,
        env: _Environment,
        name: str,
        record: InitStart | InitReport | RestoreStart | RestoreReport,
        at: int,
    ) -> _Place:
        """Return the place of a beginning: in the trace of its header, or of its invocation."""
        context, is_sampled = self._context(record.tracing)
        parent, is_remote = context.span_id, bool(context.span_id)
        trace = context.trace_id
        current = self._open.get(env.current)
        phase = record.phase if isinstance(record, InitStart | InitReport) else None
        if phase == Phase.INVOKE and current is not None:  # repeated inside the invocation
            trace, parent, is_remote = current.place.trace_id, current.place.span_id, False
            is_sampled = current.place.is_sampled
        known = record.instance_id if isinstance(record, InitStart | RestoreStart) else None
        trace = trace or derive_trace_id(name, known or self._instance, str(at))
        span = derive_span_id(name, trace.hex(), str(at))
        return _Place(trace, span, parent, is_remote, is_sampled)

    # -- invocations -------------------------------------------------------------------------

    def _start(self, env: _Environment, record: Start, at: int) -> _Made:
        if self._many:
            self._name(env, function_of(record.function_arn), record.version)
        request_id = usable_id(record.request_id)
        if not request_id or request_id in self._open or request_id in self._closed:
            return []
        invocation = self._open_new(env, request_id, record.tracing)
        invocation.start = at
        env.current = request_id
        if record.function_arn:
            invocation.attributes["aws.lambda.invoked_arn"] = record.function_arn
        waited_for, env.waited_for = env.waited_for, None
        if env.is_known:
            in_time = at - env.ready_at <= IDLE_MS * 1_000_000
            invocation.attributes["faas.coldstart"] = waited_for is not None and in_time
        if waited_for is not None and waited_for.is_sampled:
            invocation.links = (waited_for.link,)
        return []

    def _runtime_done(self, env: _Environment, record: RuntimeDone, at: int) -> _Made:
        invocation = self._resume(env, record)
        if invocation is None or invocation.is_made:
            return []
        duration = to_nanoseconds(record.metrics.duration_ms if record.metrics else None)
        made = self._make(invocation, at, duration, record.status, record.error_type)
        return made + self._phases_of(invocation, record.spans)

    def _report(self, env: _Environment, record: Report, at: int) -> _Made:
        invocation = self._resume(env, record)
        if invocation is None:
            return []
        made: _Made = []
        if not invocation.is_made:
            duration = to_nanoseconds(record.metrics.duration_ms if record.metrics else None)
            made = self._make(invocation, at, duration, record.status, record.error_type)
        made += self._phases_of(invocation, record.spans)
        self._close(usable_id(record.request_id))
        return made

    def _make(
        self,
        invocation: _Invocation,
        at: int,
        duration: int | None,
        status: str | None,
        error_type: str | None,
    ) -> _Made:
        """Return the span of an invocation of which an event at `at` said how it ended."""
        invocation.is_made = True
        place = invocation.place
        if not place.is_sampled:
            self.unsampled += 1
            return []
        start = invocation.start
        if start is None:
            start = max(0, at - (duration or 0))
        end = at if duration is None else start + duration
        span = OtlpSpan(
            place.trace_id,
            place.span_id,
            invocation.name,
            start,
            max(start, end),
            place.parent_id,
            SERVER,
            invocation.attributes,
            invocation.links,
            flags=place.flags,
        )
        if status in (None, Status.SUCCESS) and invocation.error_type is not None:
            status, error_type = Status.ERROR, invocation.error_type
        return [_with_status(span, status, error_type)]

    def _phases_of(self, invocation: _Invocation, spans: Iterable[Span] | None) -> _Made:
        if spans is None or not invocation.place.is_sampled:
            return []
        return _phases(spans, invocation.place, invocation.phases)

    def _resume(self, env: _Environment, record: RuntimeDone | Report) -> _Invocation | None:
        """Return the invocation that an event continues, also if its `start` was lost."""
        request_id = usable_id(record.request_id)
        if not request_id or request_id in self._closed:
            return None
        invocation = self._open.get(request_id)
        if invocation is None:
            return self._open_new(env, request_id, record.tracing)
        if not invocation.has_trace and record.tracing is not None and not invocation.is_made:
            invocation.place, invocation.has_trace = self._place(request_id, record.tracing)
        return invocation

    def _open_new(self, env: _Environment, request_id: str, tracing: Tracing | None) -> _Invocation:
        if len(self._open) >= MAX_OPEN:
            _, oldest = self._open.popitem(last=False)
            self.forgotten += not oldest.is_made
        place, has_trace = self._place(request_id, tracing)
        attributes: dict[str, Any] = {"faas.invocation_id": request_id}
        if self._many:
            attributes["faas.name"] = env.function
            if env.version:
                attributes["faas.version"] = env.version
        invocation = _Invocation(place, has_trace, env.function, attributes)
        self._open[request_id] = invocation
        return invocation

    def _close(self, request_id: str) -> None:
        self._open.pop(request_id, None)
        if len(self._closed) >= MAX_CLOSED:
            self._closed.popitem(last=False)
        self._closed[request_id] = None

    def _place(self, request_id: str, tracing: Tracing | None) -> tuple[_Place, bool]:
        """Return the place of an invocation's span, and whether its header said the trace."""
        context, is_sampled = self._context(tracing)
        trace, span = _ids_of(request_id, context)
        parent = context.span_id
        return _Place(trace, span, parent, bool(parent), is_sampled), bool(context.trace_id)

    def _context(self, tracing: Tracing | None) -> tuple[TraceContext, bool]:
        header = tracing.value if tracing is not None else None
        return _read_header(header, keeps_unsampled=self._keeps_unsampled)

    # -- what is remembered ------------------------------------------------------------------

    def _environment(self, source: int) -> _Environment:
        """Return the environment. In Lambda there is only one, whatever the connection."""
        key = source if self._many else 0
        env = self._environments.get(key)
        if env is None:
            if len(self._environments) >= MAX_ENVIRONMENTS:
                del self._environments[next(iter(self._environments))]
            env = self._environments[key] = _Environment(self._function)
        return env

    def _name(self, env: _Environment, function: str | None, version: str | None) -> None:
        if self._many:
            env.function = function[:_MAX_NAME] if function else env.function
            env.version = version[:_MAX_NAME] if version else env.version


def own_context(
    request_id: str, header: str | None, *, keeps_unsampled: bool
) -> TraceContext | None:
    """Return the trace and the span of an invocation with a trace header; None if it has no span.

    What is logged in the invocation belongs to this span.
    """
    context, is_sampled = _read_header(header, keeps_unsampled=keeps_unsampled)
    return TraceContext(*_ids_of(request_id, context), SAMPLED) if is_sampled else None


def _ids_of(request_id: str, context: TraceContext) -> tuple[bytes, bytes]:
    trace = context.trace_id or derive_trace_id(request_id)
    return trace, derive_span_id("invoke", request_id)


def _read_header(header: str | None, *, keeps_unsampled: bool) -> tuple[TraceContext, bool]:
    """Return the context of a trace header, and whether it is sampled; without a word, yes."""
    if not header:
        return NO_TRACE, True
    context = from_xray(header)
    refused = bool(context.trace_id) and _UNSAMPLED in header.lower().replace(" ", "")
    return context, keeps_unsampled or not refused


def _key(name: str, phase: str | None) -> str:
    return f"{name} {(phase or Phase.INIT)[:_MAX_NAME]}"


def _facts(initialization_type: str | None, phase: str | None) -> dict[str, Any]:
    named = {
        "aws.lambda.initialization_type": initialization_type,
        "aws.lambda.initialization_phase": phase,
    }
    return {name: value[:_MAX_NAME] for name, value in named.items() if value}


def _with_status(span: OtlpSpan, status: str | None, error_type: str | None) -> OtlpSpan:
    """Return the span of what ended in `status`: an error, unless that is success or unknown."""
    if status in (None, "", Status.SUCCESS):
        return span
    reason = (error_type or status or "")[:_MAX_ERROR_TYPE]
    attributes = {**span.attributes, "error.type": reason}
    return span._replace(attributes=attributes, status=ERROR, message=reason)


def _phases(spans: Iterable[Span], place: _Place, known: set[str]) -> _Made:
    """Return a span for each phase that is not `known`; it is then. One without a time is none."""
    made: _Made = []
    for each in spans:
        name = each.name
        duration = to_nanoseconds(each.duration_ms)
        start = _time(each.start)
        if not name or duration is None or start is None or len(name) > _MAX_NAME:
            continue
        if name in known or len(known) >= MAX_PHASES:
            continue
        known.add(name)
        made.append(_phase(name, start, start + duration, place))
    return made


def _phase(name: str, start: int, end: int, parent: _Place) -> OtlpSpan:
    span_id = derive_span_id(name, parent.span_id.hex())
    flags = SAMPLED | HAS_IS_REMOTE
    return OtlpSpan(
        parent.trace_id, span_id, name, start, end, parent.span_id, status=UNSET, flags=flags
    )


def _time(text: str | None) -> int | None:
    try:
        at = parse_nanoseconds(text or "")
    except MalformedRecord:
        return None
    return at if 0 <= at <= LATEST else None

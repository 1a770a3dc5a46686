"""Measures invocations from their events. Each counts once, whatever arrives, and when.

The `start`, `runtimeDone` and `report` of an invocation may arrive in different batches. The last
one may come minutes later or never (the environment is frozen, or the extension killed, before it
is sent). So nothing waits. Each event is measured when it arrives. The remembered state of the
invocation keeps its parts from being counted twice. That state is bounded.

After a reset, a new process may get the `report` of an invocation that its predecessor counted.
Such events belong to an earlier life: they precede the first `start` that this process sees, or are
older than its initialisation. They add only what no other event has, and count no invocation again.

Lambda repeats an asynchronous event that has failed, under the same request id. Each attempt is an
invocation, as in AWS's own metrics. A `start` that was made after an event known of that id begins
another attempt. What was made before it is of the attempt before.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeGuard

import msgspec

from telemetryd.sinks._platform.environment import Beginning, Environment, Kind, is_same_failure
from telemetryd.sinks._platform.exceptions import exception_in
from telemetryd.sinks._platform.lines import (
    InvocationEvent,
    ReportEvent,
    RuntimeDoneEvent,
    StartEvent,
)
from telemetryd.sinks._platform.measured import Measured
from telemetryd_proto.emf import clean_dimension_value
from telemetryd_proto.envelope import Envelope
from telemetryd_proto.events import decode_record
from telemetryd_proto.records import (
    ExtensionInit,
    Fault,
    InitMetrics,
    InitReport,
    InitRuntimeDone,
    InitStart,
    LogRecord,
    LogsDropped,
    Report,
    ReportMetrics,
    RestoreReport,
    RestoreRuntimeDone,
    RestoreStart,
    RuntimeDone,
    Span,
    Start,
)
from telemetryd_proto.request_ids import usable_id
from telemetryd_proto.vocabulary import InitializationType, Phase, SpanName, Status

LOCAL: Final = "local"
"""`SinkContext.function` outside Lambda, where one process may hear of many functions."""
MAX_OPEN: Final = 4096
"""Invocations that may wait for their report: above what one instance runs at a time, and a
timed-out one waits forever."""
MAX_CLOSED: Final = 1024
"""Invocations remembered after their report, in case something is delivered twice."""
MAX_ENVIRONMENTS: Final = 256
IDLE_MS: Final = 10_000
"""An environment that got no invocation for so long after its initialisation was initialised ahead
of need: no caller waited for it."""

_MOST: Final = 1e15
"""Larger numbers, and negative ones, measure nothing: one would spoil every sum."""
_MAX_ERROR_TYPE: Final = 256
_SUCCESS: Final = Status.SUCCESS.value
_PRICED: Final = (None, InitializationType.ON_DEMAND, InitializationType.SNAP_START)
_FATAL: Final = {"timeout": Status.TIMEOUT, "failure": Status.FAILURE}
"""The status of the invocation that caused a reset, by the reason of the reset."""
_SPANS: Final = {
    SpanName.RESPONSE_LATENCY.value: "response_latency",
    SpanName.RESPONSE_DURATION.value: "response_duration",
    SpanName.RUNTIME_OVERHEAD.value: "runtime_overhead",
    SpanName.EXTENSION_OVERHEAD.value: "extension_overhead",
}
_BROKEN_EXTENSION: Final = r"(?i)error|fail|crash|timeout"
"""States of an extension that make an initialisation fail, such as `InitError`: an open set."""
_FAULT: Final = r"RequestId: ([0-9A-Za-z-]+)"
_FAULT_TYPE: Final = r"ErrorType: ([\w.]+)|^([A-Z]\w*\.\w+)\s*$"


class _Invocation(msgspec.Struct, gc=False):
    """The measurements of one invocation, and the function it belongs to."""

    function: str
    version: str
    at: int
    """The time of its `start`, in ms; until that arrives, of the first event that did."""
    before: _Invocation | None = None
    """The attempt before, which Lambda repeated under the same id."""
    started: bool = False
    runtime_done: bool = False
    reported: bool = False
    errors: bool = False
    timeouts: bool = False
    memory: bool = False
    began: bool = False
    """True if its `start` has arrived. `started`: True if it was counted, by any event."""
    cold: bool = False
    withheld: tuple[str | None, str | None] | None = None
    """Status and reason of a failure that is an earlier life's, unless its `start` comes yet."""
    told: str | None = None
    """The reason why the initialisation that it waited for failed, which is already counted."""


class Invocations:
    """Follows the events of a process's life.

    Function and version are the process's own; outside Lambda, where many environments may send,
    they are taken from the events.
    """

    def __init__(
        self,
        function: str,
        version: str,
        price: Callable[[float, float], float] | None = None,
        system: Callable[[], Sequence[tuple[str, float]]] | None = None,
    ) -> None:
        """`price` returns the cost of billed milliseconds with so many MiB of memory.

        `system` returns what the environment has used, and is called at each invocation's end.
        """
        self._system = system
        self._function = clean_dimension_value(function)
        self._version = clean_dimension_value(version)
        self._many = function == LOCAL
        self._price = price
        self._environments: dict[int, Environment] = {}
        self._open: dict[str, _Invocation] = {}
        self._closed = OrderedDict[str, _Invocation]()  # the oldest goes first, at once found
        self._handlers: dict[str, Callable[[Environment, Any, int], Measured | None]] = {
            "platform.start": self._start,
            "platform.runtimeDone": self._runtime_done,
            "platform.report": self._report,
            "platform.initStart": self._init_start,
            "platform.initRuntimeDone": self._init_runtime_done,
            "platform.initReport": self._init_report,
            "platform.restoreStart": self._restore_start,
            "platform.restoreRuntimeDone": self._restore_runtime_done,
            "platform.restoreReport": self._restore_report,
            "platform.extension": self._extension,
            "platform.logsDropped": self._logs_dropped,
            "platform.fault": self._fault,
        }
        self._decoded: dict[type, Callable[[Environment, Any, int], Measured | None]] = {
            StartEvent: self._start,
            RuntimeDoneEvent: self._runtime_done,
            ReportEvent: self._report,
        }

    def measure(self, event: Envelope, at: int, source: int) -> Measured | None:
        """Return what an event of the platform, made at `at` (ms), adds; None if nothing.

        `source` tells connections apart. Raises MalformedRecord.
        """
        handler = self._handlers.get(event.type)
        if handler is None:
            return None
        return handler(self._environment(source), decode_record(event, lenient=True), at)

    def measure_decoded(self, event: InvocationEvent, at: int, source: int) -> Measured | None:
        """Measure an event whose record is already decoded. Like `measure`, but raises nothing."""
        environment = self._environments.get(source if self._many else 0)
        if environment is None:
            environment = self._environment(source)
        return self._decoded[type(event)](environment, event.record, at)

    def exception(self, record: LogRecord, source: int) -> Measured | None:
        """Return the failure that a log line reports, unless its invocation has failed already.

        On Managed Instances a line may be of any of several; there the `report` tells.
        """
        found = exception_in(record)
        if found is None:
            return None
        environment = self._environment(source)
        request_id = usable_id(found.request_id) or None
        many_at_a_time = environment.initialization == InitializationType.MANAGED_INSTANCES
        if not many_at_a_time:
            request_id = request_id or environment.current
        invocation = self._find(request_id) if request_id else None
        if request_id is None or invocation is None:
            return None
        if found.ambiguous:
            if not many_at_a_time:
                environment.suspect = (request_id, found.error_type)
            return None
        measured = self._of(invocation, request_id)
        self._fail(invocation, measured, Status.ERROR, found.error_type)
        return measured if measured.values else None

    def has_suspect(self, source: int) -> bool:
        """True if an exception counts unless another log line comes before its invocation's end."""
        environment = self._environments.get(source if self._many else 0)
        return environment is not None and environment.suspect is not None

    def clear_suspect(self, source: int) -> None:
        """Note a log line: the error that the last one reported did not end the invocation."""
        self._environment(source).suspect = None

    def _fail_if_suspect(
        self, env: Environment, request_id: str, invocation: _Invocation, measured: Measured
    ) -> None:
        suspect, env.suspect = env.suspect, None
        if suspect is not None and suspect[0] == request_id:
            self._fail(invocation, measured, Status.ERROR, suspect[1])

    def on_environment_end(self, reason: str) -> Measured | None:
        """Note that the environment is reset for `reason` (Shutdown). Return what that ended.

        It is the last invocation or, where there was none, the initialisation. What the platform
        has to say of it may never come to this process; should it come to the
        next, it belongs to an earlier life there. One that had its answer may have timed out all
        the same: the time of extensions counts too ("Lambda execution environment lifecycle").
        """
        status = _FATAL.get(reason.lower())  # emulators write it in their own way
        env = self._environments.get(0)
        if status is None or env is None:
            return None
        if not env.saw_start:
            return self._on_early_end(env)
        invocation = self._open.get(env.current) if env.current else None
        if invocation is None:
            return None
        if invocation.runtime_done and status != Status.TIMEOUT:
            return None
        invocation.runtime_done = True
        measured = self._of(invocation, env.current)
        self._fail(invocation, measured, status, None)
        return measured if measured.values else None

    def _on_early_end(self, env: Environment) -> Measured | None:
        """Count the initialisation or restore that the end of the environment cut short."""
        newest = env.beginnings[-1] if env.beginnings else None
        if newest is None or not newest.is_known or newest.has_succeeded:
            return None
        measured = self._of(env, None)
        self._fail_beginning(env, newest, measured, None)
        return measured if measured.values else None

    # -- initialisation ----------------------------------------------------------------------

    def _init_start(self, env: Environment, record: InitStart, at: int) -> Measured | None:
        phase = record.phase
        beginning = env.begin("init", phase, at)
        if beginning is None:
            return None
        if all(each is beginning or each.kind != "init" or each.at < at for each in env.beginnings):
            env.initialization = record.initialization_type
        if not env.is_newest(beginning):  # the snapshot's, after the restore from it
            return None
        self._name(env, record.function_name, record.function_version)
        on_demand = record.initialization_type in (None, InitializationType.ON_DEMAND)
        if phase == Phase.INVOKE:
            beginning.request_id = self._busy(env)
        return self._begin(env, beginning, is_waited_for=on_demand)

    def _restore_start(self, env: Environment, record: RestoreStart, at: int) -> Measured | None:
        beginning = env.begin("restore", None, at)
        if beginning is None or not env.is_newest(beginning):
            return None
        self._name(env, record.function_name, record.function_version)
        return self._begin(env, beginning, is_waited_for=True)

    def _begin(
        self, env: Environment, beginning: Beginning, *, is_waited_for: bool
    ) -> Measured | None:
        """Note who waits for the environment; count that now if it is an invocation known already.

        The initialisation may be repeated inside it, or it came before this event did.
        """
        env.ready_at = max(env.ready_at, beginning.at)
        waiting = beginning.request_id or env.first_since(beginning.at)
        if waiting is None:
            env.waited_for = is_waited_for
            env.forget_first()
            return None
        env.waited_for = False
        invocation = self._find(waiting)
        if invocation is None or invocation.cold or not is_waited_for:
            return None
        if not beginning.request_id and env.first_at - env.ready_at > IDLE_MS:
            return None  # initialised ahead of need
        invocation.cold = True
        return self._of(invocation, waiting, ("cold_starts", 1))

    def _busy(self, env: Environment) -> str | None:
        """Return the invocation that the environment is busy with."""
        invocation = self._open.get(env.current) if env.current else None
        return env.current if invocation is not None and not invocation.runtime_done else None

    def _init_runtime_done(
        self, env: Environment, record: InitRuntimeDone, at: int
    ) -> Measured | None:
        return self._measure_beginning(env, "init", record, at)

    def _restore_runtime_done(
        self, env: Environment, record: RestoreRuntimeDone, at: int
    ) -> Measured | None:
        return self._measure_beginning(env, "restore", record, at)

    def _init_report(self, env: Environment, record: InitReport, at: int) -> Measured | None:
        kind = record.initialization_type or env.initialization
        # A snapshot's initialisation, when a version was published: each environment that is
        # restored from it hears of it again.
        is_told = kind != InitializationType.SNAP_START
        return self._measure_beginning(env, "init", record, at, record.metrics if is_told else None)

    def _restore_report(self, env: Environment, record: RestoreReport, at: int) -> Measured | None:
        return self._measure_beginning(env, "restore", record, at, record.metrics)

    def _extension(self, env: Environment, record: ExtensionInit, at: int) -> Measured | None:
        if not (record.error_type or re.search(_BROKEN_EXTENSION, record.state or "")):
            return None
        if self._is_of_the_snapshot(env, at) or self._is_of_an_earlier_life(env, at):
            return None
        beginning = env.beginning("init", None, at)
        measured = self._of(env, None)
        self._fail_beginning(env, beginning, measured, record.error_type or record.state)
        return measured if measured.values else None

    def _measure_beginning(
        self,
        env: Environment,
        kind: Kind,
        record: InitRuntimeDone | InitReport | RestoreRuntimeDone | RestoreReport,
        at: int,
        metrics: InitMetrics | None = None,
    ) -> Measured | None:
        """Measure how an initialisation or a restore went."""
        if kind == "init" and self._is_of_the_snapshot(env, at):
            return None
        env.ready_at = max(env.ready_at, at)
        phase = record.phase if isinstance(record, InitRuntimeDone | InitReport) else None
        beginning = env.beginning(kind, phase, at)
        if phase == Phase.INVOKE and not beginning.is_known:
            beginning.request_id = beginning.request_id or self._busy(env)
        measured = self._of(env, None)
        duration = metrics.duration_ms if metrics else None
        if _is_sound(duration) and not beginning.is_measured:
            beginning.is_measured = True
            measured.values.append((f"{kind}_duration", duration))
        if record.status and record.status != _SUCCESS:
            if not self._is_of_an_earlier_life(env, at):
                self._fail_beginning(env, beginning, measured, record.error_type)
        elif record.status == _SUCCESS and env.is_newest(beginning):
            beginning.has_succeeded = True
            env.failure = None  # what fails now fails for another reason
            invocation = self._find(beginning.request_id) if beginning.request_id else None
            if invocation is not None:
                invocation.told = None
        return measured if measured.values else None

    def _is_of_the_snapshot(self, env: Environment, at: int) -> bool:
        """True if an event of an initialisation precedes the restore: it was told long ago."""
        restored_at = env.restored_at
        return restored_at is not None and at < restored_at

    def _is_of_an_earlier_life(self, env: Environment, at: int) -> bool:
        """True if an event precedes all that this process knows to have begun.

        A failure then was its predecessor's to count, at its end at the latest (`ended`).
        """
        known = [each.at for each in env.beginnings if each.is_known]
        return bool(known) and at < min(known) and not self._many

    def _fail_beginning(
        self, env: Environment, beginning: Beginning, measured: Measured, kind: str | None
    ) -> None:
        """Count a failed initialisation or restore once, and with it the invocation that waits.

        If that one fails as well, it is the same failure.
        """
        if beginning.has_failed:
            return
        beginning.has_failed = True
        measured.values.append(("init_errors", 1))
        measured.error_type = kind[:_MAX_ERROR_TYPE] if kind else None
        waiting = beginning.request_id or env.first_since(beginning.at)
        invocation = self._find(waiting) if waiting else None
        if invocation is not None:
            measured.request_id = waiting
            if not (invocation.errors or is_same_failure(invocation.told, kind)):
                measured.values.append(("errors", 1))
            invocation.told = "" if beginning.request_id else kind or ""
        else:
            if not is_same_failure(env.failure, kind):
                measured.values.append(("errors", 1))
            env.failure = kind or ""
        if _is_out_of_memory(kind):
            if invocation is None:
                measured.values.append(("out_of_memory", 1))
            else:
                _count_memory(invocation, measured)

    # -- invocations -------------------------------------------------------------------------

    def _start(self, env: Environment, record: Start, at: int) -> Measured | None:
        if self._many:
            self._name(env, function_of(record.function_arn), record.version)
        request_id = usable_id(record.request_id)
        env.start(request_id, at)
        invocation = self._find(request_id)
        if invocation is None or at > invocation.at:
            before, invocation = invocation, self._open_new(request_id, env, at)
            if before is not None:
                invocation.before, before.before = before, None
        elif invocation.began:
            return None
        invocation.began, invocation.at = True, at
        values: list[tuple[str, float]] = []
        measured = Measured(invocation.function, invocation.version, values, request_id or None)
        if not invocation.started:
            invocation.started = True
            values.append(("invocations", 1))
        if env.failure is not None:
            invocation.told, env.failure = env.failure, None
        if invocation.withheld is not None and at >= (env.began_at or 0):  # only in disorder
            invocation.errors = invocation.timeouts = False
            self._fail(invocation, measured, *invocation.withheld)
        if env.waited_for and at >= (env.began_at or 0):
            env.waited_for = False
            if at - env.ready_at <= IDLE_MS and not invocation.cold:
                invocation.cold = True
                values.append(("cold_starts", 1))
        return measured if values else None

    def _runtime_done(self, env: Environment, record: RuntimeDone, at: int) -> Measured | None:
        request_id = usable_id(record.request_id)
        invocation, measured, earlier = self._resume(env, request_id, at)
        if not invocation.runtime_done:  # a reset may send a second one, which only says how
            invocation.runtime_done = True
            metrics = record.metrics
            if metrics is not None:
                duration, size = metrics.duration_ms, metrics.produced_bytes
                if duration is not None and 0 <= duration <= _MOST:
                    measured.values.append(("runtime_duration", duration))
                if size is not None and 0 <= size <= _MOST:
                    measured.values.append(("produced_bytes", size))
            if record.spans:
                _put_spans(measured, record.spans)
            if self._system is not None and not earlier:
                measured.values += self._system()
        if earlier:  # what reset the environment, its predecessor was told at its end
            invocation.errors = invocation.timeouts = True
            invocation.withheld = (record.status, record.error_type)
        if env.suspect is not None:
            self._fail_if_suspect(env, request_id, invocation, measured)
        if record.status != _SUCCESS:
            self._fail(invocation, measured, record.status, record.error_type)
        return measured if measured.values else None

    def _report(self, env: Environment, record: Report, at: int) -> Measured | None:
        request_id = usable_id(record.request_id)
        invocation, measured, earlier = self._resume(env, request_id, at)
        if invocation.reported:
            return None
        invocation.reported = True
        metrics, status = record.metrics, record.status
        if record.spans:
            only = SpanName.EXTENSION_OVERHEAD if invocation.runtime_done else None
            _put_spans(measured, record.spans, only)
        if status != _SUCCESS:
            managed = metrics is None or metrics.billed_duration_ms is None
            if managed or not earlier:  # its predecessor saw the `runtimeDone`, if there was one
                self._fail(invocation, measured, status, record.error_type)
            else:
                invocation.withheld = (status, record.error_type)
        full = metrics is not None and self._put_metrics(env, invocation, measured, metrics, at)
        if full and _has_failed(status, invocation):
            _count_memory(invocation, measured)
        if self._open.get(request_id) is invocation:
            self._close(request_id)
        return measured if measured.values else None

    def _fault(self, env: Environment, record: Fault, at: int) -> Measured | None:
        text = record.body if isinstance(record.body, str) else ""
        request = re.search(_FAULT, text)
        invocation = self._find(request[1]) if request else None
        if request is None or invocation is None:
            return None
        measured = self._of(invocation, request[1])
        kind = re.search(_FAULT_TYPE, text, re.MULTILINE)
        self._fail(invocation, measured, Status.ERROR, (kind[1] or kind[2]) if kind else None)
        return measured if measured.values else None

    def _logs_dropped(self, env: Environment, record: LogsDropped, at: int) -> Measured | None:
        if not record.dropped_records or not _is_sound(record.dropped_records):
            return None
        return self._of(env, None, ("telemetry_lines_dropped", record.dropped_records))

    def _resume(
        self, env: Environment, request_id: str, at: int
    ) -> tuple[_Invocation, Measured, bool]:
        """Return the invocation an event continues with; counted now if its `start` was lost.

        And whether it is one of an earlier life, of which nothing was known until now.
        """
        invocation = self._find(request_id)
        last = None
        if invocation is not None and invocation.began and at < invocation.at:
            last, invocation = invocation, invocation.before
        if invocation is not None:
            measured = Measured(invocation.function, invocation.version, [], request_id or None)
            return invocation, measured, False
        began_at = env.began_at
        earlier = not env.saw_start or (began_at is not None and at < began_at)
        if last is None:
            invocation = self._open_new(request_id, env, at)
        else:
            invocation = last.before = _Invocation(env.function, env.version, at)
        invocation.started = not earlier  # should its `start` come after all, that counts it
        measured = self._of(invocation, request_id)
        if not earlier:
            measured.values.append(("invocations", 1))
        return invocation, measured, earlier

    def _fail(
        self, invocation: _Invocation, measured: Measured, status: str | None, kind: str | None
    ) -> None:
        """Count a failure, if `status` is one, and once for each invocation."""
        if not status or status == Status.SUCCESS:
            return
        if not invocation.errors:
            invocation.errors = True
            invocation.withheld = None
            if not is_same_failure(invocation.told, kind):
                measured.values.append(("errors", 1))
            measured.error_type = kind[:_MAX_ERROR_TYPE] if kind else None
        if status == Status.TIMEOUT and not invocation.timeouts:
            invocation.timeouts = True
            measured.values.append(("timeouts", 1))
        if _is_out_of_memory(kind):
            _count_memory(invocation, measured)

    def _put_metrics(
        self,
        env: Environment,
        invocation: _Invocation,
        measured: Measured,
        metrics: ReportMetrics,
        at: int,
    ) -> bool:
        """Put in the figures of a report; whether all memory was used."""
        duration, billed = metrics.duration_ms, metrics.billed_duration_ms
        size, used = metrics.memory_size_mb, metrics.max_memory_used_mb
        add = measured.values.append  # `_put` for each would cost as much as all the rest
        if duration is not None and 0 <= duration <= _MOST:
            add(("duration", duration))
        if billed is not None and 0 <= billed <= _MOST:
            add(("billed_duration", billed))
        if metrics.init_duration_ms is not None:
            self._put_first(env, invocation, measured, "init", metrics.init_duration_ms, at)
        if metrics.restore_duration_ms is not None:
            self._put_first(env, invocation, measured, "restore", metrics.restore_duration_ms, at)
        if used is not None and 0 <= used <= _MOST:
            add(("max_memory_used", used))
        if size is None or not 0 <= size <= _MOST:
            return False
        add(("memory_size", size))
        price = self._price if env.initialization in _PRICED else None
        if price is not None and billed is not None and 0 <= billed <= _MOST:
            _put(measured, "estimated_cost", price(billed, size))
        if not size or used is None or not 0 <= used <= _MOST:
            return False
        _put(measured, "memory_used_percent", round(100 * used / size, 2))
        return used >= size

    def _put_first(
        self,
        env: Environment,
        invocation: _Invocation,
        measured: Measured,
        kind: Kind,
        duration: float,
        at: int,
    ) -> None:
        """Put in a duration that only the first report has, if no event of its own told it."""
        beginning = env.beginning(kind, None, at)
        if beginning.is_measured or not _is_sound(duration):
            return
        beginning.is_measured = True
        _put(measured, f"{kind}_duration", duration)
        # this process came too late to see the environment begin
        if not (beginning.is_known or invocation.cold or env.began_at is not None):
            invocation.cold = True
            measured.values.append(("cold_starts", 1))

    # -- what is remembered ------------------------------------------------------------------

    def _environment(self, source: int) -> Environment:
        """Return the environment. In Lambda there is only one, whatever the connection."""
        key = source if self._many else 0
        environment = self._environments.get(key)
        if environment is None:
            if len(self._environments) >= MAX_ENVIRONMENTS:
                del self._environments[next(iter(self._environments))]
            environment = Environment(self._function, self._version)
            self._environments[key] = environment
        return environment

    def _name(self, env: Environment, function: str | None, version: str | None) -> None:
        if self._many:
            env.function = clean_dimension_value(function) if function else env.function
            env.version = clean_dimension_value(version) if version else env.version

    def _find(self, request_id: str) -> _Invocation | None:
        return self._open.get(request_id) or self._closed.get(request_id)

    def _open_new(self, request_id: str, env: Environment, at: int) -> _Invocation:
        if len(self._open) >= MAX_OPEN:
            del self._open[next(iter(self._open))]
        self._open[request_id] = invocation = _Invocation(env.function, env.version, at)
        return invocation

    def _close(self, request_id: str) -> None:
        invocation = self._open.pop(request_id, None)
        if invocation is not None:
            closed = self._closed
            if len(closed) >= MAX_CLOSED:
                closed.popitem(last=False)
            closed[request_id] = invocation

    def _of(
        self,
        owner: _Invocation | Environment,
        request_id: str | None,
        *values: tuple[str, float],
    ) -> Measured:
        return Measured(owner.function, owner.version, list(values), request_id or None)


def _has_failed(status: str | None, invocation: _Invocation) -> bool:
    """True if a report is that of a failure, also a timeout; newer ones may have no status."""
    return status != _SUCCESS if status else invocation.errors


def _is_out_of_memory(kind: str | None) -> bool:
    """True for `Runtime.OutOfMemory`, Java's and .NET's exceptions, `MemoryError`, and so on."""
    return kind is not None and ("OutOfMemory" in kind or kind.endswith("MemoryError"))


def _count_memory(invocation: _Invocation, measured: Measured) -> None:
    if not invocation.memory:
        invocation.memory = True
        measured.values.append(("out_of_memory", 1))


def _put_spans(
    measured: Measured, spans: Iterable[Span] | None, only: SpanName | None = None
) -> None:
    seen: set[str] = set()  # a name comes once; more often would be somebody's nonsense
    for span in spans or ():
        if span.name in _SPANS and span.name not in seen and (only is None or span.name == only):
            seen.add(span.name)
            _put(measured, _SPANS[span.name], span.duration_ms)


def _put(measured: Measured, name: str, value: float | None) -> None:
    if value is not None and 0 <= value <= _MOST:  # NaN is neither
        measured.values.append((name, value))


def _is_sound(value: float | None) -> TypeGuard[float]:
    return value is not None and 0 <= value <= _MOST


def function_of(arn: str | None) -> str | None:
    """Return the name in an ARN, `arn:aws:lambda:<region>:<account>:function:<name>[:...]`."""
    parts = arn.split(":") if arn else []
    return parts[6] if len(parts) > 6 and parts[5] == "function" else None  # noqa: PLR2004

"""From lines to log records.

A line is read in one of these ways:

* An event `function` or `extension` whose record is text. Lambda's own layouts (Python, Node.js,
  .NET) become time, severity, invocation and message. Of other texts the severity is found
  (`core.text_head`), and the whole text is the body. A text that is a JSON object is read as one.
* One whose record is an object, or any other line that is one: `members` says which members mean
  something to OTLP. All others are attributes. Without a message the whole object is the body.
  A record with the members of one before, and its level and ids, is read by a plan (`plans`).
* A platform event: its type is the event's name, its record the body.
* Anything else, such as a line that is not JSON: its text is the body, or its bytes if they are no
  UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import msgspec

from telemetryd.core.log_level import LEVELS, rank_of, rank_of_record
from telemetryd.core.loose import decode_loosely
from telemetryd.core.text_head import head_of
from telemetryd.sinks.otlp.invocations import (
    NO_INVOCATION,
    Invocation,
    Invocations,
    request_of,
)
from telemetryd.sinks.otlp.members import LEVEL, MESSAGE, NUMBER, REQUEST, ROLES, TIME
from telemetryd.sinks.otlp.plans import Names, Plan, Plans, Reading, Write
from telemetryd.sinks.otlp.trace_members import join, take_other, take_text, trace_in
from telemetryd_proto.errors import DECODE_FAILURES, MalformedRecord
from telemetryd_proto.otlp.logs import Origin
from telemetryd_proto.otlp.trace_context import NO_TRACE, TraceContext
from telemetryd_proto.otlp.values import Pairs
from telemetryd_proto.timestamps import parse_nanoseconds

Severity: TypeAlias = tuple[int, str]
"""Number and text."""
Attributes: TypeAlias = Sequence[tuple[str, Any]]

INVOCATION_ID: Final = "faas.invocation_id"
SOURCE_TYPE: Final = "aws.lambda.telemetry.type"
"""Only of lines of an extension; those of the function have no such attribute."""

_UNKNOWN: Final[Severity] = (0, "")
_NUMBERS: Final = (1, 5, 9, 13, 17, 21)
"""OpenTelemetry's numbers of `LEVELS`: each has four, of which these are the first."""
_BY_RANK: Final = tuple(zip(_NUMBERS, LEVELS, strict=True))
_INFO: Final = _BY_RANK[LEVELS.index("INFO")]
_WARN: Final = _BY_RANK[LEVELS.index("WARN")]
_ERROR: Final = _BY_RANK[LEVELS.index("ERROR")]
START: Final = "platform.start"
_FUNCTION: Final = "function"
_USUAL: Final = len("2024-05-01T12:00:00.000Z")
_MAY_OPEN: Final = frozenset("{ \t\r\n\ufeff")
_HEAD_CHARS: Final = 256
_PYTHON_TIME: Final = re.compile(r"(.{19}\.)([0-9]{1,2})Z")
"""`%(asctime)s.%(msecs)dZ` of Lambda's runtime for Python: milliseconds without zeros before."""
_SKEW: Final = 3600 * 10**9
"""Nanoseconds by which a time in a record may differ from its event's. Else it is something else's,
such as that of an order."""
_MAX_ORIGINS: Final = 64
_PARTS: Final = len(("timestamp", "level", "requestId", "message"))
"""The parts of a line of a runtime, in text and as members."""
_FAILED: Final = frozenset({"error", "failure", "timeout"})


class Writer(Protocol):
    """Writes records in one of the forms of OTLP (`telemetryd_proto.otlp.logs`)."""

    def origin(self, origin: Origin, /) -> Any:
        """Return the common part of records."""

    def read_at(self, origin: Any, observed: int, /) -> Any:
        """Return `origin` with the time when its lines were read."""

    def frame(self, origin: Any, severity: Severity, /) -> Any:
        """Return what surrounds texts of one level that have `origin`."""

    def plain(self, frame: Any, time: int, body: str, /) -> bytes:
        """Return what `record` returns of a text that has a time, and nothing else."""

    def writes(self, names: Names, /) -> Write:
        """Return what writes attributes of `names`, for `with_written`."""

    def with_written(
        self, origin: Any, time: int, severity: Severity, body: str, written: Any, /
    ) -> bytes:
        """Return what `record` returns of a text with attributes that are written already."""

    def record(
        self,
        origin: Any,
        time: int,
        severity: Severity,
        body: Any,
        pairs: Pairs = (),
        event_name: str = "",
        /,
    ) -> bytes:
        """Return one record."""


class _Event(msgspec.Struct, gc=False):
    """A line that is an object, with its record decoded."""

    time: str = ""
    type: str = ""
    record: Any = None


class _Shape(NamedTuple):
    """The parts that a line has in common with the next one."""

    head: str
    """Of a text in a layout of Lambda's runtimes, what is before its time."""
    tail: str
    """From there to its message."""
    start: int
    """Where the message begins."""
    level: str
    request: str
    severity: Severity
    invocation: Invocation


_NO_SHAPE: Final = _Shape("\ud800", "\ud800", 0, "\ud800", "\ud800", _UNKNOWN, NO_INVOCATION)
"""That of no line: no text that is decoded holds half a surrogate pair."""

_Found: TypeAlias = tuple[int, Severity, Any, Attributes, Invocation | None, TraceContext, str]
"""A line as OTLP has it: time, severity, body, attributes, invocation, its own trace, and the name
of an event. Without an invocation it belongs to the one of its place in the stream. A plain tuple:
each line is one."""

_decode: Final = msgspec.json.Decoder(_Event).decode
_decode_any: Final = msgspec.json.Decoder().decode
_decode_object: Final = msgspec.json.Decoder(dict[str, Any]).decode


_OF_EVENTS: Final = frozenset(("time", "type", "record"))
_USUAL_LINE: Final = b'{"time":'
"""Begins an event as Lambda sends it. What the router adds to a line goes before."""
_NEXT_USUAL: Final = b"\n" + _USUAL_LINE
_PREFIX: Final = "telemetryd_"
"""Goes before the name of an added member that a record has too, as in `core.fields`."""
_LATEST: Final = (1 << 63) - 1
"""Nanoseconds until the year 2262: the unsigned ones of OTLP are signed ones to many who read."""


class Recorder:
    """Makes log records of lines, in the form of `writer`."""

    def __init__(
        self, writer: Writer, invocations: Invocations, *, expects_more: bool = True
    ) -> None:
        """Make one. `expects_more`: lines have members beside those that Lambda sends.

        Otherwise it looks for such members from the first block on that begins with one.
        """
        self._expects_more = expects_more
        self._writer = writer
        self._invocations = invocations
        self._find = invocations.find
        self._started = invocations.started
        self._origins = _Origins(writer)
        self._plans = Plans()
        self._second = "none yet"
        self._second_ns = 0

    def encode(  # noqa: C901, PLR0912, PLR0915 - what each line goes through is written out
        self, data: bytes, observed: int, before: Invocation
    ) -> list[bytes]:
        """Return a record for each of the whole lines `data`, in order.

        `observed`: nanoseconds since the epoch when they were read. `before`: the invocation that
        is running where they begin.
        """
        lines = BytesIO(data).readlines()
        is_usual = data.startswith(_USUAL_LINE)
        self._expects_more = self._expects_more or not is_usual
        may_have_more = self._expects_more and data.count(_NEXT_USUAL) + is_usual != len(lines)
        more: Attributes = ()
        read_at, common, frame_of = self._writer.read_at, self._origins.of, self._writer.frame
        record, plain = self._writer.record, self._writer.plain
        with_written, writes = self._writer.with_written, self._writer.writes
        plan_of = self._plans.of
        fractions, second, second_ns = _fractions, self._second, self._second_ns
        current = before
        last, last_trace = before, NO_TRACE
        origin = read_at(common(before, NO_TRACE), observed)
        head, tail, start, level, request = _NO_SHAPE[:5]
        frame: Any = None
        records: list[bytes] = []
        add = records.append
        self._plans.forget()
        for event in _decode_lines(lines):
            if may_have_more and (more := _members_beside(lines[len(records)], event)):
                plan = None
            elif event is not None and event.type == _FUNCTION:
                # Most lines are like the one before but for time and message, and are read here
                # without a call.
                value, stamp = event.record, event.time
                message: Any = None
                if type(value) is str:
                    if (
                        value.startswith(f"{head}{stamp}{tail}")
                        and value[-1] == "\n"
                        and value[start] != "{"
                    ):
                        message = value[start:-1]
                elif (
                    type(value) is dict
                    and len(value) == _PARTS
                    and value.get("requestId") == request
                    and value.get("level") == level
                    and value.get("timestamp") == stamp
                ):
                    message = value.get("message")
                    if type(message) is not str or message[:1] == "{":
                        message = None
                if message is None and (learnt := self._learn(value, stamp)) is not None:
                    shape, message = learnt
                    head, tail, start, level, request, severity, invocation = shape
                    frame = frame_of(read_at(common(invocation, NO_TRACE), observed), severity)
                if (
                    message is not None
                    and stamp.startswith(second)
                    and (part := fractions.get(stamp[20:])) is not None
                ):
                    add(plain(frame, second_ns + part, message))
                    continue
                if type(value) is str and value[:2] == '{"':
                    # the text of an object, as loggers write it; no layout begins so
                    value = event.record = _object_in(value.removesuffix("\n")) or value
                plan = plan_of(value) if type(value) is dict else None
            else:
                plan = None
            planned = None
            if plan is not None and plan.readings:
                planned = self._by_plan(plan, value, stamp)
            if planned is None:
                line = lines[len(records)]  # each has one record
                time, severity, body, pairs, owner, trace, name = self._read(line, event)
                if more:
                    pairs = _with_more(pairs, more)
                if plan is not None and type(body) is str and body is value[plan.message]:
                    plan.learn(value, (severity, pairs, owner, trace), writes)
                if name == START:
                    current = self._invocations.start(body)
                    head, tail, start, level, request = _NO_SHAPE[:5]
                    self._plans.forget()
            else:
                (severity, owner, trace, *_), time, body, written = planned
            second, second_ns = self._second, self._second_ns
            if owner is None:
                owner = current
            if owner is not last or (trace is not last_trace and trace != last_trace):
                last, last_trace = owner, trace
                origin = read_at(common(owner, trace), observed)
            if planned is None:
                add(record(origin, time, severity, body, pairs, name))
            else:
                add(with_written(origin, time, severity, body, written))
        return records

    def _by_plan(
        self, plan: Plan, record: dict[str, Any], stamp: str
    ) -> tuple[Reading, int, str, Any] | None:
        """Return how `record` is read, its time, its message, and its attributes as written.

        None if none with the same names, level and ids was read in full, or if its message may be
        more than text.
        """
        try:
            reading = plan.readings.get(plan.fixed_of(record))
        except TypeError:  # an object or array, where an id or a level was
            return None
        message = record[plan.message]
        if reading is None or type(message) is not str or message[:1] == "{":
            return None
        time, (values_of, write) = self._time(stamp), reading.ways.usual
        if plan.time is not None and (said := record[plan.time]) != stamp:
            logged = self._near(said, time) if type(said) is str else 0
            time = logged or time
            if not logged:
                values_of, write = reading.ways.with_time
        return reading, time, message, write(values_of(record))

    def _learn(self, value: Any, stamp: str) -> tuple[_Shape, str] | None:
        """Return the shape of a record of the function, and its message.

        None unless it is of a runtime's layout or members, in an invocation that has begun.
        """
        layout: tuple[str, str] | None = None
        level: Any
        logged: Any
        request: Any
        message: Any
        if type(value) is str:
            parts = value.split("\t", 3)
            if len(parts) != _PARTS or value[-1] != "\n":
                return None
            level, logged, request, message = parts
            message = message[:-1]
            if level[:1] == "[":
                layout = (f"{level}\t", f"\t{request}\t")
                level = level[1:-1]
            else:
                level, logged, request = request, level, logged
                layout = ("", f"\t{request}\t{level}\t")
        elif type(value) is dict and len(value) == _PARTS:
            level, logged = value.get("level"), value.get("timestamp")
            request, message = value.get("requestId"), value.get("message")
            if type(level) is not str or type(request) is not str or type(message) is not str:
                return None
        else:
            return None
        invocation, severity = self._started.get(request), _severities.get(level)
        if logged != stamp or message[:1] == "{" or invocation is None or severity is None:
            return None
        head, tail = layout or (f"[{level}]\t", f"\t{request}\t")
        start = len(head) + _USUAL + len(tail)
        return _Shape(head, tail, start, level, request, severity, invocation), message

    def invocation_behind(self, data: bytes, lines: int, before: Invocation) -> Invocation:
        """Return the invocation that is running behind the first `lines` lines of `data`."""
        for event in _decode_lines(BytesIO(data).readlines()[:lines]):
            if event is not None and event.type == START:
                before = self._invocations.start(event.record)
        return before

    def _read(self, line: bytes, event: _Event | None) -> _Found:
        if event is None or not event.type:
            return self._read_other(line)
        kind, value, stamp = event.type, event.record, event.time
        time = self._time(stamp)
        if kind == _FUNCTION:
            if type(value) is str:
                return self._read_text(value.removesuffix("\n"), time, stamp)
            return self._read_value(value, time, stamp)
        if kind == "extension":
            if type(value) is str:
                found = self._read_text(value.removesuffix("\n"), time, stamp)
            else:
                found = self._read_value(value, time, stamp)
            return (*found[:3], (*found[3], (SOURCE_TYPE, kind)), *found[4:])
        return self._read_event(kind, value, time)

    def _read_value(self, value: Any, time: int, stamp: str) -> _Found:
        if type(value) is dict:
            return self._read_object(value, time, stamp)
        return (time, _UNKNOWN, value, (), None, NO_TRACE, "")

    def _read_other(self, line: bytes) -> _Found:
        """Read a line that is no event: an object of another sender, other JSON, or text."""
        value = decode_loosely(_decode_any, line)
        if type(value) is dict:
            return self._read_object(value, 0, "")
        data = line.removesuffix(b"\n")
        try:
            return self._read_text(data.decode(), 0, "")
        except UnicodeDecodeError:
            return (0, _UNKNOWN, data, (), None, NO_TRACE, "")

    def _read_text(self, text: str, time: int, stamp: str) -> _Found:
        parts = text.split("\t", 3)
        if len(parts) == _PARTS:
            found = self._read_layout(parts, time, stamp)
            if found is not None:
                return found
        if text[:1] in _MAY_OPEN and (inner := _object_in(text)) is not None:
            return self._read_object(inner, time, stamp)
        head = head_of(text[:_HEAD_CHARS])
        severity = _UNKNOWN if head.rank is None else _BY_RANK[head.rank]
        invocation = next(filter(None, map(self._find, head.ids)), None)
        return (time, severity, text, (), invocation, NO_TRACE, "")

    def _read_layout(self, parts: list[str], time: int, stamp: str) -> _Found | None:
        """Read a text in a layout of Lambda's runtimes; None if it only looks like one.

        [LEVEL]<tab>time<tab>request id<tab>message   Python
        time<tab>request id<tab>LEVEL<tab>message     Node.js, .NET
        """
        level, logged, request, message = parts
        if level[:1] == "[":
            level = level[1:-1]
            if logged != stamp and (short := _PYTHON_TIME.fullmatch(logged)):
                logged = f"{short[1]}{short[2]:>03}Z"
        else:
            level, logged, request = request, level, logged
        severity = _severities.get(level) or severity_of(level)
        if severity is None:
            return None
        if logged != stamp:
            time, stamp = self._time(logged), logged
            if not time:
                return None
        invocation = self._started.get(request)
        if invocation is None and request:
            invocation = self._find(request, is_certain=True)
        if message[:1] == "{" and (inner := _object_in(message)) is not None:
            return self._read_object(inner, time, stamp, severity, invocation)
        return (time, severity, message, (), invocation, NO_TRACE, "")

    def _read_object(  # noqa: C901, PLR0912 - a branch for each meaning, without calls
        self,
        record: dict[str, Any],
        time: int,
        stamp: str,
        outer: Severity | None = None,
        invocation: Invocation | None = None,
        *,
        is_inner: bool = False,
    ) -> _Found:
        """Read the members of a record. `outer`: the severity that a runtime printed it with."""
        severity: Severity | None = None
        body: Any = None
        pairs: list[tuple[str, Any]] = []
        ids: dict[int, Any] = {}
        role_of = ROLES.get
        for key, value in record.items():
            role = role_of(key)
            if role is None:
                pairs.append((key, value))
            elif role == MESSAGE and body is None:
                body = value
            elif type(value) is str:
                if role == TIME and (value == stamp or (logged := self._near(value, time))):
                    time, stamp = time if value == stamp else logged, value
                elif (
                    role == LEVEL
                    and severity is None
                    and (named := _severities.get(value) or severity_of(value))
                ):
                    severity = named
                elif role == REQUEST and invocation is None and (known := self._find(value)):
                    invocation = known
                elif not take_text(role, key, value, ids):
                    pairs.append((_EXCEPTIONS.get(key, key), value))
            elif not take_other(role, value, ids, pairs):
                pairs.append((key, value))
        if severity is None:
            severity = ids.get(NUMBER)
            if severity is None and (rank := rank_of_record(record)) is not None:
                severity = _BY_RANK[rank]
        if outer is not None or severity is None:
            severity = _stronger(outer, severity)
        trace = trace_in(ids) if ids else NO_TRACE
        if body is None:
            body, found_pairs = _without_message(record, pairs)
            return (time, severity, body, found_pairs, invocation, trace, "")
        if not is_inner and (type(body) is dict or (type(body) is str and body[:1] == "{")):
            inner = body if type(body) is dict else _object_in(str(body))
            if inner is not None:
                found = (time, severity, body, pairs, invocation, trace, "")
                return self._with_inner(found, inner)
        return (time, severity, body, pairs, invocation, trace, "")

    def _with_inner(self, outer: _Found, record: dict[str, Any]) -> _Found:
        """Return a record whose message is an object of its own: what a function logged as JSON."""
        time, severity, _, pairs, invocation, trace, _ = outer
        inner = self._read_object(record, time, "", severity, invocation, is_inner=True)
        own = inner[5] if inner[5].trace_id else trace
        return (*inner[:3], [*pairs, *inner[3]], inner[4], own, "")

    def _read_event(self, kind: str, record: Any, time: int) -> _Found:
        """Read a platform event, or one of a type that is not known."""
        severity = _INFO
        if kind in ("platform.logsDropped", "platform.fault"):
            severity = _WARN if kind == "platform.logsDropped" else _ERROR
        elif type(record) is dict and str(record.get("status")) in _FAILED:
            severity = _ERROR
        request = request_of(record)
        invocation = self._started.get(request)
        if invocation is not None:
            return (time, severity, record, (), invocation, NO_TRACE, kind)
        trace = self._invocations.trace_of(record)
        if request:
            return (time, severity, record, (), Invocation(request, trace), NO_TRACE, kind)
        return (time, severity, record, (), NO_INVOCATION, trace, kind)

    def _time(self, text: str) -> int:
        """Return nanoseconds since the epoch; 0 if `text` is no time, or none that OTLP has."""
        if text.startswith(self._second) and (part := _fractions.get(text[20:])) is not None:
            return self._second_ns + part
        try:
            found = parse_nanoseconds(text)
        except MalformedRecord:
            return 0
        if found > _LATEST:
            return 0
        part = found % 10**9
        if len(text) == _USUAL and text[19] == "." and found > part:
            # `.123Z`: the lines of a batch share seconds
            self._second, self._second_ns = text[:20], found - part
            _fractions[text[20:]] = part
        return found

    def _near(self, text: str, time: int) -> int:
        """Return the time that `text` is, if it can be that of a record of an event of `time`."""
        if not text[:4].isdigit() or text[10:11] != "T":  # to be refused costs a look, not an error
            return 0
        found = self._time(text)
        return found if not time or abs(found - time) < _SKEW else 0


class _Origins:
    """The common parts of records, each written once."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._known: dict[tuple[Invocation, TraceContext], Any] = {}

    def of(self, invocation: Invocation, own: TraceContext) -> Any:
        """Return that of a record in `invocation`, with a trace of its own or `NO_TRACE`."""
        found = self._known.get((invocation, own))
        if found is None:
            if len(self._known) >= _MAX_ORIGINS:
                self._known.clear()
            request, trace = invocation
            trace = trace if own is NO_TRACE else join(own, trace)
            pairs = ((INVOCATION_ID, request),) if request else ()
            found = self._writer.origin(Origin(0, trace, pairs))
            self._known[invocation, own] = found
        return found


def _decode_lines(lines: list[bytes]) -> list[_Event | None]:
    """Return one entry a line, in order; None for what is not an object with a type that is text.

    The loop runs in C. After a bad line it continues behind it, as in `envelope.decode_lines`.
    """
    rest = iter(lines)
    events: list[_Event | None] = []
    while True:
        try:
            events.extend(map(_decode, rest))
        except DECODE_FAILURES:
            events.append(decode_loosely(_decode, lines[len(events)]))
        else:
            return events


def _members_beside(line: bytes, event: _Event | None) -> Attributes:
    """Return the members of an event but its own three: tags, fields, the weight of a sample."""
    if event is None or not event.type or line.startswith(_USUAL_LINE):
        return ()
    found = decode_loosely(_decode_object, line) or {}
    return [(name, value) for name, value in found.items() if name not in _OF_EVENTS]


def _with_more(pairs: Attributes, more: Attributes) -> Attributes:
    """Return the attributes of a record and `more`, whose names get a prefix if they are taken."""
    taken = {name for name, _ in pairs}
    added: list[tuple[str, Any]] = []
    for name, value in more:
        free = name
        while free in taken:
            free = _PREFIX + free
        added.append((free, value))
    return [*added, *pairs]


def severity_of(name: str) -> Severity | None:
    """Return the severity that a logger calls `name`, which is its text; None if none is."""
    rank = rank_of(name)
    if rank is None:
        return None
    if len(_severities) >= _MAX_SEVERITIES:
        _severities.clear()
    found = _severities[name] = (_NUMBERS[rank], name)
    return found


_MAX_SEVERITIES: Final = 256
_severities: dict[str, Severity] = {}
_fractions: dict[str, int] = {}
"""`123Z`, as it ends a time, in nanoseconds: at most a thousand."""


def _object_in(text: str) -> dict[str, Any] | None:
    """Return the object that `text` is as a whole; None if it is something else."""
    if text.lstrip()[:1] != "{" or text.rstrip()[-1:] != "}":
        return None
    return decode_loosely(_decode_object, text.encode("utf-8", "replace"))


_EXCEPTIONS: Final = {
    "errorType": "exception.type",
    "errorMessage": "exception.message",
    "stackTrace": "exception.stacktrace",
}


def _without_message(record: dict[str, Any], pairs: Attributes) -> tuple[Any, Attributes]:
    """Return body and attributes of a record without a message: an error's, or the whole."""
    message = record.get("errorMessage")
    return (message, pairs) if type(message) is str else (record, ())


def _stronger(outer: Severity | None, inner: Severity | None) -> Severity:
    """Return the severity of what a runtime printed at `outer`. INFO is what it has by default."""
    if inner is None or not inner[0]:
        return outer or _UNKNOWN
    if outer is None or outer[0] in (0, _INFO[0]) or inner[0] > outer[0]:
        return inner
    return outer

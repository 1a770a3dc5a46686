"""Rows of the flat schema (`telemetryd_proto.flat`): one for each line, whatever the line is.

A row is put together from pieces of the line and from what is known of its invocation. Text of a
log is copied as the JSON that it is. An object is copied into `attributes` as a whole, as JSON in
text, so that nothing of it changes and nothing is lost. This is imported only where a sink asks for
the flat format.

`FlatReader` makes rows as far as they are the same for all sinks, once. `Flattener` adds the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeAlias, cast

import msgspec

from telemetryd.core.facts import Facts
from telemetryd.core.fields import Field, FieldAdder, Opened, RequestTracker, Scalar
from telemetryd.core.log_level import LEVELS, rank_of
from telemetryd.core.loose import decode_loosely
from telemetryd.core.record import rank_of_line
from telemetryd.core.rows import PARTS, Rows
from telemetryd.core.sample import with_weight
from telemetryd_proto.errors import DECODE_FAILURES, ProtocolError
from telemetryd_proto.flat import COLUMNS
from telemetryd_proto.loose import loosen
from telemetryd_proto.objects import AnyObject, TimedObject
from telemetryd_proto.timestamps import parse_time

_MAX_CACHED: Final = 1024
_MOST: Final = 2**63
_LONGEST_NUMBER: Final = 32
_LONGEST_TIME: Final = 64
_LATEST: Final = 9_223_372_036
"""Seconds since the Unix epoch: nanoseconds that 64 bits can hold end in 2262."""
_MARGIN: Final = 8
"""Bytes of a message's JSON in which an object may begin: after a quote and blanks."""
_QUOTE: Final = ord('"')
_BRACE: Final = ord("{")
_NULL: Final = b"null"
_PLATFORM: Final = "platform."
_NAMES: Final = {
    name: b'"%b"' % LEVELS[rank].encode()
    for word in ("trace", "debug", "info", "warn", "warning", "error", "critical", "fatal")
    for name in (word.upper(), word)
    if (rank := rank_of(name)) is not None
}
"""Levels by their usual names, in JSON."""
_WORDS: Final = {name.encode(): level for name, level in _NAMES.items() if name.isupper()}
"""Levels in the layout of Node.js's runtime (`text_head`)."""
_BRACKETS: Final = {b'"[%b]' % word: level for word, level in _WORDS.items()}
"""Levels in the layout of Python's runtime, with the quote before it."""
_OF_RANK: Final = [b'"%b"' % name.encode() for name in LEVELS]
_LEVELS_OF: Final = {
    kind: {
        level: b',"type":"%b","level":%b,"message":' % (kind.encode(), level)
        for level in (*_OF_RANK, _NULL)
    }
    for kind in ("function", "extension")
}
"""Members of rows by the type of Lambda's logs, and by the level."""
_MILLISECONDS: Final = frozenset(b'.%03dZ"' % number for number in range(1000))
"""Ends of times in JSON, from their byte 20 on."""
_to_seconds: Final = itemgetter(slice(20))
_behind_seconds: Final = itemgetter(slice(20, None))
_CANONICAL: Final = re.compile(r"(?a)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,9}Z")
_OPENING: Final = b'{"time":'
_ATTRIBUTES: Final = b',"attributes":'
_OF_INVOCATION: Final = ("request_id", "trace_id", "tenant_id")
_OF_PROCESS: Final = ("function", "version", "instance")
_HAVE_COLUMNS: Final = {*COLUMNS} - {"memory_mb"}
"""Fields that each row has. The column `memory_mb` is what an event says, the field is not."""


_Whole: TypeAlias = Annotated[int, msgspec.Meta(ge=-_MOST, le=_MOST - 1)]


class _Log(msgspec.Struct, gc=False):
    """The members of a logged object that most have, of any type."""

    level: Any = None
    message: msgspec.Raw = msgspec.Raw()
    request_id: Any = msgspec.field(default=None, name="requestId")
    error_type: Any = msgspec.field(default=None, name="errorType")


class _Object(_Log, gc=False):
    """Further members of objects of any sender."""

    msg: msgspec.Raw = msgspec.Raw()
    timestamp: Any = None
    at_timestamp: Any = msgspec.field(default=None, name="@timestamp")


class _Metrics(msgspec.Struct, gc=False):
    """The metrics that have a column."""

    duration_ms: float | None = msgspec.field(default=None, name="durationMs")
    billed_ms: float | None = msgspec.field(default=None, name="billedDurationMs")
    memory_mb: _Whole | None = msgspec.field(default=None, name="memorySizeMB")
    max_memory_mb: _Whole | None = msgspec.field(default=None, name="maxMemoryUsedMB")
    init_ms: float | None = msgspec.field(default=None, name="initDurationMs")


class _Platform(msgspec.Struct, gc=False):
    """The members of a platform event's record that have a column."""

    status: str | None = None
    error_type: str | None = msgspec.field(default=None, name="errorType")
    metrics: _Metrics | None = None


class _OddPlatform(msgspec.Struct, gc=False):
    """The same members, of any type."""

    status: Any = None
    error_type: Any = msgspec.field(default=None, name="errorType")
    metrics: Any = None


class _Figures(msgspec.Struct, gc=False):
    """The columns from `duration_ms` to `error_type`, in their order."""

    duration_ms: float | None = None
    billed_ms: float | None = None
    memory_mb: int | None = None
    max_memory_mb: int | None = None
    init_ms: float | None = None
    status: str | None = None
    error_type: str | None = None


_decode_log: Final = msgspec.json.Decoder(_Log).decode
_decode_object: Final = msgspec.json.Decoder(_Object).decode
_decode_platform: Final = msgspec.json.Decoder(_Platform).decode
_decode_odd_platform: Final = msgspec.json.Decoder(_OddPlatform).decode
_check: Final = msgspec.json.Decoder(msgspec.Raw).decode
_decode_text: Final = msgspec.json.Decoder(str).decode
_encode: Final = msgspec.json.Encoder().encode


def _members(struct: msgspec.Struct) -> bytes:
    """Return the members of an object, without its braces."""
    return _encode(struct)[1:-1]


_NO_FIGURES: Final = _members(_Figures())


class FlatReader:
    """Makes the rows of lines but for their ends, and finds the facts about each line.

    `wall` gives the time for lines that have none, in seconds since the Unix epoch.
    """

    def __init__(self, values: Mapping[str, Scalar], wall: Callable[[], float]) -> None:
        self.wall = wall
        self.seconds: set[bytes] = set()
        """Times that are known to be good, up to their seconds."""
        self.middles: dict[Facts, bytes] = {}
        """The middle of the rows of logs, by what is known of their invocations."""
        self._number = 0
        self.renew(values)

    def renew(self, values: Mapping[str, Scalar]) -> None:
        """Use these values from now on."""
        known = [b'"%b":%b' % (name.encode(), _encode(values[name])) for name in _OF_PROCESS]
        self._of_process = b",".join(known)
        self._process = b',"record_id":"%b-' % str(values["instance"]).encode()
        self.middles.clear()

    def read(
        self, block: Opened, data: bytes, tracker: RequestTracker, source: int
    ) -> tuple[Rows, list[Facts]]:
        """Return the row of each line, and the facts about it.

        `data` is all lines of the block, from the connection `source`.
        """
        one_pass = _Pass(self, block.reader.free, tracker, source, is_ascii=data.isascii())
        add, lines = one_pass.add, block.lines
        objects = cast("list[TimedObject | None]", block.objects)
        for line, found in zip(lines, objects, strict=True):
            add(line, found)
        first, self._number = self._number + 1, self._number + len(lines)
        parts = one_pass.parts
        parts[1::PARTS] = self._good_times(parts[1::PARTS])
        parts[PARTS - 3 :: PARTS] = [self._process] * len(lines)
        parts[PARTS - 2 :: PARTS] = [b"%d" % at for at in range(first, self._number + 1)]
        return Rows(parts), one_pass.origins

    def middle_of(self, facts: Facts, figures: bytes) -> bytes:
        """Return the middle of a row: members from `request_id` to `error_type`."""
        ids = [
            b',"%b":%b' % (name.encode(), _text_or_null(getattr(facts, name)))
            for name in _OF_INVOCATION
        ]
        return b"".join((*ids, b",", self._of_process, b",", figures, _ATTRIBUTES))

    def usual_middle_of(self, facts: Facts) -> bytes:
        """Return the middle of a row without figures."""
        if len(self.middles) >= _MAX_CACHED:
            self.middles.clear()
        middle = self.middles[facts] = self.middle_of(facts, _NO_FIGURES)
        return middle

    def _good_times(self, times: list[bytes]) -> list[bytes]:
        """Return `times`, in JSON, as the schema has them; what is none becomes now."""
        if self.seconds.issuperset(map(_to_seconds, times)) and _MILLISECONDS.issuperset(
            map(_behind_seconds, times)
        ):
            return times
        now = _encode(_to_text(self.wall()))
        return [self.time_of(time) or now for time in times]

    def time_of(self, raw: bytes) -> bytes | None:
        """Return a time in JSON as the schema has it, or None if `raw` is no such time."""
        if raw[20:] in _MILLISECONDS and raw[:20] in self.seconds:
            return raw
        if raw[:1] != b'"' or len(raw) > _LONGEST_TIME:
            return None
        text = decode_loosely(_decode_text, raw) or ""
        try:
            seconds = parse_time(text)
        except ProtocolError:
            return None
        if not 0 <= seconds < _LATEST:
            return None
        if _CANONICAL.fullmatch(text):
            if len(self.seconds) >= _MAX_CACHED:
                self.seconds.clear()
            time = _encode(text)
            self.seconds.add(time[:20])
            return time
        return _encode(_to_text(seconds, "microseconds"))


class _Pass:
    """One pass over the lines of a block: what the last ones said matters for the next ones."""

    __slots__ = (
        "_flat", "_free", "_is_ascii", "_keeper", "_known", "_middles", "_source",
        "_tracker", "origins", "parts",
    )  # fmt: skip

    def __init__(
        self,
        flat: FlatReader,
        free: type[AnyObject],
        tracker: RequestTracker,
        source: int,
        *,
        is_ascii: bool,
    ) -> None:
        self.parts: list[bytes] = []
        self.origins: list[Facts] = []
        self._flat = flat
        self._middles = flat.middles
        self._free = free
        self._tracker = tracker
        self._keeper = tracker.keep_facts()
        self._source = source
        self._is_ascii = is_ascii
        self._known: dict[bytes | str, Facts] = {}
        """Facts by request id, as it is spelled in lines."""

    def add(self, line: bytes, found: TimedObject | None) -> None:
        """Add the row of the next line, and the facts about it."""
        if found is None:
            self._add_line(line)
            return
        record = bytes(found.record)
        if not (self._is_ascii or record.isascii()):
            record = _to_utf8(record)
        levels = _LEVELS_OF.get(found.type) if type(found) is self._free else None
        if levels is not None and record[0] == _QUOTE:
            self._add_text(line, found, record, levels)
        elif levels is not None and record[0] == _BRACE:
            self._add_object(line, found, record, levels)
        elif found.type.startswith(_PLATFORM):
            self._add_platform(line, found, record)
        else:
            self._add_other(line, found, record)

    def _add(
        self, time: bytes, kind: bytes, message: bytes, facts: Facts, middle: bytes,
        attributes: bytes,
    ) -> None:  # fmt: skip
        self.parts += (_OPENING, time, kind, message, middle, attributes, b"", b"", b"")
        self.origins.append(facts)

    def _add_line(self, line: bytes) -> None:
        """Add a line that is no object."""
        text = line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "replace")
        facts = self._keeper.of("", self._source)
        kind = _kind_and_level(_NULL, _NULL)
        self._add(_NULL, kind, _encode(text), facts, self._middle_of(facts), _NULL)

    def _add_text(
        self, line: bytes, found: TimedObject, record: bytes, levels: Mapping[bytes, bytes]
    ) -> None:
        """Add a log line of Lambda that is text."""
        level = facts = None
        parts = record.split(b"\\t", 3)
        if len(parts) == 4 and parts[3][:1] != b"{":  # noqa: PLR2004 - level, time, id, message
            if (level := _BRACKETS.get(parts[0])) is not None:
                facts = self._known.get(parts[2]) or self._facts_by(parts[2])
            elif (level := _WORDS.get(parts[2])) is not None:
                facts = self._known.get(parts[1]) or self._facts_by(parts[1])
        if facts is None:
            facts = self._facts_of(line, found)
        if record[-3:] == b'\\n"':
            record = record[:-3] + b'"' if record[-4:-3] != b"\\" else _without_newline(record)
        self.parts += (
            _OPENING, bytes(found.time), levels[level or _level_of(line, found)], record,
            self._middles.get(facts) or self._middle_of(facts), _NULL, b"", b"", b"",
        )  # fmt: skip
        self.origins.append(facts)

    def _add_object(
        self, line: bytes, found: TimedObject, record: bytes, levels: Mapping[bytes, bytes]
    ) -> None:
        """Add a log line of Lambda that is an object."""
        try:
            log = _decode_log(record)
            level = _NAMES[log.level]
        except (*DECODE_FAILURES, KeyError, TypeError):  # any other level, or of another type
            self._add_other(line, found, record)
            return
        message = bytes(log.message)
        if message[:1] != b'"' or b"{" in message[:_MARGIN] or log.error_type is not None:
            self._add_other(line, found, record)
            return
        facts, name = None, log.request_id
        if type(name) is str:
            facts = self._known.get(name) or self._facts_by(name)
        if facts is None:
            facts = self._facts_of(line, found)
        self.parts += (
            _OPENING, bytes(found.time), levels[level], message,
            self._middles.get(facts) or self._middle_of(facts), _encode(record.decode()),
            b"", b"", b"",
        )  # fmt: skip
        self.origins.append(facts)

    def _add_platform(self, line: bytes, found: TimedObject, record: bytes) -> None:
        facts = self._facts_of(line, found)
        self._known.clear()  # an event may have changed what is known
        has_figures = b'"status"' in record or b'"metrics"' in record or b'"errorType"' in record
        figures = _members(_figures_of(record)) if has_figures or b"\\u" in record else b""
        self._add(
            bytes(found.time),
            _kind_and_level(_encode(found.type), _NULL),
            _message_of(record),
            facts,
            self._flat.middle_of(facts, figures) if figures else self._middle_of(facts),
            self._attributes_of(line, found, record),
        )

    def _add_other(self, line: bytes, found: TimedObject, record: bytes) -> None:
        """Add a log line that is any object."""
        facts = self._facts_of(line, found)
        shown = record if record != _NULL else _as_json(line)
        log = decode_loosely(_decode_object, shown) if shown[0] == _BRACE else None
        message, time, error_type = shown, bytes(found.time), None
        if log is not None:
            message = bytes(log.message) or bytes(log.msg) or _NULL
            if self._flat.time_of(time) is None:
                time = self._time_among(log.timestamp, log.at_timestamp)
            error_type = log.error_type if isinstance(log.error_type, str) else None
        kind = _encode(found.type) if found.type else _NULL
        figures = _members(_Figures(error_type=error_type or None))
        self._add(
            time,
            _kind_and_level(kind, _level_of(line, found)),
            _message_of(message, of_object=log is not None),
            facts,
            self._flat.middle_of(facts, figures),
            self._attributes_of(line, found, record),
        )

    def _middle_of(self, facts: Facts) -> bytes:
        return self._middles.get(facts) or self._flat.usual_middle_of(facts)

    def _attributes_of(self, line: bytes, found: TimedObject, record: bytes) -> bytes:
        """Return the record, if it is an object; the whole line, if it has other members too."""
        is_event = found.type in _LEVELS_OF or found.type.startswith(_PLATFORM)
        if not is_event or type(found) is not self._free:
            return _encode(_as_json(line).decode())
        return _encode(record.decode()) if record[0] == _BRACE else _NULL

    def _facts_of(self, line: bytes, found: TimedObject) -> Facts:
        """Return the facts about a line, however its invocation is named."""
        request_id = self._tracker.request_of(line, found, self._source)
        return self._keeper.of(request_id, self._source)

    def _facts_by(self, name: bytes | str) -> Facts | None:
        """Return the facts about the invocation of this id, None if it has not started."""
        request_id = name if isinstance(name, str) else name.decode("ascii", "replace")
        if not self._tracker.has_started(request_id):
            return None
        facts = self._known[name] = self._keeper.of(request_id, self._source)
        return facts

    def _time_among(self, *values: Any) -> bytes:
        """Return the first of `values` that is a good time, in JSON; null without one."""
        raws = (_encode(value) for value in values if isinstance(value, str))
        return next(filter(None, map(self._flat.time_of, raws)), _NULL)


class Flattener:
    """Makes the rows of one sink: it adds the tags, and those fields that have no column."""

    names: frozenset[str] = frozenset()
    """Of members that it may add to an object: none."""
    wants_request = wants_facts = True

    __slots__ = ("_adder", "_ends", "_of_events", "flat")

    def __init__(
        self,
        reader: FlatReader,
        fields: Sequence[Field],
        values: Mapping[str, Scalar],
        tags: Mapping[str, Scalar],
    ) -> None:
        self.flat = reader
        """The part that all sinks with the flat format share."""
        self._adder = FieldAdder(
            [name for name in fields if name not in _HAVE_COLUMNS], values, tags
        )
        self._of_events = self._adder.wants_request
        self._ends: dict[tuple[Facts | str, bytes], bytes] = {}

    @property
    def wants_execution(self) -> bool:
        """True if the durable execution of a line is asked for."""
        return self._adder.wants_execution

    def renew(self, values: Mapping[str, Scalar]) -> None:
        """Use these values from now on."""
        self.flat.renew(values)
        self._adder.renew(values)
        self._ends.clear()

    def shape(
        self,
        block: Opened,
        indices: Sequence[int],
        weights: Mapping[int, bytes] = MappingProxyType({}),
    ) -> bytes:
        """Return the rows of the lines at `indices`, one at least.

        `weights`: members that say a weight, of some lines. They are among the tags.
        """
        rows, origins, end_of = block.rows, block.origins, self._end_of
        if not (self._of_events or weights):
            return rows.join(indices, [end_of("", b"")] * len(indices))
        ends = [end_of(origins[index], weights.get(index, b"")) for index in indices]
        return rows.join(indices, ends)

    def _end_of(self, origin: Facts | str, weight: bytes) -> bytes:
        """Return the end of rows of this origin and weight."""
        key = (origin if self._of_events else "", weight)
        end = self._ends.get(key)
        if end is None:
            if len(self._ends) >= _MAX_CACHED:
                self._ends.clear()
            tags = self._adder.object_of(origin)
            if weight:
                tags = with_weight(tags, weight)
            end = b'","tags":%b}\n' % (_NULL if tags == b"{}" else _encode(tags.decode()))
            self._ends[key] = end
        return end


def _to_text(seconds: float, timespec: str = "milliseconds") -> str:
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec=timespec)
    return text.removesuffix("+00:00") + "Z"


def _to_utf8(record: bytes) -> bytes:
    """Return JSON in UTF-8: whatever is none in a string is replaced."""
    return record.decode("utf-8", "replace").encode()


def _as_json(line: bytes) -> bytes:
    """Return an object as one that every reader takes, and without blanks around it."""
    whole = _to_utf8(line.strip())
    try:
        _check(whole)
    except DECODE_FAILURES:
        return loosen(whole).strip()
    return whole


def _without_newline(text: bytes) -> bytes:
    """Return text in JSON without its last newline."""
    return _encode((decode_loosely(_decode_text, text) or "").removesuffix("\n"))


def _message_of(value: bytes, *, of_object: bool = False) -> bytes:
    """Return a value in JSON as a message: text as it is, anything else as JSON in text.

    An object has its message inside, unless it is itself the message `of_object`.
    """
    if value[:1] == b'"':
        return _without_newline(value)
    if value == _NULL or (value[:1] == b"{" and not of_object):
        return _NULL
    return _encode(value.decode())


def _text_or_null(value: Any) -> bytes:
    return _encode(value) if isinstance(value, str) and value else _NULL


def _level_of(line: bytes, found: AnyObject) -> bytes:
    rank = rank_of_line(line, found)
    return _NULL if rank is None else _OF_RANK[rank]


def _kind_and_level(kind: bytes, level: bytes) -> bytes:
    return b',"type":%b,"level":%b,"message":' % (kind, level)


def _figures_of(record: bytes) -> _Figures:
    """Return what a platform event has for the columns."""
    try:
        event = _decode_platform(record)
    except DECODE_FAILURES:
        return _odd_figures_of(record)
    metrics = event.metrics or _Metrics()
    return _Figures(
        metrics.duration_ms, metrics.billed_ms, metrics.memory_mb, metrics.max_memory_mb,
        metrics.init_ms, event.status, event.error_type,
    )  # fmt: skip


def _odd_figures_of(record: bytes) -> _Figures:
    """Return the same of an event with values of other types; those that don't fit are left out."""
    event = decode_loosely(_decode_odd_platform, record)
    if event is None:
        return _Figures()
    metrics = event.metrics if isinstance(event.metrics, dict) else {}
    return _Figures(
        _number(metrics.get("durationMs")),
        _number(metrics.get("billedDurationMs")),
        _whole(metrics.get("memorySizeMB")),
        _whole(metrics.get("maxMemoryUsedMB")),
        _number(metrics.get("initDurationMs")),
        event.status if isinstance(event.status, str) else None,
        event.error_type if isinstance(event.error_type, str) else None,
    )


def _number(value: Any) -> float | None:
    """Return a number, which may be written as text; None for anything else, and for NaN."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, str) and len(value) > _LONGEST_NUMBER:
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _whole(value: Any) -> int | None:
    """Return a whole number of 64 bits, however it is written; None for anything else."""
    number = value if isinstance(value, int) else _number(value)
    if number is None or isinstance(number, bool) or number != int(number):
        return None
    return int(number) if -_MOST <= number < _MOST else None

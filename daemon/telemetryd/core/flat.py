"""Rows of the flat schema (`telemetryd_proto.flat`): one for each line, whatever the line is.

A row is put together from pieces of the line and from what is known of its invocation. Text of a
log is copied as the JSON that it is. An object is copied into `attributes` as a whole, as JSON in
text, so that nothing of it changes and nothing is lost. This is imported only where a sink asks for
the flat format.

`FlatReader` makes rows as far as they are the same for all sinks, once. `Flattener` adds the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter, itemgetter
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast

import msgspec

from telemetryd.core.facts import Facts
from telemetryd.core.fields import Field, FieldAdder, Opened, RequestTracker, Scalar
from telemetryd.core.flat_figures import Figures, decode_event, figures_in, figures_of
from telemetryd.core.log_level import LEVELS, rank_of
from telemetryd.core.loose import decode_loosely
from telemetryd.core.record import rank_of_line
from telemetryd.core.rows import PARTS, Rows
from telemetryd.core.sample import with_weight
from telemetryd_proto import scan
from telemetryd_proto.errors import DECODE_FAILURES, ProtocolError
from telemetryd_proto.flat import COLUMNS
from telemetryd_proto.loose import loosen
from telemetryd_proto.objects import AnyObject, TimedObject
from telemetryd_proto.timestamps import parse_time

_MAX_CACHED: Final = 1024
_LONGEST_TIME: Final = 64
_LATEST: Final = 9_223_372_036
"""Seconds since the Unix epoch: nanoseconds that 64 bits can hold end in 2262."""
_MARGIN: Final = 8
"""Bytes of a message's JSON in which an object may begin: after a quote and blanks."""
_BEFORE_OBJECT: Final = frozenset(b"{ \\\xef")
"""Bytes of which one follows the quote, if an object may begin in a message: a brace, a blank, an
escape, a byte order mark."""
_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_NEWLINE: Final = b'\\n"'
"""A newline in JSON at the end of a text."""
_BRACE: Final = ord("{")
_NULL: Final = b"null"
_NO_TIMES: Final = frozenset((b"", _NULL))
_WORDS_OF_LAMBDA: Final = 4
"""Of a text in the layout of a runtime: level, time, id and message, in the order of each."""
_ATTRIBUTES_PART: Final = PARTS - 4
_ID_PART: Final = PARTS - 3
"""Place of a line's id in its row: two parts."""
_PLATFORM: Final = "platform."
_START: Final = "platform.start"
_OF_RANK: Final = [b'"%b"' % name.encode() for name in LEVELS]
_WORDS: Final = {
    name: _OF_RANK[rank]
    for word in ("trace", "debug", "info", "warn", "warning", "error", "critical", "fatal")
    for name in (word.upper(), word)
    if (rank := rank_of(name)) is not None
}
"""Levels in JSON, by their usual names."""
_FORM: Final = b'{"time":"0000-00-00T00:00:00.000Z"'
_to_head: Final = itemgetter(slice(len(_FORM)))
"""Returns the head of a line: its time, as Lambda writes it."""
_SECONDS: Final = 26
"""Place of the seconds in a head."""
_MILLISECONDS: Final = b'.000Z"'
_DIGITS_TO_ZERO: Final = bytes.maketrans(b"123456789", b"000000000")
_CANONICAL: Final = re.compile(r"(?a)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,9}Z")
_OPENING: Final = b'{"time":'
_NUMBERS: Final = [b"%d" % number for number in range(1000)]
_THREE_DIGITS: Final = [b"%03d" % number for number in range(1000)]
_ATTRIBUTES: Final = b',"attributes":'
_NO_FIGURES: Final = Figures().members()
_IDS: Final = b',"request_id":%b,"trace_id":%b,"tenant_id":%b,%b,'
_ids_of: Final = attrgetter("request_id", "trace_id", "tenant_id")
_OF_PROCESS: Final = ("function", "version", "instance")
_HAVE_COLUMNS: Final = {*COLUMNS} - {"memory_mb"}
"""Fields that each row has. The column `memory_mb` is what an event says, the field is not."""


class _Log(msgspec.Struct, gc=False):
    """The members of a logged object that most have, of any type."""

    level: Any = None
    message: msgspec.Raw = msgspec.Raw(_NULL)
    request_id: Any = msgspec.field(default=None, name="requestId")
    error_type: Any = msgspec.field(default=None, name="errorType")


class _Object(_Log, gc=False):
    """Further members of objects of any sender."""

    message: msgspec.Raw = msgspec.Raw()
    msg: msgspec.Raw = msgspec.Raw(_NULL)
    timestamp: Any = None
    at_timestamp: Any = msgspec.field(default=None, name="@timestamp")


_decode_log: Final = msgspec.json.Decoder(_Log).decode
_decode_object: Final = msgspec.json.Decoder(_Object).decode
_check: Final = msgspec.json.Decoder(msgspec.Raw).decode
_decode_text: Final = msgspec.json.Decoder(str).decode
_encode: Final = msgspec.json.Encoder().encode


class _Openings(msgspec.Struct, frozen=True, gc=False):
    """The members of rows from `type` to the name `message`, for one type of Lambda's logs."""

    by_level: dict[bytes, bytes]
    """By the level in JSON."""
    by_name: dict[Any, bytes]
    """By the level in an object; and, as bytes, by that in a text of Lambda's runtimes
    (`text_head`): of Python's with what is before it in JSON, of Node.js's as it is."""


class _Origin(NamedTuple):
    """Facts about the invocation of a line, and the pieces of a row that say them.

    The compiled `add_rows` takes the first three by their places.
    """

    facts: Facts
    behind_text: bytes
    """The quote that ends the message, and the members after it, up to the line's id."""
    middle: bytes
    """The members after the message, up to the attributes."""
    before_figures: bytes
    """The members after the message, up to the figures."""

    def middle_with(self, figures: Figures) -> bytes:
        """Return the members after the message of a row with `figures`, up to the attributes."""
        return self.before_figures + figures.members() + _ATTRIBUTES

    def middle_of_error(self, error_type: Any) -> bytes:
        """Return the same of a log, whose `errorType` may be anything."""
        if not isinstance(error_type, str) or not error_type:
            return self.middle
        return self.middle_with(Figures(error_type=error_type))


def _openings_of(kind: bytes) -> _Openings:
    by_level = {level: _kind_and_level(kind, level) for level in (*_OF_RANK, _NULL)}
    by_name: dict[Any, bytes] = {name: by_level[level] for name, level in _WORDS.items()}
    for name in filter(str.isupper, _WORDS):
        word = name.encode()
        by_name[b'"[%b]' % word] = by_name[word] = by_name[name]
    return _Openings(by_level, by_name)


def _kind_and_level(kind: bytes, level: bytes) -> bytes:
    return b',"type":%b,"level":%b,"message":' % (kind, level)


_OPENING_OF_PLATFORM: Final = {
    kind: _kind_and_level(_encode(kind), _NULL)
    for kind in (_PLATFORM + end for end in ("start", "runtimeDone", "report"))
}
"""The same members for the events of each invocation."""
_LOGS: Final = {kind: _openings_of(b'"%b"' % kind.encode()) for kind in ("function", "extension")}
_OPENINGS_BY_NAME: Final = {kind: log.by_name for kind, log in _LOGS.items()}
_MEMBERS: Final = ("type", "record", "level", "request_id", "message", "error_type")
"""Members of an event and of `_Log`, in the order in which the compiled `add_rows` takes them."""


class FlatReader:
    """Makes the rows of lines but for their ends, and finds the facts about each line.

    `wall` gives the time for lines that have none, in seconds since the Unix epoch.
    """

    def __init__(self, values: Mapping[str, Scalar], wall: Callable[[], float]) -> None:
        self.wall = wall
        self.seconds: set[bytes] = set()
        """Times that are known to be good, up to their seconds."""
        self.origins: dict[Facts, _Origin] = {}
        """Pieces of rows without figures, by what is known of their invocations."""
        self._number = 0
        self.renew(values)

    def renew(self, values: Mapping[str, Scalar]) -> None:
        """Use these values from now on."""
        known = [b'"%b":%b' % (name.encode(), _encode(values[name])) for name in _OF_PROCESS]
        self._of_process = b",".join(known)
        self._process = b',"record_id":"%b-' % str(values["instance"]).encode()
        self.origins.clear()

    def read(
        self, block: Opened, data: bytes, tracker: RequestTracker, source: int
    ) -> tuple[Rows, list[Facts]]:
        """Return the row of each line, and the facts about it.

        `data` is all lines of the block, from the connection `source`.
        """
        one_pass = _Pass(self, block.reader.free, tracker, source, is_ascii=data.isascii())
        lines, objects = block.lines, cast("list[TimedObject | None]", block.objects)
        heads = list(map(_to_head, lines))
        odd: list[int] = []
        if not (all(objects) and self._are_of_one_minute(heads)):
            now = _encode(to_text(self.wall()))
            times = [bytes(found.time) if found is not None else b"" for found in objects]
            good = list(map(self.time_of, times))
            heads = [_OPENING + (time or now) for time in good]
            odd = [at for at, time in enumerate(good) if not time and times[at] not in _NO_TIMES]
        one_pass.read(lines, objects, heads)
        for at in odd:
            one_pass.keep_whole(at, lines[at])
        self._number_rows(one_pass.parts)
        return Rows(one_pass.parts), one_pass.origins

    def _number_rows(self, parts: list[bytes]) -> None:
        """Set the ids of all rows: the next ones."""
        at, total = 0, len(parts) // PARTS
        while at < total:
            thousands, rest = divmod(self._number + 1, 1000)
            numbers = (_THREE_DIGITS if thousands else _NUMBERS)[rest : rest + total - at]
            prefix = self._process + (b"%d" % thousands if thousands else b"")
            here = slice(at * PARTS + _ID_PART, (at + len(numbers)) * PARTS, PARTS)
            parts[here] = [prefix] * len(numbers)
            here = slice(here.start + 1, here.stop, PARTS)
            parts[here] = numbers
            at += len(numbers)
            self._number += len(numbers)

    def origin_of(self, facts: Facts) -> _Origin:
        """Return the pieces of a row that say what is known of its invocation."""
        origin = self.origins.get(facts)
        if origin is None:
            if len(self.origins) >= _MAX_CACHED:
                self.origins.clear()
            ids = [_encode(text) if text else _NULL for text in _ids_of(facts)]
            before = _IDS % (*ids, self._of_process)
            middle = before + _NO_FIGURES + _ATTRIBUTES
            origin = self.origins[facts] = _Origin(facts, b'"%bnull' % middle, middle, before)
        return origin

    def _are_of_one_minute(self, heads: list[bytes]) -> bool:
        """True if all heads of lines have good times, of the minute of the first one."""
        first, joined = heads[0], b"".join(heads)
        return (
            joined.translate(_DIGITS_TO_ZERO) == _FORM * len(heads)
            and self.time_of(first[len(_OPENING) :]) is not None
            and joined.count(first[:_SECONDS]) == len(heads)
            and not joined[_SECONDS :: len(_FORM)].strip(b"012345")
        )

    def time_of(self, raw: bytes) -> bytes | None:
        """Return a time in JSON as the schema has it, or None if `raw` is no such time."""
        if raw[:20] in self.seconds and raw[20:].translate(_DIGITS_TO_ZERO) == _MILLISECONDS:
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
        return _encode(to_text(seconds, "microseconds"))


class _Pass:
    """One pass over the lines of a block: what the last ones said matters for the next ones."""

    __slots__ = (
        "_flat", "_free", "_is_ascii", "_keeper", "_known", "_source", "_tracker",
        "origins", "parts",
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
        self._free = free
        self._tracker = tracker
        self._keeper = tracker.keep_facts()
        self._source = source
        self._is_ascii = is_ascii
        self._known: dict[Any, _Origin] = {}
        """Invocations by their id, as it is spelled in lines."""

    def read(
        self, lines: list[bytes], objects: list[TimedObject | None], heads: list[bytes]
    ) -> None:
        """Add the row of each line, and the facts about it. `heads`: how the rows begin."""
        compiled = scan.compiled
        if compiled is None:
            self._read(lines, objects, heads)
            return
        known, parts, facts = self._known, self.parts, self.origins
        usual = (self._free, _decode_log, _OPENINGS_BY_NAME, _MEMBERS)
        at = 0
        while at < len(lines):
            found = objects[at]
            if found is None or found.type not in _LOGS:
                self._add(lines[at], found, heads[at])
                at += 1
                continue
            end = compiled.add_rows(objects, heads, at, usual, known, parts, facts)
            if end == at:
                end += 1
                self._read(lines[at:end], objects[at:end], heads[at:end])
            at = end

    def _read(  # noqa: C901, PLR0912 - what most lines need, without calls
        self,
        lines: Sequence[bytes],
        objects: Sequence[TimedObject | None],
        heads: Sequence[bytes],
    ) -> None:
        """Do the same in Python."""
        parts, add_facts, known_of = self.parts, self.origins.append, self._known.get
        free, is_ascii, logs_of = self._free, self._is_ascii, _LOGS.get
        for line, found, head in zip(lines, objects, heads, strict=True):
            if type(found) is not free or (log := logs_of(found.type)) is None:
                self._add(line, found, head)
                continue
            opening: bytes | None = None
            record = bytes(found.record)
            if not (is_ascii or record.isascii()):
                record = _to_utf8(record)
            if record[0] == _QUOTE:
                words = record.split(b"\\t", 3)
                if len(words) == _WORDS_OF_LAMBDA and words[3][0] != _BRACE:
                    if (opening := log.by_name.get(words[0])) is not None:
                        name = words[2]
                    elif (opening := log.by_name.get(words[2])) is not None:
                        name = words[1]
                if opening is None or (
                    (origin := known_of(name)) is None and (origin := self._find(name)) is None
                ):
                    origin = self._origin_of(line, found)
                    opening = opening or log.by_level[_level_of(line, found)]
                text = record.removesuffix(_NEWLINE)
                if text is record:  # it has no such end
                    text = record[:-1]
                if text[-1] == _BACKSLASH:
                    text = _without_newline(record)[:-1]
                parts += (head, opening, text, origin.behind_text, b"", b"", b"", b"")
                add_facts(origin.facts)
                continue
            if record[0] == _BRACE:
                try:
                    members = _decode_log(record)
                    opening, name = log.by_name.get(members.level), members.request_id
                    origin = known_of(name)
                except (*DECODE_FAILURES, TypeError):  # a level or an id is a list or an object
                    opening = None
                if opening is not None:
                    message = bytes(members.message)
                    if message[0] == _QUOTE and (
                        message[1] not in _BEFORE_OBJECT or b"{" not in message[:_MARGIN]
                    ):
                        if origin is None and (origin := self._find(name)) is None:
                            origin = self._origin_of(line, found)
                        whole, middle = _encode(record.decode()), origin.middle
                        if members.error_type is not None:
                            middle = origin.middle_of_error(members.error_type)
                        parts += (head, opening, message, middle, whole, b"", b"", b"")
                        add_facts(origin.facts)
                        continue
            self._add_other(line, found, record, head)

    def keep_whole(self, at: int, line: bytes) -> None:
        """Have the row `at` say its whole line, whose time is in no column otherwise."""
        place = at * PARTS + _ATTRIBUTES_PART
        if not self.parts[place]:  # a text: its null is the end of the part before
            self.parts[place - 1] = self.parts[place - 1].removesuffix(_NULL)
        self.parts[place] = _encode(_as_json(line).decode())

    def _add(self, line: bytes, found: TimedObject | None, head: bytes) -> None:
        """Add a line that is no event of a log."""
        if found is None:
            self._add_line(line, head)
            return
        record = bytes(found.record)
        if not (self._is_ascii or record.isascii()):
            record = _to_utf8(record)
        elif self._add_usual_event(found, record, head):
            return
        if found.type.startswith(_PLATFORM):
            self._add_platform(line, found, record, head)
        else:
            self._add_other(line, found, record, head)

    def _add_row(
        self, head: bytes, opening: bytes, message: bytes, middle: bytes, attributes: bytes,
        facts: Facts,
    ) -> None:  # fmt: skip
        self.parts += (head, opening, message, middle, attributes, b"", b"", b"")
        self.origins.append(facts)

    def _add_line(self, line: bytes, head: bytes) -> None:
        """Add a line that is no object."""
        text = line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "replace")
        origin = self._flat.origin_of(self._keeper.of("", self._source))
        opening = _kind_and_level(_NULL, _NULL)
        self._add_row(head, opening, _encode(text), origin.middle, _NULL, origin.facts)

    def _add_usual_event(self, found: TimedObject, record: bytes, head: bytes) -> bool:
        """Add an event of each invocation, decoded once; False if it has not the usual form."""
        kind = found.type
        opening = _OPENING_OF_PLATFORM.get(kind)
        if opening is None or type(found) is not self._free or record[0] != _BRACE:
            return False
        try:
            event = decode_event(record)
        except DECODE_FAILURES:
            return False
        request_id = self._tracker.request_of_event(kind, event, self._source)
        origin = self._flat.origin_of(self._keeper.of(request_id, self._source))
        if kind == _START or self._known.get(request_id) is not origin:
            self._know_only(request_id, origin)
        if event.metrics is None and event.status is None and event.error_type is None:
            middle = origin.middle
        else:
            middle = origin.middle_with(figures_in(event))
        self._add_row(head, opening, _NULL, middle, _encode(record.decode()), origin.facts)
        return True

    def _know_only(self, request_id: str, origin: _Origin) -> None:
        """Forget invocations, because an event may have changed what is known, but this one."""
        self._known.clear()
        if self._tracker.has_started(request_id) and request_id.isascii():
            self._known[request_id] = self._known[request_id.encode()] = origin

    def _add_platform(self, line: bytes, found: TimedObject, record: bytes, head: bytes) -> None:
        origin = self._origin_of(line, found)
        self._known.clear()  # an event may have changed what is known
        has_figures = b'"status"' in record or b'"metrics"' in record or b'"errorType"' in record
        figures = figures_of(record) if has_figures or b"\\u" in record else None
        self._add_row(
            head,
            _OPENING_OF_PLATFORM.get(found.type) or _kind_and_level(_encode(found.type), _NULL),
            _message_of(record),
            origin.middle if figures is None else origin.middle_with(figures),
            self._attributes_of(line, found, record),
            origin.facts,
        )

    def _add_other(self, line: bytes, found: TimedObject, record: bytes, head: bytes) -> None:
        """Add a log line that is any object."""
        origin = self._origin_of(line, found)
        shown = record if record != _NULL else _as_json(line)
        log = decode_loosely(_decode_object, shown) if shown[0] == _BRACE else None
        message, middle = shown, origin.middle
        if log is not None:
            middle = origin.middle_of_error(log.error_type)
            message = bytes(log.message) or bytes(log.msg)
            if self._flat.time_of(bytes(found.time)) is None:
                time = self._time_among(log.timestamp, log.at_timestamp)
                head = _OPENING + time if time is not None else head
        self._add_row(
            head,
            _kind_and_level(_encode(found.type) if found.type else _NULL, _level_of(line, found)),
            _message_of(message, of_object=log is not None),
            middle,
            self._attributes_of(line, found, record),
            origin.facts,
        )

    def _attributes_of(self, line: bytes, found: TimedObject, record: bytes) -> bytes:
        """Return the record, if it is an object; the whole line, if it has other members too."""
        is_event = found.type in _LOGS or found.type.startswith(_PLATFORM)
        if not is_event or type(found) is not self._free:
            return _encode(_as_json(line).decode())
        return _encode(record.decode()) if record[0] == _BRACE else _NULL

    def _facts_of(self, line: bytes, found: TimedObject) -> Facts:
        """Return the facts about a line, however its invocation is named."""
        request_id = self._tracker.request_of(line, found, self._source)
        return self._keeper.of(request_id, self._source)

    def _origin_of(self, line: bytes, found: TimedObject) -> _Origin:
        return self._flat.origin_of(self._facts_of(line, found))

    def _find(self, name: Any) -> _Origin | None:
        """Return what is known of the invocation of this id, None if it has not started."""
        if isinstance(name, bytes):
            request_id = name.decode("ascii", "replace")
        elif isinstance(name, str):
            request_id = name
        else:
            return None
        if not self._tracker.has_started(request_id):
            return None
        facts = self._keeper.of(request_id, self._source)
        origin = self._known[name] = self._flat.origin_of(facts)
        return origin

    def _time_among(self, *values: Any) -> bytes | None:
        """Return the first of `values` that is a good time, in JSON; None without one."""
        raws = (_encode(value) for value in values if isinstance(value, str))
        return next(filter(None, map(self._flat.time_of, raws)), None)


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


def to_text(seconds: float, timespec: str = "milliseconds") -> str:
    """Return a time in seconds since the Unix epoch as the schema has it, in UTC."""
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


def _level_of(line: bytes, found: AnyObject) -> bytes:
    rank = rank_of_line(line, found)
    return _NULL if rank is None else _OF_RANK[rank]

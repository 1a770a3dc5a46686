"""Members added to each line that is a JSON object: `tags` and `fields` of a sink.

They go to the front of the object, so that the line itself is copied and never re-encoded. A line
that is not a JSON object passes unchanged. If the line has a member of such a name already, both
stay: ours gets another name (`_PREFIX`).

`request_id` is the invocation that a log line belongs to. It is the id in the line, if a
`platform.start` has named that id before (`core.request_id` finds candidates, and some are other
ids). Otherwise, if invocations come one at a time, it is the one whose `platform.start` came last
on the stream ("Order and timing of events", Telemetry API). A line of no invocation gets no such
member. `core.facts` has what the platform says about an invocation besides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final, Literal, Protocol, TypeAlias

import msgspec

from telemetryd.core.loose import decode_loosely
from telemetryd_proto.objects import AnyObject, ObjectReader
from telemetryd_proto.request_ids import usable_id

if TYPE_CHECKING:
    from telemetryd.core.facts import Event, Facts, FactsKeeper
    from telemetryd.core.rows import Rows

Field: TypeAlias = Literal[
    "function", "version", "instance", "request_id", "region", "account", "function_arn",
    "memory_mb", "architecture", "runtime", "cold_start", "tenant_id", "execution_arn", "trace_id",
    "span_id", "xray_trace_id",
]  # fmt: skip
Scalar: TypeAlias = str | int | float | bool
Origin: TypeAlias = "str | Facts"
"""Where a line is from: the id of its invocation, or all facts, if a sink asks for more."""

_Finders: TypeAlias = tuple[Callable[[bytes], str], Callable[[bytes, AnyObject], Iterator[str]]]
"""Return the usual request id in a record, and all that may be one in a line."""

_OF_EVENTS: Final = frozenset(
    {
        "request_id", "account", "function_arn", "runtime", "cold_start", "tenant_id",
        "execution_arn", "trace_id", "span_id", "xray_trace_id",
    }
)  # fmt: skip
"""Fields whose values differ from line to line, unless the process knows them (`values`)."""
_LOGS: Final = frozenset({"function", "extension"})
_PREFIX: Final = "telemetryd_"
"""Goes before the name of ours that a line has already; several times, if need be."""
_MAX_CACHED: Final = 1024
_BRACE: Final = ord("{")
_first_byte: Final = itemgetter(0)
_behind_first_byte: Final = itemgetter(slice(1, None))

_UUID: Final = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_MAX_CONNECTIONS: Final = 1024
_MAX_STARTED: Final = 1024
"""Invocations that are remembered: a line may come long after the next one began."""


class _Named(msgspec.Struct, gc=False):
    request_id: str = msgspec.field(default="", name="requestId")


_decode: Final = msgspec.json.Decoder(_Named).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class RequestTracker:
    """Follows each connection and says which invocation a line belongs to.

    `one_at_a_time` is False where invocations run concurrently (Managed Instances): there a line
    belongs to the invocation it names, or to none, and an id is believed for its form as well.
    `one_environment`: see `FactsKeeper`.
    """

    __slots__ = (
        "_current", "_finders", "_one_at_a_time", "_one_environment", "_started", "facts",
    )  # fmt: skip

    def __init__(self, *, one_at_a_time: bool, one_environment: bool = False) -> None:
        self._one_at_a_time = one_at_a_time
        self._one_environment = one_environment
        self.facts: FactsKeeper | None = None
        """Facts about invocations, if a sink asks for any."""
        self._current: dict[int, str] = {}
        self._started: dict[str, None] = {}
        self._finders: _Finders | None = None

    def keep_facts(self) -> FactsKeeper:
        """Keep facts about invocations from now on, and return what keeps them."""
        if self.facts is None:
            from telemetryd.core.facts import FactsKeeper  # noqa: PLC0415 - only where asked for

            self.facts = FactsKeeper(one_environment=self._one_environment)
        return self.facts

    def has_started(self, request_id: str) -> bool:
        """True if a `platform.start` has named this id."""
        return request_id in self._started

    def request_of(self, line: bytes, found: AnyObject, source: int) -> str:
        """Return the line's request id, empty when unknown. For every line, in stream order."""
        kind = found.type
        if kind.startswith("platform."):
            record = bytes(found.record)
            if self.facts is not None:
                named = self.facts.on_event(kind, record, source)
            else:
                named = _request_in(record)
            return self._request_of_event(kind, named, source)
        started, alike = self._started, ""
        usual_id, ids_of_line = self._finders or self._load_finders()
        if started and kind in _LOGS and (usual := usual_id(bytes(found.record))) in started:
            return usual
        for request_id in ids_of_line(line, found):
            if request_id in started:
                return request_id
            if (lower := request_id.lower()) in started:  # as Lambda writes it
                return lower
            if not (self._one_at_a_time or alike) and re.fullmatch(_UUID, request_id):
                alike = request_id
        return self._current.get(source, "") if self._one_at_a_time else alike

    def request_of_event(self, kind: str, event: Event, source: int) -> str:
        """Return the same for an event of the platform that is decoded. Facts are kept."""
        return self._request_of_event(kind, self.keep_facts().note(kind, event, source), source)

    def _load_finders(self) -> _Finders:
        from telemetryd.core.record import ids_of_line, usual_id  # noqa: PLC0415 - where asked for

        self._finders = usual_id, ids_of_line
        return self._finders

    def _request_of_event(self, kind: str, named: str, source: int) -> str:
        if kind == "platform.initStart":
            self._current.pop(source, None)  # a new environment: nothing runs in it yet
        elif kind == "platform.start":
            current, started = self._current, self._started
            if len(current) >= _MAX_CONNECTIONS and source not in current:
                current.pop(next(iter(current)))  # the oldest; most likely closed
            current[source] = named
            if named:
                if len(started) >= _MAX_STARTED and named not in started:
                    del started[next(iter(started))]
                started[named] = None
        if named or not self._one_at_a_time:
            return named
        return self._current.get(source, "")


class Opened(Protocol):
    """Lines and what is known of each: a block of `core.router`."""

    reader: ObjectReader

    @property
    def lines(self) -> list[bytes]:
        """The lines, with their newlines."""

    @property
    def objects(self) -> list[AnyObject | None]:
        """One entry for each line, None where the line is not a JSON object."""

    @property
    def origins(self) -> Sequence[Origin]:
        """Where each line is from."""

    @property
    def rows(self) -> Rows:
        """The row of each line in the flat schema, but for its end."""

    @property
    def is_plain(self) -> bool:
        """True if all lines are objects with a type, and have no member that `reader` guards."""


class FieldAdder:
    """Adds the tags and fields of one sink."""

    flat: ClassVar[None] = None
    """It makes no rows; see `flat.Flattener`."""

    __slots__ = (
        "_cached", "_constant", "_constants", "_fields", "_of_events", "_tags", "names",
        "wants_facts", "wants_request",
    )  # fmt: skip

    def __init__(
        self,
        fields: Sequence[Field],
        values: Mapping[str, Scalar],
        tags: Mapping[str, Scalar] | None = None,
    ) -> None:
        """Add `tags`, and those `fields` that `values` or the platform's events have.

        What `values` has is the same for all lines, so the events are not asked for it.
        """
        self._tags = dict(tags or {})
        self._fields = [name for name in fields if name not in self._tags]
        self._of_events = [
            name for name in self._fields if name in _OF_EVENTS and name not in values
        ]
        self.names = frozenset((*self._tags, *self._fields))
        """The names of all members that it may add."""
        self.wants_request = bool(self._of_events)
        self.wants_facts = bool({*self._of_events} - {"request_id"})
        self.renew(values)

    def renew(self, values: Mapping[str, Scalar]) -> None:
        """Use these values from now on."""
        constants = {name: values[name] for name in self._fields if name in values} | self._tags
        self._constants = {name: msgspec.json.encode(value) for name, value in constants.items()}
        self._constant = _members(self._constants)
        self._cached: dict[Origin, bytes] = {}

    @property
    def wants_execution(self) -> bool:
        """True if the durable execution of a line is asked for."""
        return "execution_arn" in self._of_events

    def object_of(self, origin: Origin) -> bytes:
        """Return an object of all members for lines of this origin."""
        return b"{%b}" % _members(self._constants | self._members_of(origin)).removesuffix(b",")

    def shape(
        self, block: Opened, indices: Sequence[int], _: Mapping[int, bytes] = MappingProxyType({})
    ) -> bytes:
        """Return the lines at `indices`, one at least, with the members in front of theirs.

        Weights are in the lines already.
        """
        if not block.is_plain or not self.names <= block.reader.names:
            return self._shape_each(block, indices)
        lines = block.lines
        if len(indices) < len(lines):
            lines = [lines[index] for index in indices]
        if set(map(_first_byte, lines)) == {_BRACE}:
            rests = list(map(_behind_first_byte, lines))
        else:  # blanks come before the brace
            rests = [_behind_brace(line) for line in lines]
        if not self.wants_request:
            return (b"{" + self._constant).join((b"", *rests))
        origins, opening_of = block.origins, self._opening_of
        openings = [opening_of(origins[index]) for index in indices]
        return b"".join([part for pair in zip(openings, rests, strict=True) for part in pair])

    def _shape_each(self, block: Opened, indices: Sequence[int]) -> bytes:
        """Shape lines of which some are no objects, or have members of our names."""
        lines, objects, free = block.lines, block.objects, block.reader.free
        is_guarded = self.names <= block.reader.names
        origins: Sequence[Origin] = block.origins if self.wants_request else [""] * len(lines)
        shaped: list[bytes] = []
        for i in indices:
            found = objects[i]
            if found is None:
                shaped.append(lines[i])
            elif is_guarded and type(found) is free:
                shaped.append(insert_members(self._opening_of(origins[i]), lines[i]))
            else:
                shaped.append(self._add_beside(lines[i], origins[i]))
        return b"".join(shaped)

    def _add_beside(self, line: bytes, origin: Origin) -> bytes:
        """Return `line` with our members, under other names where it has these."""
        members = decode_loosely(_decode_members, line) or {}
        ours = self._constants | self._members_of(origin)
        taken = members.keys() | ours.keys()
        renamed: dict[str, bytes] = {}
        for name, value in ours.items():
            new = name
            while new in members or (new != name and new in taken):
                new = _PREFIX + new
            renamed[new] = value
            taken.add(new)
        return insert_members(b"{" + _members(renamed), line)

    def _opening_of(self, origin: Origin) -> bytes:
        """Return the brace and our members for lines of this origin."""
        opening = self._cached.get(origin)
        if opening is None:
            if len(self._cached) >= _MAX_CACHED:
                self._cached.clear()
            opening = b"{" + self._constant + _members(self._members_of(origin))
            self._cached[origin] = opening
        return opening

    def _members_of(self, origin: Origin) -> dict[str, bytes]:
        """Return the members that differ from line to line, without those that are unknown."""
        if isinstance(origin, str):
            values = [origin if name == "request_id" else None for name in self._of_events]
        else:
            values = [getattr(origin, name) for name in self._of_events]
        return {
            name: msgspec.json.encode(value)
            for name, value in zip(self._of_events, values, strict=True)
            if value not in {"", None}
        }


def _members(values: Mapping[str, bytes]) -> bytes:
    """Return members, each with its comma."""
    return b"".join([msgspec.json.encode(name) + b":" + values[name] + b"," for name in values])


def _behind_brace(line: bytes) -> bytes:
    return line[line.index(b"{") + 1 :]


def insert_members(opening: bytes, line: bytes) -> bytes:
    """Return `line`, an object that may be empty, with `opening` in place of its brace.

    `opening` is a brace and members, each with its comma.
    """
    rest = _behind_brace(line)
    if rest.lstrip()[:1] != b"}":
        return opening + rest
    return opening.removesuffix(b",") + rest


def _request_in(record: bytes) -> str:
    """Return the request id in the record of a platform event; empty for none, or one too long."""
    named = decode_loosely(_decode, record)
    return usable_id(named.request_id) if named is not None else ""

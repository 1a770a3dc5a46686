"""Facts about the invocation and the environment of a line, from the platform's events.

Where each comes from, and where it is unknown, is in docs/fields.md. This is imported only where a
sink asks for one of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from telemetryd.core.loose import decode_loosely
from telemetryd_proto.request_ids import usable_id

_MAX_REMEMBERED: Final = 1024
"""Invocations and connections: a line may come long after the next invocation began."""
_LONGEST: Final = 256
"""Characters of a tenant's id, which Lambda bounds so, of an ARN and of a runtime's version."""
_WARM_TYPES: Final = frozenset({"provisioned-concurrency", "lambda-managed-instances"})
"""Environments that are initialised ahead: their first invocation does not wait for it."""
_BEGINS: Final = frozenset({"platform.initStart", "platform.restoreStart"})
_TELLING: Final = _BEGINS | {"platform.start"}
"""Events that change what is known."""
_ROOT: Final = re.compile(r"(?:^|;)Root=(1-([0-9a-fA-F]{8})-([0-9a-fA-F]{24}))(?:;|$)")
_SPAN: Final = re.compile(r"[0-9a-fA-F]{16}")
_FUNCTION: Final = re.compile(r"arn:aws[a-z-]{0,16}:lambda:[a-z0-9-]{1,32}:([0-9]{12}):function:.+")
EXECUTION_MARK: Final = b"/durable-execution/"
"""Bytes in the ARN of every durable execution."""
_EXECUTION: Final = re.compile(
    rb"arn:aws[a-z-]{0,16}:lambda:[a-z0-9-]{1,32}:[0-9]{12}:function:[A-Za-z0-9_-]{1,140}"
    rb":[A-Za-z0-9$_-]{1,129}/durable-execution/[A-Za-z0-9_.-]{1,128}/[A-Za-z0-9_.-]{1,128}"
)


class Facts(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Facts about a line; an empty text or None for what is unknown. Equal only to itself."""

    request_id: str = ""
    function_arn: str = ""
    account: str = ""
    runtime: str = ""
    cold_start: bool | None = None
    tenant_id: str = ""
    trace_id: str = ""
    """The trace's id as W3C and OpenTelemetry write it: 32 hexadecimal digits."""
    span_id: str = ""
    xray_trace_id: str = ""
    """The same id as X-Ray writes it: `1-` and two groups of hexadecimal digits."""
    execution_arn: str = ""


class Event(msgspec.Struct, gc=False, rename="camel"):
    """The members of a record that facts come from, of any type: senders err."""

    request_id: Any = None
    initialization_type: Any = None
    runtime_version: Any = None
    function_arn: Any = None
    tenant_id: Any = None
    tracing: Any = None


class _Place:
    """The environment that a connection reports about."""

    __slots__ = ("facts", "is_first")

    def __init__(self) -> None:
        self.facts = Facts()
        """Facts about lines of no known invocation."""
        self.is_first = False
        """True from the environment's begin until its first invocation starts."""


_decode: Final = msgspec.json.Decoder(Event).decode
_replace: Final = msgspec.structs.replace


class FactsKeeper:
    """Remembers what the platform's events say, in a bounded number.

    `one_environment`: all connections report about the same environment, as in Lambda. Otherwise
    each connection is an environment of its own.
    """

    __slots__ = ("_by_request", "_one_environment", "_places", "wants_execution")

    def __init__(self, *, one_environment: bool) -> None:
        self.wants_execution = False
        """True if lines are searched for durable executions."""
        self._one_environment = one_environment
        self._places: dict[int, _Place] = {}
        self._by_request: dict[str, Facts] = {}

    def on_event(self, kind: str, record: bytes, source: int) -> str:
        """Note an event of the platform, and return the id in it, or an empty text.

        For every event, in stream order.
        """
        event = decode_loosely(_decode, record)
        return self.note(kind, event, source) if event is not None else ""

    def note(self, kind: str, event: Event, source: int) -> str:
        """Do the same with an event that is decoded."""
        request_id = usable_id(event.request_id) if isinstance(event.request_id, str) else ""
        if kind not in _TELLING and request_id in self._by_request:
            return request_id
        place = self._place(source)
        if kind in _BEGINS:
            is_cold = _text(event.initialization_type) not in _WARM_TYPES
            place.facts = _replace(
                place.facts,
                runtime=_text(event.runtime_version) or place.facts.runtime,
                cold_start=is_cold,
                **_of_arn(event.function_arn),
            )
            place.is_first = True
            return ""
        if kind == "platform.start":
            arn = _of_arn(event.function_arn) if event.function_arn else {}
            if place.is_first:
                place.is_first = False
            elif place.facts.cold_start:
                arn["cold_start"] = False
            if arn and any(getattr(place.facts, name) != arn[name] for name in arn):
                place.facts = _replace(place.facts, **arn)
        if request_id:
            self._remember(
                _replace(
                    place.facts,
                    request_id=request_id,
                    tenant_id=_text(event.tenant_id),
                    **_of_tracing(event.tracing),
                )
            )
        return request_id

    def of(self, request_id: str, source: int) -> Facts:
        """Return the facts about a line of this invocation, empty if it is unknown."""
        if not request_id:
            return self._place(source).facts
        facts = self._by_request.get(request_id)
        if facts is None:
            facts = _replace(self._place(source).facts, request_id=request_id)
            self._remember(facts)
        return facts

    def with_executions(self, lines: Sequence[bytes], origins: Sequence[Facts]) -> list[Facts]:
        """Return `origins`, the facts about each of `lines`, with durable executions in lines.

        Later lines of the invocation have it as well.
        """
        found: list[Facts] = []
        changed: dict[Facts, Facts] = {}
        for line, before in zip(lines, origins, strict=True):
            facts = changed.get(before, before)
            if EXECUTION_MARK in line and (named := _EXECUTION.search(line)):
                facts = _replace(facts, execution_arn=named[0].decode())
                if facts.request_id:
                    changed[before] = facts
                    self._remember(facts)
            found.append(facts)
        return found

    def _place(self, source: int) -> _Place:
        key = 0 if self._one_environment else source
        place = self._places.get(key)
        if place is None:
            if len(self._places) >= _MAX_REMEMBERED:
                del self._places[next(iter(self._places))]  # the oldest; most likely closed
            place = self._places[key] = _Place()
        return place

    def _remember(self, facts: Facts) -> None:
        known, request_id = self._by_request, facts.request_id
        if len(known) >= _MAX_REMEMBERED and request_id not in known:
            del known[next(iter(known))]
        known[request_id] = facts


def _text(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= _LONGEST else ""


def _of_arn(value: Any) -> dict[str, Any]:
    arn = _text(value)
    found = _FUNCTION.fullmatch(arn)
    return {"function_arn": arn, "account": found[1]} if found else {}


def _of_tracing(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    header, span = _text(value.get("value")), _text(value.get("spanId"))
    facts: dict[str, Any] = {}
    if "Root=" in header and (root := _ROOT.search(header)):
        facts["xray_trace_id"] = root[1]
        facts["trace_id"] = (root[2] + root[3]).lower()
    if span and _SPAN.fullmatch(span):
        facts["span_id"] = span.lower()
    return facts

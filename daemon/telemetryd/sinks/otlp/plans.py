"""How to read and write objects that have the same members, as those of one logger have.

What an object's members mean follows from their names, and from the values of a few: its level and
its ids. Once an object with the same ones was read in full, the rest is the same for each: which
member is the message and which the time, and which become attributes. Only these are read then.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

from telemetryd.core.log_level import rank_of
from telemetryd.sinks.otlp.invocations import Invocation
from telemetryd.sinks.otlp.members import FLAGS, LEVEL, MESSAGE, REQUEST, ROLES, SPAN, TIME, TRACE
from telemetryd_proto.otlp.trace_context import TraceContext
from telemetryd_proto.otlp.values import Pairs

Record: TypeAlias = dict[str, Any]
Names: TypeAlias = tuple[str, ...]
Write: TypeAlias = Callable[[tuple[Any, ...]], Any]
"""Returns attributes, in the order of their names, as a writer has them."""
Way: TypeAlias = tuple[Callable[[Record], tuple[Any, ...]], Write]
"""Returns the values of an object that are attributes, and writes them."""

_FIXED: Final = frozenset({LEVEL, REQUEST, TRACE, SPAN, FLAGS})
"""The meanings of members whose values decide what becomes of an object."""
_MAX_PLANS: Final = 64
_MAX_READINGS: Final = 32
_MAX_MEMBERS: Final = 64
_MAX_CHARS: Final = 2048
"""Most characters in all names of an object that has a plan."""
_LONGEST_VALUE: Final = 128
_MAX_FAILURES: Final = 8
_MAX_WAYS: Final = 4
_CHANCES: Final = 32
"""Objects that are learnt from in a row. If ids differ with each, more would be for nothing."""


class Ways(NamedTuple):
    """How the attributes of objects are read and written."""

    usual: Way
    """Of an object whose time is its record's."""
    with_time: Way
    """Of one whose member for the time is an attribute, as it is something else's time."""


class Reading(NamedTuple):
    """The common part of objects that have the same names of members, level and ids."""

    severity: tuple[int, str]
    invocation: Invocation | None
    trace: TraceContext
    ways: Ways


class Plan:
    """The meaning of the names of an object's members."""

    def __init__(self, names: Names, message: str, time: str | None, fixed: Names) -> None:
        """`fixed`: the names of the members that decide; one of them is the level."""
        self.message: Final = message
        self.time: Final = time
        self.fixed_of: Final = itemgetter(*fixed)
        self.readings: Final[dict[Any, Reading]] = {}
        """By the values of the members that decide."""
        self._names = names
        self._fixed = fixed
        self._has_request = any(ROLES[name] == REQUEST for name in fixed)
        self._ways: dict[Names, Ways] = {}
        self.is_useful = True
        """False once many objects had no level or ids that can be kept, such as numbers."""
        self._chances = _CHANCES
        self._failures = 0

    def learn(
        self,
        record: Record,
        found: tuple[tuple[int, str], Pairs, Invocation | None, TraceContext],
        make_write: Callable[[Names], Write],
    ) -> None:
        """Keep what was `found` in `record`, if others with the same values are read alike."""
        if not self._chances or not self.is_useful:
            return
        self._chances -= 1
        severity, pairs, invocation, trace = found
        has_level = False
        for name in self._fixed:
            value = record[name]
            if type(value) is not str or len(value) > _LONGEST_VALUE:
                has_level = False
                break
            has_level = has_level or (ROLES[name] == LEVEL and rank_of(value) is not None)
        if not has_level:
            self._failures += 1
            self.is_useful = self._failures < _MAX_FAILURES
            return
        kept = tuple(name for name, _ in pairs)
        ways = self._ways.get(kept) or self._ways_of(kept, make_write)
        if len(self.readings) >= _MAX_READINGS:
            self.readings.clear()
        self.readings[self.fixed_of(record)] = Reading(severity, invocation, trace, ways)

    def forget(self) -> None:
        """Forget what depends on which invocations are known."""
        self._chances = _CHANCES
        if self._has_request:
            self.readings.clear()

    def _ways_of(self, kept: Names, make_write: Callable[[Names], Write]) -> Ways:
        """Return the ways of objects that have members in `kept` as attributes."""
        if len(self._ways) >= _MAX_WAYS:
            self._ways.clear()
        usual = tuple(name for name in kept if name != self.time)
        with_time = tuple(name for name in self._names if name in usual or name == self.time)
        ways = Ways(
            (_values_of(usual), make_write(usual)), (_values_of(with_time), make_write(with_time))
        )
        self._ways[kept] = ways
        return ways


class Plans(dict[Names, Plan | None]):
    """Plans by the names of members, in order. None for objects that are read in full each time."""

    def of(self, record: Record) -> Plan | None:
        """Return the plan for objects with the members of `record`."""
        # pino's level is a number, which says nothing without a look at all other members
        if len(record) > _MAX_MEMBERS or type(record.get("level")) is int:
            return None
        return self[tuple(record)]

    def __missing__(self, names: Names) -> Plan | None:
        """Make a plan for names that are new."""
        if sum(map(len, names)) > _MAX_CHARS:
            return None
        if len(self) >= _MAX_PLANS:
            self.clear()
        found = self[names] = _plan(names)
        return found

    def forget(self) -> None:
        """Forget what depends on which invocations are known."""
        for plan in self.values():
            if plan is not None:
                plan.forget()


def _plan(names: Names) -> Plan | None:
    roles = [(ROLES[name], name) for name in names if name in ROLES]
    messages = [name for role, name in roles if role == MESSAGE]
    times = [name for role, name in roles if role == TIME]
    fixed = tuple(name for role, name in roles if role in _FIXED)
    has_level = any(role == LEVEL for role, _ in roles)
    is_whole = len(messages) + len(times) + len(fixed) == len(roles)
    if len(messages) != 1 or len(times) > 1 or not has_level or not is_whole:
        return None
    return Plan(names, messages[0], times[0] if times else None, fixed)


def _values_of(names: Names) -> Callable[[Record], tuple[Any, ...]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda record: tuple(record[name] for name in names)

"""Selects a sink's lines: `types`, `min_level`, `include` and `exclude` of its section.

All are optional. A sink without any of them has no filter: its blocks stay whole and raw. Patterns
search the bytes of the whole line. Types and levels need its envelope.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from telemetryd.core.patterns import compile_pattern
from telemetryd_proto.envelope import Envelope
from telemetryd_proto.objects import AnyObject

_MAX_TYPES: Final = 256
_LOGS: Final = frozenset({"function", "extension"})
_PLATFORM: Final = "platform"
CATEGORIES: Final = (_PLATFORM, *sorted(_LOGS))
"""The part of an event's type before the first dot, which stands for all such types."""

_TYPE: Final = rb'"type"\s{0,8}:\s{0,8}"([\w.-]{1,64})"'
_TYPE_WITHIN: Final = 1024


class _TypeVerdicts(dict[str, bool]):
    """Maps each type to True if it is wanted. A stream has only a dozen types.

    A line without a type, the empty one, is certainly no event of the platform, and may be any log
    line. It is wanted where anything but platform events is.
    """

    def __init__(self, types: Sequence[str]) -> None:
        self._exact = frozenset(types)
        self._prefixes = tuple(f"{name}." for name in types)
        self._wants_untyped = any(name.partition(".")[0] != _PLATFORM for name in types)

    def __missing__(self, kind: str) -> bool:
        if len(self) >= _MAX_TYPES:
            self.clear()
        if kind:
            wanted = not self._exact or kind in self._exact or kind.startswith(self._prefixes)
        else:
            wanted = not self._exact or self._wants_untyped
        self[kind] = wanted
        return wanted


class LineFilter:
    """The filter of one sink. Raises re.error for a pattern that does not compile."""

    __slots__ = (
        "_by_types", "_exclude", "_include", "_min_rank", "_rank_of_line", "by_type",
        "needs_envelope", "only_by_type",
    )  # fmt: skip

    def __init__(
        self,
        *,
        types: Sequence[str] = (),
        min_level: str = "",
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> None:
        self.by_type = _TypeVerdicts(types)
        """True for each type that is wanted, as far as types decide."""
        self._min_rank: int | None = None
        if min_level:
            self._load_levels(min_level)
        self._include = tuple(map(compile_pattern, include))
        self._exclude = tuple(map(compile_pattern, exclude))
        self._by_types = bool(types)
        self.needs_envelope = bool(types) or self._min_rank is not None
        self.only_by_type = not (self._include or self._exclude or self._min_rank is not None)
        """True if `by_type` decides alone."""

    def _load_levels(self, min_level: str) -> None:
        from telemetryd.core.log_level import rank_of  # noqa: PLC0415 - only where asked for
        from telemetryd.core.record import rank_of_line  # noqa: PLC0415 - as above

        self._min_rank = rank_of(min_level)
        self._rank_of_line = rank_of_line

    def wants(self, line: bytes, found: Envelope | AnyObject | None) -> bool:
        """True if the sink gets `line`.

        `found` is what it decodes to; None where that is not known: it is no JSON object, or this
        filter does not need it (`needs_envelope`). What can't be judged passes.
        """
        if (self._include or self._exclude) and not self._passes(line):
            return False
        if found is None:
            return not self._by_types or self.by_type[_visible_type(line)]
        if not self.by_type[found.type]:
            return False
        if self._min_rank is not None:
            rank = self._rank_of_line(line, found)
            return rank is None or rank >= self._min_rank
        return True

    def can_judge(self, found: Envelope | AnyObject | None) -> bool:
        """False if a line that decodes to `found` passes for want of what to judge it by."""
        return found is not None and bool(found.type or not self._by_types)

    def _passes(self, line: bytes) -> bool:
        """True if `line` satisfies `include` and `exclude`."""
        if self._include and not any(is_in(line) for is_in in self._include):
            return False
        return not any(is_in(line) for is_in in self._exclude)


def _visible_type(line: bytes) -> str:
    """Return the type that seems to stand in a line which does not decode; empty for none."""
    head = line[:_TYPE_WITHIN]
    found = re.search(_TYPE, head) if b'"type"' in head else None
    return found[1].decode() if found else ""

"""Which lines a sink wants: `types`, `min_level`, `include` and `exclude` of its section.

All are optional, and a sink that names none has no filter at all: its blocks stay whole and raw.
Patterns look at the bytes of the whole line; types and levels need its envelope.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from telemetryd.core.log_level import rank_of, rank_of_line
from telemetryd.core.patterns import compiled
from telemetryd_proto.envelope import Envelope

_MAX_TYPES: Final = 256
_LOGS: Final = frozenset({"function", "extension"})
CATEGORIES: Final = ("platform", *sorted(_LOGS))
"""What comes before the first dot of an event's type, and stands for all such types."""


class _TypeVerdicts(dict[str, bool]):
    """Whether a type is wanted, judged once: a stream has a dozen types and endless lines."""

    def __init__(self, types: Sequence[str]) -> None:
        self._exact = frozenset(types)
        self._prefixes = tuple(f"{name}." for name in types)

    def __missing__(self, kind: str) -> bool:
        if len(self) >= _MAX_TYPES:
            self.clear()
        wanted = not self._exact or kind in self._exact or kind.startswith(self._prefixes)
        self[kind] = wanted
        return wanted


class LineFilter:
    """The filter of one sink. Raises re.error for a pattern that does not compile."""

    __slots__ = ("_exclude", "_include", "_min_rank", "by_type", "needs_envelope", "only_by_type")

    def __init__(
        self,
        *,
        types: Sequence[str] = (),
        min_level: str = "",
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> None:
        self.by_type = _TypeVerdicts(types)
        """Whether a type is wanted, as far as types decide."""
        self._min_rank = rank_of(min_level) if min_level else None
        self._include = tuple(map(compiled, include))
        self._exclude = tuple(map(compiled, exclude))
        self.needs_envelope = bool(types) or self._min_rank is not None
        self.only_by_type = not (self._include or self._exclude or self._min_rank is not None)
        """Whether `by_type` decides alone."""

    def wants(self, line: bytes, envelope: Envelope | None) -> bool:
        """Whether the sink gets `line`; `envelope` may be None unless `needs_envelope`."""
        if (self._include or self._exclude) and not self._passes(line):
            return False
        if envelope is None:
            return True
        if not self.by_type[envelope.type]:
            return False
        if self._min_rank is not None and envelope.type in _LOGS:
            rank = rank_of_line(envelope)
            return rank is None or rank >= self._min_rank
        return True

    def _passes(self, line: bytes) -> bool:
        """True if `line` satisfies `include` and `exclude`."""
        if self._include and not any(is_in(line) for is_in in self._include):
            return False
        return not any(is_in(line) for is_in in self._exclude)

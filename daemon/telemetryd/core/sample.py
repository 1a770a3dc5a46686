"""Keeps a part of the lines: the same part of an invocation, or of a trace, by a hash of its id.

The hash of an id is a number from 0 to 1, and a rule keeps ids whose number is below `keep`. So all
lines of an invocation have the same fate, in every process, and what `keep = 0.1` keeps, `keep =
0.5` keeps as well. Error lines are kept besides. A line that was chosen says how many it stands
for, in the member `sample_weight`: the sum of the weights is what there was, on average.

A line that can't be judged is kept, without a weight: no JSON object, no known id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias
from zlib import crc32

import msgspec

from telemetryd.core.fields import insert_members
from telemetryd.core.log_level import rank_of
from telemetryd.core.loose import decode_loosely
from telemetryd.core.patterns import Matcher, compile_pattern
from telemetryd.core.record import rank_of_line

if TYPE_CHECKING:
    from telemetryd.core.fields import Opened, Origin
    from telemetryd_proto.objects import AnyObject

By: TypeAlias = Literal["request_id", "trace_id", "line"]

MEMBER: Final = "sample_weight"
_NAME: Final = MEMBER.encode()
_ESCAPED: Final = b"\\u00"
"""Begins each escape of a letter: a name can be spelled with it."""
_PREFIX: Final = "telemetryd_"
"""Goes before the name of ours if a line has it already."""
_ERROR: Final = rank_of("error")
_PLATFORM: Final = "platform"
_HASHES: Final = 1 << 32
_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Rule(NamedTuple):
    """One rule, ready for use."""

    type: str
    """Type of an event, or its part before the dot; empty: all but platform events."""
    most: int | None
    """Most severe rank that the rule applies to; None: any, and lines without a level."""
    matches: Matcher | None
    limit: int
    """Hashes below it are kept."""
    by: By
    member: bytes
    """The weight, as a member with its comma."""


def rule(*, type: str, level: str, match: str, keep: float, by: By) -> Rule:  # noqa: A002 - the key
    """Return a rule that keeps `keep` (above 0, at most 1) of what it applies to."""
    weight = 1 / keep
    number = msgspec.json.encode(int(weight) if weight.is_integer() else weight)
    return Rule(
        type,
        rank_of(level) if level else None,
        compile_pattern(match) if match else None,
        int(keep * _HASHES),
        by,
        b'"%b":%b,' % (MEMBER.encode(), number),
    )


class Sampler:
    """The rules of one sink. The first that applies to a line decides."""

    __slots__ = ("_rules", "wants_facts", "wants_request")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self.wants_request = any(rule.by != "line" for rule in rules)
        self.wants_facts = any(rule.by == "trace_id" for rule in rules)

    def sample(self, block: Opened, indices: Sequence[int]) -> tuple[list[int], dict[int, bytes]]:
        """Return which lines of `indices` are kept, and the weights of those that say one.

        A weight is a member with its comma, which `with_weight` adds to the line.
        """
        lines, objects = block.lines, block.objects
        origins: Sequence[Origin] = block.origins if self.wants_request else [""] * len(lines)
        kept: list[int] = []
        weights: dict[int, bytes] = {}
        for index in indices:
            found, line = objects[index], lines[index]
            rule = self._rule_for(line, found) if found is not None else None
            text = _key_of(rule.by, line, origins[index]) if rule is not None else b""
            if rule is None or not text:
                kept.append(index)
            elif crc32(text) < rule.limit:
                kept.append(index)
                weights[index] = rule.member
        return kept, weights

    def _rule_for(self, line: bytes, found: AnyObject) -> Rule | None:
        """Return the rule for a line; None if it is to be kept."""
        rank: int | None = None
        is_ranked = False
        for rule in self._rules:
            if not _is_of_type(found.type, rule.type):
                continue
            if rule.matches is not None and not rule.matches(line):
                continue
            if not is_ranked:
                rank, is_ranked = rank_of_line(line, found), True
            if rule.most is not None and (rank is None or rank > rule.most):
                continue
            is_error = rank is not None and _ERROR is not None and rank >= _ERROR
            return None if is_error or rule.limit >= _HASHES else rule
        return None


def _is_of_type(kind: str, wanted: str) -> bool:
    category = kind.partition(".")[0]
    return category != _PLATFORM if not wanted else wanted in (kind, category)


def _key_of(by: By, line: bytes, origin: Origin) -> bytes:
    """Return what the choice goes by; empty if it is unknown."""
    if by == "line":
        return line
    if isinstance(origin, str):
        return origin.encode()
    return (origin.trace_id if by == "trace_id" else origin.request_id).encode()


def with_weight(line: bytes, member: bytes) -> bytes:
    """Return `line` with the member in front; under another name if it has one of that name."""
    if _NAME in line or _ESCAPED in line:
        members = decode_loosely(_decode_members, line) or {}
        name = MEMBER
        while name in members:
            name = _PREFIX + name
        member = b'"' + name.encode() + member[len(_NAME) + 1 :]
    return insert_members(b"{" + member, line)

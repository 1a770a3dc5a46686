"""Decides which lines of a block a sink gets, and adds the tags and fields it asks for.

A sink without rules gets every block unchanged and undecoded. For the others the block is split
once for all, and decoded if any of them needs it. A large block is opened in pieces. The lines and
envelopes of all of it would outgrow the caches. Python's allocator would also map, fault in and
unmap arenas for each block, at a third of the whole cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

import msgspec

from telemetryd.core.fields import FieldAdder, Origin, RequestTracker
from telemetryd.core.line_filter import LineFilter
from telemetryd.core.loose import decode_lines_loosely
from telemetryd_proto.framing import Block
from telemetryd_proto.objects import AnyObject, ObjectReader

if TYPE_CHECKING:
    from telemetryd.core.facts import Facts, FactsKeeper
    from telemetryd.core.flat import FlatReader, Flattener
    from telemetryd.core.rows import Rows
    from telemetryd.core.sample import Sampler

PLAIN_READER: Final = ObjectReader()
_PIECE_BYTES: Final = 256 * 1024


class Selection(msgspec.Struct, frozen=True, gc=False):
    """The part of one block that one sink gets."""

    wanted: Block | None
    """The lines to enqueue, in order."""
    filtered_lines: int
    filtered_bytes: int
    unjudged_lines: int = 0
    """Wanted lines that this sink's rules can't be applied to. They pass unchanged."""
    sampled_lines: int = 0
    """Lines that the filter wants, and sampling leaves out."""
    sampled_bytes: int = 0
    is_flat: bool = False
    """True if its lines are rows, which may be as long as the lines that they stand for."""


class RouteRules:
    """The rules of one sink: which lines it gets, and in which shape.

    A new kind of rule has its place here: one that leaves lines out beside `filter`, one that
    changes lines beside `shaper`. Both see lines before any queue, spool or dead letter.
    """

    __slots__ = ("filter", "sampler", "shaper")

    def __init__(
        self,
        line_filter: LineFilter,
        shaper: FieldAdder | Flattener | None,
        sampler: Sampler | None = None,
    ) -> None:
        self.filter = line_filter
        self.sampler = sampler
        self.shaper = shaper
        """Adds members to the lines, or makes rows of them. None: they stay as they are."""

    @property
    def is_flat(self) -> bool:
        """True if lines become rows of the flat schema."""
        return self.shaper is not None and self.shaper.flat is not None

    @property
    def needs_envelopes(self) -> bool:
        """True if lines must be decoded for this sink."""
        return self.filter.needs_envelope or any(self._users)

    @property
    def wants_requests(self) -> bool:
        """True if lines must be attributed to invocations for this sink."""
        return any(each.wants_request for each in self._users)

    @property
    def wants_facts(self) -> bool:
        """True if more than the id of a line's invocation is wanted."""
        return any(each.wants_facts for each in self._users)

    @property
    def _users(self) -> list[FieldAdder | Flattener | Sampler]:
        return [each for each in (self.shaper, self.sampler) if each is not None]


def reader_for(rules: Sequence[RouteRules]) -> ObjectReader:
    """Return what decodes lines for sinks with these rules."""
    shapers = [each.shaper for each in rules if each.shaper is not None]
    names = {name for shaper in shapers for name in shaper.names}
    return ObjectReader(names, timed=any(each.is_flat for each in rules))


class OpenBlock:
    """A block and, once asked for, its lines, objects and requests; shared by all sinks."""

    __slots__ = (
        "_all_taken", "_flat", "_has_odd_lines", "_is_changed", "_lines", "_objects", "_origins",
        "_rows", "_taken", "_tracker",
        "block", "reader",
    )  # fmt: skip

    def __init__(
        self,
        block: Block,
        tracker: RequestTracker,
        lines: list[bytes] | None = None,
        reader: ObjectReader = PLAIN_READER,
        flat: FlatReader | None = None,
    ) -> None:
        self.block = block
        self.reader = reader
        self._tracker = tracker
        self._lines = lines
        self._taken: set[int] = set()
        self._all_taken = False
        self._objects: list[AnyObject | None] | None = None
        self._origins: Sequence[Origin] | None = None
        self._flat = flat
        self._rows: Rows | None = None
        self._has_odd_lines: bool | None = None
        self._is_changed = False

    @property
    def lines(self) -> list[bytes]:
        """The block's lines, with their newlines."""
        if self._lines is None:
            self._lines = BytesIO(self.block.data).readlines()
        return self._lines

    @property
    def objects(self) -> list[AnyObject | None]:
        """One entry for each line, None where the line is not a JSON object."""
        if self._objects is None:
            self._objects = decode_lines_loosely(self.lines, self.reader)
        return self._objects

    @property
    def origins(self) -> Sequence[Origin]:
        """Where each line is from: its request id, empty where it is unknown, or its facts."""
        if self._origins is None:
            request_of, source = self._tracker.request_of, self.block.source
            keeper = self._tracker.keep_facts() if self._flat is not None else self._tracker.facts
            if keeper is not None:
                self._origins = self._find_facts(keeper)
            else:
                self._origins = [
                    request_of(line, found, source) if found is not None else ""
                    for line, found in zip(self.lines, self.objects, strict=True)
                ]
        return self._origins

    def _find_facts(self, keeper: FactsKeeper) -> list[Facts]:
        """Return the facts about each line. One pass, because events change them."""
        block, tracker = self.block, self._tracker
        if self._flat is not None:
            self._rows, origins = self._flat.read(self, block.data, tracker, block.source)
        else:
            origins = [
                keeper.of(
                    tracker.request_of(line, found, block.source) if found is not None else "",
                    block.source,
                )
                for line, found in zip(self.lines, self.objects, strict=True)
            ]
        if keeper.wants_execution and b"/durable-execution/" in block.data:
            return keeper.with_executions(self.lines, origins)
        return origins

    @property
    def rows(self) -> Rows:
        """The row of each line in the flat schema, but for its end."""
        _ = self.origins
        return cast("Rows", self._rows)

    @property
    def is_plain(self) -> bool:
        """True if all lines are objects with a type, and have no member that the reader guards."""
        return set(map(type, self.objects)) == {self.reader.free} and not self.has_odd_lines

    def select(self, rules: RouteRules) -> Selection:
        """Return what the sink with these rules gets."""
        wanted = self._select_lines(rules)
        if len(wanted) < len(self.lines):
            self._taken.update(wanted)
        else:
            self._all_taken = True
        unjudged = self._count_unjudged(rules, wanted)
        good = self._part(wanted)
        size = good.size if good is not None else 0
        filtered = self.block.lines - len(wanted), self.block.size - size
        flat = rules.is_flat
        if rules.sampler is None:
            return Selection(self.shape(good, wanted, rules), *filtered, unjudged, is_flat=flat)
        kept, weights = rules.sampler.sample(self, wanted)
        good = self._part(kept)
        left_out = len(wanted) - len(kept), size - (good.size if good is not None else 0)
        part = self.shape(good, kept, rules, weights)
        return Selection(part, *filtered, unjudged, *left_out, is_flat=flat)

    def shape(
        self,
        good: Block | None,
        indices: Sequence[int],
        rules: RouteRules,
        weights: Mapping[int, bytes] = MappingProxyType({}),
    ) -> Block | None:
        """Return `good`, the lines at `indices`, in the shape that the sink wants.

        `weights`: members that say a weight, of some lines.
        """
        if good is None:
            return None
        if weights and not rules.is_flat:
            return self._with_weights(weights).shape(good, indices, rules)
        if rules.shaper is not None:
            data = rules.shaper.shape(self, indices, weights)
        elif self._is_changed:
            data = b"".join([self.lines[index] for index in indices])
        else:
            return good
        return good.with_lines(data, good.lines, len(data) - good.size)

    def _with_weights(self, weights: Mapping[int, bytes]) -> OpenBlock:
        """Return the same block with weights in some lines, still the same objects."""
        from telemetryd.core.sample import with_weight  # noqa: PLC0415 - only where sampled

        lines = [
            with_weight(line, weights[index]) if index in weights else line
            for index, line in enumerate(self.lines)
        ]
        shown = OpenBlock(self.block, self._tracker, lines, self.reader)
        shown._objects, shown._origins = self.objects, self._origins
        shown._is_changed = True
        return shown

    def count_unwanted(self) -> tuple[int, int]:
        """Return how many lines, of how many bytes, no sink that has selected takes."""
        lines = self.lines
        left = len(lines) - len(self._taken)
        if self._all_taken or not left:
            return 0, 0
        taken = sum(len(lines[index]) for index in self._taken)
        return left, self.block.size - self.block.size_of(taken)

    def _select_lines(self, rules: RouteRules) -> list[int]:
        """Return the indices of the lines that the sink wants."""
        wants, lines = rules.filter.wants, self.lines
        if rules.filter.only_by_type and not rules.filter.needs_envelope:
            return list(range(len(lines)))
        if not rules.needs_envelopes:
            return [at for at, line in enumerate(lines) if wants(line, None)]
        objects = self.objects
        if rules.filter.only_by_type:
            by_type = rules.filter.by_type
            try:
                events = cast("list[AnyObject]", objects)
                return [at for at, event in enumerate(events) if by_type[event.type]]
            except AttributeError:  # a None: a line that is no object
                untyped = by_type[""]
                return [
                    at
                    for at, (line, found) in enumerate(zip(lines, objects, strict=True))
                    if (
                        by_type[found.type] if found is not None
                        else wants(line, None) if b'"type"' in line
                        else untyped
                    )
                ]  # fmt: skip
        return [at for at, found in enumerate(objects) if wants(lines[at], found)]

    def _count_unjudged(self, rules: RouteRules, wanted: list[int]) -> int:
        """Count the lines among `wanted` that pass because nothing is known about them."""
        needs = rules.filter.needs_envelope if rules.is_flat else rules.needs_envelopes
        if not needs or not self.has_odd_lines:
            return 0
        can_judge, objects = rules.filter.can_judge, self.objects
        return sum(not can_judge(objects[at]) for at in wanted)

    @property
    def has_odd_lines(self) -> bool:
        """True if there are lines that are no object, or have no type."""
        if self._has_odd_lines is None:
            objects = self.objects
            self._has_odd_lines = None in objects or not all(
                found.type for found in cast("list[AnyObject]", objects)
            )
        return self._has_odd_lines

    def follow(self) -> None:
        """Attribute the lines, even if no sink wants any: those of the next block depend on it."""
        _ = self.origins

    def _part(self, indices: list[int]) -> Block | None:
        lines = self.lines
        if len(indices) == len(lines):
            return self.block
        return self.block.select([lines[index] for index in indices])


def open_pieces(
    block: Block,
    tracker: RequestTracker,
    reader: ObjectReader = PLAIN_READER,
    flat: FlatReader | None = None,
) -> Iterator[OpenBlock]:
    """Yield the block in pieces, each open. Use each piece before the next one."""
    if len(block.data) <= _PIECE_BYTES:
        yield OpenBlock(block, tracker, None, reader, flat)
        return
    text, start = BytesIO(block.data), 0
    while lines := text.readlines(_PIECE_BYTES):
        end = text.tell()
        yield OpenBlock(block.slice(start, end, len(lines)), tracker, lines, reader, flat)
        start = end


def merge(block: Block, selections: Sequence[Selection]) -> Selection:
    """Merge the selections of the pieces of `block` into one of the block."""
    if len(selections) == 1:
        return selections[0]
    return Selection(
        _join(
            block,
            [one.wanted for one in selections if one.wanted is not None],
            unchanged=not selections[0].is_flat,
        ),
        sum(one.filtered_lines for one in selections),
        sum(one.filtered_bytes for one in selections),
        sum(one.unjudged_lines for one in selections),
        sum(one.sampled_lines for one in selections),
        sum(one.sampled_bytes for one in selections),
        selections[0].is_flat,
    )


def _join(block: Block, parts: Sequence[Block], *, unchanged: bool) -> Block | None:
    lines, added = sum(part.lines for part in parts), sum(part.added for part in parts)
    if not lines:
        return None
    if unchanged and lines == block.lines and added == block.added:
        return block
    return block.with_lines(b"".join([part.data for part in parts]), lines, added)

"""What can be done with a block of lines: every line and byte stays accounted for."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd_proto.framing import Block

LINES = st.lists(st.binary(max_size=12).map(lambda it: it.replace(b"\n", b"") + b"\n"), min_size=1)


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    """A block somewhere in a stream, perhaps with bytes that were added to its lines."""
    lines = draw(LINES)
    data = b"".join(lines)
    added = draw(st.integers(0, len(data) - len(lines)))
    return Block(data, len(lines), source=3, offset=1000, received_at=7.5, added=added)


def check_sequence(parts: list[Block], whole: Block) -> None:
    """Assert that `parts`, one behind the other, are `whole`."""
    assert b"".join(part.data for part in parts) == whole.data
    assert sum(part.lines for part in parts) == whole.lines
    assert sum(part.added for part in parts) == whole.added
    assert all(part.data.endswith(b"\n") and part.added >= 0 for part in parts)
    assert all(part.lines == part.data.count(b"\n") for part in parts)
    assert {(part.source, part.received_at) for part in parts} == {(3, 7.5)}
    assert parts[0].offset == whole.offset
    assert all(a.offset + a.size == b.offset for a, b in pairwise(parts)), "a gap in the stream"


@given(blocks(), st.integers(1, 40))
def test_cut_keeps_every_line_and_the_size(block: Block, max_bytes: int) -> None:
    parts = list(block.cut(max_bytes))
    check_sequence(parts, block)
    assert all(len(part.data) <= max_bytes or part.lines == 1 for part in parts)
    assert all(len(a.data) + b.end_of_line(0) > max_bytes for a, b in pairwise(parts)), (
        "the next line would have found room"
    )


@given(blocks())
def test_split_makes_a_block_of_each_line(block: Block) -> None:
    parts = list(block.split())
    check_sequence(parts, block)
    assert all(part.lines == 1 for part in parts)


@given(blocks(), st.data())
def test_slices_that_follow_each_other_add_up(block: Block, data: st.DataObject) -> None:
    ends = [0]
    for part in block.split():
        ends.append(ends[-1] + len(part.data))
    cuts = sorted({0, ends[-1], *data.draw(st.lists(st.sampled_from(ends)))})
    check_sequence([block.slice(a, b) for a, b in pairwise(cuts)], block)


@given(blocks(), st.integers(1, 40))
def test_join_is_the_other_way_round(block: Block, max_bytes: int) -> None:
    assert Block.join(list(block.cut(max_bytes))) == block


@given(LINES, st.data())
def test_select_takes_some_of_the_lines(lines: list[bytes], data: st.DataObject) -> None:
    block = Block(b"".join(lines), len(lines), 3, 1000, 7.5)
    wanted = data.draw(st.lists(st.booleans(), min_size=len(lines), max_size=len(lines)))
    chosen = [line for line, wants in zip(lines, wanted, strict=True) if wants]
    selected = block.select(chosen)
    if not chosen:
        assert selected is None
    else:
        assert selected == Block(b"".join(chosen), len(chosen), 3, 1000, 7.5)


@pytest.mark.parametrize(
    ("start", "room", "end"),
    [
        (0, 100, 9), (0, 9, 9), (0, 8, 6), (0, 6, 6), (0, 5, 3), (0, 2, 0), (0, 0, 0), (0, -1, 0),
        (3, 5, 6), (3, 6, 9), (3, 2, 3),
    ],
)  # fmt: skip
def test_fit_ends_where_a_line_does(start: int, room: int, end: int) -> None:
    assert Block.of(b"aa\nbb\ncc\n").fit(start, room) == end


def test_what_is_the_whole_is_not_copied() -> None:
    block = Block.of(b"a\nb\n")
    assert block.slice(0, 4) is block
    assert block.select([b"a\n", b"b\n"]) is block
    assert Block.join([block]) is block
    assert next(block.cut(4)) is block


def test_a_block_of_no_connection_counts_its_lines() -> None:
    block = Block.of(b"a\nb\n", received_at=2.0)
    assert msgspec.structs.astuple(block) == (b"a\nb\n", 2, 0, 0, 2.0, 0)


def test_other_lines_take_the_place_of_these() -> None:
    block = Block(b"a\nb\n", 2, 3, 1000, 7.5, 1)
    assert block.with_lines(b"xyz\n", 1, 2) == Block(b"xyz\n", 1, 3, 1000, 7.5, 2)

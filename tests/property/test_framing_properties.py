"""Whatever the bytes and however they are cut, the framer accounts for each of them once."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from helpers.scanner import each_scanner  # noqa: F401 - each test runs with each
from telemetryd_proto.framing import Block, Framed, LineFramer, TailBudget

MAX_LINE = 12
pieces = st.sampled_from([b"\n", b"\r", b"\r\n", b"{}", b"\t{}", b"\x00\xff", b"x" * 11, b"y" * 30])
streams = st.lists(pieces, max_size=60).map(b"".join)


@st.composite
def cut_streams(draw: st.DrawFn) -> list[bytes]:
    """A stream and where its reads end."""
    stream = draw(streams)
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def frame(reads: list[bytes], budget: TailBudget) -> Iterator[Framed]:
    framer = LineFramer(budget, max_line_bytes=MAX_LINE, keep_bytes=4)
    for read in reads:
        yield from framer.feed(read, len(read))
    yield from framer.eof()
    assert framer.unfinished_bytes == 0


def model(stream: bytes) -> tuple[bytes, dict[str, int]]:
    """What a plain split says: the good lines, and how many were refused for what."""
    *lines, rest = stream.split(b"\n")
    good, refused = [], {"empty": 0, "too_long": 0, "truncated": 0}
    for line in lines:
        if line in (b"", b"\r"):
            refused["empty"] += 1
        elif len(line) > MAX_LINE:
            refused["too_long"] += 1
        else:
            good.append(line + b"\n")
    if rest:
        refused["too_long" if len(rest) > MAX_LINE else "truncated"] += 1
    return b"".join(good), refused


def stream_without_blank_lines(stream: bytes) -> bytes:
    lines = stream.split(b"\n")
    return b"\n".join(line for line in lines if line not in (b"", b"\r")) + b"\n"


@given(cut_streams())
def test_every_cut_of_a_stream_frames_the_same_lines_in_order(reads: list[bytes]) -> None:
    parts = list(frame(reads, TailBudget(1 << 20)))
    good, refused = model(b"".join(reads))
    assert b"".join(p.data for p in parts if isinstance(p, Block)) == good
    counted = dict.fromkeys(refused, 0)
    for part in parts:
        if not isinstance(part, Block):
            counted[part.reason] += part.lines
    assert counted == refused


@given(st.lists(pieces | st.just(b"{} \r"), min_size=1, max_size=60))
def test_each_line_of_a_block_is_counted(lines: list[bytes]) -> None:
    stream = b"".join(line.strip(b"\n") + b"\n" for line in lines)
    parts = LineFramer(TailBudget(1 << 20)).feed(stream, len(stream))
    blank = sum(line.strip() == b"" for line in lines)
    assert sum(part.lines for part in parts if isinstance(part, Block)) == len(lines) - blank
    assert sum(part.lines for part in parts if not isinstance(part, Block)) == blank


@given(cut_streams(), st.integers(0, 20))
def test_every_byte_ends_in_one_part_at_its_offset_whatever_the_budget(
    reads: list[bytes], budget_bytes: int
) -> None:
    stream = b"".join(reads)
    budget = TailBudget(budget_bytes)
    at = 0
    for part in frame(reads, budget):
        assert part.offset == at
        at += part.size
        if isinstance(part, Block):
            assert part.data in stream_without_blank_lines(stream)
            assert part.lines == part.data.count(b"\n") > 0
        elif part.reason != "empty":
            assert part.head in stream
    assert at == len(stream)
    assert budget.used == 0


@given(cut_streams())
def test_what_is_held_never_exceeds_one_line(reads: list[bytes]) -> None:
    budget = TailBudget(1 << 20)
    framer = LineFramer(budget, max_line_bytes=MAX_LINE)
    for read in reads:
        framer.feed(read, len(read))
        assert budget.used <= MAX_LINE

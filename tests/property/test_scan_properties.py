"""The compiled scanner finds what Python does, whatever the bytes and wherever they lie."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from helpers.scanner import KINDS, Plain, compiled, using
from telemetryd.core.watch import LIFE_CYCLE, LOSSES, EventWatch
from telemetryd_proto import scan
from telemetryd_proto.framing import Framed, LineFramer, TailBudget

PLATFORM = b'"platform.'
NAMES = tuple(sorted(f'"{name}"'.encode() for name in LIFE_CYCLE))
MARKS = (PLATFORM, b"errorType", b"Traceback (most recent call last)", rb"\n\tat ", rb"\n   at ")
"""As the EMF sink has them."""
EVENT = b'{"time":"t","type":"platform.report","record":{"requestId":"a"}}\n'
PIECES = (
    *(b"\n", b"\r", b"\r\n", b"\0", b"\xff", b" ", b"\t", b"\v", b"{", b"}", b'"', b":", b"x"),
    *(b'"type"', b'"type":', b'"type" \t:\r ', b'"type": \n', b'{"type":"function","record":"'),
    *(*NAMES, *MARKS, b'"platform', b"platform.", b'"platform.start', NAMES[0] + b'type"'),
    *(EVENT, EVENT[:-1], EVENT[5:], EVENT.replace(b"report", b"initStart")),
    EVENT.replace(b":", b": "),
    *(b"x" * 127, b"y" * 300, b"\n" * 130, b"\0" * 200, b"p......m" * 40, b" " * 64, b"D" * 70),
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES) | st.binary(max_size=6), max_size=40).map(b"".join)
MARK_SETS = st.lists(st.sampled_from((*MARKS, b"xx", b"xy" * 50)), max_size=6).map(tuple)
ON_EACH_KIND = pytest.mark.parametrize("scanner", KINDS, indirect=True)


@pytest.fixture(scope="module")
def scanner(request: pytest.FixtureRequest) -> scan.Scanner:
    return compiled(getattr(request, "param", KINDS[0]))


@st.composite
def cut_streams(draw: st.DrawFn) -> list[bytes]:
    """A stream and where its reads end, anywhere in a mark or a line."""
    stream = draw(TEXTS)
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def frame(reads: list[bytes], max_line_bytes: int) -> Iterator[Framed]:
    framer = LineFramer(TailBudget(1 << 20), max_line_bytes=max_line_bytes, keep_bytes=4)
    for read in reads:
        yield from framer.feed(read, len(read))
    yield from framer.eof()


@ON_EACH_KIND
@given(data=TEXTS)
def test_lines_are_counted_as_in_python(scanner: scan.Scanner, data: bytes) -> None:
    assert scanner.count_lines(data) == Plain.count_lines(data)


@ON_EACH_KIND
@given(data=TEXTS, marks=MARK_SETS)
def test_objects_with_a_mark_are_found_as_in_python(
    scanner: scan.Scanner, data: bytes, marks: tuple[bytes, ...]
) -> None:
    assert scanner.find_lines(data, marks) == Plain.find_lines(data, marks)


@ON_EACH_KIND
@given(data=TEXTS)
def test_types_are_found_as_in_python(scanner: scan.Scanner, data: bytes) -> None:
    found = scanner.find_events(data, (PLATFORM,), NAMES)
    assert found == Plain.find_events(data, (PLATFORM,), NAMES)


@ON_EACH_KIND
@given(at=st.integers(0, 700), size=st.integers(0, 700))
def test_every_place_in_a_vector_is_looked_at(scanner: scan.Scanner, at: int, size: int) -> None:
    data = b"x" * at + b"\n" + EVENT + b"y" * size
    assert scanner.count_lines(data) == (2 if at else 0)
    assert scanner.count_lines(data + b"\n\n") == 0
    assert scanner.find_events(data, (PLATFORM,), NAMES) == ([EVENT], [at + 1], 0)
    assert scanner.find_lines(data, MARKS) == [(at + 1, at + 1 + len(EVENT))]


@given(reads=cut_streams(), max_line_bytes=st.sampled_from((12, 1 << 20)))
def test_framing_agrees_at_every_cut(
    scanner: scan.Scanner, reads: list[bytes], max_line_bytes: int
) -> None:
    with using(None):
        expected = list(frame(reads, max_line_bytes))
    with using(scanner):
        assert list(frame(reads, max_line_bytes)) == expected


@given(data=TEXTS, types=st.sampled_from((LIFE_CYCLE, LOSSES)))
@example(data=b'"platform.logsDropped"type":"platform.logsDropped"\n' * 20, types=LOSSES)
def test_the_watch_agrees(scanner: scan.Scanner, data: bytes, types: frozenset[str]) -> None:
    in_python, in_c = EventWatch(types), EventWatch(types)
    with using(None):
        expected = in_python.find(data + b"\n")
    with using(scanner):
        assert in_c.find(data + b"\n") == expected
    assert (in_c.starts, in_c.undecodable) == (in_python.starts, in_python.undecodable)


@ON_EACH_KIND
def test_a_line_longer_than_any_counter_is_one_line(scanner: scan.Scanner) -> None:
    line = b'{"type":"function","record":"' + b"\0" * 5_000_000 + b"errorType" + b'"}\n'
    data = EVENT + line * 2 + EVENT
    assert scanner.count_lines(data) == 4
    assert scanner.count_lines(b"x\n" * 1_000_000) == 1_000_000
    starts = [start for start, _ in scanner.find_lines(data, MARKS)]
    assert starts == [0, len(EVENT), len(EVENT + line), len(EVENT + line * 2)]


@pytest.mark.parametrize(
    "marks", [(b"x",), (b"",), (b"xx",) * 17, [b"xx"], "xx", None], ids=repr
)  # fmt: skip
def test_marks_that_it_has_no_room_for_are_refused(scanner: scan.Scanner, marks: object) -> None:
    with pytest.raises(ValueError, match="a tuple of few texts"):
        scanner.find_lines(EVENT, marks)  # type: ignore[arg-type]  # that is what is tested
    with pytest.raises(ValueError, match="a tuple of few texts"):
        scanner.find_events(EVENT, marks, NAMES)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a tuple of few texts"):
        scanner.find_events(EVENT, (PLATFORM,), marks)  # type: ignore[arg-type]


def test_what_is_no_text_is_refused(scanner: scan.Scanner) -> None:
    with pytest.raises(TypeError):
        scanner.find_lines(EVENT, ("text",))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        scanner.find_lines("text", (PLATFORM,))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        scanner.find_events("text", (PLATFORM,), NAMES)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        scanner.count_lines("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="data, marks and"):
        scanner.find_lines(EVENT)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="data, marks and"):
        scanner.find_events(EVENT)  # type: ignore[call-arg]

"""Twice the input is at most twice the work, whatever the bytes: no input costs more than its size.

Work is counted, not timed (`helpers.work`). Each test repeats a unit of adversarial pieces; a scan
that begins again at every piece would do four times the work for twice the pieces.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.work import Work, counted, counting
from telemetryd.core import own_lines, watch
from telemetryd_proto import envelope, framing

Run = Callable[[bytes], Work]

MARKS = tuple(f'"{name}"'.encode() for name in sorted(watch.LIFE_CYCLE))
NASTY = st.sampled_from(
    (
        *MARKS, b'"platform.', b'"platform.r', b'\\"platform.report\\"', b"sD", b"D" * 9,
        b'{"type":', b'{"type":"platform.report"', b'"type":"platform.report",', b'"record":',
        b'"logger":"telemetryd"', b'\\"logger\\":\\"telemetryd\\"', b"telemetryd",
        b'{"type":"extension","record":{"logger":"telemetryd"}}\n',
        b'{"type":"extension","record":"\\"logger\\":\\"telemetryd\\""}\n',
        b"\n", b"\r", b"\r\n", b"\n\n", b"\x00", b" ", b"\t\n", b"x", b"x" * 60,
        b"[", b"{", b"}", b",",
    )
)  # fmt: skip
PIECES = st.lists(NASTY, max_size=6).map(b"".join)
UNITS = st.lists(NASTY, min_size=1, max_size=6).map(b"".join)
_REPEATS = 60
_MOST = 2.5
"""Times the work for twice the input: where reads end within lines differs a little."""
_SLACK = 400
"""Of what happens once, however large the input is."""


def assert_linear(run: Run, head: bytes, unit: bytes, tail: bytes) -> None:
    once = run(head + unit * _REPEATS + tail)
    twice = run(head + unit * (2 * _REPEATS) + tail)
    for name in ("statements", "touched", "decodes", "decoded"):
        small, large = getattr(once, name), getattr(twice, name)
        assert large <= _MOST * small + _SLACK, (name, small, large)


def whole_lines(data: bytes) -> bytes:
    return data + b"\n"


@given(PIECES, UNITS, PIECES, st.sampled_from((watch.LOSSES, watch.LIFE_CYCLE)))
def test_watching_is_linear_and_decodes_a_line_once(
    head: bytes, unit: bytes, tail: bytes, types: frozenset[str]
) -> None:
    def run(data: bytes) -> Work:
        data = whole_lines(data)
        with counting(watch, decoders=("decode_line",)) as work:
            watch.EventWatch(types).find(counted(data, work))
        assert work.decodes <= data.count(b"\n")
        assert work.decoded <= len(data)
        return work

    assert_linear(run, head, unit, tail)


@given(PIECES, UNITS, PIECES)
def test_looking_for_our_own_lines_is_linear_and_decodes_a_line_once(
    head: bytes, unit: bytes, tail: bytes
) -> None:
    def run(data: bytes) -> Work:
        data = whole_lines(data)
        lines = data.count(b"\n")
        with counting(own_lines, decoders=("decode_line",)) as work:
            own_lines.without_own_lines(framing.Block(counted(data, work), lines))
        assert work.decodes <= lines
        assert work.decoded <= len(data)
        return work

    assert_linear(run, head, unit, tail)


@given(PIECES, UNITS, PIECES, st.integers(1, 100), st.sampled_from((1, 7, 64, 1 << 20)))
def test_framing_is_linear_however_the_stream_is_cut(
    head: bytes, unit: bytes, tail: bytes, read: int, limit: int
) -> None:
    def run(data: bytes) -> Work:
        framer = framing.LineFramer(framing.TailBudget(1 << 20), max_line_bytes=limit)
        with counting(framing) as work:
            for at in range(0, len(data), read):
                piece = counted(data[at : at + read], work)
                work.touched += sum(part.size for part in framer.feed(piece, len(piece)))
        return work

    assert_linear(run, head, unit, tail)


@given(PIECES, UNITS, PIECES)
def test_a_read_is_one_block_and_one_sum_of_blank_lines(
    head: bytes, unit: bytes, tail: bytes
) -> None:
    data = whole_lines(head + unit * _REPEATS + tail)
    parts = framing.LineFramer(framing.TailBudget(1 << 20)).feed(data, len(data))
    assert len(parts) <= 2
    assert sum(part.size for part in parts) == len(data)


@settings(max_examples=50)
@given(PIECES, UNITS, PIECES)
def test_decoding_envelopes_is_linear_and_fails_once_a_line(
    head: bytes, unit: bytes, tail: bytes
) -> None:
    def run(data: bytes) -> Work:
        lines = whole_lines(data).split(b"\n")[:-1]
        with counting(envelope, decoders=("_decode", "_decode_odd")) as work:
            assert len(envelope.decode_lines(lines)) == len(lines)
        assert work.decodes <= 2 * len(lines)
        return work

    assert_linear(run, head, unit, tail)

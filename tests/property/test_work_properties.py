"""Twice the input is at most twice the work, whatever the bytes: no input costs more than its size.

Work is counted, not timed (`helpers.work`). Each test repeats a unit of adversarial pieces; a scan
that begins again at every piece would do four times the work for twice the pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.emf_streams import sink
from helpers.work import Work, counted, counting
from telemetryd.core import (
    fields,
    line_filter,
    log_level,
    loose,
    own_lines,
    record,
    request_id,
    router,
    text_head,
    watch,
)
from telemetryd.sinks._platform import invocations as emf_invocations
from telemetryd.sinks._platform import lines as emf_lines
from telemetryd.sinks.emf import forward as emf_forward
from telemetryd.sinks.kinesis import chunks as kinesis_chunks
from telemetryd.sinks.kinesis import keys as kinesis_keys
from telemetryd.sinks.kinesis import packer as kinesis_packer
from telemetryd.sinks.kinesis.config import KinesisConfig
from telemetryd.testing import context
from telemetryd_proto import envelope, framing, kinesis, objects, surrogates

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
DECODERS = (
    "_decode", "_decode_odd", "_decode_untyped", "_decode_plain", "_decode_all", "_decode_text",
    "_decode_usual",
    "_decode_start", "decode_line",
)  # fmt: skip
MOST_DECODES = 12
"""Of a line, all sinks' sakes together: a fixed number, whatever the line holds."""
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
def test_decoding_envelopes_is_linear_and_tries_a_fixed_number_of_times(
    head: bytes, unit: bytes, tail: bytes
) -> None:
    def run(data: bytes) -> Work:
        lines = whole_lines(data).split(b"\n")[:-1]
        with counting(envelope, decoders=("_decode", "_decode_odd")) as work:
            assert len(envelope.decode_lines(lines)) == len(lines)
        assert work.decodes <= 4 * len(lines)
        return work

    assert_linear(run, head, unit, tail)


RULES = st.sampled_from(
    (
        {"types": ["function"]},
        {"min_level": "info"},
        {"include": ["ERROR.*timeout", "platform"], "exclude": ["x\\d+y", "(?<=a)b"]},
        {"types": ["platform"], "min_level": "error", "exclude": ["a.*b|c"]},
    )
)
RECORDS = st.sampled_from(
    (
        b'\\"platform.report\\"', b"[ERROR]\\t", b"\\t", b"2026-03-14T14:00:00.003Z\\t", b"level=",
        b'\\"level\\":\\"error\\"', b"requestId", b"ERROR ", b"a", b"\\ud83d", b"\\u0041", b"{",
        b"[", b"5b8b6a3e-7b1c-4d6e-9b1a-0a1b2c3d4e5f ", b"RequestId: ", b"\\\\", b"\xff", b"NaN",
    )
)  # fmt: skip
TEXTS = st.lists(RECORDS, min_size=1, max_size=5).map(b"".join)
WRAPPERS = st.sampled_from(
    (
        (b'{"type":"function","record":"', b'"}\n'),
        (b'{"type":"function","record":{"message":"', b'"}}\n'),
        (b'{"type":"function","record":{"level":"', b'"}}\n'),
        (b'{"type":"platform.start","record":{"requestId":"', b'"}}\n'),
        (b'{"level":"', b'"}\n'),
        (b'{"', b'":1}\n'),
        (b'{"type":"function","record":"', b"\n"),
        (b"", b"\n"),
    )
)


@settings(max_examples=25, deadline=None)
@given(WRAPPERS, TEXTS, RULES, st.booleans())
def test_routing_a_long_line_is_linear(
    wrapper: tuple[bytes, bytes], unit: bytes, keys: dict[str, Any], adds: bool
) -> None:
    """Filters, levels, request ids and fields, on a line that grows."""

    def run(data: bytes) -> Work:
        return routed(wrapper[0] + data + wrapper[1], keys, adds=adds)

    assert_linear(run, b"", unit, b"")


@settings(max_examples=25, deadline=None)
@given(WRAPPERS, TEXTS, RULES, st.booleans())
def test_routing_many_lines_is_linear(
    wrapper: tuple[bytes, bytes], unit: bytes, keys: dict[str, Any], adds: bool
) -> None:
    assert_linear(
        lambda data: routed(data, keys, adds=adds), b"", wrapper[0] + unit + wrapper[1], b""
    )


def routed(data: bytes, keys: dict[str, Any], *, adds: bool) -> Work:
    added = fields.FieldAdder(["request_id"], {}) if adds else None
    rules = router.RouteRules(line_filter.LineFilter(**keys), added)
    tracker = fields.RequestTracker(one_at_a_time=True)
    lines = BytesIO(data).readlines()
    modules = (router, line_filter, fields, log_level, loose, objects, record, request_id,
               text_head, surrogates)  # fmt: skip
    with counting(*modules, decoders=DECODERS) as work:
        block = framing.Block(counted(data, work), len(lines))
        for piece in router.open_pieces(block, tracker):
            piece.select(rules)
    assert work.decodes <= MOST_DECODES * len(lines)
    return work


@settings(max_examples=20, deadline=None)
@given(WRAPPERS, TEXTS)
def test_metrics_from_lines_are_linear(wrapper: tuple[bytes, bytes], unit: bytes) -> None:
    def run(data: bytes) -> Work:
        whole = wrapper[0] + data + wrapper[1]
        subject = sink(forward_emf=True, count_log_errors=True)
        with counting(emf_lines, emf_invocations, emf_forward, decoders=DECODERS) as work:
            subject.pack([framing.Block(counted(whole, work), whole.count(b"\n"))])
        return work

    assert_linear(run, b"", unit, b"")
    assert_linear(lambda data: run(data + wrapper[1]), b"", wrapper[0] + unit + wrapper[1], b"")


@settings(max_examples=20, deadline=None)
@given(
    UNITS,
    st.sampled_from(
        (
            {},
            {"packing": "single"},
            {"compression": "gzip"},
            {"partition_key": "request_id"},
        )
    ),
)
def test_packing_and_unpacking_records_is_linear(unit: bytes, keys: dict[str, Any]) -> None:
    def run(data: bytes) -> Work:
        lines = [line + b"\n" for line in data.split(b"\n") if line.strip()] or [b"x\n"]
        whole = b"".join(lines)
        config = msgspec.convert({"type": "kinesis", "stream": "s", **keys}, KinesisConfig)
        subject = kinesis_packer.Packer(config, context())
        with counting(kinesis_packer, kinesis_chunks, kinesis_keys, decoders=DECODERS) as work:
            items = list(subject.pack([framing.Block(counted(whole, work), len(lines))]))
        for item in items:
            with counting(kinesis) as decoding:
                kinesis.decode(item.payload)
            work.statements += decoding.statements
            work.touched += len(item.payload)
        return work

    assert_linear(run, b"", unit, b"\n")

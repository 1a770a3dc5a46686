"""Whatever the lines and the cuts: packed records give them back, keep the limits, and add up."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.sinks.kinesis.config import KinesisConfig
from telemetryd.sinks.kinesis.packer import Packer, unpack
from telemetryd.testing import context, data_of
from telemetryd_proto.framing import Block
from telemetryd_proto.kinesis import Encoder, RecordId, UndecodableRecord, decode, unwrap

LINE = st.one_of(
    st.binary(min_size=1, max_size=60).map(lambda line: line.replace(b"\n", b"")),
    st.binary(min_size=1, max_size=2).map(lambda line: line.replace(b"\n", b"") * 700),
).filter(bool)
BLOCKS = st.lists(
    st.builds(
        lambda lines, part: Block(
            data := b"".join(line + b"\n" for line in lines),
            len(lines),
            added=int(len(data) * part),
        ),
        st.lists(LINE, min_size=1, max_size=30),
        st.sampled_from([0, 0.1, 0.9]),
    ),
    max_size=6,
)
WAYS = st.sampled_from(
    [
        ("ndjson", "none"), ("ndjson", "gzip"), ("ndjson", "zstd"), ("kpl", "none"),
        ("single", "none"), ("single", "gzip"), ("single", "zstd"),
    ]
)  # fmt: skip
IDS = st.builds(RecordId, st.binary(min_size=16, max_size=16), st.integers(0, (1 << 64) - 1))


@given(BLOCKS, WAYS, st.booleans(), st.sampled_from(["instance", "random", "request_id"]))
def test_packing_loses_adds_and_exceeds_nothing(
    blocks: list[Block], way: tuple[str, str], record_id: bool, key: str
) -> None:
    packing, compression = way
    keys = {
        "type": "kinesis", "stream": "s", "packing": packing, "compression": compression,
        "record_id": record_id, "partition_key": key, "max_record_bytes": 1024,
        "record_target_bytes": 2048,
    }  # fmt: skip
    config = msgspec.convert(keys, KinesisConfig)
    packer = Packer(config, context())
    items = list(packer.pack(blocks))
    unpacked = [unpack(item) for item in items]
    assert b"".join(unpacked) == data_of(blocks)
    assert [item.length for item in items] == [len(lines) for lines in unpacked]
    assert sum(item.size for item in items) == sum(each.size for each in blocks)
    assert all(0 <= item.size <= item.length for item in items)
    assert [item.lines for item in items] == [lines.count(b"\n") for lines in unpacked]
    for item, lines in zip(items, unpacked, strict=True):
        if item.oversized:
            assert item.lines == 1
            assert item.payload == lines
            continue
        assert len(item.payload) + len(item.key) <= 1024
        if way != ("single", "none") and (record_id or compression != "none"):
            found, decoded = unwrap(item.payload)
            assert decoded == lines
            assert decode(item.payload).lines == lines.split(b"\n")[:-1]
            assert (found is not None) <= record_id


@given(st.binary(max_size=300), st.sampled_from([b"", b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08"]))
def test_no_record_makes_decode_fail_otherwise_than_it_says(tail: bytes, head: bytes) -> None:
    data = head + tail
    try:
        decoded = decode(data)
    except UndecodableRecord:
        assert head or data.startswith((b"\x28\xb5", b"\x1f\x8b", b"\xf3\x89"))
    else:
        assert head or b"\n".join(decoded.lines).rstrip(b"\n") == data.rstrip(b"\n")


@given(BLOCKS.filter(bool), WAYS, IDS, st.data())
def test_a_damaged_record_is_refused_or_read_as_another(
    blocks: list[Block], way: tuple[Any, Any], record_id: RecordId, data: st.DataObject
) -> None:
    whole = bytearray(Encoder(*way).encode(data_of(blocks), record_id=record_id, key="k"))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(UndecodableRecord):  # and nothing else
        decode(bytes(whole), max_bytes=1 << 20)

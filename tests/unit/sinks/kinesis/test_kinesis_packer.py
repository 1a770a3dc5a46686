"""From blocks to Kinesis records: sizes, splitting, positions, keys, ids."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest

from telemetryd.clock import Clock
from telemetryd.sinks.kinesis.config import KinesisConfig
from telemetryd.sinks.kinesis.packer import Packer, RecordItem, unpack
from telemetryd.testing import INSTANCE, block, context, data_of
from telemetryd_proto.framing import Block
from telemetryd_proto.kinesis import decode
from telemetryd_proto.request_ids import MAX_REQUEST_ID

KIB = 1024


def packer(**keys: Any) -> Packer:
    """A packer whose random bytes are all 0x11, then 0x22, ..."""
    draws = iter(range(1, 16))
    config = msgspec.convert({"type": "kinesis", "stream": "s", **keys}, KinesisConfig)
    return Packer(
        config,
        context(function="orders", clock=Clock(wall=lambda: 1_773_482_400.5)),
        draw=lambda size: bytes([17 * next(draws)]) * size,
    )


def pack(subject: Packer, blocks: list[Block]) -> list[RecordItem]:
    return list(subject.pack(blocks))


def lines_of(count: int, size: int) -> list[bytes]:
    return [b"%0*d" % (size - 1, number) for number in range(count)]


def noise(count: int, size: int) -> list[bytes]:
    """Lines that no compressor makes smaller."""
    rng = random.Random(1)
    return [rng.randbytes(size - 1).replace(b"\n", b".") for _ in range(count)]


def start(request: str) -> bytes:
    event = {"type": "platform.start", "record": {"requestId": request, "version": "$LATEST"}}
    return json.dumps(event).encode()


def check(subject: Packer, items: list[RecordItem], blocks: list[Block]) -> None:
    assert sum(item.lines for item in items) == sum(each.lines for each in blocks)
    assert sum(item.size for item in items) == sum(each.size for each in blocks)
    unpacked = [unpack(item) for item in items]
    assert b"".join(unpacked) == data_of(blocks)
    assert [len(lines) for lines in unpacked] == [item.length for item in items]
    assert [lines.count(b"\n") for lines in unpacked] == [item.lines for item in items]


def test_blocks_are_joined_up_to_the_target() -> None:
    subject = packer(record_target_bytes=4 * KIB)
    blocks = [block(*lines_of(16, 64)) for _ in range(8)]  # 1 KiB each
    items = pack(subject, blocks)
    assert [item.size for item in items] == [4 * KIB, 4 * KIB]
    check(subject, items, blocks)


def test_a_block_is_cut_at_the_newline_before_the_target() -> None:
    subject = packer(record_target_bytes=KIB)
    blocks = [block(*lines_of(20, 100), source=5, offset=700)]
    items = pack(subject, blocks)
    assert [(item.size, item.lines) for item in items] == [(1000, 10), (1000, 10)]
    assert [(item.source, item.offset) for item in items] == [(5, 700), (5, 1700)]
    check(subject, items, blocks)


def test_a_record_begins_where_its_first_line_does() -> None:
    subject = packer(record_target_bytes=KIB)
    blocks = [
        Block(b"a" * 599 + b"\n", 1, 1, 10, 1.5),
        Block(b"b" * 399 + b"\n" + b"c" * 399 + b"\n", 2, 2, 20, 2.5),
    ]
    items = pack(subject, blocks)
    assert [(i.size, i.source, i.offset, i.received_at) for i in items] == [
        (1000, 1, 10, 1.5),
        (400, 2, 420, 2.5),
    ]


def test_a_line_longer_than_the_target_is_a_record_of_its_own() -> None:
    subject = packer(record_target_bytes=KIB)
    blocks = [block(b"a", b"b" * 2000, b"c"), block(b"d" * 3000)]
    items = pack(subject, blocks)
    assert [item.size for item in items] == [2, 2001, 2, 3001]
    check(subject, items, blocks)


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("packing", ["ndjson", "single", "kpl"])
def test_no_record_exceeds_the_limit_not_even_of_noise(packing: str, compression: str) -> None:
    if packing == "kpl" and compression != "none":
        return
    subject = packer(
        packing=packing, compression=compression, max_record_bytes=8 * KIB,
        record_target_bytes=64 * KIB,
    )  # fmt: skip
    blocks = [block(*noise(300, 100)), block(*noise(9, 8000)), block(*noise(4000, 2))]
    items = pack(subject, blocks)
    assert not any(item.oversized for item in items)
    assert max(len(item.payload) + len(item.key) for item in items) <= 8 * KIB
    check(subject, items, blocks)


def test_records_are_filled_to_the_limit() -> None:
    for packing, least in (("ndjson", 0.95), ("kpl", 0.85)):
        subject = packer(packing=packing, max_record_bytes=100 * KIB)
        items = pack(subject, [block(*lines_of(5000, 290))])
        full = items[:-1]
        assert min(len(item.payload) for item in full) > least * 100 * KIB


@pytest.mark.parametrize("packing", ["ndjson", "single", "kpl"])
def test_a_line_no_record_can_hold_is_an_item_that_says_so(packing: str) -> None:
    subject = packer(packing=packing, max_record_bytes=2 * KIB)
    blocks = [block(b"before", *noise(1, 3 * KIB), b"after")]
    items = pack(subject, blocks)
    assert [item.oversized for item in items] == [False, True, False]
    check(subject, items, blocks)


def test_a_line_that_fits_without_the_id_goes_without() -> None:
    room = 2 * KIB - len(INSTANCE)
    subject = packer(max_record_bytes=2 * KIB)
    blocks = [block(b"x" * (room - 1)), block(b"x" * room)]
    items = pack(subject, blocks)
    assert [item.oversized for item in items] == [False, True]
    assert decode(items[0].payload).record_id is None
    check(subject, items, blocks)


def test_a_large_line_that_compresses_is_no_problem() -> None:
    subject = packer(compression="zstd", max_record_bytes=2 * KIB)
    blocks = [block(b"x" * 1_000_000)]
    (item,) = pack(subject, blocks)
    assert not item.oversized
    check(subject, [item], blocks)


def test_ids_count_up_and_are_another_process_after_a_restore() -> None:
    subject = packer(compression="gzip")
    ids = [decode(pack(subject, [block(b"a")])[0].payload).record_id for _ in range(2)]
    assert ids == ["11" * 16 + "-0", "11" * 16 + "-1"]
    subject.restart("f" * 32)
    (item,) = pack(subject, [block(b"a")])
    assert decode(item.payload).record_id == "22" * 16 + "-0"
    assert item.key == "f" * 32


def test_the_id_can_be_left_out() -> None:
    for keys in ({}, {"compression": "zstd"}, {"packing": "kpl"}):
        (item,) = pack(packer(record_id=False, **keys), [block(b"a", b"b")])
        assert decode(item.payload).record_id is None
    assert pack(packer(record_id=False), [block(b"a", b"b")])[0].payload == b"a\nb\n"


def test_keys_of_instance_and_function() -> None:
    blocks = [block(b"a"), block(b"b")]
    assert [item.key for item in pack(packer(), blocks)] == [INSTANCE]
    assert [i.key for i in pack(packer(partition_key="function"), blocks)] == ["orders"]


def test_a_random_key_is_the_record_id() -> None:
    subject = packer(partition_key="random", packing="single")
    items = pack(subject, [block(b"a", b"b")])
    assert [item.key for item in items] == ["11" * 16 + "-0", "11" * 16 + "-1"]
    assert [item.payload for item in items] == [b"a\n", b"b\n"]


def by_request(blocks: list[Block], **keys: Any) -> list[tuple[str, bytes]]:
    subject = packer(partition_key="request_id", record_id=False, **keys)
    items = pack(subject, blocks)
    check(subject, items, blocks)
    return [(item.key, unpack(item)) for item in items]


def test_keys_by_request_follow_platform_start() -> None:
    first, second = block(b"init", start("r1"), b"one", start("r2")), block(b"two", b"more")
    assert by_request([first, second]) == [
        (INSTANCE, b"init\n"),
        ("r1", start("r1") + b"\none\n"),
        ("r2", start("r2") + b"\ntwo\nmore\n"),
    ]


def test_what_only_mentions_platform_start_changes_no_key() -> None:
    lines = [
        b'{"type":"function","record":"platform.start"}',
        b"platform.start",
        b'{"type":"platform.start","record":{"requestId":5}}',
        b'{"type":"platform.start"}',
        start("x" * 257),
        start("\u00e9").decode().encode(),
    ]
    assert by_request([block(*lines)]) == [(INSTANCE, b"\n".join(lines) + b"\n")]


def test_each_connection_has_its_own_request_and_a_new_one_the_latest() -> None:
    subject = packer(partition_key="request_id", record_id=False)
    pack(subject, [block(start("r1"), source=1), block(start("r2"), source=2)])
    blocks = [block(b"one", source=1), block(b"two", source=2), block(b"new", source=3)]
    assert [(i.key, unpack(i)) for i in pack(subject, blocks)] == [
        ("r1", b"one\n"),
        ("r2", b"two\nnew\n"),
    ]


def test_connections_long_gone_are_forgotten() -> None:
    subject = packer(partition_key="request_id")
    for source in range(1000):
        pack(subject, [block(start(f"r{source}"), source=source)])
    assert len(subject._requests._requests) <= 256


def test_a_request_id_that_is_too_long_is_no_key_and_is_not_remembered() -> None:
    subject = packer(partition_key="request_id", record_id=False)
    blocks = [block(start("r1")), block(start("x" * (MAX_REQUEST_ID + 1)))]
    assert {item.key for item in pack(subject, blocks)} == {"r1"}
    assert set(subject._requests._requests.values()) == {"r1"}


@pytest.mark.parametrize(
    "keys", [{}, {"packing": "single"}, {"compression": "gzip"}, {"partition_key": "request_id"}]
)
def test_added_bytes_are_not_counted_as_received(keys: dict[str, Any]) -> None:
    lines = [*lines_of(30, 100), start("r1"), *lines_of(30, 90)]
    data = b"".join(line + b"\n" for line in lines)
    blocks = [Block(data, len(lines), 1, 500, 0.0, 1234), block(b"more")]
    subject = packer(record_target_bytes=1024, **keys)
    items = pack(subject, blocks)
    check(subject, items, blocks)
    assert all(0 <= item.size <= item.length for item in items)
    offsets = [item.offset for item in items[:-1]]
    assert offsets == sorted(offsets)
    assert offsets[0] == 500

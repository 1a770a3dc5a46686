"""Data of Kinesis records: what is packed is decoded again, and others can read it as well."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
import zlib
from typing import Any

import pytest

from telemetryd_proto import kinesis
from telemetryd_proto.kinesis import (
    Decoded,
    Encoder,
    RecordId,
    UndecodableRecord,
    decode,
    decode_object,
    unwrap,
)

zstandard = pytest.importorskip("zstandard")

ID = RecordId(bytes(range(16)), 42)
ID_TEXT = "000102030405060708090a0b0c0d0e0f-42"
LINES = b'{"type":"function","record":"a"}\n[]\nnot json\n'
TIME = "2026-03-14T10:00:00.000Z"
WAYS = [
    ("ndjson", "none"), ("ndjson", "gzip"), ("ndjson", "zstd"), ("kpl", "none"),
    ("single", "gzip"), ("single", "zstd"),
]  # fmt: skip


def encode(packing: Any, compression: Any, record_id: RecordId | None = ID) -> bytes:
    return Encoder(packing, compression).encode(LINES, record_id=record_id, key="k", time=TIME)


@pytest.mark.parametrize(("packing", "compression"), WAYS)
def test_lines_and_id_come_back(packing: str, compression: str) -> None:
    data = encode(packing, compression)
    assert decode(data) == Decoded(ID_TEXT, LINES.split(b"\n")[:-1])
    assert unwrap(data) == (ID, LINES)


@pytest.mark.parametrize(("packing", "compression"), WAYS)
def test_without_an_id_there_is_none(packing: str, compression: str) -> None:
    data = encode(packing, compression, None)
    assert decode(data) == Decoded(None, LINES.split(b"\n")[:-1])
    assert unwrap(data) == (None, LINES)


def test_a_single_record_is_the_line_itself() -> None:
    assert Encoder("single", "none").encode(b"{}\n", record_id=ID) == b"{}\n"


def test_the_largest_id_is_kept() -> None:
    most = RecordId(b"\xff" * 16, (1 << 64) - 1)
    for packing, compression in WAYS:
        assert unwrap(encode(packing, compression, most))[0] == most


def test_the_id_line_looks_like_a_telemetry_event_and_keeps_its_size() -> None:
    head, _, rest = encode("ndjson", "none", RecordId(b"\0" * 16, (1 << 64) - 1)).partition(b"\n")
    assert rest == LINES
    event = json.loads(head)
    assert event.keys() == {"time", "type", "record"}
    assert (event["time"], event["type"]) == (TIME, "telemetryd.record")
    assert len(head) + 1 <= kinesis.HEADER_BYTES


def test_readers_who_know_nothing_of_ids_get_the_lines() -> None:
    assert gzip.decompress(encode("ndjson", "gzip")) == LINES
    data = encode("ndjson", "zstd")
    assert zstandard.ZstdDecompressor().decompress(data) == LINES
    stream = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)
    assert stream.read() == LINES


def test_concatenated_records_are_one_stream_for_such_readers() -> None:
    assert gzip.decompress(encode("ndjson", "gzip") * 2) == LINES * 2
    twice = encode("ndjson", "zstd") * 2
    stream = zstandard.ZstdDecompressor().stream_reader(twice, read_across_frames=True)
    assert stream.read() == LINES * 2


def test_kpl_is_what_the_format_document_says() -> None:
    message = bytes.fromhex("0a0d706172746974696f6e5f6b6579 1a080800 1a0464617461")
    expected = bytes.fromhex("f3899ac2") + message + hashlib.md5(message).digest()  # noqa: S324 - the format's
    assert expected[-16:].hex() == "d03699da5a222fa32108ad1bd955a14e"
    made = Encoder("kpl", "none").encode(b"data\n", record_id=None, key="partition_key")
    assert made == expected
    assert decode(expected) == Decoded(None, [b"data"])


def test_kpl_of_long_lines_and_an_explicit_hash_key() -> None:
    lines = b"".join(bytes([97 + size % 26]) * size + b"\n" for size in (0, 1, 127, 128, 20_000))
    encoder = Encoder("kpl", "none")
    data = encoder.encode(lines, record_id=ID, key="k", hash_key="123")
    assert unwrap(data) == (ID, lines)
    assert b"\x12\x03123" in data


@pytest.mark.parametrize(
    "message",
    [
        b"\x1a\xff",  # length cut off
        b"\x1a\x7f\x00",  # reaches beyond the end
        b"\x1a\x02\x08\x00",  # no data
        b"\x0b\x00",  # a wire type that is gone from protobuf
        b"\x09\x00",  # fixed64 cut off
        b"\x08" + b"\x80" * 12,  # a number without end
        b"\x1a\x0b\x1a\x00\x22\x07\x0a\x02no\x12\x01\xff\xff",  # a tag's inside
    ],
)
def test_an_aggregate_with_a_right_digest_and_a_wrong_inside_is_refused(message: bytes) -> None:
    data = b"\xf3\x89\x9a\xc2" + message + hashlib.md5(message).digest()  # noqa: S324 - the format's
    with pytest.raises(UndecodableRecord) as caught:
        decode(data)
    assert caught.value.code == "bad_kpl"


def test_an_aggregate_with_a_wrong_digest_is_a_plain_record() -> None:
    data = encode("kpl", "none")
    assert decode(data[:-1] + b"\0") == Decoded(None, (data[:-1] + b"\0").split(b"\n"))


def test_a_foreign_tag_is_not_an_id() -> None:
    tag = b"\x0a\x0dtelemetryd-id\x12\x02no"
    record = b"\x08\x00\x1a\x01x\x22" + bytes([len(tag)]) + tag
    message = b"\x0a\x01k\x1a" + bytes([len(record)]) + record
    data = b"\xf3\x89\x9a\xc2" + message + hashlib.md5(message).digest()  # noqa: S324 - the format's
    assert decode(data) == Decoded(None, [b"x"])


def test_records_of_others_are_decoded() -> None:
    assert decode(b"") == Decoded(None, [])
    assert decode(b"no newline") == Decoded(None, [b"no newline"])
    assert decode(gzip.compress(b"a\nb")) == Decoded(None, [b"a", b"b"])
    assert decode(zstandard.ZstdCompressor().compress(b"a\nb\n")) == Decoded(None, [b"a", b"b"])
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(b"a\n" * 5000)
    assert decode(unsized) == Decoded(None, [b"a"] * 5000)
    foreign_skippable = bytes.fromhex("5f2a4d1802000000") + b"??"
    with_more = zstandard.ZstdCompressor().compress(b"a\n") + foreign_skippable
    assert decode(with_more) == Decoded(None, [b"a"])


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_damage_is_told(compression: Any) -> None:
    whole = encode("ndjson", compression, None)
    for damaged in (
        whole[:-3],
        whole[:12],
        whole[:4],
        whole + b"trailing",
        whole[:4] + b"\xff" * 40,
    ):
        with pytest.raises(UndecodableRecord) as caught:
            decode(damaged)
        assert caught.value.code == f"bad_{compression}"


def test_what_decompresses_to_too_much_is_refused() -> None:
    zeros = b"\0" * 3_000_000
    bombs = [
        gzip.compress(zeros),
        zstandard.ZstdCompressor().compress(zeros),
        zstandard.ZstdCompressor(write_content_size=False).compress(zeros),
    ]
    for bomb in bombs:
        with pytest.raises(UndecodableRecord) as caught:
            decode(bomb, max_bytes=2_999_999)
        assert caught.value.code == "too_large"
        assert decode(bomb, max_bytes=3_000_000).lines == [zeros]


def test_gzip_is_small_and_has_a_right_checksum() -> None:
    data = encode("ndjson", "gzip")
    assert data[-8:-4] == zlib.crc32(LINES).to_bytes(4, "little")
    assert data[-4:] == len(LINES).to_bytes(4, "little")


def test_kpl_can_not_be_compressed() -> None:
    with pytest.raises(ValueError, match="no compression"):
        Encoder("kpl", "zstd")


def test_a_consumer_without_zstandard_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = encode("ndjson", "zstd")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ImportError, match="pip install zstandard"):
        decode(data)


# -- objects of many records ----------------------------------------------------------------------


@pytest.mark.parametrize(("packing", "compression"), WAYS)
def test_more_than_one_record_is_refused_and_read_as_an_object(
    packing: str, compression: str
) -> None:
    second = RecordId(b"\1" * 16, 7)
    body = encode(packing, compression) + encode(packing, compression, second)
    with pytest.raises(UndecodableRecord, match="decode_object") as caught:
        decode(body)
    assert caught.value.code == "several_records"
    lines = LINES.split(b"\n")[:-1]
    assert list(decode_object(body)) == [Decoded(ID_TEXT, lines), Decoded(str(second), lines)]


def test_an_object_of_every_packing_with_and_without_a_newline_between() -> None:
    lines = LINES.split(b"\n")[:-1]
    records = [encode(packing, compression) for packing, compression in WAYS]
    for between in (b"", b"\n"):
        body = between.join(records) + between
        assert list(decode_object(body)) == [Decoded(ID_TEXT, lines)] * len(WAYS)
        assert list(decode_object(gzip.compress(body))) == [Decoded(ID_TEXT, lines)] * len(WAYS)


def test_an_object_of_others_records() -> None:
    zstd = zstandard.ZstdCompressor().compress
    body = b'{"no":"newline"}' + gzip.compress(b"a\n") + b"b\nc\n" + zstd(b"d\n") + zstd(b"e")
    assert [record.lines for record in decode_object(body)] == [
        [b'{"no":"newline"}'], [b"a"], [b"b", b"c"], [b"d"], [b"e"],
    ]  # fmt: skip
    assert list(decode_object(b"")) == list(decode_object(b"\n\n")) == []
    members = gzip.compress(b"a\n") + gzip.compress(b"b\n")
    assert [record.lines for record in decode_object(members)] == [[b"a"], [b"b"]]


def test_a_line_that_quotes_an_id_line_is_a_line() -> None:
    quoted = json.dumps({"type": "function", "record": encode("ndjson", "none").decode()})
    inside = b'{"outer":' + encode("ndjson", "none").split(b"\n")[0] + b"}"
    lines = [quoted.encode(), inside]
    body = b"\n".join(lines) + b"\n"
    assert decode(body) == Decoded(None, lines)
    assert list(decode_object(body)) == [Decoded(None, lines)]


def test_bytes_of_a_magic_in_the_midst_of_a_line_stay_in_it() -> None:
    magics = (b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xf3\x89\x9a\xc2", b"\x50\x2a\x4d\x18")
    line = b"x" + b"y".join(magics * 100)
    assert decode(line + b"\n") == Decoded(None, [line])
    assert list(decode_object(line + b"\n")) == [Decoded(None, [line])]


@pytest.mark.parametrize(("packing", "compression"), WAYS)
def test_damage_in_an_object_is_told_after_what_came_before_it(
    packing: str, compression: str
) -> None:
    if compression == "none":
        return  # nothing shows that lines were cut off; of an aggregate the digest decides
    body = encode(packing, compression) + encode(packing, compression)[:-30]
    records = decode_object(body)
    assert next(records).record_id == ID_TEXT
    with pytest.raises(UndecodableRecord) as caught:
        next(records)
    assert caught.value.code == f"bad_{compression}"


def test_bombs_in_an_object_are_refused_however_they_are_declared() -> None:
    zeros = b"\0" * 3_000_000
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(zeros)
    for bomb in (gzip.compress(zeros), zstandard.ZstdCompressor().compress(zeros), unsized):
        for body in (b"a\n" + bomb, gzip.compress(bomb)):
            with pytest.raises(UndecodableRecord) as caught:
                list(decode_object(body, max_bytes=1_000_000))
            assert caught.value.code == "too_large"
    # an eight-byte content size that lies: 10 bytes, and then blocks of 128 KiB each
    rle = (128 * 1024 << 3 | 1 << 1).to_bytes(3, "little") + b"x"
    liar = b"\x28\xb5\x2f\xfd\xc0\x58" + (10).to_bytes(8, "little") + rle * 10_000
    liar += (1 << 3 | 1).to_bytes(3, "little") + b"y"
    with pytest.raises(UndecodableRecord):
        list(decode_object(liar, max_bytes=1_000_000))


def test_splitting_touches_each_byte_a_bounded_number_of_times() -> None:
    """Counted in bytes hashed, inflated and searched, for objects that double."""

    class Counting(bytes):
        touched = 0

        def find(self, *args: Any) -> int:
            found = super().find(*args)
            Counting.touched += (found if found >= 0 else len(self)) - args[1]
            return found

    def work(body: bytes) -> int:
        Counting.touched = 0
        list(decode_object(Counting(body)))
        return Counting.touched

    for unit in (
        b"a\n" + encode("ndjson", "gzip"),
        encode("ndjson", "none") + encode("kpl", "none"),
        b'"type":"telemetryd.record","record":{"id":"',
        b"x\x1f\x8b\x08y\x28\xb5\x2f\xfd",
    ):
        assert work(unit * 400) <= 2.5 * work(unit * 200)


def test_an_aggregate_in_an_object_with_a_wrong_inside_is_refused() -> None:
    message = b"\x1a\x02\x08\x00"  # a record without data
    damaged = b"\xf3\x89\x9a\xc2" + message + hashlib.md5(message).digest()  # noqa: S324 - the format's
    records = decode_object(encode("ndjson", "gzip") + damaged)
    assert next(records).record_id == ID_TEXT
    with pytest.raises(UndecodableRecord) as caught:
        next(records)
    assert caught.value.code == "bad_kpl"


def test_a_record_with_a_damaged_one_behind_it_is_several() -> None:
    with pytest.raises(UndecodableRecord) as caught:
        decode(encode("ndjson", "gzip") + b"\x1f\x8b\x08 and no more")
    assert caught.value.code == "several_records"


def test_a_skippable_frame_of_others_in_an_object_is_skipped() -> None:
    skippable = bytes.fromhex("5f2a4d1802000000") + b"??"
    body = skippable + gzip.compress(b"a\n") + skippable + b"b\n"
    assert [record.lines for record in decode_object(body)] == [[b"a"], [b"b"]]


@pytest.mark.parametrize("frame", ["28b52ffd", "28b52ffd00", "28b52ffd0058", "28b52ffd0058070000"])
def test_a_zstd_frame_that_is_cut_off_or_of_no_known_type_is_told(frame: str) -> None:
    with pytest.raises(UndecodableRecord) as caught:
        decode(bytes.fromhex(frame))
    assert caught.value.code == "bad_zstd"


def test_an_encoder_is_used_for_many_records() -> None:
    encoder = Encoder("ndjson", "zstd")
    first, second = (encoder.encode(LINES, record_id=ID) for _ in range(2))
    assert first == second


def test_zstd_is_available_where_it_is_installed() -> None:
    assert kinesis.zstd_available() is True

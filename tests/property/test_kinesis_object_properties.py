"""Objects as Firehose writes them: records of any packing, one behind the other, come apart."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd_proto.kinesis import (
    Decoded,
    Encoder,
    RecordId,
    UndecodableRecord,
    decode,
    decode_object,
)

pytest.importorskip("zstandard")

MAGICS = (b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd")
LINE = (
    st.binary(min_size=1, max_size=40)
    .map(lambda line: line.replace(b"\n", b"!"))
    .filter(lambda line: not line.startswith(MAGICS))  # such a line looks like a record
)
WAY = st.sampled_from(
    [
        ("ndjson", "none"), ("ndjson", "gzip"), ("ndjson", "zstd"), ("kpl", "none"),
        ("single", "gzip"), ("single", "zstd"), ("single", "none"),
    ]
)  # fmt: skip
IDS = st.builds(RecordId, st.binary(min_size=16, max_size=16), st.integers(0, (1 << 64) - 1))
RECORD = st.tuples(WAY, st.none() | IDS, st.lists(LINE, min_size=1, max_size=5))


def _merged(records: list[Decoded]) -> list[tuple[str | None, tuple[bytes, ...]]]:
    """Neighbours without an id as one: where they are plain, nothing tells them apart."""
    merged: list[tuple[str | None, tuple[bytes, ...]]] = []
    for record in records:
        if record.record_id is None and merged and merged[-1][0] is None:
            merged[-1] = (None, (*merged[-1][1], *record.lines))
        else:
            merged.append((record.record_id, tuple(record.lines)))
    return merged


@given(st.lists(RECORD, max_size=8), st.booleans(), st.booleans())
def test_every_record_of_an_object_comes_back(
    records: list[Any], delimiter: bool, whole: bool
) -> None:
    expected: list[Decoded] = []
    pieces: list[bytes] = []
    after_plain = False
    for (packing, compression), given_id, lines in records:
        plain = packing != "kpl" and compression == "none"
        record_id = None if packing == "single" and plain else given_id
        data = b"".join(line + b"\n" for line in lines)
        time = "2026-03-14T10:00:00.000Z"
        encoder = Encoder(packing, compression)
        pieces.append(encoder.encode(data, record_id=record_id, key="k", time=time))
        if record_id is None and plain and after_plain:  # it continues with the one before it
            expected[-1] = Decoded(expected[-1].record_id, expected[-1].lines + lines)
        else:
            expected.append(Decoded(None if record_id is None else str(record_id), lines))
        after_plain = plain
    body = (b"\n" if delimiter else b"").join(pieces)
    if whole:
        body = gzip.compress(body)
    assert _merged(list(decode_object(body))) == _merged(expected)


@given(WAY, IDS, WAY, IDS, st.lists(LINE, min_size=1, max_size=5))
def test_decode_refuses_two_records(
    way: Any, record_id: RecordId, second: Any, second_id: RecordId, lines: list[bytes]
) -> None:
    data = b"".join(line + b"\n" for line in lines)
    first, last = (
        Encoder(*each).encode(data, record_id=its_id, key="k", time="2026-03-14T10:00:00.000Z")
        for each, its_id in ((way, record_id), (second, second_id))
    )
    if second == ("single", "none"):
        return  # nothing marks it: such lines may be part of the first, or follow it
    with pytest.raises(UndecodableRecord) as caught:
        decode(first + last)
    assert caught.value.code == "several_records"


@given(st.binary(max_size=300), st.binary(max_size=20))
def test_whatever_the_bytes_splitting_ends_in_records_or_a_refusal(
    data: bytes, more: bytes
) -> None:
    for head in (b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xf3\x89\x9a\xc2", b"a\n"):
        try:
            records = list(decode_object(more + head + data, max_bytes=1 << 16))
        except UndecodableRecord:
            continue
        assert all(isinstance(record, Decoded) for record in records)

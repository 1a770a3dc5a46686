"""Whatever is one behind the other, and however it is read: the content, once, in order."""

from __future__ import annotations

import gzip
import io
import zlib
from tempfile import TemporaryFile

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.replay.sources import Source
from telemetryd.unpack import DamagedFileError, Unpacked

PIECE = st.tuples(
    st.sampled_from(["gzip", "zstd"]), st.binary(max_size=40), st.integers(1, 20_000)
).map(lambda drawn: (drawn[0], drawn[1] * drawn[2]))


def packed(pieces: list[tuple[str, bytes]]) -> bytes:
    zstd = zstandard.ZstdCompressor().compress
    return b"".join(gzip.compress(p, 1) if kind == "gzip" else zstd(p) for kind, p in pieces)


@given(
    st.lists(PIECE, min_size=1, max_size=5),
    st.binary(max_size=20),
    st.sampled_from([1, 1000, 1 << 20]),
    st.sampled_from([3, 50_000, 1 << 20]),
)
def test_all_of_it_comes_once(
    pieces: list[tuple[str, bytes]], plain: bytes, size: int, step: int
) -> None:
    whole = b"".join(piece for _, piece in pieces)
    plain = b"{" + plain
    source = io.BytesIO(packed(pieces) + plain)
    stream = Unpacked(lambda asked: source.read(min(asked, step)))
    size = size if len(whole) < 10_000 else max(size, 1000)
    assert b"".join(iter(lambda: stream.read(size), b"")) == whole + plain
    assert stream.whole[0] == len(whole)


@given(st.lists(PIECE, min_size=1, max_size=3), st.floats(0, 1))
def test_a_file_is_read_from_any_place_on(pieces: list[tuple[str, bytes]], part: float) -> None:
    pieces = [("gzip", b"{"), *pieces]  # what begins as an archive does is refused
    whole = b"".join(piece for _, piece in pieces)
    start = int(part * len(whole))
    with TemporaryFile() as file:
        file.write(packed(pieces))
        file.seek(0)
        with Source(file.fileno(), start) as source:
            assert b"".join(iter(lambda: source.read(1 << 20), b"")) == whole[start:]


@given(st.lists(PIECE, min_size=1, max_size=3), st.integers(1, 30))
def test_what_is_cut_off_is_never_taken_for_whole(
    pieces: list[tuple[str, bytes]], cut: int
) -> None:
    whole = b"".join(piece for _, piece in pieces)
    data = packed(pieces)
    *before, _ = pieces
    most = len(data) - len(packed(before)) - 5  # of what is left the magic tells what it is
    source = io.BytesIO(data[: len(data) - min(cut, most)])
    stream = Unpacked(source.read)
    read = b""
    with pytest.raises(DamagedFileError, match="cut off"):  # noqa: PT012 - at whichever read it is met
        while piece := stream.read(1 << 16):
            read += piece
    assert whole.startswith(read)
    assert stream.whole[0] == sum(len(piece) for _, piece in before)


def test_of_many_small_members_no_byte_is_handed_to_zlib_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The work for a member is that of a small step, not of all that was read behind it."""
    given_bytes = 0
    make = zlib.decompressobj

    class Counted:
        def __init__(self, window: int) -> None:
            self._real = make(window)

        def decompress(self, data: bytes, size: int) -> bytes:
            nonlocal given_bytes
            given_bytes += len(data)
            return self._real.decompress(data, size)

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

    monkeypatch.setattr("telemetryd.unpack.zlib.decompressobj", Counted)
    member = gzip.compress(b'{"n":1}\n')
    stream = Unpacked(io.BytesIO(member * 5000).read)
    reads = list(iter(lambda: stream.read(1 << 20), b""))
    assert b"".join(reads) == b'{"n":1}\n' * 5000
    assert len(reads) < 10
    assert given_bytes < 5000 * 1024

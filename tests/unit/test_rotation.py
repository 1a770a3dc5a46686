"""Rotated files: names in order, compression that can't lose the original, and keep-N."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import zstandard

from telemetryd.sinks._rotation import compress, delete_old, rotate, zstd_available

NOON = 1773489600.25
STAMP = "20260314T120000"


def unpack(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data


def test_a_rotated_file_is_named_by_the_time(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"lines\n")
    assert rotate(str(path), NOON) == f"{path}.{STAMP}.250000Z"
    assert not path.exists()
    assert Path(f"{path}.{STAMP}.250000Z").read_bytes() == b"lines\n"


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_no_rotated_file_is_overwritten(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"new\n")
    there = Path(f"{path}.{STAMP}.250000Z{ending}")
    there.write_bytes(b"old\n")
    rotated = rotate(str(path), NOON)
    assert rotated > str(there).removesuffix(ending)
    assert there.read_bytes() == b"old\n"
    assert Path(rotated).read_bytes() == b"new\n"


@pytest.mark.parametrize(("compression", "ending"), [("gzip", ".gz"), ("zstd", ".zst")])
def test_compression_replaces_the_file(tmp_path: Path, compression: str, ending: str) -> None:
    path = tmp_path / "rotated"
    data = b"".join(b'{"id":%d}\n' % number for number in range(50_000))
    path.write_bytes(data)
    compress(str(path), compression)  # type: ignore[arg-type]  # one of its literals
    (packed,) = tmp_path.iterdir()
    assert packed.name == "rotated" + ending
    assert unpack(packed) == data
    assert packed.stat().st_size < len(data) / 3
    assert packed.stat().st_mode & 0o777 == 0o600


def test_an_empty_file_and_a_leftover_of_a_crash_compress(tmp_path: Path) -> None:
    path = tmp_path / "rotated"
    path.write_bytes(b"")
    Path(f"{path}.gz.partial").write_bytes(b"garbage of an earlier run")
    compress(str(path), "gzip")
    assert [entry.name for entry in tmp_path.iterdir()] == ["rotated.gz"]
    assert unpack(tmp_path / "rotated.gz") == b""


def test_compression_that_finds_no_room_leaves_the_original_and_nothing_else(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rotated"
    data = os.urandom(100_000)
    path.write_bytes(data)
    code = """
        import resource, sys
        from telemetryd.sinks._rotation import compress
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        for compression in ("gzip", "zstd"):
            try:
                compress(sys.argv[1], compression)
            except OSError:
                continue
            raise AssertionError(compression)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)], check=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["rotated"]
    assert path.read_bytes() == data


def test_a_file_that_vanished_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        compress(str(tmp_path / "gone"), "gzip")
    assert list(tmp_path.iterdir()) == []


def test_only_the_oldest_rotated_files_of_this_path_are_deleted(tmp_path: Path) -> None:
    rotated = [
        f"out.{STAMP}.000001Z",
        f"out.{STAMP}.000002Z.gz",
        f"out.{STAMP}.000003Z.zst",
        f"out.{STAMP}.000004Z",
    ]
    others = [
        "out",
        "out.old",
        f"out.{STAMP}Z",
        f"out.{STAMP}.000000Z.bak",
        f"out.{STAMP}.000000Z.gz.partial",
        f"out2.{STAMP}.000000Z",
        f"other.out.{STAMP}.000000Z",
    ]
    for name in rotated + others:
        (tmp_path / name).write_bytes(b"")
    path = str(tmp_path / "out")
    assert delete_old(path, 4) == []
    assert delete_old(path, 2) == rotated[:2]
    assert {entry.name for entry in tmp_path.iterdir()} == {*rotated[2:], *others}


def test_zstd_is_known_to_be_there() -> None:
    assert zstd_available()

"""Rotated files: names in order, compression that can't lose the original, and keep-N."""

from __future__ import annotations

import fcntl
import gzip
import io
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import zstandard

from telemetryd.sinks.file.rotation import (
    CutOffError,
    compress,
    delete_old,
    find_unfinished,
    rotate,
    zstd_available,
)
from telemetryd.unpack import Unpacked

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
        from telemetryd.sinks.file.rotation import compress
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


# -- what other processes, other clocks and other users have left ----------------------------------


def test_names_go_on_behind_those_of_a_clock_that_was_ahead(tmp_path: Path) -> None:
    path = tmp_path / "out"
    (tmp_path / "out.20990101T000000.000001Z").write_bytes(b"0")
    for number in (b"1", b"2", b"3"):
        path.write_bytes(number)
        rotate(str(path), NOON)
    deleted = delete_old(str(path), 2)
    assert len(deleted) == 2
    contents = [each.read_bytes() for each in sorted(tmp_path.iterdir())]
    assert contents == [b"2", b"3"]


@pytest.mark.parametrize(
    "stamp", ["20260199T990000.000000Z", "00000000T000000.000000Z", "99991231T235959.999999Z"]
)
def test_names_that_are_no_time_are_passed_over(tmp_path: Path, stamp: str) -> None:
    path = tmp_path / "out"
    (tmp_path / f"out.{stamp}").write_bytes(b"0")
    path.write_bytes(b"1")
    assert rotate(str(path), NOON) == f"{path}.{STAMP}.250000Z"


@pytest.mark.parametrize(("compression", "ending"), [("gzip", ".gz"), ("zstd", ".zst")])
def test_compression_that_is_cut_off_goes_on_where_it_was(
    tmp_path: Path, compression: Any, ending: str
) -> None:
    path = tmp_path / "rotated"
    data = os.urandom(1 << 19) * 80  # 40 MiB: three members
    path.write_bytes(data)
    asked = 0

    def is_stopped() -> bool:
        nonlocal asked
        asked += 1
        return asked > 80  # in the second member of those to be made

    with pytest.raises(CutOffError):
        compress(str(path), compression, is_stopped)
    assert path.read_bytes() == data
    partial = tmp_path / f"rotated{ending}.partial"
    whole = partial.stat().st_size
    asked = 0
    with pytest.raises(CutOffError):
        compress(str(path), compression, is_stopped)
    assert partial.stat().st_size > whole
    compress(str(path), compression)
    assert [entry.name for entry in tmp_path.iterdir()] == [f"rotated{ending}"]
    packed = (tmp_path / f"rotated{ending}").read_bytes()
    stream = Unpacked(io.BytesIO(packed).read)
    assert b"".join(iter(lambda: stream.read(1 << 20), b"")) == data


def test_a_partial_of_other_content_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "rotated"
    path.write_bytes(b"lines\n" * 1000)
    (tmp_path / "rotated.gz.partial").write_bytes(gzip.compress(b"lines\nother\n"))
    compress(str(path), "gzip")
    assert unpack(tmp_path / "rotated.gz") == b"lines\n" * 1000


def test_a_compressed_file_whose_original_is_still_there_is_not_lost_nor_doubled(
    tmp_path: Path,
) -> None:
    path = tmp_path / "out-2026-03-14"
    path.write_bytes(b"one\n")
    Path(f"{path}.gz").write_bytes(gzip.compress(b"one\n"))
    compress(str(path), "gzip")  # only the removal was missing
    assert [unpack(entry) for entry in tmp_path.iterdir()] == [b"one\n"]
    path.write_bytes(b"two\n")  # the clock went back to that day
    compress(str(path), "gzip")
    assert sorted(unpack(entry) for entry in tmp_path.iterdir()) == [b"one\n", b"two\n"]


def test_two_processes_do_not_compress_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "rotated"
    path.write_bytes(b"lines\n")
    with (tmp_path / "rotated.gz.partial").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        compress(str(path), "gzip")
        assert path.read_bytes() == b"lines\n"
        assert list(find_unfinished([str(path)], str(path), "gzip", whole_files=False)) == []
        assert (tmp_path / "rotated.gz.partial").exists()


def test_what_is_unfinished_is_found_and_what_is_of_no_use_removed(tmp_path: Path) -> None:
    current, other, busy = (str(tmp_path / f"out-{day}") for day in ("3", "2", "1"))
    names = [
        "out-3", f"out-3.{STAMP}.000001Z", f"out-3.{STAMP}.000001Z.gz.partial",
        f"out-3.{STAMP}.000001Z.zst.partial", f"out-3.{STAMP}.000000Z.gz",
        f"out-3.{STAMP}.000002Z.gz.partial", "out-2", "out-2.gz.partial", "out-1",
        f"out-1.{STAMP}.000001Z", "out-3.old", "out-3.gz.partial",
    ]  # fmt: skip
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with open(busy, "rb") as file:  # noqa: PTH123
        fcntl.flock(file, fcntl.LOCK_EX)
        found = list(find_unfinished([busy, other, current], current, "gzip", whole_files=True))
    assert found == [other, f"{current}.{STAMP}.000001Z"]
    gone = {
        f"out-3.{STAMP}.000001Z.zst.partial", f"out-3.{STAMP}.000002Z.gz.partial",
        "out-3.gz.partial",
    }  # fmt: skip
    assert {entry.name for entry in tmp_path.iterdir()} == set(names) - gone


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_in_a_shared_directory_files_of_others_do_not_count(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    planted = tmp_path / "out.20990101T000000.000001Z"
    planted.write_bytes(b"theirs\n")
    os.chown(planted, 12345, 12345)
    path = tmp_path / "out"
    path.write_bytes(b"ours\n")
    assert rotate(str(path), NOON) == f"{path}.{STAMP}.250000Z"
    assert delete_old(str(path), 1) == []
    assert list(find_unfinished([str(path)], str(path), "gzip", whole_files=False)) == [
        f"{path}.{STAMP}.250000Z"
    ]
    with pytest.raises(PermissionError, match="belongs to another user"):
        compress(str(planted), "gzip")

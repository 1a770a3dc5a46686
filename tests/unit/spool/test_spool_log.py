"""The spool's files: what is put in comes out, in order, whatever is cut off or damaged."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from telemetryd.core.ledger import Count
from telemetryd.core.spool_format import (
    HEADER_BYTES,
    RECORD_MAGIC,
    SEGMENT_BYTES,
    Record,
    encode_record,
    next_header,
)
from telemetryd.spool.segment_log import SpoolLog

MIB = 1 << 20


def record(number: int, size: int = 10) -> Record:
    return Record(b"%d" % number + b"x" * size, lines=number, size=2 * number, at_ms=1000 + number)


def opened(path: Path, *, max_bytes: int = 64 * MIB) -> SpoolLog:
    log = SpoolLog(str(path), max_bytes=max_bytes)
    log.open()
    return log


def drained(log: SpoolLog, max_bytes: int = 64) -> list[Record]:
    found: list[Record] = []
    while True:
        _, records = log.take(max_bytes)
        found += records
        log.settle()
        if not records:
            return found


def files(path: Path) -> list[Path]:
    return sorted(path.glob("*.spool"))


def test_nothing_is_on_disk_until_it_is_opened(tmp_path: Path) -> None:
    log = SpoolLog(str(tmp_path / "s"), max_bytes=MIB)
    assert not log.exists()
    assert list(tmp_path.iterdir()) == []


def test_what_is_appended_is_taken_in_order_and_its_files_are_gone(tmp_path: Path) -> None:
    log = opened(tmp_path)
    records = [record(n) for n in range(1, 50)]
    for each in records:
        log.append(each)
    assert log.count == Count(sum(range(50)), 2 * sum(range(50)))
    assert drained(log) == records
    assert log.count == Count()
    assert files(tmp_path) == []


def test_what_is_put_back_comes_first(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for number in (1, 2, 3):
        log.append(record(number))
    _, taken = log.take(1)
    assert taken == [record(1)]
    log.put_back([record(8), record(9)])
    log.settle()
    log.append(record(4))
    assert drained(log) == [record(n) for n in (8, 9, 2, 3, 4)]


def test_a_file_is_gone_when_all_of_it_is_settled_wherever_it_is(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.append(record(1))
    log.take(1)
    log.put_back([record(1)])
    log.settle()
    assert len(files(tmp_path)) == 1
    assert drained(log) == [record(1)]


def test_a_batch_takes_at_least_one_and_no_more_than_asked_for(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for number in range(5):
        log.append(record(number, size=99))
    assert len(log.take(1).records) == 1
    log.settle()
    assert len(log.take(200).records) == 2
    log.settle()
    assert len(log.take(10_000).records) == 2


def test_the_age_is_that_of_what_is_not_settled(tmp_path: Path) -> None:
    """Through deliveries, what is put back, and the next process."""
    log = opened(tmp_path)
    empty = log.oldest_ms
    assert empty is None
    for number in range(1, 5):
        log.append(record(number))
    assert log.oldest_ms == 1001
    log.take(22)
    assert log.oldest_ms == 1001
    log.settle()
    assert log.oldest_ms == 1003
    log.put_back([record(2)])
    assert log.oldest_ms == 1002
    log.close()
    log = opened(tmp_path)
    assert log.oldest_ms == 1002
    assert len(drained(log)) == 3
    assert log.oldest_ms is None


def test_the_next_process_finds_what_was_not_settled_with_the_same_ids(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for number in range(1, 7):
        log.append(record(number))
    log.take(22)
    log.settle()
    first = log.take(22)
    log.close()  # as a kill would leave it
    again = opened(tmp_path)
    assert again.count == Count(3 + 4 + 5 + 6, 2 * (3 + 4 + 5 + 6))
    assert again.take(22) == first
    again.settle()
    assert drained(again) == [record(5), record(6)]


def test_only_one_process_has_it_open(tmp_path: Path) -> None:
    log = opened(tmp_path)
    with pytest.raises(BlockingIOError):
        opened(tmp_path)
    log.close()
    opened(tmp_path).close()


def test_files_are_for_nobody_else(tmp_path: Path) -> None:
    log = opened(tmp_path / "new")
    log.append(record(1))
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "new").iterdir()} == {0o600}


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        opened(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_end_costs_the_last_record_only(tmp_path: Path, cut: int) -> None:
    log = opened(tmp_path)
    for number in (1, 2, 3):
        log.append(record(number))
    log.close()
    (file,) = files(tmp_path)
    size = len(encode_record(record(3)))
    os.truncate(file, file.stat().st_size - min(cut, size))
    again = opened(tmp_path)
    assert again.count == Count(3, 6)
    assert again.damaged_bytes == size - min(cut, size)
    assert drained(again) == [record(1), record(2)]


@pytest.mark.parametrize("at", ["header", "payload"])
def test_a_damaged_record_costs_itself_and_not_its_neighbours(tmp_path: Path, at: str) -> None:
    log = opened(tmp_path)
    for number in (1, 2, 3):
        log.append(record(number))
    log.close()
    (file,) = files(tmp_path)
    data = bytearray(file.read_bytes())
    second = SEGMENT_BYTES + len(encode_record(record(1)))
    data[second + (6 if at == "header" else HEADER_BYTES + 3)] ^= 0x40
    file.write_bytes(data)
    again = opened(tmp_path)
    if at == "header":  # whose lines no one can count
        assert again.damaged_bytes == len(encode_record(record(2)))
        assert drained(again) == [record(1), record(3)]
    else:
        assert again.damaged_bytes == 0
        assert again.count == Count(6, 12)
        assert drained(again) == [record(1), Record(None, 2, 4, 1002), record(3)]


def test_a_payload_that_looks_like_a_header_is_not_one(tmp_path: Path) -> None:
    log = opened(tmp_path)
    inner = Record(encode_record(record(7)), 1, 1, 1)
    log.append(inner)
    log.append(record(2))
    assert drained(log) == [inner, record(2)]


def test_files_that_are_no_segments_are_left_alone(tmp_path: Path) -> None:
    for name in ("notes.txt", "5.spool", "notes.spool"):
        (tmp_path / name).write_text("mine")
    log = opened(tmp_path)
    assert log.count == Count()
    log.append(record(1))
    assert drained(log) == [record(1)]
    for name in ("notes.txt", "5.spool", "notes.spool"):
        assert (tmp_path / name).read_text() == "mine"


def test_a_file_in_which_nothing_is_intact_is_counted_once(tmp_path: Path) -> None:
    """Overwritten from its first byte: what it held can't be told, but that it held something."""
    log = opened(tmp_path)
    log.append(record(1))
    log.close()
    (file,) = files(tmp_path)
    size = file.stat().st_size
    file.write_bytes(bytes(size))
    again = opened(tmp_path)
    assert again.damaged_bytes == size - SEGMENT_BYTES
    assert files(tmp_path) == []
    again.close()
    assert opened(tmp_path).damaged_bytes == 0


@pytest.mark.parametrize("content", [b"", b"tldspoo", b"not a segment, but longer than a header"])
def test_a_file_that_is_none_is_not_in_the_way(tmp_path: Path, content: bytes) -> None:
    """A kill between the making of a file and its first byte leaves one under the first number."""
    (tmp_path / f"{1 << 32:016x}.spool").write_bytes(content)
    log = opened(tmp_path)
    log.append(record(2))
    log.put_back([record(1)])
    assert drained(log) == [record(1), record(2)]


@pytest.mark.parametrize("at", [0, 8, 12, 20])
def test_damage_to_a_segments_own_header_costs_no_record(tmp_path: Path, at: int) -> None:
    """Some may be delivered a second time."""
    log = opened(tmp_path)
    for number in (1, 2, 3):
        log.append(record(number))
    log.take(1)
    log.settle()
    log.close()
    (file,) = files(tmp_path)
    data = bytearray(file.read_bytes())
    data[at] ^= 0x40
    file.write_bytes(data)
    again = opened(tmp_path)
    assert again.damaged_bytes == 0
    assert drained(again)[-2:] == [record(2), record(3)]


def test_what_can_not_be_opened_costs_itself(tmp_path: Path) -> None:
    errors: list[OSError] = []
    (tmp_path / f"{7:016x}.spool").symlink_to("/dev/zero")
    log = SpoolLog(str(tmp_path), max_bytes=MIB, on_error=errors.append)
    log.open()
    log.append(record(1))
    assert drained(log) == [record(1)]
    assert len(errors) == 1


def test_a_large_spool_needs_few_descriptors(tmp_path: Path) -> None:
    log = opened(tmp_path, max_bytes=8 * 200)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(300):
        log.append(record(number, size=60))
    log.close()
    again = opened(tmp_path)
    assert len(files(tmp_path)) > 100
    assert len(list(Path("/proc/self/fd").iterdir())) - before < 5
    assert len(drained(again)) == 300


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s").chmod(0o777)
    with pytest.raises(PermissionError, match="others may write"):
        opened(tmp_path / "s")


def test_the_oldest_segment_is_evicted_and_never_what_is_taken(tmp_path: Path) -> None:
    log = opened(tmp_path, max_bytes=8 * 200)
    for number in range(6):  # two in a segment
        log.append(record(number, size=60))
    assert len(files(tmp_path)) == 3
    _, taken = log.take(1)
    assert taken == [record(0, 60)]
    assert log.evict() == [record(2, 60), record(3, 60)]
    log.settle()
    assert log.evict() == [record(1, 60)]
    assert drained(log) == [record(4, 60), record(5, 60)]
    assert log.evict() is None


def test_a_header_is_looked_for_behind_what_only_begins_like_one() -> None:
    whole = encode_record(record(1))
    assert next_header(RECORD_MAGIC + b"no header" + whole, 0) == len(RECORD_MAGIC) + 9
    assert next_header(RECORD_MAGIC * 3, 0) == -1

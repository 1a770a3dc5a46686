"""A disk that is really full: the file sink and the dead letter on a 1-MiB tmpfs."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from telemetryd.sinks.file.append_file import AppendFile
from telemetryd.sinks.file.sink import FileConfig, FileSink
from telemetryd.testing import (
    LOOPS,
    LogBook,
    LoopFactory,
    Rig,
    block,
    context,
    data_of,
    dead_letter_at,
    run,
)

pytestmark = pytest.mark.system

MIB = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted tmpfs of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "telemetryd-test", str(disk)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        reason = done.stderr.strip() if done.returncode else ""
    except FileNotFoundError:
        reason = "there is no `mount` command (Debian: apt-get install mount)"
    if reason:
        pytest.fail(
            f"missing: a 1-MiB tmpfs to fill up ({reason}). Run `make test-system` as root; in a "
            "container, start it with the capability SYS_ADMIN (--cap-add SYS_ADMIN).",
            pytrace=False,
        )
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Take all space of `disk` but `leave` bytes, which must be whole pages."""
    ballast = disk / "ballast"
    status = os.statvfs(disk)
    ballast.write_bytes(b"\0" * (status.f_bavail * status.f_bsize - leave))
    return ballast


@LOOPS
def test_delivery_resumes_when_space_returns_and_nothing_is_torn(
    small_disk: Path, loop_factory: LoopFactory
) -> None:
    path = small_disk / "out"
    config = msgspec.convert({"type": "file", "path": str(path)}, FileConfig)
    log = LogBook()
    rig = Rig(FileSink(config, context(log)), config, log=log)
    blocks = [block(b"%04d" % number + b"x" * 2995) for number in range(100)]

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(blocks[:2])
        assert await rig.flush()
        ballast = fill(small_disk, 16_384)
        retried = asyncio.Event()
        log.on_event["write_retried"] = retried.set
        rig.offer(blocks[2:])
        await retried.wait()
        rig.check_balance()
        assert 2 < rig.account.delivered.lines < 100
        assert path.read_bytes() == data_of(blocks[: rig.account.delivered.lines])
        ballast.unlink()
        assert await rig.flush()
        await rig.stop()

    run(loop_factory, scenario())
    rig.check_end()
    assert rig.lines() == {"delivered": 100}
    assert path.read_bytes() == data_of(blocks)
    reports = [*log.facts("write_retried"), *log.facts("write_failed")]
    assert {facts["code"] for facts in reports} == {"disk_full"}


def test_lines_are_dropped_with_their_reason_when_it_stays_full(small_disk: Path) -> None:
    path = small_disk / "out"
    config = msgspec.convert(
        {"type": "file", "path": str(path), "retry_max_elapsed_ms": 200}, FileConfig
    )
    log = LogBook()
    letter = dead_letter_at(small_disk / "dead", log)
    rig = Rig(FileSink(config, context(log)), config, log=log, dead_letter=letter)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer([block(b"first")])
        assert await rig.flush()
        ballast = fill(small_disk, 0)
        rig.offer([block(b"y" * 100_000)])
        assert await rig.flush()
        ballast.unlink()
        rig.offer([block(b"last")])
        assert await rig.flush()
        await rig.stop()

    run(asyncio.new_event_loop, scenario())
    letter.close()
    rig.check_end()
    assert rig.lines() == {"delivered": 2, "dropped.disk_full": 1}
    assert path.read_bytes() == b"first\nlast\n"
    assert log.facts("dead_letter_failed")


def test_stopping_while_the_disk_is_full_says_so(small_disk: Path) -> None:
    config = msgspec.convert({"type": "file", "path": str(small_disk / "out")}, FileConfig)
    log = LogBook()
    rig = Rig(FileSink(config, context(log)), config, log=log)

    async def scenario() -> None:
        rig.worker.start()
        fill(small_disk, 0)
        rig.offer([block(b"z" * 10_000)])
        await rig.stop(0.5)

    run(asyncio.new_event_loop, scenario())
    rig.check_end()
    assert rig.lines() == {"dropped.disk_full": 1}


def test_rotation_without_room_to_compress_keeps_the_rotated_file(small_disk: Path) -> None:
    path = small_disk / "out"
    config = msgspec.convert(
        {"type": "file", "path": str(path), "rotate_bytes": 300_000, "compression": "gzip"},
        FileConfig,
    )
    log = LogBook()
    rig = Rig(FileSink(config, context(log)), config, log=log)
    noise = os.urandom(150_000).hex().encode()
    blocks = [block(noise[:299_000]), block(b"next")]

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(blocks[:1])
        assert await rig.flush()
        rotated = asyncio.Event()
        log.on_event["rotation_failed"] = rotated.set
        fill(small_disk, 16_384)
        rig.offer([block(b"next" * 1000)])
        assert await rig.flush()
        await rotated.wait()
        await rig.stop()

    run(asyncio.new_event_loop, scenario())
    rig.check_end()
    (rotated,) = small_disk.glob("out.*")
    assert rotated.read_bytes() == blocks[0].data
    assert path.read_bytes() == b"next" * 1000 + b"\n"


def test_the_dead_letter_leaves_no_torn_record_on_a_full_disk(small_disk: Path) -> None:
    path = small_disk / "dead"
    letter = dead_letter_at(path)
    assert letter.keep(b"first\n", reason="x")
    ballast = fill(small_disk, 8192)
    assert not letter.keep(b"x" * 20_000 + b"\n", reason="x")
    assert letter.keep(b"small\n", reason="x")
    ballast.unlink()
    assert letter.keep(b"last\n", reason="x")
    letter.close()
    records = [json.loads(record)["data"] for record in path.read_bytes().splitlines()]
    assert records == ["first\n", "small\n", "last\n"]


def test_an_append_only_file_takes_lines_and_its_torn_end_is_ended(tmp_path: Path) -> None:
    """`chattr +a`: nothing can be cut off, so a torn line is ended with a newline instead."""
    path = tmp_path / "out"
    path.write_bytes(b"whole\ntorn")
    done = subprocess.run(["chattr", "+a", str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(
            f"missing: `chattr +a` on {tmp_path} ({done.stderr.strip()}). Run `make test-system` "
            "as root, with TMPDIR on ext4, xfs or btrfs.",
            pytrace=False,
        )
    kept: list[bytes] = []

    def salvage(data: bytes, reason: str) -> bool:
        kept.append(data)
        return True

    try:
        for number in range(2):
            file = AppendFile(str(path), salvage)
            assert file.append([b"line %d\n" % number]) == (1, None)
            file.close()
    finally:
        subprocess.run(["chattr", "-a", str(path)], check=True)
    assert kept == [b"torn"]
    assert path.read_bytes() == b"whole\ntorn\nline 0\nline 1\n"

"""A sink's spool in trouble: every line stays counted, and trouble costs no more than it must."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from telemetryd.core.breaker import FAILURES
from telemetryd.core.ledger import Count, SinkAccount
from telemetryd.core.spool_format import SEGMENT_BYTES
from telemetryd.errors import TransientSinkError
from telemetryd.sinks.base import (
    DELIVERED,
    MIB,
    Batch,
    Item,
    Sink,
    SinkConfig,
    SpoolConfig,
    WriteResult,
)
from telemetryd.spool.segment_log import SpoolLog
from telemetryd.spool.sink_spool import SinkSpool
from telemetryd.testing import JumpingLoop, LogBook, Rig, block, context, run
from telemetryd_proto.framing import Block


class Spooling:
    """A spool, its account, and what it lost."""

    def __init__(
        self, path: Path, item_type: type[Item] = Item, *, wants_data: bool = True, **keys: Any
    ) -> None:
        self.account = SinkAccount()
        self.log = LogBook()
        self.lost: list[tuple[bytes, str]] = []
        self.lost_unread: list[tuple[int, str]] = []
        self.spool = SinkSpool(
            "s",
            SpoolConfig(path=str(path), **keys),
            item_type,
            self.account,
            lose=lambda item, reason: self.lost.append((item.payload, reason)),
            lose_unread=lambda lines, _, reason: self.lost_unread.append((lines, reason)),
            wants_data=lambda: wants_data,
            log=self.log,
            sink_type="t",
        )
        self.spool.recover()


def item(number: int, *, lines: int = 1, age: float = 0.0) -> Item:
    payload = b"%d\n" % number
    return Item(payload, lines, len(payload) * lines, received_at=time.monotonic() - age)


def payloads(items: list[Item]) -> list[bytes]:
    return [each.payload for each in items]


def files(path: Path) -> list[Path]:
    return sorted((path / "s.t").glob("*.spool"))


def test_the_log_tells_of_it_now_and_then_and_of_all_lines(tmp_path: Path) -> None:
    """In an outage every block is spooled: a log line for each would cost more than it says."""
    s = Spooling(tmp_path)
    for number in range(100):
        s.spool.put([item(number)])
    assert [each["lines"] for each in s.log.facts("lines_spooled")] == [1]
    s.spool.close()
    first, rest = s.log.facts("lines_spooled")
    assert (rest["lines"], rest["on_disk"]) == (99, 100)
    assert first["sink"] == "s"


def test_what_is_too_old_takes_nothing_young_with_it(tmp_path: Path) -> None:
    """While a batch of the oldest file is on its way, that file can't be given up."""
    s = Spooling(tmp_path, max_age_ms=1000)
    s.spool.put([item(1, age=10.0)])
    assert s.spool.take(MIB)[1] == []
    s.spool.put([item(2), item(3), item(4)])
    assert s.lost == [(b"1\n", "spool_expired")]
    s.spool.settle()
    assert payloads(s.spool.take(MIB)[1]) == [b"2\n", b"3\n", b"4\n"]


def test_a_batch_that_failed_stays_where_it_is_with_its_id(tmp_path: Path) -> None:
    """It is not written a second time, for which there may be no room."""
    s = Spooling(tmp_path)
    s.spool.put([item(1), item(2)])
    batch_id, items = s.spool.take(MIB)
    (before,) = files(tmp_path)
    s.spool.put_back(items)
    s.spool.settle()
    assert files(tmp_path) == [before]
    assert s.account.spooled == Count(2, 4)
    again_id, again = s.spool.take(MIB)
    assert (again_id, payloads(again)) == (batch_id, payloads(items))


def test_of_a_batch_that_was_taken_in_part_the_rest_comes_first(tmp_path: Path) -> None:
    s = Spooling(tmp_path)
    s.spool.put([item(1), item(2), item(3)])
    _, items = s.spool.take(2)
    assert payloads(items) == [b"1\n"]
    s.spool.settle()
    _, items = s.spool.take(MIB)
    s.spool.put_back(items[:1])
    s.spool.settle()
    assert payloads(s.spool.take(MIB)[1]) == [b"2\n"]
    assert s.account.spooled == Count(0, 0)


def test_items_of_the_sinks_own_wait_as_well(tmp_path: Path) -> None:
    """They stand for no line, and are no reason to call the spool empty."""
    s = Spooling(tmp_path)
    s.spool.put_back([Item(b"own", 0, 0, received_at=time.monotonic())])
    s.spool.close()
    again = Spooling(tmp_path)
    assert not again.spool.is_empty
    assert payloads(again.spool.take(MIB)[1]) == [b"own"]
    again.spool.settle()
    assert again.spool.is_empty


def test_lines_that_vanish_from_the_disk_are_counted(tmp_path: Path) -> None:
    """Somebody cuts the file: the spool is empty then, and the books balance."""
    s = Spooling(tmp_path)
    s.spool.put([item(1, lines=2), item(2, lines=3)])
    (file,) = files(tmp_path)
    os.truncate(file, SEGMENT_BYTES)
    assert s.spool.take(MIB)[1] == []
    assert s.lost_unread == [(5, "spool_damaged")]
    assert s.account.spooled == Count()
    assert s.spool.is_empty


def test_a_file_that_can_not_be_read_costs_its_own_lines(tmp_path: Path) -> None:
    s = Spooling(tmp_path, max_bytes=MIB)
    for number in range(3):  # each fills a file
        s.spool.put([Item(b"%d" % number + b"x" * (MIB // 8), 1, 1, received_at=time.monotonic())])
    first, *_ = files(tmp_path)
    first.unlink()
    first.mkdir()
    s.spool.close()
    again = Spooling(tmp_path, max_bytes=MIB)
    assert again.account.recovered.lines == 2
    assert again.log.facts("spool_failed")
    assert [each[:1] for each in payloads(again.spool.take(10 * MIB)[1])] == [b"1"]


def test_a_directory_that_is_deleted_is_made_again(tmp_path: Path) -> None:
    """`/tmp` is the function's as well, which may tidy it up; what was there is counted."""
    s = Spooling(tmp_path, max_bytes=MIB)
    big = b"x" * (MIB // 8)  # each fills a file
    s.spool.put([Item(b"%d" % n + big, 1, 1, received_at=time.monotonic()) for n in range(3)])
    shutil.rmtree(tmp_path / "s.t")
    s.spool.put([Item(b"3" + big, 1, 1, received_at=time.monotonic())])
    arrived: list[bytes] = []
    while not s.spool.is_empty:
        arrived += payloads(s.spool.take(MIB)[1])
        s.spool.settle()
    assert arrived[-1][:1] == b"3"
    assert len(arrived) + sum(lines for lines, _ in s.lost_unread) == 4
    assert s.account.spooled == Count()
    with pytest.raises(BlockingIOError):
        SpoolLog(str(tmp_path / "s.t"), max_bytes=MIB).open()
    s.spool.close()


class Unencodable(Item, frozen=True):
    """An item of a sink that never thought of disks."""

    more: Any = None


def test_an_item_that_can_not_be_stored_is_counted_as_lost(tmp_path: Path) -> None:
    s = Spooling(tmp_path, Unencodable)
    s.spool.put([Unencodable(b"1\n", 1, 2, more=object())])
    assert s.lost == [(b"1\n", "spool_failed")]
    assert s.log.facts("spool_failed")


@pytest.mark.parametrize("wants_data", [True, False])
def test_what_is_given_up_is_read_only_where_somebody_wants_it(
    tmp_path: Path, *, wants_data: bool
) -> None:
    s = Spooling(tmp_path, wants_data=wants_data)
    s.spool.put([item(1), item(2)])
    s.spool.lose_all("shutdown")
    if wants_data:
        assert s.lost == [(b"1\n", "shutdown"), (b"2\n", "shutdown")]
    else:
        assert s.lost_unread == [(2, "shutdown")]
    assert s.account.spooled == Count()
    assert files(tmp_path) == []


def test_a_file_without_records_is_given_up_without_a_word(tmp_path: Path) -> None:
    """A full disk leaves one behind, whose age is that of the epoch."""
    s = Spooling(tmp_path, wants_data=False)
    s.spool.put([item(1)])
    (file,) = files(tmp_path)
    s.spool.close()
    file.write_bytes(file.read_bytes()[:SEGMENT_BYTES])
    again = Spooling(tmp_path, wants_data=False)
    again.spool.put([item(2)])
    again.spool.lose_all("shutdown")
    assert again.lost_unread == [(1, "shutdown")]


# -- under a worker ------------------------------------------------------------------------------


class Down(Sink):
    """Fails so many times, then delivers, `seconds` later; or hangs until it is cancelled."""

    def __init__(
        self, config: SinkConfig, log: LogBook, failures: float, seconds: float = 0.0
    ) -> None:
        super().__init__(config, context(log))
        self.failures = failures
        self.seconds = seconds
        self.accepted: list[bytes] = []
        self.called = asyncio.Event()
        self.delivered = asyncio.Event()

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """One attempt."""
        self.called.set()
        if self.failures == float("inf"):
            await asyncio.Event().wait()
        if self.failures:
            self.failures -= 1
            raise TransientSinkError("down")
        await asyncio.sleep(self.seconds)
        self.accepted += payloads(list(batch.items))
        self.delivered.set()
        return DELIVERED


def rig_of(path: Path, failures: float, seconds: float = 0.0) -> tuple[Rig, Down]:
    config = SinkConfig(
        type="d",
        retry_max_elapsed_ms=600_000,
        batch_max_bytes=1024,
        spool=SpoolConfig(path=str(path)),
    )
    log = LogBook()
    sink = Down(config, log, failures, seconds)
    return Rig(sink, config, log=log, overflow="drop_oldest"), sink


def test_with_a_spool_that_can_not_be_used_lines_wait_in_memory(tmp_path: Path) -> None:
    """As they would without one: nothing is lost that a retry can deliver."""
    rig, sink = rig_of(tmp_path, failures=8)
    other = SpoolLog(str(tmp_path / f"{rig.worker.name}.d"), max_bytes=MIB)
    other.open()

    async def scenario() -> None:
        rig.worker.start()
        opened = asyncio.Event()
        rig.log.on_event["circuit_opened"] = opened.set
        rig.offer([block(b"1")])
        await opened.wait()
        rig.offer([block(b"2"), block(b"3")])
        assert await rig.flush(600) is False  # no one waits for what is down
        await sink.delivered.wait()
        assert await rig.flush()
        await rig.stop()

    run(JumpingLoop, scenario())
    other.close()
    rig.check_end()
    assert rig.lines() == {"delivered": 3}
    assert rig.log.facts("spool_unusable")[0]["error"] == "another process has it open"


def test_when_the_circuit_opens_what_waits_goes_on_disk_though_nothing_more_comes(
    tmp_path: Path,
) -> None:
    """A kill would cost what is only in memory; the disk keeps it from then on, in order."""
    rig, sink = rig_of(tmp_path, failures=FAILURES + 2)
    blocks = [block(b"%02d" % number + b"x" * 1000) for number in range(50)]

    async def scenario() -> None:
        rig.worker.start()
        opened = asyncio.Event()
        rig.log.on_event["circuit_opened"] = opened.set
        rig.offer(blocks)
        await opened.wait()
        while rig.account.spooled.lines < 50:  # the turns of the loop that it takes
            assert sink.failures == 2, "another attempt came first"
            await asyncio.sleep(0)
        assert rig.worker.pending() == Count()
        await sink.delivered.wait()
        assert await rig.flush()
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.lines() == {"delivered": 50}
    assert sink.accepted == [each.data for each in blocks]
    assert len(rig.log.facts("write_retried")) == FAILURES - 1


def test_at_the_end_lines_are_on_disk_before_the_deadline(tmp_path: Path) -> None:
    """A destination that hangs until then leaves no time to pack a full queue."""
    rig, sink = rig_of(tmp_path, failures=float("inf"))
    spooled_at: list[float] = []

    async def scenario() -> None:
        rig.worker.start()
        rig.offer([block(b"1")])
        await sink.called.wait()
        rig.offer([block(b"%d" % number) for number in range(2, 5)])
        now = asyncio.get_running_loop().time
        rig.log.on_event["lines_spooled"] = lambda: spooled_at.append(now())
        deadline = now() + 2.0
        await rig.worker.stop(deadline, keep=True)
        assert spooled_at[0] < deadline - 0.5

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.lines() == {"spooled": 4}
    again, sink = rig_of(tmp_path, failures=0)

    async def next_process() -> None:
        again.worker.start()
        assert await again.flush()
        await again.stop()

    run(JumpingLoop, next_process())
    assert sink.accepted == [b"1\n", b"2\n", b"3\n", b"4\n"]


class Timeless(Down):
    """Does not say of its items when their lines were read, nor of its own when it made them."""

    def pack(self, blocks: Sequence[Block]) -> list[Item]:
        """Each block an item."""
        return [Item(each.data, each.lines, each.size) for each in blocks]

    def own_items(self, end: str) -> list[Item]:
        """One."""
        return [Item(b"own", 0, 0)]


def test_items_without_a_time_are_not_as_old_as_the_machine(tmp_path: Path) -> None:
    """They would be too old for any spool, and the statistics would tell the machine's uptime."""
    spool = SpoolConfig(path=str(tmp_path), max_age_ms=1000)
    config = SinkConfig(type="d", retry_max_elapsed_ms=0, spool=spool)
    log = LogBook()

    async def fails() -> None:
        rig.worker.start()
        rig.offer([block(b"1"), block(b"2")])
        await rig.stop(keep=True)

    rig = Rig(Timeless(config, log, failures=2), config, log=log)
    run(JumpingLoop, fails())
    rig.check_end()
    assert rig.lines() == {"spooled": 2}

    async def delivers() -> None:
        rig.worker.start()
        rig.offer([block(b"3")])
        assert await rig.flush()
        await rig.stop()

    uptime = time.monotonic()
    sink = Timeless(config, log, failures=0)
    rig = Rig(sink, config, log=log)
    run(JumpingLoop, delivers())
    rig.check_end()
    assert rig.lines() == {"delivered": 3}
    assert sink.accepted == [b"1\n", b"2\n", b"3\n", b"own"]
    assert rig.stats.delivery_peak.value < uptime


@pytest.mark.parametrize("seconds", [0.3, 0.7, 1.9, 3.0])
def test_a_write_that_the_end_cuts_short_is_kept(tmp_path: Path, seconds: float) -> None:
    """The destination is slow, not down: no attempt of it has ever failed."""
    rig, sink = rig_of(tmp_path, failures=0, seconds=seconds)
    blocks = [block(b"%02d" % number + b"x" * 1000) for number in range(20)]

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(blocks)
        await rig.stop(2.0, keep=True)

    run(JumpingLoop, scenario())
    rig.check_end()
    delivered = len(sink.accepted)
    expected = {"delivered": delivered, "spooled": 20 - delivered}
    assert rig.lines() == {end: lines for end, lines in expected.items() if lines}

"""Writes in the call that offers a block: when there are any, what is counted, what follows."""

# ruff: noqa: ASYNC110, D102 - a worker is waited for by what it has done; the names say it
from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from resource import struct_rusage
from typing import Any

import pytest

from telemetryd.clock import SYSTEM, Clock
from telemetryd.core.direct import FIRST_PAUSE_SECONDS, MAX_BYTES, SLOW_SECONDS
from telemetryd.core.ledger import Count
from telemetryd.errors import TransientSinkError
from telemetryd.sinks.base import DELIVERED, Batch, Sink, SinkConfig, SpoolConfig, WriteResult
from telemetryd.testing import JumpingLoop, LogBook, Rig, block, context, data_of, run
from telemetryd_proto.framing import Block

BLOCKS = [block(b"line %d" % number) for number in range(6)]


class Instant(Sink):
    """Notes what it wrote, and how: `direct`, or by an ordinary attempt."""

    survives_freeze = True

    def __init__(self, config: SinkConfig, log: LogBook) -> None:
        self.now = 0.0
        self.waits = self.works = 0.0
        """How often it has waited, and the seconds of CPU it used."""
        clock = Clock(
            monotonic=lambda: self.now, wall=lambda: 1e9 + self.now, usage=self._usage
        )  # fmt: skip
        super().__init__(config, context(log, clock=clock))
        self.wrote: list[tuple[str, bytes]] = []
        self.on_direct: Callable[[], bool] = lambda: True
        self.fails = 0

    def _usage(self) -> struct_rusage:
        half = self.works / 2
        return struct_rusage((half, half, *[0] * 12, int(self.waits), 0))

    def wait(self, seconds: float) -> None:
        """Let time pass as in a write that waits for a disk."""
        self.now += seconds
        self.waits += 1

    def write_direct(self, data: bytes) -> bool:
        is_written = self.on_direct()
        if is_written:
            self.wrote.append(("direct", data))
        return is_written

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        if self.fails:
            self.fails -= 1
            raise TransientSinkError("down")
        self.wrote.append(("write", b"".join(item.payload for item in batch.items)))
        return DELIVERED

    @property
    def how(self) -> list[str]:
        return [how for how, _ in self.wrote]

    @property
    def data(self) -> bytes:
        return b"".join(data for _, data in self.wrote)


class Distant(Instant):
    """Its writes are not to be cut in two by a freeze."""

    survives_freeze = False


def rig_of(kind: type[Instant] = Instant, **keys: Any) -> tuple[Rig, Instant]:
    config = SinkConfig(type="instant", **keys)
    log = LogBook()
    sink = kind(config, log)
    return Rig(sink, config, log=log), sink


async def settle(rig: Rig) -> None:
    """Let the worker come to rest."""
    assert await rig.flush()
    for _ in range(5):
        await asyncio.sleep(0)


def play(rig: Rig, scenario: Coroutine[Any, Any, None]) -> None:
    """Run a scenario on a worker that is up; the books balance before and after it ends."""

    async def whole() -> None:
        rig.worker.start()
        await settle(rig)
        await scenario
        rig.check_balance()
        await rig.stop()

    run(JumpingLoop, whole())
    rig.check_end()


def test_a_block_that_comes_alone_is_written_in_the_call() -> None:
    rig, sink = rig_of()

    async def scenario() -> None:
        for number, each in enumerate(BLOCKS, 1):
            rig.offer([each])
            assert len(sink.wrote) == number
            rig.check_balance()
        assert await rig.flush()

    play(rig, scenario())
    assert sink.how == ["direct"] * 6
    assert sink.data == data_of(BLOCKS)
    assert rig.leaves() == {"delivered": Count(6, len(data_of(BLOCKS)))}


def test_it_is_counted_as_every_other() -> None:
    """The same figures as of a sink that gets the same block by `write`."""
    counted = []
    for takes in (True, False):
        rig, sink = rig_of()
        sink.on_direct = lambda takes=takes: takes  # type: ignore[misc]
        sink.now = 7.0
        offered = [Block(b"a\nb\n", 2, received_at=3.0)]

        async def scenario(rig: Rig = rig, offered: list[Block] = offered) -> None:
            rig.offer(offered)
            await settle(rig)

        play(rig, scenario())
        stats = rig.stats
        assert (stats.direct_writes, sink.how) == ((1, ["direct"]) if takes else (0, ["write"]))
        counted.append(
            (
                stats.batch_lines.counts, stats.batch_lines.sum,
                stats.batch_bytes.counts, stats.batch_bytes.sum,
                stats.write_seconds["ok"].counts, stats.delivery_seconds.counts,
                stats.delivery_seconds.sum, stats.delivery_peak.value, stats.queue_peak.value,
                stats.writes_in_flight, stats.errors, rig.account.page(rig.worker.pending()),
            )
        )  # fmt: skip
    assert counted[0] == counted[1]


def test_what_it_can_not_write_goes_the_ordinary_way_and_what_follows_behind_it() -> None:
    rig, sink = rig_of()
    answers = iter([False, True])
    sink.on_direct = lambda: next(answers)

    async def scenario() -> None:
        rig.offer(BLOCKS[:3])
        assert sink.wrote == []
        await settle(rig)
        rig.offer(BLOCKS[3:4])

    play(rig, scenario())
    assert sink.how == ["write", "direct"]
    assert sink.data == data_of(BLOCKS[:4])
    assert rig.stats.errors == {}


def test_after_a_slow_one_the_worker_writes_for_a_while() -> None:
    rig, sink = rig_of()

    def is_slow() -> bool:
        sink.wait(SLOW_SECONDS)
        return True

    async def scenario() -> None:
        sink.on_direct = is_slow
        rig.offer(BLOCKS[:1])
        sink.on_direct = lambda: True
        for each in BLOCKS[1:3]:
            rig.offer([each])
            await settle(rig)
            sink.now += FIRST_PAUSE_SECONDS * 0.49
        assert sink.how == ["direct", "write", "write"]
        sink.now += FIRST_PAUSE_SECONDS * 0.03
        rig.offer(BLOCKS[3:4])

    play(rig, scenario())
    assert sink.how == ["direct", "write", "write", "direct"]
    assert sink.data == data_of(BLOCKS[:4])
    assert (rig.stats.direct_writes, rig.stats.slow_writes) == (2, 1)
    assert [facts["ms"] for facts in rig.log.facts("write_slow")] == [SLOW_SECONDS * 1000]


def test_one_that_only_had_no_processor_is_not_slow() -> None:
    rig, sink = rig_of()

    def is_interrupted() -> bool:
        sink.now += 10 * SLOW_SECONDS
        sink.works += SLOW_SECONDS / 2
        return True

    async def scenario() -> None:
        sink.on_direct = is_interrupted
        for each in BLOCKS[:3]:
            rig.offer([each])

    play(rig, scenario())
    assert sink.how == ["direct"] * 3
    assert (rig.stats.direct_writes, rig.stats.slow_writes) == (3, 0)


def test_one_that_works_for_so_long_is_slow() -> None:
    rig, sink = rig_of()

    def works() -> bool:
        sink.now += SLOW_SECONDS
        sink.works += SLOW_SECONDS
        return True

    async def scenario() -> None:
        sink.on_direct = works
        rig.offer(BLOCKS[:1])

    play(rig, scenario())
    assert (sink.how, rig.stats.slow_writes) == (["direct"], 1)


def test_one_that_is_refused_slowly_counts_as_slow() -> None:
    rig, sink = rig_of()

    def refuses_slowly() -> bool:
        sink.wait(1.0)
        return False

    async def scenario() -> None:
        sink.on_direct = refuses_slowly
        rig.offer(BLOCKS[:1])
        await settle(rig)
        sink.on_direct = lambda: True
        rig.offer(BLOCKS[1:2])

    play(rig, scenario())
    assert sink.how == ["write", "write"]
    assert (rig.stats.direct_writes, rig.stats.slow_writes) == (0, 1)


def test_a_sink_that_raises_is_not_asked_again() -> None:
    """It has a bug. The block is written in the ordinary way, so that nothing is lost."""
    rig, sink = rig_of()

    async def scenario() -> None:
        sink.on_direct = lambda: bool(1 / 0)
        rig.offer(BLOCKS[:1])
        sink.on_direct = lambda: True
        await settle(rig)
        rig.offer(BLOCKS[1:2])

    play(rig, scenario())
    assert sink.how == ["write", "write"]
    assert sink.data == data_of(BLOCKS[:2])
    assert len(rig.log.facts("sink_bug")) == 1


def test_a_sink_without_direct_writes_is_not_asked() -> None:
    class Ordinary(Instant):
        write_direct = Sink.write_direct

    rig, sink = rig_of(Ordinary)

    async def scenario() -> None:
        rig.offer(BLOCKS[:1])

    play(rig, scenario())
    assert sink.how == ["write"]


async def delivered(rig: Rig, sink: Instant, lines: int) -> None:
    """Wait until so many lines are; a second of the sink's clock passes with each look."""
    while rig.account.delivered.lines < lines:
        await asyncio.sleep(0.1)
        sink.now += 1.0


@pytest.mark.parametrize(
    ("keys", "offered"),
    [
        ({"linger_ms": 1000}, BLOCKS[:1]),
        ({"batch_max_bytes": 4 * MAX_BYTES}, [block(b"x" * MAX_BYTES)]),
        ({"batch_max_bytes": 1024}, [block(b"x" * 1024)]),
    ],
    ids=["lingers", "large", "more than a batch"],
)
def test_what_is_to_wait_or_large_is_not_written_at_once(
    keys: dict[str, Any], offered: list[Block]
) -> None:
    rig, sink = rig_of(**keys)

    async def scenario() -> None:
        rig.offer(offered)
        assert sink.wrote == []
        await delivered(rig, sink, 1)

    play(rig, scenario())
    assert sink.wrote == [("write", data_of(offered))]


def test_a_sink_that_is_not_open_is_opened_first() -> None:
    rig, sink = rig_of()
    rig.offer(BLOCKS[:1])
    assert sink.wrote == []
    play(rig, delivered(rig, sink, 1))
    assert sink.wrote == [("write", data_of(BLOCKS[:1]))]


def test_what_waits_in_the_queue_or_on_disk_comes_first(tmp_path: Path) -> None:
    for spool in (None, SpoolConfig(path=str(tmp_path))):
        rig, sink = rig_of(spool=spool)
        answers = iter([False])  # and never asked again

        async def scenario(rig: Rig = rig, sink: Instant = sink, spool: object = spool) -> None:
            sink.fails = 5 if spool else 0  # which opens the circuit
            rig.offer(BLOCKS[:1])
            while spool and not rig.account.spooled.lines:
                await asyncio.sleep(0.01)
            rig.offer(BLOCKS[1:2])
            await delivered(rig, sink, 2)

        sink.on_direct = lambda answers=answers: next(answers)  # type: ignore[misc]
        play(rig, scenario())
        assert set(sink.how) == {"write"}
        assert sink.data == data_of(BLOCKS[:2])
        assert rig.log.facts("sink_bug") == []


@pytest.mark.parametrize(("kind", "how"), [(Instant, "direct"), (Distant, "write")])
def test_where_a_freeze_may_cut_a_write_in_two_none_begins_before_the_thaw(
    kind: type[Instant], how: str
) -> None:
    rig, sink = rig_of(kind)

    async def scenario() -> None:
        await rig.worker.hold()
        rig.offer(BLOCKS[:1])
        assert sink.how == (["direct"] if how == "direct" else [])
        rig.worker.release()
        await settle(rig)
        rig.offer(BLOCKS[1:2])

    play(rig, scenario())
    assert sink.how == [how, "direct"]


def test_while_the_process_ends_there_is_none() -> None:
    rig, sink = rig_of()

    async def scenario() -> None:
        rig.worker.start()
        await settle(rig)
        stopping = asyncio.ensure_future(rig.stop())
        await asyncio.sleep(0)
        rig.offer(BLOCKS[:1])
        await stopping

    run(JumpingLoop, scenario())
    rig.check_balance()
    assert "direct" not in sink.how


def test_after_the_worker_has_ended_by_a_bug_there_is_none() -> None:
    """Its lines stay where the end of the process counts them."""
    rig, sink = rig_of()

    async def scenario() -> None:
        rig.worker.start()
        await settle(rig)
        rig.queue.take = None  # type: ignore[method-assign, assignment]  # a bug of ours
        sink.on_direct = lambda: False
        rig.offer(BLOCKS[:1])
        while not rig.bugs:
            await asyncio.sleep(0)
        sink.on_direct = lambda: True
        rig.offer(BLOCKS[1:2])

    run(JumpingLoop, scenario())
    assert sink.wrote == []
    assert rig.worker.pending().lines == 2


def test_a_delivery_ends_a_row_of_failures() -> None:
    """Four failures do not open a circuit, and a direct write makes the next one the first."""
    rig, sink = rig_of(retry_max_elapsed_ms=0)

    async def scenario() -> None:
        for lost in (4, 8):
            sink.on_direct = lambda: False
            while rig.lines().get("dropped.down", 0) < lost:
                sink.fails = 1
                rig.offer(BLOCKS[:1])
                await settle(rig)
            sink.on_direct = lambda: True
            rig.offer(BLOCKS[1:2])

    play(rig, scenario())
    assert sink.how == ["direct", "direct"]
    assert rig.log.facts("circuit_opened") == []


def test_a_sink_that_could_not_be_opened_is_not_written_to_at_once() -> None:
    class Closed(Instant):
        tried = 0

        async def open(self) -> None:
            self.tried += 1
            if self.tried == 1:
                raise TransientSinkError("locked")

    rig, sink = rig_of(Closed)

    async def scenario() -> None:
        for each in BLOCKS[:2]:
            rig.offer([each])
            await settle(rig)

    play(rig, scenario())
    assert sink.how == ["write", "direct"]


def test_a_fast_write_makes_the_next_slow_one_the_first() -> None:
    rig, sink = rig_of()

    def is_slow() -> bool:
        sink.wait(2 * SLOW_SECONDS)
        return True

    async def scenario() -> None:
        for _ in range(3):
            sink.on_direct = is_slow
            rig.offer(BLOCKS[:1])
            sink.now += FIRST_PAUSE_SECONDS
            sink.on_direct = lambda: True
            rig.offer(BLOCKS[1:2])

    play(rig, scenario())
    assert sink.how == ["direct"] * 6
    assert rig.stats.slow_writes == 3


def test_a_fast_sink_is_one_by_its_direct_writes_too() -> None:
    """So that a burst behind them may pause reading instead of losing lines."""
    rig, _ = rig_of()

    async def scenario() -> None:
        rig.offer(BLOCKS[:1])
        assert rig.queue._is_fast

    play(rig, scenario())


def test_the_thread_that_waits_is_the_one_that_is_asked() -> None:
    before = SYSTEM.usage()
    threading.Event().wait(0.001)
    assert SYSTEM.usage().ru_nvcsw > before.ru_nvcsw
    before = SYSTEM.usage()
    while SYSTEM.usage().ru_utime == before.ru_utime:
        pass

"""Spooling workers, one process after the other: outages, kills, clock jumps, damage, small disks.

Each process balances its own books; what one leaves `spooled` at an orderly end the next has
`recovered`; what was spooled when a process was killed is delivered all the same, at least once;
damage to a file costs only the records it hits; nothing arrives that was not offered; and where
nothing was evicted, lines arrive in order.
"""

# ruff: noqa: D102 - the names say it
from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.wall_clock import WallClock
from telemetryd.core.ledger import Count
from telemetryd.errors import PermanentSinkError, TransientSinkError
from telemetryd.sinks.base import (
    DELIVERED,
    Batch,
    Failure,
    Item,
    Sink,
    SinkConfig,
    SpoolConfig,
    WriteResult,
)
from telemetryd.spool.segment import Segment
from telemetryd.spool.segment_log import SpoolLog
from telemetryd.testing import JumpingLoop, LogBook, Rig, block, context, run

CLOCK = WallClock()
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.integers(1, 5), st.integers(1, 12_000)),
        st.tuples(st.just("sleep"), st.floats(0, 20), st.just(0)),
        st.tuples(st.just("flush"), st.floats(0, 20), st.just(0)),
        st.tuples(st.just("yield"), st.integers(1, 5), st.just(0)),
        st.tuples(st.just("freeze"), st.floats(0, 5), st.just(0)),
        st.tuples(st.just("jump"), st.floats(-100_000, 100_000), st.just(0)),
    ),
    max_size=15,
)
BEHAVIOURS = st.sampled_from(["accept", "slow", "down", "down", "down", "partial", "hang", "stops"])
ENDS = st.sampled_from(["keep", "kill", "for_good"])
HARMS = st.one_of(
    st.none(),
    st.none(),
    st.tuples(st.sampled_from(["tear", "flip", "zero"]), st.floats(0, 1, exclude_max=True)),
)
"""What becomes of a file of the spool between two processes, and where in it."""
PROCESSES = st.lists(st.tuples(STEPS, st.lists(BEHAVIOURS, max_size=12), ENDS, HARMS), max_size=4)


class Destination(Sink):
    """Does what the script says, and accepts everything after it."""

    def __init__(self, config: SinkConfig, log: LogBook, script: Iterator[str]) -> None:
        super().__init__(config, context(log, clock=CLOCK.clock))
        self.script = script
        self.accepted: list[bytes] = []

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        failures: tuple[Failure, ...] = ()
        match next(self.script, "accept"):
            case "slow":
                await asyncio.sleep(0.5)
            case "down":
                raise TransientSinkError("down")
            case "stops":
                raise PermanentSinkError("stops", stops_sink=True)
            case "hang":
                await asyncio.Event().wait()
            case "partial":
                failures = tuple(
                    Failure(index, "busy", retryable=True) for index in range(1, len(batch.items))
                )
        refused = {failure.index for failure in failures}
        self.accepted += [item.payload for i, item in enumerate(batch.items) if i not in refused]
        return WriteResult(failures) if failures else DELIVERED


def lines_of(payloads: list[bytes]) -> list[bytes]:
    return b"".join(payloads).splitlines(keepends=True)


def in_order(lines: list[bytes]) -> bool:
    """True if they are in order, without the repeated ones."""
    firsts = list(dict.fromkeys(lines))
    return firsts == sorted(firsts)


def on_disk(directory: Path, max_bytes: int) -> list[bytes]:
    """The lines of a spool whose process is gone, read from a copy."""
    found: list[bytes] = []
    if not directory.exists():
        return found
    with TemporaryDirectory() as copies:
        log = SpoolLog(str(shutil.copytree(directory, Path(copies, "copy"))), max_bytes=max_bytes)
        log.open()
        while records := log.take(1 << 20).records:
            intact = [r.payload for r in records if r.payload is not None]
            items = [msgspec.msgpack.decode(payload, type=Item) for payload in intact]
            found += lines_of([item.payload for item in items])
            log.settle()
        log.close()
    return found


def do_harm(directory: Path, harm: tuple[str, float] | None) -> range:
    """Cut off, change or blank a part of the youngest file; which, empty if there is none."""
    *_, youngest = [None, *sorted(directory.glob("*.spool"))]
    if harm is None or youngest is None:
        return range(0)
    kind, where = harm
    data = bytearray(youngest.read_bytes())
    at = int(where * len(data))
    end = min({"tear": len(data), "flip": at + 1, "zero": at + 512}[kind], len(data))
    if kind == "tear":
        del data[at:]
    elif kind == "flip":
        data[at] ^= 0x55
    else:
        data[at:end] = bytes(end - at)
    youngest.write_bytes(data)
    return range(at, end)


async def live(rig: Rig, steps: list[tuple[str, float, int]], end: str, came: list[bytes]) -> None:
    rig.worker.start()
    for step, amount, size in steps:
        if step == "offer":
            lines = [b"%06d" % (len(came) + n) + b"x" * size for n in range(int(amount))]
            each = block(*lines, offset=len(came))
            came.extend(lines_of([each.data]))
            rig.worker.offer(each)
        elif step == "sleep":
            await asyncio.sleep(amount)
        elif step == "flush":
            await rig.flush(amount)
        elif step == "freeze":  # whatever is in flight is cancelled
            await rig.worker.hold()
            await asyncio.sleep(amount)
            rig.worker.release()
        elif step == "jump":
            CLOCK.offset += amount
        else:
            for _ in range(int(amount)):
                await asyncio.sleep(0)
        rig.check_balance()
    if end == "kill":
        assert rig.worker._spool is not None
        assert rig.worker._task is not None
        rig.worker._spool.close()  # as the kernel would
        rig.worker._task.cancel()  # and no one does anything more, also not in this turn
    else:
        await rig.stop(2.0, keep=end == "keep")
        rig.check_end()


@example(  # killed before its first step
    processes=[
        ([("offer", 1, 1), ("sleep", 0.0, 0)], ["stops"], "kill", None),
        ([("offer", 1, 1)], [], "kill", None),
    ],
    seed=0,
    roomy=False,
)
@settings(max_examples=200)
@given(processes=PROCESSES, seed=st.integers(0, 1000), roomy=st.booleans())
def test_what_is_spooled_survives(
    *,
    processes: list[tuple[list[tuple[str, float, int]], list[str], str, tuple[str, float] | None]],
    seed: int,
    roomy: bool,
) -> None:
    offered: list[bytes] = []
    arrived: list[bytes] = []
    must_arrive: set[bytes] = set()
    dropped = 0
    killed = harmed = ever_harmed = False
    left = Count()
    CLOCK.offset = 0.0
    with TemporaryDirectory() as directory:
        spool = SpoolConfig(path=directory, max_bytes=(64 if roomy else 1) << 20)
        config = SinkConfig(
            type="d", queue_max_bytes=65_536, batch_max_bytes=16_384, write_timeout_ms=1000,
            retry_max_elapsed_ms=2000, spool=spool,
        )  # fmt: skip
        for steps, script, end, harm in [*processes, ([], [], "keep", None)]:
            log = LogBook()
            sink = Destination(config, log, iter(script))
            rig = Rig(sink, config, log=log, overflow="drop_oldest", seed=seed)
            run(JumpingLoop, live(rig, steps, end, offered))
            account = rig.account
            accepted = lines_of(sink.accepted)
            arrived += accepted
            if harmed:
                assert account.recovered.lines <= left.lines or killed
            elif killed:  # a write the kill cut short may come again
                assert account.recovered.lines >= left.lines
            else:
                assert account.recovered == left
            left = Count(account.spooled.lines, account.spooled.bytes)
            assert "queue_full" not in account.dropped
            damaged = account.dropped.pop("spool_damaged", Count())
            assert harmed or ever_harmed or not (damaged.lines or account.damaged_bytes)
            dropped += sum(count.lines for count in account.dropped.values())
            directory_of_sink = Path(directory, f"{sink.context.name}.d")
            here = on_disk(directory_of_sink, spool.max_bytes)
            killed = end == "kill"
            if not killed:
                assert len(here) == left.lines or ever_harmed
                assert account.delivered.lines == len(accepted)
            must_arrive.update(here)
            if harmed := bool(do_harm(directory_of_sink, harm)):
                ever_harmed = True
                must_arrive -= set(here) - set(on_disk(directory_of_sink, spool.max_bytes))

    assert left == Count()
    assert set(arrived) <= set(offered)
    if not dropped:
        assert must_arrive <= set(arrived)
        if not ever_harmed and all(end != "kill" for _, _, end, _ in processes):
            assert arrived == offered or any("partial" in script for _, script, _, _ in processes)
            assert set(arrived) == set(offered)
        if all("partial" not in script for _, script, _, _ in processes):
            assert in_order(arrived)


def records_of(directory: Path) -> dict[range, list[bytes]]:
    """Where each record lies in the youngest file, and its lines."""
    youngest = Segment.recover(str(max(directory.glob("*.spool"))))
    found: dict[range, list[bytes]] = {}
    for entry in youngest.entries():
        payload = msgspec.msgpack.decode(youngest.read(entry).payload or b"", type=Item).payload
        found[range(entry.at, entry.end)] = lines_of([payload])
    youngest.close()
    return found


@example(sizes=[(1, 1)], harm=("flip", 0.0625))  # the offset of what is settled
@settings(max_examples=200)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 12_000)), min_size=1, max_size=30),
    harm=HARMS.filter(bool),
)
def test_damage_costs_the_records_it_hits_and_they_are_counted(
    sizes: list[tuple[int, int]], harm: tuple[str, float]
) -> None:
    """No neighbour of theirs; and none is delivered half, or twice."""
    CLOCK.offset = 0.0
    with TemporaryDirectory() as directory:
        spool = SpoolConfig(path=directory, max_bytes=64 << 20)
        config = SinkConfig(type="d", batch_max_bytes=16_384, retry_max_elapsed_ms=0, spool=spool)

        def process(script: list[str], steps: list[tuple[str, float, int]]) -> tuple[Rig, Path]:
            log = LogBook()
            sink = Destination(config, log, iter(script))
            rig = Rig(sink, config, log=log, overflow="drop_oldest")
            run(JumpingLoop, live(rig, steps, "keep", offered))
            arrived.extend(lines_of(sink.accepted))
            return rig, Path(directory, f"{sink.context.name}.d")

        offered: list[bytes] = []
        arrived: list[bytes] = []
        rig, path = process(["down"] * 100, [("offer", lines, size) for lines, size in sizes])
        assert rig.account.spooled.lines == len(offered)
        before = records_of(path)
        hit = do_harm(path, harm)
        lost = {
            line
            for place, lines in before.items()
            if place.start < hit.stop and hit.start < place.stop
            for line in lines
        }
        account = process([], [("flush", 60.0, 0)])[0].account

    assert arrived == [line for line in offered if line not in lost]
    assert (
        account.recovered.lines
        == account.delivered.lines + account.dropped.get("spool_damaged", Count()).lines
    )
    assert account.delivered.lines == len(arrived)
    counted = "spool_damaged" in account.dropped or account.damaged_bytes > 0
    # cut off between two records, nothing is left that could tell
    assert counted or not lost or harm[0] == "tear"

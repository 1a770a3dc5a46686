"""What the worker counts of its attempts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from telemetryd.core.stats import OUTCOMES
from telemetryd.errors import PermanentSinkError, TransientSinkError
from telemetryd.sinks.base import Batch, Failure, WriteResult
from telemetryd.testing import JumpingLoop, Rig, numbered_blocks, run
from unit.delivery.test_delivery import Answer, hang, play, raising, returning, rig_of


def outcomes(rig: Rig) -> dict[str, int]:
    """How many attempts ended how."""
    counts = {name: rig.stats.write_seconds[name].count for name in OUTCOMES}
    return {name: count for name, count in counts.items() if count}


def refusing(*failures: Failure) -> Answer:
    return returning(WriteResult(failures))


FIRST, SECOND = Failure(0, "throttled", retryable=True), Failure(1, "too_big", retryable=False)
CASES: dict[str, tuple[Answer, dict[str, int], dict[tuple[str, str], int]]] = {
    "an outage": (
        raising(TransientSinkError("unreachable")),
        {"transient": 1, "ok": 1},
        {("transient", "unreachable"): 1},
    ),
    "a refusal": (
        raising(PermanentSinkError("denied")), {"permanent": 1}, {("permanent", "denied"): 1},
    ),
    "some items": (
        refusing(FIRST), {"partial": 1, "ok": 1}, {("transient", "throttled"): 1},
    ),
    "all items, some for good": (
        refusing(FIRST, SECOND),
        {"transient": 1, "ok": 1},
        {("transient", "throttled"): 1, ("permanent", "too_big"): 1},
    ),
    "all items for good": (
        refusing(Failure(0, "too_big", retryable=False), SECOND),
        {"permanent": 1},
        {("permanent", "too_big"): 1},
    ),
    "silence": (hang, {"timeout": 1, "ok": 1}, {("transient", "timeout"): 1}),
    "the system's error": (
        raising(OSError(5, "I/O")), {"transient": 1, "ok": 1}, {("transient", "io_error"): 1},
    ),
    "a bug": (raising(KeyError("x")), {"permanent": 1}, {("bug", "bug"): 1}),
    "no result": (returning(None), {"permanent": 1}, {("bug", "bug"): 1}),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "ends", "errors"), CASES.values(), ids=CASES)
def test_an_attempt_ends_in_one_way(
    answer: Answer, ends: dict[str, int], errors: dict[tuple[str, str], int]
) -> None:
    rig = rig_of(answer)
    play(rig, numbered_blocks(2))
    assert outcomes(rig) == ends
    assert rig.stats.errors == errors
    assert rig.stats.retries == sum(ends.values()) - 1
    assert rig.stats.writes_in_flight == 0


def test_a_batch_is_measured_once_however_often_it_is_tried() -> None:
    rig = rig_of(*[raising(TransientSinkError("unreachable"))] * 3)
    blocks = numbered_blocks(2)
    play(rig, blocks)
    assert rig.stats.batch_lines.count == rig.stats.batch_bytes.count == 1
    assert rig.stats.batch_lines.sum == sum(block.lines for block in blocks)
    assert rig.stats.batch_bytes.sum == sum(len(block.data) for block in blocks)


def test_a_write_that_is_broken_off_before_a_freeze_is_no_failure() -> None:
    """It is counted as `cut`, and repeated after the thaw."""
    started = asyncio.Event()

    async def slow(batch: Batch) -> Any:
        started.set()
        return await hang(batch)

    rig = rig_of(slow)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(numbered_blocks(2))
        await started.wait()
        assert rig.stats.writes_in_flight == 1
        await rig.worker.hold()
        assert rig.stats.writes_in_flight == 0
        rig.worker.release()
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert outcomes(rig) == {"cut": 1, "ok": 1}
    assert rig.stats.errors == {}


def test_latency_is_counted_by_line_and_only_of_what_was_delivered() -> None:
    rig = rig_of(refusing(SECOND))
    blocks = numbered_blocks(3)
    play(rig, blocks)
    delivered = blocks[0].lines + blocks[2].lines
    assert rig.stats.delivery_seconds.count == delivered == rig.account.delivered.lines
    assert rig.stats.delivery_peak.value > 0


def test_a_sink_is_up_while_its_worker_writes() -> None:
    rig = rig_of(endless=raising(TransientSinkError("unreachable")))

    async def scenario() -> None:
        before = rig.worker.is_up
        assert not before
        opened = asyncio.Event()
        rig.log.on_event["circuit_opened"] = opened.set
        rig.worker.start()
        started = rig.worker.is_up
        assert started
        rig.offer(numbered_blocks(1))
        await opened.wait()
        broken = rig.worker.is_up
        assert not broken, "the circuit is open"
        await rig.stop(1)
        assert not rig.worker.is_up, "ended"

    run(JumpingLoop, scenario())

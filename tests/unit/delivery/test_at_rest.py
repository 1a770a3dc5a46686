"""A worker at rest: the end of an invocation has nothing to wait for."""

# ruff: noqa: D102 - the names say it
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from telemetryd.errors import TransientSinkError
from telemetryd.sinks.base import DELIVERED, Batch, Sink, SinkConfig, WriteResult
from telemetryd.testing import JumpingLoop, LogBook, Rig, block, context, run


class Slow(Sink):
    """A write takes a second, or fails."""

    fails = False

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        if self.fails:
            raise TransientSinkError("down")
        await asyncio.sleep(1)
        return DELIVERED


class Durable(Slow):
    """Has something to do at each flush."""

    async def flush(self, *, deadline: float) -> None:
        await asyncio.sleep(0.001)


class DurableAlready(Durable):
    """Has not, with these settings."""

    needs_flush = False


class Failing(Slow):
    """Its destination is down."""

    fails = True


Scenario = Callable[[Rig], Awaitable[None]]


def play(kind: type[Sink], scenario: Scenario, keys: Mapping[str, Any] | None = None) -> Rig:
    config, log = SinkConfig(type="slow", **(keys or {})), LogBook()
    rig = Rig(kind(config, context(log)), config, log=log)

    async def whole() -> None:
        assert not rig.worker.is_at_rest  # it does not run yet
        rig.worker.start()
        await asyncio.sleep(1)  # it opens the sink
        await scenario(rig)
        await rig.stop()
        assert not rig.worker.is_at_rest

    run(JumpingLoop, whole())
    rig.check_end()
    return rig


@pytest.mark.parametrize(
    ("kind", "rests"), [(Slow, True), (Durable, False), (DurableAlready, True)]
)
def test_it_rests_if_all_is_delivered_and_no_flush_is_needed(
    kind: type[Sink], *, rests: bool
) -> None:
    async def scenario(rig: Rig) -> None:
        assert rig.worker.is_at_rest is rests
        rig.offer([block(b"a")])
        assert not rig.worker.is_at_rest
        await asyncio.sleep(0.5)  # in the middle of the write
        assert not rig.worker.is_at_rest
        assert await rig.flush()
        assert rig.worker.is_at_rest is rests

    play(kind, scenario)


def test_lines_that_linger_are_no_rest() -> None:
    async def scenario(rig: Rig) -> None:
        rig.offer([block(b"a")])
        await asyncio.sleep(1)
        assert not rig.worker.is_at_rest

    play(Slow, scenario, {"linger_ms": 60_000})


def test_a_destination_that_is_down_is_no_rest() -> None:
    """A flush would fail, and the end of the invocation has to know."""

    async def scenario(rig: Rig) -> None:
        while not rig.worker.is_cut_off:
            rig.offer([block(b"a")])
            await asyncio.sleep(1)
        assert not rig.worker.is_at_rest

    play(Failing, scenario, {"retry_max_elapsed_ms": 1000})


def test_a_hold_needs_no_wait_unless_a_write_is_in_flight() -> None:
    async def scenario(rig: Rig) -> None:
        assert rig.worker.begin_hold()
        rig.offer([block(b"a")])
        await asyncio.sleep(5)
        assert rig.worker.pending().lines == 1  # held, it begins none
        rig.worker.release()
        await asyncio.sleep(0.5)
        assert not rig.worker.begin_hold()
        await rig.worker.hold()
        assert rig.worker.begin_hold()
        rig.worker.release()
        assert await rig.flush()

    rig = play(Slow, scenario)
    assert rig.lines() == {"delivered": 1}


def test_a_release_wakes_what_was_held() -> None:
    """Nothing else would, since no block comes."""

    async def scenario(rig: Rig) -> None:
        rig.worker.begin_hold()
        rig.offer([block(b"a")])
        await asyncio.sleep(5)
        rig.worker.release()
        await asyncio.sleep(2)
        assert rig.worker.is_at_rest

    play(Slow, scenario)

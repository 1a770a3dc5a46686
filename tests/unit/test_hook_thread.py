"""A hook's clock, which neither a freeze nor an idle hour may run out."""

from __future__ import annotations

import asyncio
import threading

import pytest

from telemetryd.core.stats import HookStats
from telemetryd.hooks import thread
from telemetryd.hooks.base import Hook, HookContext
from telemetryd.testing import LogBook

CONTEXT = HookContext(
    name="mine", settings={}, function="local", version="1", instance="0" * 32, in_lambda=True
)


class Gated(Hook):
    """Its last call waits until the test lets it go on."""

    entered = threading.Event()
    gate = threading.Event()

    def on_shutdown(self, reason: str) -> None:
        """Wait."""
        self.entered.set()
        self.gate.wait(60)


async def started(monkeypatch: pytest.MonkeyPatch, now: list[float]) -> thread.HookThread:
    monkeypatch.setattr(thread, "hook_class", lambda _: Gated)
    made = thread.HookThread(
        "mine", CONTEXT, budget_seconds=1, stats=HookStats(), clock=lambda: now[0], log=LogBook()
    )
    made.start()
    await asyncio.wait_for(made._idle.wait(), 60)
    return made


def test_an_idle_hook_is_on_after_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        now = [0.0]
        made = await started(monkeypatch, now)
        made.restart_clock()
        now[0] = 3600.0
        assert made._is_on()

    asyncio.run(scenario())


def test_a_freeze_is_no_time_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        now = [10.0]
        made = await started(monkeypatch, now)
        made.post("on_shutdown", "spindown")
        await asyncio.to_thread(Gated.entered.wait, 60)
        now[0] = 3600.0
        made.restart_clock()
        assert made._is_on()
        now[0] += 1.5
        assert not made._is_on()
        Gated.gate.set()

    asyncio.run(scenario())

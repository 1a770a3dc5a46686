"""All hooks of a process, as the drivers of the daemon see them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from io import TextIOWrapper

from telemetryd.clock import Clock
from telemetryd.config import HookConfig
from telemetryd.core.stats import DaemonStats, HookStats
from telemetryd.hooks.base import HookContext
from telemetryd.hooks.thread import HookThread
from telemetryd.log import DaemonLog
from telemetryd_proto.extensions_api import NextEvent
from telemetryd_proto.framing import Block


class Hooks:
    """Hands the life cycle to each hook. One that fails costs the others nothing."""

    def __init__(self, threads: Mapping[str, HookThread]) -> None:
        self._threads = list(threads.values())

    def start(self) -> None:
        """Load the hooks, each in its thread. What they print is then written line by line."""
        if isinstance(sys.stdout, TextIOWrapper):  # the extension ends without flushing it
            sys.stdout.reconfigure(line_buffering=True)
        for thread in self._threads:
            thread.start()

    def on_block(self, block: Block) -> None:
        """Hand over the events of a block."""
        for thread in self._threads:
            thread.hand_over(block)

    def on_invoke(self, event: NextEvent) -> None:
        """Hand over an invocation. The environment was perhaps frozen until now."""
        for thread in self._threads:
            thread.restart_clock()
            thread.post("on_invoke", event)

    async def drain(self, until: float) -> None:
        """Wait for calls that a freeze would interrupt, until `until` (loop time) at most."""
        await asyncio.gather(*(thread.drain(until) for thread in self._threads))

    async def stop(self, reason: str, until: float) -> None:
        """Make the last call of each, and wait for it until `until` at most."""
        for thread in self._threads:
            thread.restart_clock()
            thread.post("on_shutdown", reason)
        await self.drain(until)


def make_hooks(
    configured: Mapping[str, HookConfig],
    *,
    values: Mapping[str, object],
    in_lambda: bool,
    stats: DaemonStats,
    clock: Clock,
    log: DaemonLog,
) -> Hooks:
    """Return the hooks of a configuration.

    `values` has the function's name, its version, and the id of this process.
    """
    threads = {}
    for name, config in configured.items():
        context = HookContext(
            name=name,
            settings=config.settings,
            function=str(values["function"]),
            version=str(values["version"]),
            instance=str(values["instance"]),
            in_lambda=in_lambda,
        )
        stats.hooks[name] = HookStats()
        threads[name] = HookThread(
            config.type or name,
            context,
            budget_seconds=config.budget_ms / 1000,
            stats=stats.hooks[name],
            clock=clock.monotonic,
            log=log,
        )
    return Hooks(threads)

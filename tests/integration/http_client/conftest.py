"""Runs each test on both loops, and looks for what a client leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

import pytest
import uvloop

from helpers.http_destination import until

T = TypeVar("T")
Run: TypeAlias = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine function. A task that it leaves must end by itself."""

    async def check(main: Callable[[], Awaitable[None]]) -> None:
        await main()
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})

    def run_it(main: Callable[[], Awaitable[None]]) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(check(main))

    return run_it

"""Loops for tests: the two that sinks run on, and one on which waiting takes no time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias, TypeVar

import pytest
import uvloop

T = TypeVar("T")
LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]

LOOPS: Final = pytest.mark.parametrize(
    "loop_factory",
    [
        pytest.param(asyncio.new_event_loop, id="asyncio"),
        pytest.param(uvloop.new_event_loop, id="uvloop"),
    ],
)
"""Runs a test twice, with `loop_factory` making asyncio's own loop and uvloop's."""


def run(loop_factory: LoopFactory, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run `coroutine` on its own loop. Return its result or raise its error."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(coroutine)


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.jumped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise AssertionError("the loop waits for something that will never happen")
            self.jumped += max(timeout, 0.0)
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """A real loop whose clock jumps to the next timer instead of waiting for it.

    Retry windows of half a minute pass at once, and a wait that nothing will ever end raises
    AssertionError. Not for what answers from outside the loop: threads, other processes.
    """

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return seconds, with those that were skipped."""
        return super().time() + self._jumping.jumped

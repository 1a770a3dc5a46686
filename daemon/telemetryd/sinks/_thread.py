"""A thread for a sink's blocking system calls, so that a slow disk never stops the listener."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_IOV_MAX: Final = 1024
"""Buffers one writev takes: UIO_MAXIOV of Linux."""


class SinkThread:
    """Runs calls one after the other, in order; a call cancelled before its turn never runs."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._executor: ThreadPoolExecutor | None = None

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `call` in the thread and return, or raise, what it does."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix=self._name)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: call(*args, **kwargs))

    def close(self) -> None:
        """Let the thread end when it is done; a call that hangs does not hold up the caller."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None


def write_all(fd: int, payloads: Sequence[bytes], progress: list[int]) -> None:
    """Write `payloads` to `fd` in order, in as few calls as possible.

    `progress` grows by the size of each call's write, so that its sum tells how far it came when
    an OSError ends it.
    """
    waiting: list[bytes | memoryview] = list(payloads)
    while waiting:
        written = os.writev(fd, waiting[:_IOV_MAX])
        progress.append(written)
        done = 0
        while done < len(waiting) and written >= len(waiting[done]):
            written -= len(waiting[done])
            done += 1
        del waiting[:done]
        if written:
            waiting[0] = memoryview(waiting[0])[written:]

"""A thread for a sink's blocking system calls, so that a slow disk never stops the listener."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_IOV_MAX: Final = 1024
"""Buffers one writev takes: UIO_MAXIOV of Linux."""

_Calls: TypeAlias = "SimpleQueue[tuple[asyncio.Future[Any], Callable[[], Any]] | None]"
_Settle: TypeAlias = "Callable[[asyncio.Future[Any], Any, BaseException | None], None]"


class SinkThread:
    """Runs calls one after the other, in order; a call cancelled before its turn never runs.

    What `run_in_executor` does for one thread, at half the cost: a call here is a future and two
    hand-overs, without a second future, its lock and the callbacks that tie the two together.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: _Calls | None = None
        self._unfinished = 0

    @property
    def is_busy(self) -> bool:
        """True if a call waits or runs, one that its caller gave up included."""
        return self._unfinished > 0

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `call` in the thread and return, or raise, what it does."""
        if self._calls is None:
            calls: _Calls = SimpleQueue()
            # a daemon: a sink that was not closed does not keep the interpreter from ending
            work = partial(_work, calls, self._settle)
            threading.Thread(target=work, name=self._name, daemon=True).start()
            self._calls = calls
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._unfinished += 1
        self._calls.put((future, partial(call, *args, **kwargs)))
        return await future

    def close(self) -> None:
        """Let the thread end when it is done; a call that hangs does not delay the caller."""
        calls, self._calls = self._calls, None
        if calls is None:
            return
        try:
            while waiting := calls.get_nowait():
                self._unfinished -= 1
                waiting[0].cancel()
        except Empty:
            calls.put(None)

    def _settle(
        self, future: asyncio.Future[Any], result: Any, error: BaseException | None
    ) -> None:
        self._unfinished -= 1
        if future.done():  # cancelled before its turn, or while it ran
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


def _work(calls: _Calls, settle: _Settle) -> None:
    """Run calls in the thread until None arrives."""
    while (waiting := calls.get()) is not None:
        _run(*waiting, settle)
        del waiting  # this thread may wait for long, and the lines need not


def _run(future: asyncio.Future[Any], call: Callable[[], Any], settle: _Settle) -> None:
    result: Any = None
    error: BaseException | None = None
    if not future.cancelled():
        try:
            result = call()
        except BaseException as problem:  # noqa: BLE001 - the caller gets it
            error = problem
    with suppress(RuntimeError):  # the loop is closed: no caller waits
        future.get_loop().call_soon_threadsafe(settle, future, result, error)


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

"""Ends what hangs, and shows where: tasks that wait forever, code that blocks, threads left."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Coroutine
from types import FrameType
from typing import Any, Final, NoReturn, Self, TypeVar

from telemetryd.testing.loops import LoopFactory

T = TypeVar("T")
_FAREWELL_SECONDS: Final = 0.5
"""Seconds for the cancelled tasks of a hanging loop to end."""
_AGAIN_SECONDS: Final = 0.5
_HEAD: Final = "Traceback (outermost call first):\n"


class HangError(Exception):
    """Something took longer than a test may take. The message shows where."""


class _BlockedError(KeyboardInterrupt):
    """Raised in code that blocks the loop. No loop catches it, and few sinks do."""


class Alarm:
    """A context manager: interrupts what blocks the main thread for `seconds`.

    HangError is raised where it blocks, after a call of `on_hang`. Does nothing in other threads,
    and where there are no such signals.
    """

    def __init__(self, seconds: float, on_hang: Callable[[], None]) -> None:
        self._seconds = seconds
        self._on_hang = on_hang
        is_main = threading.current_thread() is threading.main_thread()
        self._is_usable = is_main and hasattr(signal, "SIGALRM")

    def __enter__(self) -> Self:
        if self._is_usable:
            self._began = time.monotonic()
            self._handler = signal.signal(signal.SIGALRM, self._interrupt)
            self._others = signal.setitimer(signal.ITIMER_REAL, self._seconds, _AGAIN_SECONDS)
        return self

    def restart(self) -> None:
        """Count from now."""
        if self._is_usable:
            signal.setitimer(signal.ITIMER_REAL, self._seconds, _AGAIN_SECONDS)

    def __exit__(self, *_: object) -> None:
        if not self._is_usable:
            return
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._handler)
        remaining, interval = self._others  # such as the time limit of a test
        if remaining:
            rest = max(remaining - (time.monotonic() - self._began), 0.001)
            signal.setitimer(signal.ITIMER_REAL, rest, interval)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> NoReturn:
        self._on_hang()
        if asyncio._get_running_loop() is not None:  # noqa: SLF001 - the public one raises
            raise _BlockedError
        raise HangError(f"no end within {self._seconds:.0f} s")


def run_bounded(loop_factory: LoopFactory, coroutine: Coroutine[Any, Any, T], seconds: float) -> T:
    """Run `coroutine` on its own loop. Return its result or raise its error.

    Raises HangError, with the stack of every task, if that takes longer than `seconds`.
    """
    runner = asyncio.Runner(loop_factory=loop_factory)
    try:
        result, stacks = runner.run(_watch(coroutine, seconds))
        if not stacks:
            runner.close()
            return result
    except _BlockedError as error:
        raise HangError("the loop is blocked:\n" + _trace_of(error)) from None
    except BaseException:
        runner.close()
        raise
    _abandon(runner.get_loop())
    raise HangError(f"no end within {seconds:.0f} s:\n{stacks}")


def stacks_of_threads(before: Collection[threading.Thread], seconds: float) -> str:
    """Wait `seconds` for the end of threads that are not in `before`. Return the others' stacks.

    Threads that the process would not wait for at its end do not count.
    """
    left = _lasting(before, seconds)
    frames = sys._current_frames()  # noqa: SLF001 - there is no other way
    text = ""
    for thread in left:
        frame = frames.get(thread.ident or 0)
        stack = traceback.format_stack(frame) if frame is not None else []
        text += f"Thread {thread.name}:\n{_HEAD}{''.join(stack)}\n"
    return text


def leave_threads() -> None:
    """End the process, as failed, if threads are left that would keep it from its end.

    For the end of a session in which a test failed because its sink hangs.
    """
    if _lasting((threading.main_thread(),), _FAREWELL_SECONDS):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def _lasting(known: Collection[threading.Thread], seconds: float) -> list[threading.Thread]:
    until = time.monotonic() + seconds
    left = [each for each in threading.enumerate() if each not in known and not each.daemon]
    for thread in left:
        thread.join(max(until - time.monotonic(), 0.0))
    return [thread for thread in left if thread.is_alive()]


async def _watch(coroutine: Coroutine[Any, Any, T], seconds: float) -> tuple[T, str]:
    task = asyncio.ensure_future(coroutine)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        return None, _stacks()  # type: ignore[return-value]  # there is no result to be used
    return task.result(), ""


def _stacks() -> str:
    """Return the stack of every task but the current one."""
    text = io.StringIO()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        text.write(f"Task {task.get_name()}:\n{_stack_of(task)}\n")
    return text.getvalue()


def _stack_of(task: asyncio.Task[Any]) -> str:
    """Return every frame that waits for the next: `Task.print_stack` has the outermost alone."""
    frames: list[traceback.FrameSummary] = []
    waiting: Any = task.get_coro()
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None)
        if frame is not None:
            frames += traceback.StackSummary.extract(iter([(frame, frame.f_lineno)]))
        waiting = getattr(waiting, "cr_await", None)
    return _HEAD + "".join(traceback.format_list(frames))


def _abandon(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel the tasks on `loop`, wait a moment for their end, and close the loop in any case."""
    asyncio.set_event_loop(None)
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_FAREWELL_SECONDS))
    loop.set_exception_handler(lambda *_: None)  # what is left has been shown already
    loop.close()


def _trace_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))

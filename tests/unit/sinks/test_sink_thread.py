"""Blocking calls in a thread of their own: in order, each with its outcome, and cancellable."""

import asyncio
import gc
import threading
import weakref

import pytest

from telemetryd.sinks._thread import SinkThread


class Subject:
    """Something whose end can be seen."""


def test_calls_run_in_order_in_one_thread_that_is_not_the_loops() -> None:
    ran: list[tuple[int, int]] = []

    def note(number: int) -> int:
        ran.append((number, threading.get_ident()))
        return number

    async def scenario() -> list[int]:
        thread = SinkThread("test")
        try:
            return await asyncio.gather(*(thread.run(note, number) for number in range(20)))
        finally:
            thread.close()

    assert asyncio.run(scenario()) == list(range(20))
    assert [number for number, _ in ran] == list(range(20))
    assert len({ident for _, ident in ran} - {threading.get_ident()}) == 1


def test_what_a_call_raises_is_raised_and_the_next_call_runs() -> None:
    def fail() -> None:
        raise OSError(28, "full")

    async def scenario() -> int:
        thread = SinkThread("test")
        with pytest.raises(OSError, match="full"):
            await thread.run(fail)
        try:
            return await thread.run(len, "abc")
        finally:
            thread.close()

    assert asyncio.run(scenario()) == 3


def test_a_call_cancelled_before_its_turn_never_runs() -> None:
    may_end = threading.Event()
    ran: list[str] = []

    async def scenario() -> None:
        thread = SinkThread("test")
        first = asyncio.create_task(thread.run(may_end.wait))
        second = asyncio.create_task(thread.run(ran.append, "cancelled"))
        third = asyncio.create_task(thread.run(ran.append, "kept"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait({second})
        may_end.set()
        await asyncio.gather(first, third)
        thread.close()

    asyncio.run(scenario())
    assert ran == ["kept"]


def test_a_call_cancelled_while_it_runs_holds_up_nobody() -> None:
    may_end = threading.Event()

    async def scenario() -> str:
        thread = SinkThread("test")
        started = asyncio.Event()
        loop = asyncio.get_running_loop()

        def hang() -> None:
            loop.call_soon_threadsafe(started.set)
            may_end.wait()

        running = asyncio.create_task(thread.run(hang))
        await started.wait()
        running.cancel()
        await asyncio.wait({running})
        may_end.set()
        try:
            return await thread.run(str, 5)
        finally:
            thread.close()

    assert asyncio.run(scenario()) == "5"


def test_close_cancels_what_waits_ends_the_thread_and_may_be_called_twice() -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    def hang() -> None:
        has_begun.set()
        may_end.wait()

    async def scenario() -> None:
        thread = SinkThread("test-close")
        first = asyncio.create_task(thread.run(hang))
        second = asyncio.create_task(thread.run(str))
        await asyncio.to_thread(has_begun.wait)
        (worker,) = (t for t in threading.enumerate() if t.name == "test-close")
        thread.close()
        thread.close()
        await asyncio.wait({second})
        assert second.cancelled()
        may_end.set()
        await first
        await asyncio.to_thread(worker.join, 10)
        assert not worker.is_alive()
        assert await thread.run(str, 7) == "7", "a later call starts again"
        thread.close()

    asyncio.run(scenario())


def test_an_idle_thread_keeps_nothing_of_the_last_call() -> None:
    async def scenario() -> None:
        thread = SinkThread("test")
        subject = Subject()
        seen = weakref.ref(subject)
        assert await thread.run(id, subject) == id(subject)
        del subject
        await thread.run(str)
        await asyncio.to_thread(gc.collect)
        assert seen() is None
        thread.close()

    asyncio.run(scenario())

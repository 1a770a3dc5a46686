"""The description of a sink by a subclass of the suite, and the tools of the tests."""

# ruff: noqa: S101 - assertions are what this is for
from __future__ import annotations

import abc
import asyncio
import secrets
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final, NoReturn, TypeAlias, TypeVar

import pytest

from telemetryd.delivery.dead_letter import DeadLetter
from telemetryd.sinks.base import Batch, Sink, SinkConfig
from telemetryd.testing.hangs import (
    Alarm,
    HangError,
    leave_threads,
    run_bounded,
    stacks_of_threads,
)
from telemetryd.testing.loops import LoopFactory
from telemetryd.testing.rig import Rig
from telemetryd.testing.steps import Step, last_error, script_writes
from telemetryd.testing.surroundings import LogBook, context
from telemetryd_proto.framing import Block

T = TypeVar("T")
Received: TypeAlias = Callable[[int], bytes]
"""`received(at_least)`: the lines that arrived, as they were received, once so many bytes did."""

_BLOCKED_SECONDS: Final = 1.0
"""Seconds that a waiting loop has beyond its patience to report this itself."""
FAR: Final = 1e9
"""A deadline that is never met."""


class Subject(abc.ABC):
    """The sink under test. Two members must be given; each hook that is given adds tests."""

    sink_class: ClassVar[type[Sink]]
    """The class that the entry point names."""
    oversized_bytes: ClassVar[int] = 3 * 1024 * 1024
    """Size of a line that is larger than a batch and that the destination takes."""
    refused_bytes: ClassVar[int | None] = None
    """Size of a line that the destination refuses as too large, or that the sink does not send
    because it would; None where there is no limit."""

    write_timeout_ms: ClassVar[int] = 500
    """The limit for attempts that hang. It is longer than any other attempt takes, even
    on a busy machine."""

    drops_duplicates: ClassVar[bool] = False
    """True if `destination` deduplicates by `Batch.key`."""

    patience_seconds: ClassVar[float] = 3.0
    """Seconds after which anything counts as hanging, which ends the suite. A destination
    that takes longer, or a machine that does, needs more."""

    @abc.abstractmethod
    def config(self, directory: Path, **keys: object) -> SinkConfig:
        """Return the sink's configuration with `keys` of `SinkConfig`, all in `directory`."""

    @contextmanager
    def destination(self, directory: Path) -> Iterator[Received | None]:
        """Yield `Received` of a real destination, empty at first, or None if no test can look."""
        yield None

    def outage(self, directory: Path) -> AbstractContextManager[str] | None:
        """Return a context in which the destination refuses lines, or None. It yields the code.

        Nothing written inside arrives.
        """
        return None

    def stall(self, directory: Path) -> AbstractContextManager[None] | None:
        """Return a context in which the destination does not answer, or None.

        Nothing written inside arrives, not even when the destination answers again.
        """
        return None

    # -- tools -------------------------------------------------------------------------------

    _ended: ClassVar[str] = ""
    """The reason why the remaining tests need not run."""

    _alarm: Alarm | None = None

    @pytest.fixture(autouse=True)
    def _ends_at_the_first_bug(self, request: pytest.FixtureRequest) -> Iterator[None]:
        if self._has_ended():
            pytest.skip(self._ended)
        request.config.add_cleanup(self._leave)
        before = threading.enumerate()
        with Alarm(self.patience_seconds + _BLOCKED_SECONDS, self._end_others) as self._alarm:
            yield
        self._alarm = None
        if not self._has_ended() and (stacks := stacks_of_threads(before, self.patience_seconds)):
            self.end(f"threads are left that keep the process alive:\n{stacks}")

    @classmethod
    def _end_others(cls) -> None:
        cls._ended = "the sink failed a test before, in a way that fails every test"

    @classmethod
    def _has_ended(cls) -> bool:
        return bool(cls._ended)

    @classmethod
    def _leave(cls) -> None:
        if cls._ended:
            leave_threads()

    @classmethod
    def end(cls, what: str) -> NoReturn:
        """Fail the test with the message `what`. The remaining tests would only repeat it."""
        cls._end_others()
        pytest.fail(what, pytrace=False)

    def run(self, loop_factory: LoopFactory, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a scenario. Return its result or raise its error. A hang ends the suite."""
        if self._alarm is not None:
            self._alarm.restart()
        try:
            return run_bounded(loop_factory, coroutine, self.patience_seconds)
        except HangError as error:
            what = f"the sink hangs: {error}"
        finally:
            if self._alarm is not None:
                self._alarm.restart()
        return self.end(what)

    @classmethod
    def end_at_bug(cls, rig: Rig) -> None:
        """Fail, with its traceback, if the sink has a bug."""
        if rig.sink_bugs:
            cls.end(f"the sink has a bug:\n{rig.sink_bugs[0]}")

    @pytest.fixture
    def stack(self) -> Iterator[ExitStack]:
        """Yield a stack. Tests enter `destination` themselves: pytest resets file descriptor 1."""
        with ExitStack() as stack:
            yield stack

    def make(self, directory: Path, log: LogBook | None = None) -> Sink:
        """Return the sink alone, not opened."""
        return self.sink_class(self.config(directory), context(log, instance=_new_instance()))

    def rig(
        self,
        directory: Path,
        *steps: Step,
        attempts: list[Batch] | None = None,
        dead_letter: DeadLetter | None = None,
        **keys: object,
    ) -> Rig:
        """Return the sink under a worker. Its first writes follow `steps`; see `script_writes`."""
        config = self.config(directory, **keys)
        kind = script_writes(self.sink_class, steps, attempts if attempts is not None else [])
        log = LogBook()
        sink = kind(config, context(log, instance=_new_instance()))
        return Rig(sink, config, log=log, dead_letter=dead_letter)

    def unscripted(self, directory: Path, **keys: object) -> Rig:
        """The sink under a worker, as it is: with `write_direct`, which `rig` leaves out."""
        config = self.config(directory, **keys)
        log = LogBook()
        sink = self.sink_class(config, context(log, instance=_new_instance()))
        return Rig(sink, config, log=log)

    def deliver(self, loop_factory: LoopFactory, rig: Rig, *waves: Sequence[Block]) -> None:
        """Offer each wave of blocks at once, flush after each, stop, and check the ledger."""

        async def scenario() -> None:
            rig.worker.start()
            opened = asyncio.Event()
            rig.log.on_event["circuit_opened"] = opened.set
            for wave in waves:
                rig.offer(wave)
                await self._unless(opened, self.flush(rig), rig)
                rig.check_balance()
            await rig.stop()

        self.run(loop_factory, scenario())
        self.check(rig)

    async def flush(self, rig: Rig) -> None:
        """Wait until all is delivered. Raises TimeoutError if that takes too long.

        After failures a flush may be refused, so it is repeated.
        """
        async with asyncio.timeout(self.patience_seconds):
            while not await rig.flush(self.patience_seconds):  # noqa: ASYNC110 - a flush waits
                await asyncio.sleep(0.01)
        self.end_at_bug(rig)

    async def _unless(
        self, opened: asyncio.Event, waiting: Coroutine[Any, Any, None], rig: Rig
    ) -> None:
        """Await `waiting`, unless the circuit opens first: no script fails that often in a row."""
        task = asyncio.ensure_future(waiting)
        failing = asyncio.ensure_future(opened.wait())
        await asyncio.wait({task, failing}, return_when=asyncio.FIRST_COMPLETED)
        failing.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
            await rig.stop(0.0)
            facts = rig.log.facts("write_failed")[-1]
            self.end(f"the sink fails again and again: {facts}\n{last_error(rig.sink)}")
        task.result()

    async def failure(self, rig: Rig, offered: Sequence[Block]) -> None:
        """Offer blocks and return when a write has failed. Raises TimeoutError if none does."""
        failed = asyncio.Event()
        rig.log.on_event["write_failed"] = rig.on_sink_bug = failed.set
        rig.offer(offered)
        async with asyncio.timeout(self.patience_seconds):
            await failed.wait()
        self.end_at_bug(rig)

    @classmethod
    def check(cls, rig: Rig) -> None:
        """Assert that the ledger balances, and that the sink kept to the contract."""
        cls.end_at_bug(rig)
        rig.check_end()
        assert rig.log.facts("sink_bug") == []
        assert rig.log.facts("close_failed") == []

    def real_outage(self, directory: Path) -> AbstractContextManager[str]:
        """Return `outage`. Skip the test if there is none."""
        outage = self.outage(directory)
        if outage is None:
            pytest.skip(f"{self.sink_class.__name__}: no `outage` is given")
        return outage

    def real_stall(self, directory: Path) -> AbstractContextManager[None]:
        """Return `stall`. Skip the test if there is none."""
        stall = self.stall(directory)
        if stall is None:
            pytest.skip(f"{self.sink_class.__name__}: no `stall` is given")
        return stall

    @staticmethod
    def assert_received(received: Received | None, expected: bytes) -> None:
        """Assert that exactly `expected` arrived."""
        if received is not None:
            assert received(len(expected)) == expected


def _new_instance() -> str:
    """Return a new id, as each process has: batches of two sinks never share a `batch_id`."""
    return secrets.token_hex(16)

"""The published contract suite: a right sink passes, and each test catches a sink that is wrong."""

# ruff: noqa: D101, D102 - the names say what is wrong
from __future__ import annotations

import asyncio
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from telemetryd.errors import PermanentSinkError, TransientSinkError
from telemetryd.sinks.base import (
    DELIVERED,
    Batch,
    Failure,
    Item,
    Sink,
    SinkConfig,
    SinkContext,
    WriteResult,
)
from telemetryd.testing import (
    JumpingLoop,
    Received,
    Rig,
    SinkContract,
    batch_of,
    context,
    numbered_blocks,
    run,
)
from telemetryd_proto.framing import Block

LIMIT = 100_000


class BugError(Exception):
    """What a wrong sink raises."""


class Store:
    """The destination, and how it is."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_down = False
        self.is_stalled = False
        self.seen: set[str] = set()


STORE = Store()


class RightSink(Sink):
    """Keeps the contract; the others break one rule each."""

    def __init__(self, config: SinkConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self.is_open = False

    async def open(self) -> None:
        self.is_open = True

    async def put(self, data: bytes) -> None:
        """As a destination does it: now, not for now, or never."""
        if STORE.is_stalled:
            await asyncio.Event().wait()
        if STORE.is_down:
            raise TransientSinkError("down")
        await asyncio.sleep(0)
        STORE.data += data

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        failures = []
        for index, item in enumerate(batch.items):
            if len(item.payload) > LIMIT:
                failures.append(Failure(index, "too_long", retryable=False))
            elif (key := self.key(batch, index)) not in STORE.seen:
                await self.put(item.payload)
                STORE.seen.add(key)
        return WriteResult(tuple(failures))

    def key(self, batch: Batch, index: int) -> str:
        """By which the destination drops what it has already."""
        return batch.key(index)

    async def close(self) -> None:
        self.is_open = False


class RightSubject(SinkContract):
    sink_class: ClassVar[type[Sink]] = RightSink
    oversized_bytes = LIMIT // 2
    refused_bytes = LIMIT
    drops_duplicates = True

    def config(self, directory: Path, **keys: object) -> SinkConfig:
        return msgspec.convert({"type": "memory", **keys}, SinkConfig)

    @contextmanager
    def destination(self, directory: Path) -> Iterator[Received]:
        yield lambda _: bytes(STORE.data)

    @contextmanager
    def outage(self, directory: Path) -> Iterator[str]:
        STORE.is_down = True
        yield "down"
        STORE.is_down = False

    @contextmanager
    def stall(self, directory: Path) -> Iterator[None]:
        STORE.is_stalled = True
        yield
        STORE.is_stalled = False


@pytest.fixture(autouse=True)
def _new_store() -> None:
    STORE.__init__()  # type: ignore[misc]  # as new


class TestRightSink(RightSubject):
    """All of the suite."""


# -- sinks that are wrong ------------------------------------------------------------------------


class WritesHalfAtOnce(RightSink):
    def write_direct(self, data: bytes) -> bool:
        STORE.data += data[: data.find(b"\n") + 1]
        return False


class WritesNothingAtOnce(RightSink):
    def write_direct(self, data: bytes) -> bool:
        return not STORE.is_down


class GoesByPlaces(RightSink):
    def key(self, batch: Batch, index: int) -> str:
        return f"{batch.batch_id}-{index}"


class KnowsNothingAgain(RightSink):
    def key(self, batch: Batch, index: int) -> str:
        return f"{id(batch)}-{len(STORE.seen)}"


class MakesAFile(RightSink):
    def __init__(self, config: SinkConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        STORE.data += b"hello\n"


class NeedsALoop(RightSink):
    def __init__(self, config: SinkConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise BugError from None


class OtherConfig(SinkConfig, frozen=True, kw_only=True):
    pass


class WantsAnotherConfig(RightSink):
    Config = OtherConfig


class Reverses(RightSink):
    def pack(self, blocks: Sequence[Block]) -> list[Item]:
        return list(super().pack(blocks))[::-1]


class CountsWhatWasAdded(RightSink):
    def pack(self, blocks: Sequence[Block]) -> list[Item]:
        return [Item(b.data, b.lines, len(b.data), b.source, b.offset) for b in blocks]


class KeepsNothing(RightSink):
    def unpack(self, item: Item) -> bytes | None:
        return None


class Forgets(RightSink):
    async def put(self, data: bytes) -> None:
        if b'"id":100}' not in data:
            await super().put(data)


class Doubles(RightSink):
    async def put(self, data: bytes) -> None:
        await super().put(data + data if b'"id":100}' in data else data)


class Truncates(RightSink):
    async def put(self, data: bytes) -> None:
        await super().put(data[:10_000])


class RefusesAll(RightSink):
    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        if any(len(item.payload) > LIMIT for item in batch.items):
            raise PermanentSinkError("too_long")
        return await super().write(batch, attempt=attempt, deadline=deadline)


class SplitsLikeText(RightSink):
    async def put(self, data: bytes) -> None:
        text = data.decode(errors="replace")
        await super().put("".join(f"{line}\n" for line in text.splitlines()).encode())


class WritesOnFirstAttempts(RightSink):
    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        if attempt > 1:
            return DELIVERED
        return await super().write(batch, attempt=attempt, deadline=deadline)


class WritesOneBatch(RightSink):
    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        if not batch.batch_id.endswith("-1"):
            return DELIVERED
        return await super().write(batch, attempt=attempt, deadline=deadline)


class ClosesOnce(RightSink):
    async def close(self) -> None:
        if not self.is_open:
            raise BugError
        await super().close()


class OpensOnce(RightSink):
    async def open(self) -> None:
        if self.is_open:
            raise BugError
        await super().open()


class EmptiesAtOpen(RightSink):
    async def open(self) -> None:
        STORE.data.clear()
        await super().open()


class SendsAtClose(RightSink):
    async def close(self) -> None:
        STORE.data += b"goodbye\n"


class FlushesBadly(RightSink):
    is_writing = False

    async def put(self, data: bytes) -> None:
        self.is_writing = True
        await super().put(data)
        self.is_writing = False

    async def flush(self, *, deadline: float) -> None:
        if self.is_writing:
            raise BugError


class CanNotBeRestored(RightSink):
    def on_restore(self, instance: str) -> None:
        if not self.is_open:
            raise BugError


class CutsLines(RightSink):
    async def put(self, data: bytes) -> None:
        for at in range(0, len(data), 7):
            await super().put(data[at : at + 7])


class GoesOn(RightSink):
    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        writing = super().write(batch, attempt=attempt, deadline=deadline)
        task = asyncio.create_task(writing)
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                continue
        return task.result()


class BreaksWhenCancelled(RightSink):
    is_broken = False

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        if self.is_broken:
            raise TransientSinkError("closed")
        try:
            return await super().write(batch, attempt=attempt, deadline=deadline)
        except asyncio.CancelledError:
            self.is_broken = True
            raise


class RaisesWhatComes(RightSink):
    async def put(self, data: bytes) -> None:
        if STORE.is_down:
            raise ConnectionRefusedError
        await super().put(data)


class GivesUp(RightSink):
    async def put(self, data: bytes) -> None:
        if STORE.is_down:
            raise PermanentSinkError("down")
        await super().put(data)


class Pretends(RightSink):
    async def put(self, data: bytes) -> None:
        if not (STORE.is_down or STORE.is_stalled):
            await super().put(data)


class FailsOnce(RightSink):
    has_failed = False

    async def put(self, data: bytes) -> None:
        if not self.has_failed:
            self.has_failed = True
            raise TransientSinkError("warming_up")
        await super().put(data)


CATCHES: dict[type[Sink], tuple[Callable[..., None], ...]] = {
    MakesAFile: (SinkContract.test_constructor_does_no_io,),
    NeedsALoop: (SinkContract.test_constructor_does_no_io,),
    WantsAnotherConfig: (SinkContract.test_its_configuration_is_accepted,),
    GoesByPlaces: (
        SinkContract.test_a_destination_that_drops_duplicates_gets_each_line_once,
        SinkContract.test_of_a_partial_failure_only_the_refused_items_are_written_again,
    ),
    KnowsNothingAgain: (SinkContract.test_a_destination_that_drops_duplicates_gets_each_line_once,),
    Reverses: (
        SinkContract.test_packed_items_stand_for_the_lines_and_give_them_back,
        SinkContract.test_delivers_every_line_in_order,
    ),
    CountsWhatWasAdded: (
        SinkContract.test_items_count_bytes_as_received,
        SinkContract.test_each_line_behind_rules_arrives_or_is_counted,
    ),
    KeepsNothing: (
        SinkContract.test_packed_items_stand_for_the_lines_and_give_them_back,
        SinkContract.test_what_a_failing_sink_loses_is_in_the_dead_letter,
    ),
    WritesHalfAtOnce: (SinkContract.test_blocks_that_come_alone_arrive_once_and_in_order,),
    WritesNothingAtOnce: (SinkContract.test_blocks_that_come_alone_arrive_once_and_in_order,),
    Forgets: (SinkContract.test_delivers_every_line_in_order,),
    Doubles: (SinkContract.test_delivers_every_line_in_order,),
    Truncates: (SinkContract.test_a_line_larger_than_a_batch,),
    RefusesAll: (SinkContract.test_a_line_that_is_refused_as_too_large_is_lost_alone,),
    SplitsLikeText: (SinkContract.test_lines_that_are_not_json_pass_byte_for_byte,),
    WritesOnFirstAttempts: (
        SinkContract.test_transient_failures_cost_nothing,
        SinkContract.test_of_a_partial_failure_only_the_refused_items_are_written_again,
        SinkContract.test_mixed_failures_are_told_apart,
        SinkContract.test_a_hang_past_the_deadline_is_cut_and_tried_again,
        SinkContract.test_delivery_resumes_after_a_real_outage,
        SinkContract.test_a_destination_that_does_not_answer_is_cut_off_and_asked_again,
    ),
    FailsOnce: (SinkContract.test_what_becomes_of_attempts_is_measured,),
    WritesOneBatch: (SinkContract.test_a_permanent_failure_costs_its_own_batch,),
    ClosesOnce: (SinkContract.test_close_twice_close_unopened_flush_unopened,),
    SendsAtClose: (SinkContract.test_close_twice_close_unopened_flush_unopened,),
    OpensOnce: (SinkContract.test_open_twice,),
    EmptiesAtOpen: (
        SinkContract.test_writes_again_after_close_and_reopen,
        SinkContract.test_a_new_sink_adds_to_what_an_earlier_one_wrote,
    ),
    FlushesBadly: (SinkContract.test_a_flush_may_come_while_a_write_is_under_way,),
    CanNotBeRestored: (SinkContract.test_goes_on_after_a_snapshot_is_restored,),
    CutsLines: (
        SinkContract.test_a_write_cancelled_midway_leaves_whole_lines_and_a_sink_that_works,
    ),
    BreaksWhenCancelled: (
        SinkContract.test_a_write_cancelled_midway_leaves_whole_lines_and_a_sink_that_works,
        SinkContract.test_a_destination_that_does_not_answer_is_cut_off_and_asked_again,
    ),
    GoesOn: (SinkContract.test_a_shutdown_while_a_destination_does_not_answer,),
    RaisesWhatComes: (
        SinkContract.test_open_raises_only_sink_errors_during_an_outage,
        SinkContract.test_delivery_resumes_after_a_real_outage,
    ),
    GivesUp: (SinkContract.test_delivery_resumes_after_a_real_outage,),
    Pretends: (
        SinkContract.test_a_shutdown_in_an_outage_loses_lines_under_its_code,
        SinkContract.test_a_shutdown_while_a_destination_does_not_answer,
        SinkContract.test_open_raises_only_sink_errors_during_an_outage,
    ),
}


@pytest.mark.parametrize(
    ("wrong", "test"),
    [
        pytest.param(wrong, test.__name__, id=f"{wrong.__name__}-{test.__name__}")
        for wrong, tests in CATCHES.items()
        for test in tests
    ],
)
def test_the_suite_catches(wrong: type[Sink], test: str, tmp_path: Path) -> None:
    class Subject(RightSubject):
        sink_class = wrong
        patience_seconds = 1.0

    method = getattr(Subject(), test)
    caught = (
        AssertionError, BugError, ConnectionError, TimeoutError, TransientSinkError,
        pytest.fail.Exception,
    )  # fmt: skip
    with ExitStack() as stack:
        given: dict[str, Any] = {
            "tmp_path": tmp_path,
            "stack": stack,
            "loop_factory": asyncio.new_event_loop,
            "turns": 16,
            "shape": "flat",
        }
        wanted = inspect.signature(method).parameters
        with pytest.raises(caught):
            method(**{name: value for name, value in given.items() if name in wanted})


def test_each_test_of_the_suite_catches_something() -> None:
    named = {test.__name__ for tests in CATCHES.values() for test in tests}
    assert named == {name for name in dir(SinkContract) if name.startswith("test_")}


# -- what items are known by, and how the suite ends -----------------------------------------------


def test_an_item_keeps_its_key_in_every_attempt() -> None:
    """Whatever was delivered since; and no two items have the same."""
    attempts: list[Batch] = []
    answers = [(1, 3), (0,), (), ()]

    class Refuses(Sink):
        async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
            attempts.append(batch)
            refused = answers[len(attempts) - 1]
            return WriteResult(tuple(Failure(index, "busy", retryable=True) for index in refused))

    config = SinkConfig(type="refuses")
    sink = Refuses(config, context())
    assert sink.config is config
    rig = Rig(sink, config)

    async def scenario() -> None:
        rig.worker.start()
        for wave in (numbered_blocks(4), numbered_blocks(2, start=4)):
            rig.offer(wave)
            assert await rig.flush()
        await rig.stop()

    run(JumpingLoop, scenario())
    assert [batch.numbers for batch in attempts] == [(0, 1, 2, 3), (1, 3), (1,), (0, 1)]
    keys: dict[str, bytes] = {}
    for batch in attempts:
        for index, item in enumerate(batch.items):
            assert keys.setdefault(batch.key(index), item.payload) == item.payload
    assert len(set(keys.values())) == len(keys) == 6
    assert batch_of(sink, []).batch_id != batch_of(sink, []).batch_id


BROKEN = """
import asyncio, threading, time
from telemetryd.errors import TransientSinkError
from telemetryd.sinks.base import Sink, SinkConfig, WriteResult
from telemetryd.testing import SinkContract

class Broken(Sink):
    async def open(self):
        {open}

    async def write(self, batch, *, attempt, deadline):
        {write}

    async def close(self):
        {close}

class TestBroken(SinkContract):
    sink_class = Broken
    patience_seconds = 1.0
    def config(self, directory, **keys):
        return SinkConfig(type="broken", **keys)
"""
FINE = {"open": "pass", "write": "return WriteResult()", "close": "pass"}
FOR_EVER = "await asyncio.Event().wait()"
HOLDS_ON = """while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass"""


@pytest.mark.parametrize(
    ("methods", "shown", "line"),
    [
        ({"write": "return batch.no_such_thing"}, "AttributeError", "return batch.no_such_thing"),
        ({"write": "return 'ok'"}, "has a bug", "in _check"),
        ({"write": "raise TransientSinkError('never')"}, "fails again and again", "raise Trans"),
        ({"write": "open('/no/such/place')"}, "fails again and again", "open('/no/such/place')"),
        ({"open": "raise TransientSinkError('never')"}, "fails again and again", "raise Trans"),
        ({"open": "{}['x']"}, "KeyError", "{}['x']"),
        ({"open": FOR_EVER}, "the sink hangs", FOR_EVER),
        ({"write": FOR_EVER}, "the sink hangs", FOR_EVER),
        ({"close": FOR_EVER}, "the sink hangs", FOR_EVER),
        ({"write": HOLDS_ON}, "the sink hangs", FOR_EVER),
        ({"write": "while True: await asyncio.sleep(0)"}, "the sink hangs", "await asyncio.sl"),
        ({"write": "time.sleep(1e6)"}, "the loop is blocked", "time.sleep(1e6)"),
        ({"close": "time.sleep(1e6)"}, "the loop is blocked", "time.sleep(1e6)"),
        ({"write": "await asyncio.to_thread(time.sleep, 1e6)"}, "the sink hangs", "to_thread"),
        ({"open": "threading.Thread(target=time.sleep, args=(1e6,)).start()"}, "threads", "in run"),
    ],
)
def test_a_broken_sink_ends_the_suite_at_its_first_failure_and_is_shown(
    tmp_path: Path, methods: dict[str, str], shown: str, line: str
) -> None:
    """Whatever it does, the command ends, and shows the line that does it."""
    (tmp_path / "test_broken.py").write_text(BROKEN.format(**FINE | methods))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    assert shown in done.stdout
    assert "Traceback" in done.stdout
    assert line in done.stdout
    failed, skipped = (
        int((re.search(rf"(\d+) {word}", done.stdout) or [0, 0])[1])
        for word in ("(?:failed|error)", "skipped")
    )
    assert 0 < failed <= 10
    assert skipped > 30

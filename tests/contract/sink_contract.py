"""The Sink contract as tests: subclass `SinkContract`, say how the sink is made and read back.

Two kinds of failure are used. Scripted ones are laid over `write` and leave the destination alone,
so every sink meets each of them; `outage` is the subclass's own way to break the real destination.
"""

# ruff: noqa: D102 - the names of the tests say it
from __future__ import annotations

import abc
import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from contract.delivery_rig import (
    LOOPS,
    LogBook,
    LoopFactory,
    Rig,
    batch_of,
    block,
    context,
    data_of,
    dead_letter_at,
    numbered_blocks,
    run,
)
from telemetryd.core.ledger import Count
from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.sinks.base import (
    DELIVERED,
    Batch,
    Failure,
    Sink,
    SinkConfig,
    WriteResult,
)
from telemetryd_proto.framing import Block

Received = Callable[[int], bytes]
Step = Callable[[Batch], Awaitable[Sequence[Failure]]]
FAR = 3600.0


async def fail_transiently(batch: Batch) -> Sequence[Failure]:
    raise TransientSinkError("try_again")


async def fail_for_good(batch: Batch) -> Sequence[Failure]:
    raise PermanentSinkError("refused")


async def hang(batch: Batch) -> Sequence[Failure]:
    await asyncio.Event().wait()
    return ()


def refuse(*indices: int, retryable: bool) -> Step:
    async def step(batch: Batch) -> Sequence[Failure]:
        return [Failure(index, "refused", retryable) for index in indices]

    return step


def refuse_mixed(again: int, never: int) -> Step:
    async def step(batch: Batch) -> Sequence[Failure]:
        return [Failure(again, "busy", retryable=True), Failure(never, "bad", retryable=False)]

    return step


def scripted(base: type[Sink], script: list[Step], attempts: list[Batch]) -> type[Sink]:
    """`base`, whose first writes follow `script`: what a step does not refuse is written."""

    class Scripted(base):  # type: ignore[misc, valid-type]  # the base is a parameter
        async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
            attempts.append(batch)
            failures = await script.pop(0)(batch) if script else ()
            refused = {failure.index for failure in failures}
            rest = tuple(item for i, item in enumerate(batch.items) if i not in refused)
            if rest:
                accepted = Batch(batch.batch_id, rest)
                result = await super().write(accepted, attempt=attempt, deadline=deadline)
                assert result == DELIVERED
            return WriteResult(tuple(failures))

    return Scripted


class SinkContract(abc.ABC):
    """Everything a sink has to prove. `received` is None where nobody can look (`null`)."""

    sink_class: ClassVar[type[Sink]]
    oversized_bytes: ClassVar[int] = 3 * 1024 * 1024
    """Size of the line that is larger than a batch."""

    @abc.abstractmethod
    def config(self, directory: Path, **keys: object) -> SinkConfig:
        """The sink's configuration, with `keys` of `SinkConfig` set, everything in `directory`."""

    @contextmanager
    def destination(self, directory: Path) -> Iterator[Received | None]:
        """A destination; yields `received(at_least)`.

        It returns the lines that arrived, as they were received, once there are so many bytes.
        """
        yield None

    def outage(self, directory: Path) -> AbstractContextManager[str] | None:
        """Inside, the destination refuses lines, with the code yielded; None: it can't."""
        return None

    # -- tools -------------------------------------------------------------------------------

    @pytest.fixture
    def stack(self) -> Iterator[ExitStack]:
        """Tests enter `destination` themselves: pytest takes file descriptor 1 back in between."""
        with ExitStack() as stack:
            yield stack

    def make(self, directory: Path, log: LogBook | None = None) -> Sink:
        return self.sink_class(self.config(directory), context(log))

    def rig(
        self, directory: Path, *steps: Step, attempts: list[Batch] | None = None, **keys: object
    ) -> Rig:
        config = self.config(directory, **keys)
        kind = scripted(self.sink_class, list(steps), attempts if attempts is not None else [])
        log = LogBook()
        return Rig(kind(config, context(log)), config, log=log)

    def deliver(self, loop_factory: LoopFactory, rig: Rig, *waves: Sequence[Block]) -> None:
        """Offer each wave of blocks at once, flush after each, stop."""

        async def scenario() -> None:
            rig.worker.start()
            for wave in waves:
                rig.offer(wave)
                assert await rig.flush()
                rig.check_balance()
            await rig.stop()

        run(loop_factory, scenario())
        rig.check_end()

    @staticmethod
    def assert_received(received: Received | None, expected: bytes) -> None:
        if received is not None:
            assert received(len(expected)) == expected

    # -- the contract ------------------------------------------------------------------------

    def test_constructor_does_no_io(self, tmp_path: Path, stack: ExitStack) -> None:
        stack.enter_context(self.destination(tmp_path))
        before = sorted(tmp_path.rglob("*"))
        self.make(tmp_path)
        assert sorted(tmp_path.rglob("*")) == before

    def test_packed_items_stand_for_the_lines_and_give_them_back(self, tmp_path: Path) -> None:
        sink = self.make(tmp_path)
        blocks = [*numbered_blocks(20), block(b"\xff\0", b"{", b"not json \xe2\x80\xa8")]
        items = sink.pack(blocks)
        assert sum(item.lines for item in items) == sum(each.lines for each in blocks)
        assert b"".join(sink.unpack(item) for item in items) == data_of(blocks)
        assert [len(sink.unpack(item)) for item in items] == [item.size for item in items]

    @LOOPS
    def test_delivers_every_line_in_order(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        received = stack.enter_context(self.destination(tmp_path))
        blocks = numbered_blocks(400)
        rig = self.rig(tmp_path, batch_max_bytes=1024)
        self.deliver(loop_factory, rig, blocks[:250], blocks[250:251], blocks[251:])
        size = len(data_of(blocks))
        assert rig.account.offered == rig.account.enqueued == Count(1200, size)
        assert rig.settled() == {"delivered": Count(1200, size)}
        self.assert_received(received, data_of(blocks))

    @LOOPS
    def test_writes_again_after_close_and_reopen(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        received = stack.enter_context(self.destination(tmp_path))
        blocks = numbered_blocks(4)

        async def scenario() -> None:
            sink = self.make(tmp_path)
            for half in (blocks[:2], blocks[2:]):
                await sink.open()
                assert await sink.write(batch_of(sink, half), attempt=1, deadline=FAR) == DELIVERED
                await sink.flush(deadline=FAR)
                await sink.close()

        run(loop_factory, scenario())
        self.assert_received(received, data_of(blocks))

    @LOOPS
    def test_a_new_sink_adds_to_what_an_earlier_one_wrote(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        received = stack.enter_context(self.destination(tmp_path))
        blocks = numbered_blocks(4)
        for half in (blocks[:2], blocks[2:]):
            self.deliver(loop_factory, self.rig(tmp_path), half)
        self.assert_received(received, data_of(blocks))

    @LOOPS
    def test_close_twice_close_unopened_flush_unopened(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        received = stack.enter_context(self.destination(tmp_path))

        async def scenario() -> None:
            unopened = self.make(tmp_path)
            await unopened.flush(deadline=FAR)
            await unopened.close()
            await unopened.close()
            sink = self.make(tmp_path)
            await sink.open()
            await sink.close()
            await sink.close()

        run(loop_factory, scenario())
        self.assert_received(received, b"")

    @LOOPS
    def test_transient_failures_cost_nothing(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        received = stack.enter_context(self.destination(tmp_path))
        attempts: list[Batch] = []
        blocks = numbered_blocks(5)
        rig = self.rig(tmp_path, fail_transiently, fail_transiently, attempts=attempts)
        self.deliver(loop_factory, rig, blocks)
        assert rig.lines() == {"delivered": 15}
        assert len({batch.batch_id for batch in attempts}) == 1
        assert len(attempts) == 3
        self.assert_received(received, data_of(blocks))

    @LOOPS
    def test_a_permanent_failure_costs_its_own_batch(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        received = stack.enter_context(self.destination(tmp_path))
        blocks = numbered_blocks(5)
        rig = self.rig(tmp_path, fail_for_good)
        self.deliver(loop_factory, rig, blocks[:2], blocks[2:])
        assert rig.lines() == {"dropped.refused": 6, "delivered": 9}
        self.assert_received(received, data_of(blocks[2:]))

    @LOOPS
    def test_of_a_partial_failure_only_the_refused_items_are_written_again(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        received = stack.enter_context(self.destination(tmp_path))
        attempts: list[Batch] = []
        blocks = numbered_blocks(4)
        rig = self.rig(
            tmp_path, refuse(1, 3, retryable=True), refuse(1, retryable=True), attempts=attempts
        )
        self.deliver(loop_factory, rig, blocks)
        assert rig.lines() == {"delivered": 12}
        payloads = [[item.payload for item in batch.items] for batch in attempts]
        whole = payloads[0]
        assert payloads[1:] == [[whole[1], whole[3]], [whole[3]]]
        self.assert_received(received, data_of([blocks[i] for i in (0, 2, 1, 3)]))

    @LOOPS
    def test_mixed_failures_are_told_apart(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        received = stack.enter_context(self.destination(tmp_path))
        blocks = numbered_blocks(4)
        rig = self.rig(tmp_path, refuse_mixed(again=0, never=2))
        self.deliver(loop_factory, rig, blocks)
        assert rig.lines() == {"delivered": 9, "dropped.bad": 3}
        self.assert_received(received, data_of([blocks[i] for i in (1, 3, 0)]))

    @LOOPS
    def test_a_hang_past_the_deadline_is_cut_and_tried_again(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        received = stack.enter_context(self.destination(tmp_path))
        blocks = numbered_blocks(3)
        attempts: list[Batch] = []
        rig = self.rig(tmp_path, hang, attempts=attempts, write_timeout_ms=200)
        self.deliver(loop_factory, rig, blocks)
        assert rig.lines() == {"delivered": 9}
        assert rig.log.facts("write_failed")[0]["code"] == "timeout"
        assert len(attempts) == 2
        self.assert_received(received, data_of(blocks))

    @LOOPS
    def test_a_write_cancelled_midway_leaves_whole_lines_and_a_sink_that_works(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        received = stack.enter_context(self.destination(tmp_path))
        cut, later = numbered_blocks(30), numbered_blocks(3, start=30)

        async def scenario() -> None:
            sink = self.make(tmp_path)
            await sink.open()
            batch = batch_of(sink, cut)
            writing = asyncio.create_task(sink.write(batch, attempt=1, deadline=FAR))
            await asyncio.sleep(0)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            assert await sink.write(batch_of(sink, later), attempt=1, deadline=FAR) == DELIVERED
            await sink.close()

        run(loop_factory, scenario())
        if received is not None:
            got = received(len(data_of(later)))
            whole = data_of(cut)
            assert got in (whole[:at] + data_of(later) for at in line_ends(whole))

    @LOOPS
    def test_a_line_larger_than_a_batch(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        received = stack.enter_context(self.destination(tmp_path))
        blocks = [block(b"before"), block(b"x" * self.oversized_bytes), block(b"after")]
        rig = self.rig(tmp_path, batch_max_bytes=1024)
        self.deliver(loop_factory, rig, blocks)
        assert rig.lines() == {"delivered": 3}
        self.assert_received(received, data_of(blocks))

    @LOOPS
    def test_lines_that_are_not_json_pass_byte_for_byte(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        received = stack.enter_context(self.destination(tmp_path))
        blocks = [
            block(b'{"cut": ', b"\xff\xfe\x00\x80", b"\xe2\x80\xa8 \xc2\x85", b" "),
            block(b"carriage return\r", b'{"a":1} {"b":2}', b"[]", b"$LATEST %s \\n {}"),
            block(bytes(byte for byte in range(256) if byte != 0x0A)),
        ]
        rig = self.rig(tmp_path)
        self.deliver(loop_factory, rig, blocks)
        assert rig.settled() == {"delivered": Count(9, len(data_of(blocks)))}
        self.assert_received(received, data_of(blocks))

    @LOOPS
    def test_what_a_failing_sink_loses_is_in_the_dead_letter(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        received = stack.enter_context(self.destination(tmp_path))
        config = self.config(tmp_path)
        log = LogBook()
        kind = scripted(self.sink_class, [refuse(0, retryable=False)], [])
        letters = tmp_path / "dead-letter.ndjson"
        dead_letter = dead_letter_at(letters, log)
        rig = Rig(kind(config, context(log)), config, log=log, dead_letter=dead_letter)
        blocks = numbered_blocks(2)
        self.deliver(loop_factory, rig, blocks)
        dead_letter.close()
        assert rig.lines() == {"delivered": 3, "dead_lettered": 3}
        assert letters.read_bytes().count(b"\n") == 1
        self.assert_received(received, data_of(blocks[1:]))

    @LOOPS
    def test_delivery_resumes_after_a_real_outage(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        received = stack.enter_context(self.destination(tmp_path))
        outage = self.outage(tmp_path)
        if outage is None:
            pytest.skip(f"a {self.sink_class.__name__} has no destination that could fail for now")
        before, during, after = numbered_blocks(2), numbered_blocks(2, start=2), [block(b"after")]
        rig = self.rig(tmp_path)

        async def scenario() -> str:
            rig.worker.start()
            rig.offer(before)
            assert await rig.flush()
            failed = asyncio.Event()
            rig.log.on_event["write_failed"] = failed.set
            with outage as code:
                rig.offer(during)
                await failed.wait()
                rig.check_balance()
                assert rig.worker.pending() == Count(6, len(data_of(during)))
            rig.offer(after)
            assert await rig.flush()
            await rig.stop()
            return code

        code = run(loop_factory, scenario())
        rig.check_end()
        assert rig.lines() == {"delivered": 13}
        assert {facts["code"] for facts in rig.log.facts("write_failed")} == {code}
        self.assert_received(received, data_of([*before, *during, *after]))

    @LOOPS
    def test_open_raises_only_sink_errors_during_an_outage(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        received = stack.enter_context(self.destination(tmp_path))
        outage = self.outage(tmp_path)
        if outage is None:
            pytest.skip(f"a {self.sink_class.__name__} has no destination that could fail for now")
        blocks = numbered_blocks(2)

        async def scenario() -> None:
            sink = self.make(tmp_path)
            with outage:
                with pytest.raises(SinkError):  # noqa: PT012 - whichever of the two meets it first
                    await sink.open()
                    await sink.write(batch_of(sink, blocks), attempt=1, deadline=FAR)
                await sink.close()
            await sink.open()
            assert await sink.write(batch_of(sink, blocks), attempt=2, deadline=FAR) == DELIVERED
            await sink.close()

        run(loop_factory, scenario())
        self.assert_received(received, data_of(blocks))


def line_ends(data: bytes) -> Iterator[int]:
    """Every length at which `data` holds whole lines only."""
    yield 0
    for at, byte in enumerate(data):
        if byte == 0x0A:
            yield at + 1


__all__ = ["Received", "SinkContract"]

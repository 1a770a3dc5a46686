"""The part of the suite about a sink's life: open, close, open again, cancelled, restored."""

# ruff: noqa: S101 - assertions are what this is for
from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest

from telemetryd.sinks.base import DELIVERED
from telemetryd.testing.lines import batch_of, data_of, line_ends, numbered_blocks
from telemetryd.testing.loops import LOOPS, LoopFactory
from telemetryd.testing.subject import FAR, Received, Subject


class LifeCycleContract(Subject):
    """The calls that a worker makes, in every order in which it may make them."""

    @LOOPS
    def test_close_twice_close_unopened_flush_unopened(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """None of these raises, and none sends anything."""
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

        self.run(loop_factory, scenario())
        self.assert_received(received, b"")

    @LOOPS
    def test_open_twice(self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory) -> None:
        """A second `open`, as after one whose time ran out, leaves nothing open behind it."""
        received = stack.enter_context(self.destination(tmp_path))
        blocks = numbered_blocks(2)

        async def scenario() -> None:
            sink = self.make(tmp_path)
            await sink.open()
            await sink.open()
            assert await sink.write(batch_of(sink, blocks), attempt=1, deadline=FAR) == DELIVERED
            await sink.close()

        self.run(loop_factory, scenario())
        self.assert_received(received, data_of(blocks))

    @LOOPS
    def test_writes_again_after_close_and_reopen(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """A closed sink can be opened again, and continues after what it wrote before."""
        received = stack.enter_context(self.destination(tmp_path))
        blocks = numbered_blocks(4)

        async def scenario() -> None:
            sink = self.make(tmp_path)
            for half in (blocks[:2], blocks[2:]):
                await sink.open()
                assert await sink.write(batch_of(sink, half), attempt=1, deadline=FAR) == DELIVERED
                await sink.flush(deadline=FAR)
                await sink.close()

        self.run(loop_factory, scenario())
        self.assert_received(received, data_of(blocks))

    @LOOPS
    def test_a_flush_may_come_while_a_write_is_under_way(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """A flush and a write at the same time both succeed."""
        received = stack.enter_context(self.destination(tmp_path))
        blocks = numbered_blocks(30)

        async def scenario() -> None:
            sink = self.make(tmp_path)
            await sink.open()
            batch = batch_of(sink, blocks)
            result, _ = await asyncio.gather(
                sink.write(batch, attempt=1, deadline=FAR), sink.flush(deadline=FAR)
            )
            assert result == DELIVERED
            await sink.close()

        self.run(loop_factory, scenario())
        self.assert_received(received, data_of(blocks))

    @LOOPS
    def test_a_new_sink_adds_to_what_an_earlier_one_wrote(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """The next process destroys nothing that the one before delivered."""
        received = stack.enter_context(self.destination(tmp_path))
        blocks = numbered_blocks(4)
        for half in (blocks[:2], blocks[2:]):
            self.deliver(loop_factory, self.rig(tmp_path), half)
        self.assert_received(received, data_of(blocks))

    @LOOPS
    def test_goes_on_after_a_snapshot_is_restored(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """`on_restore` may be called before `open` and between writes, and loses no line."""
        received = stack.enter_context(self.destination(tmp_path))
        blocks = numbered_blocks(4)

        async def scenario() -> None:
            sink = self.make(tmp_path)
            sink.on_restore("f" * 32)
            await sink.open()
            for number, half in enumerate((blocks[:2], blocks[2:])):
                assert await sink.write(batch_of(sink, half), attempt=1, deadline=FAR) == DELIVERED
                sink.on_restore(str(number) * 32)
            await sink.close()

        self.run(loop_factory, scenario())
        self.assert_received(received, data_of(blocks))

    @pytest.mark.parametrize("turns", [1, 4, 16, 64])
    @LOOPS
    def test_a_write_cancelled_midway_leaves_whole_lines_and_a_sink_that_works(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory, turns: int
    ) -> None:
        """A write that is cut off after any number of turns of the loop delivers whole lines.

        They are its first ones, each at most once, and the next write is untouched.
        """
        received = stack.enter_context(self.destination(tmp_path))
        cut, later = numbered_blocks(30), numbered_blocks(3, start=30)

        async def scenario() -> None:
            sink = self.make(tmp_path)
            await sink.open()
            batch = batch_of(sink, cut)
            writing = asyncio.create_task(sink.write(batch, attempt=1, deadline=FAR))
            for _ in range(turns):
                await asyncio.sleep(0)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            assert await sink.write(batch_of(sink, later), attempt=1, deadline=FAR) == DELIVERED
            await sink.close()

        self.run(loop_factory, scenario())
        if received is not None:
            before, found, after = _until(data_of(later), received).partition(data_of(later))
            assert found == data_of(later)
            whole = data_of(cut)
            # A request that was on its way already may arrive after the one that follows it.
            assert before + after in [whole[:end] for end in line_ends(whole)]


def _until(last: bytes, received: Received) -> bytes:
    """Return the bytes that arrived up to `last`, or until nothing more arrives."""
    arrived = received(len(last))
    while last not in arrived and len(more := received(len(arrived) + 1)) > len(arrived):
        arrived = more
    return arrived

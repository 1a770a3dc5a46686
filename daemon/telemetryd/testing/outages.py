"""The part of the suite about a destination that really fails: it refuses, or does not answer."""

# ruff: noqa: S101, PLR2004 - assertions, and what they count
from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from telemetryd.core.ledger import Count
from telemetryd.errors import SinkError
from telemetryd.sinks.base import DELIVERED
from telemetryd.testing.lines import batch_of, block, data_of, numbered_blocks
from telemetryd.testing.loops import LOOPS, LoopFactory
from telemetryd.testing.subject import FAR, Subject


class OutageContract(Subject):
    """Needs `outage` and `stall`; skipped where a destination has none."""

    @LOOPS
    def test_delivery_resumes_after_a_real_outage(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """Lines offered before, in and after an outage arrive once and in order.

        Until then they are pending, and the log names the outage's code and no other.
        """
        received = stack.enter_context(self.destination(tmp_path))
        outage = self.real_outage(tmp_path)
        before, during, after = numbered_blocks(2), numbered_blocks(2, start=2), [block(b"after")]
        rig = self.rig(tmp_path)

        async def scenario() -> str:
            rig.worker.start()
            rig.offer(before)
            await self.flush(rig)
            with outage as code:
                await self.failure(rig, during)
                rig.check_balance()
                assert rig.worker.pending() == Count(6, len(data_of(during)))
            rig.offer(after)
            await self.flush(rig)
            await rig.stop()
            return code

        code = self.run(loop_factory, scenario())
        self.check(rig)
        assert rig.lines() == {"delivered": 13}
        assert {facts["code"] for facts in rig.log.facts("write_failed")} == {code}
        self.assert_received(received, data_of([*before, *during, *after]))

    @LOOPS
    def test_a_shutdown_in_an_outage_loses_lines_under_its_code(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """At the deadline the worker gives up: what was in flight and what waited is dropped."""
        received = stack.enter_context(self.destination(tmp_path))
        outage = self.real_outage(tmp_path)
        before, during = numbered_blocks(2), numbered_blocks(2, start=2)
        rig = self.rig(tmp_path)

        async def scenario() -> str:
            rig.worker.start()
            rig.offer(before)
            await self.flush(rig)
            with outage as code:
                await self.failure(rig, during)
                rig.offer([block(b"behind")])
                await rig.stop(0.2)
            return code

        code = self.run(loop_factory, scenario())
        self.check(rig)
        assert rig.lines() == {"delivered": 6, f"dropped.{code}": 7}
        self.assert_received(received, data_of(before))

    @LOOPS
    def test_open_raises_only_sink_errors_during_an_outage(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """`open` or the first `write` raises a SinkError; opened again, the sink works."""
        received = stack.enter_context(self.destination(tmp_path))
        outage = self.real_outage(tmp_path)
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

        self.run(loop_factory, scenario())
        self.assert_received(received, data_of(blocks))

    @LOOPS
    def test_a_destination_that_does_not_answer_is_cut_off_and_asked_again(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """A write hangs past its deadline, really; afterwards the same lines arrive once."""
        received = stack.enter_context(self.destination(tmp_path))
        stall = self.real_stall(tmp_path)
        before, during = numbered_blocks(2), numbered_blocks(2, start=2)
        rig = self.rig(tmp_path, write_timeout_ms=self.write_timeout_ms)

        async def scenario() -> None:
            rig.worker.start()
            rig.offer(before)
            await self.flush(rig)
            with stall:
                await self.failure(rig, during)
                rig.check_balance()
                assert rig.worker.pending() == Count(6, len(data_of(during)))
            await self.flush(rig)
            await rig.stop()

        self.run(loop_factory, scenario())
        self.check(rig)
        assert rig.lines() == {"delivered": 12}
        self.assert_received(received, data_of([*before, *during]))

    @LOOPS
    def test_a_shutdown_while_a_destination_does_not_answer(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """The write in flight ends when it is cancelled, its lines are lost, the sink closes."""
        received = stack.enter_context(self.destination(tmp_path))
        stall = self.real_stall(tmp_path)
        before, during = numbered_blocks(2), numbered_blocks(2, start=2)
        rig = self.rig(tmp_path)

        async def scenario() -> None:
            rig.worker.start()
            rig.offer(before)
            await self.flush(rig)
            with stall:
                rig.offer(during)
                await rig.stop(0.2)

        self.run(loop_factory, scenario())
        self.check(rig)
        lines = rig.lines()
        assert lines.pop("delivered", 0) == 6
        assert sum(lines.values()) == 6
        assert all(reason.startswith("dropped.") for reason in lines)
        self.assert_received(received, data_of(before))

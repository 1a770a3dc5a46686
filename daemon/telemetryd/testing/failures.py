"""The part of the suite about attempts that fail: retried or lost, each line in one count.

A script makes `write` fail, so every sink meets every failure, whatever its destination can do.
"""

# ruff: noqa: S101, PLR2004 - assertions, and what they count
from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from telemetryd.core.ledger import Count
from telemetryd.sinks.base import Batch
from telemetryd.testing.lines import data_of, numbered_blocks
from telemetryd.testing.loops import LOOPS, LoopFactory
from telemetryd.testing.rig import dead_letter_at
from telemetryd.testing.steps import (
    fail_for_good,
    fail_transiently,
    hang,
    lose_answer,
    refuse,
    refuse_mixed,
)
from telemetryd.testing.subject import Subject


class FailureContract(Subject):
    """Whole batches and single items that fail, for now and for good."""

    @LOOPS
    def test_transient_failures_cost_nothing(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """After two failed attempts the third delivers the same batch, once."""
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
        """A refused batch is dropped under its code, in lines and bytes; the next one arrives."""
        received = stack.enter_context(self.destination(tmp_path))
        blocks = numbered_blocks(5)
        rig = self.rig(tmp_path, fail_for_good)
        self.deliver(loop_factory, rig, blocks[:2], blocks[2:])
        assert rig.leaves() == {
            "dropped.refused": Count(6, len(data_of(blocks[:2]))),
            "delivered": Count(9, len(data_of(blocks[2:]))),
        }
        self.assert_received(received, data_of(blocks[2:]))

    @LOOPS
    def test_of_a_partial_failure_only_the_refused_items_are_written_again(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """Items that were accepted are not in the next attempt."""
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
    def test_a_destination_that_drops_duplicates_gets_each_line_once(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """Answers are lost, parts of batches refused: no line is there twice, none is missing."""
        if not self.drops_duplicates:
            pytest.skip(f"{self.sink_class.__name__}: `drops_duplicates` is not set")
        received = stack.enter_context(self.destination(tmp_path))
        blocks = numbered_blocks(8)
        rig = self.rig(tmp_path, refuse(1, 3, retryable=True), lose_answer(), lose_answer())
        self.deliver(loop_factory, rig, blocks[:4], blocks[4:])
        assert rig.lines() == {"delivered": 24}
        if received is not None:
            expected = data_of(blocks)
            assert sorted(received(len(expected)).splitlines()) == sorted(expected.splitlines())

    @LOOPS
    def test_mixed_failures_are_told_apart(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """Items that one attempt refuses for good are dropped. The rest is retried."""
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
        """An attempt ends at `write_timeout_ms`, counts as `timeout`, and the next delivers."""
        received = stack.enter_context(self.destination(tmp_path))
        blocks = numbered_blocks(3)
        attempts: list[Batch] = []
        rig = self.rig(tmp_path, hang, attempts=attempts, write_timeout_ms=self.write_timeout_ms)
        self.deliver(loop_factory, rig, blocks)
        assert rig.lines() == {"delivered": 9}
        assert rig.log.facts("write_failed")[0]["code"] == "timeout"
        assert len(attempts) == 2
        self.assert_received(received, data_of(blocks))

    @LOOPS
    def test_what_becomes_of_attempts_is_measured(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """Attempts by outcome, retries, errors by code, the age of each line delivered."""
        stack.enter_context(self.destination(tmp_path))
        blocks = numbered_blocks(5)
        rig = self.rig(tmp_path, fail_transiently, fail_for_good)
        self.deliver(loop_factory, rig, blocks[:2], blocks[2:])
        stats = rig.stats
        outcomes = {name: times.count for name, times in stats.write_seconds.items() if times.count}
        assert outcomes == {"transient": 1, "permanent": 1, "ok": 1}
        assert stats.errors == {("transient", "try_again"): 1, ("permanent", "refused"): 1}
        assert stats.retries == 1
        assert stats.batch_lines.sum == 15
        assert stats.delivery_seconds.count == 9
        assert stats.writes_in_flight == 0

    @LOOPS
    def test_what_a_failing_sink_loses_is_in_the_dead_letter(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """The lines of an item that is refused for good are kept, as `unpack` gives them back."""
        received = stack.enter_context(self.destination(tmp_path))
        letters = tmp_path / "dead-letter.ndjson"
        dead_letter = dead_letter_at(letters)
        rig = self.rig(tmp_path, refuse(0, retryable=False), dead_letter=dead_letter)
        blocks = numbered_blocks(2)
        self.deliver(loop_factory, rig, blocks)
        dead_letter.close()
        assert rig.lines() == {"delivered": 3, "dead_lettered": 3}
        assert letters.read_bytes().count(b"\n") == 1
        self.assert_received(received, data_of(blocks[1:]))

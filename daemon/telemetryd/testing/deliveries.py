"""The part of the suite about a destination that works: every line arrives, once and in order."""

# ruff: noqa: S101, PLR2004 - assertions, and what they count
from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from telemetryd.core.ledger import Count
from telemetryd.testing.lines import block, data_of, numbered_blocks
from telemetryd.testing.loops import LOOPS, LoopFactory
from telemetryd.testing.subject import Subject
from telemetryd_proto.framing import Block


def _in_waves(blocks: Sequence[Block]) -> list[Sequence[Block]]:
    """`blocks` one by one, but for every fourth wave, which has three of them."""
    waves: list[Sequence[Block]] = []
    while blocks:
        count = 1 if len(waves) % 4 else 3
        waves.append(blocks[:count])
        blocks = blocks[count:]
    return waves


class DeliveryContract(Subject):
    """Lines of every kind and size, through the worker."""

    @LOOPS
    def test_delivers_every_line_in_order(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """1,200 lines in many batches and three flushes arrive once, in order, and are counted."""
        received = stack.enter_context(self.destination(tmp_path))
        blocks = numbered_blocks(400)
        rig = self.rig(tmp_path, batch_max_bytes=1024)
        self.deliver(loop_factory, rig, blocks[:250], blocks[250:251], blocks[251:])
        size = len(data_of(blocks))
        assert rig.account.offered == rig.account.enqueued == Count(1200, size)
        assert rig.leaves() == {"delivered": Count(1200, size)}
        self.assert_received(received, data_of(blocks))

    @LOOPS
    def test_blocks_that_come_alone_arrive_once_and_in_order(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """Some by `write_direct`, where the sink has one, others by `write`, in turns."""
        received = stack.enter_context(self.destination(tmp_path))
        blocks = numbered_blocks(60)
        rig = self.unscripted(tmp_path)
        self.deliver(loop_factory, rig, *_in_waves(blocks))
        assert rig.leaves() == {"delivered": Count(180, len(data_of(blocks)))}
        self.assert_received(received, data_of(blocks))

    @LOOPS
    def test_a_line_larger_than_a_batch(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """A line of `oversized_bytes` arrives whole, between its neighbours."""
        received = stack.enter_context(self.destination(tmp_path))
        blocks = [block(b"before"), block(b"x" * self.oversized_bytes), block(b"after")]
        rig = self.rig(tmp_path, batch_max_bytes=1024)
        self.deliver(loop_factory, rig, blocks)
        assert rig.lines() == {"delivered": 3}
        self.assert_received(received, data_of(blocks))

    @LOOPS
    def test_a_line_that_is_refused_as_too_large_is_lost_alone(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """A line of `refused_bytes` is dropped with its reason; others of its batch arrive."""
        if self.refused_bytes is None:
            pytest.skip(f"{self.sink_class.__name__}: no `refused_bytes` are given")
        received = stack.enter_context(self.destination(tmp_path))
        blocks = [block(b"before"), block(b"x" * self.refused_bytes), block(b"after")]
        rig = self.rig(tmp_path, batch_max_bytes=self.refused_bytes + 1024)
        self.deliver(loop_factory, rig, blocks)
        lines = rig.lines()
        assert lines.pop("delivered", 0) == 2
        assert list(lines.values()) == [1]
        assert next(iter(lines)).startswith("dropped.")
        self.assert_received(received, b"before\nafter\n")

    @LOOPS
    def test_lines_that_are_not_json_pass_byte_for_byte(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """Cut JSON, control characters, what is no UTF-8: nothing is changed, split or joined."""
        received = stack.enter_context(self.destination(tmp_path))
        blocks = [
            block(b'{"cut": ', b"\xff\xfe\x00\x80", b"\xe2\x80\xa8 \xc2\x85", b" "),
            block(b"carriage return\r", b'{"a":1} {"b":2}', b"[]", b"$LATEST %s \\n {}"),
            block(bytes(byte for byte in range(256) if byte != 0x0A)),
        ]
        rig = self.rig(tmp_path)
        self.deliver(loop_factory, rig, blocks)
        assert rig.leaves() == {"delivered": Count(9, len(data_of(blocks)))}
        self.assert_received(received, data_of(blocks))

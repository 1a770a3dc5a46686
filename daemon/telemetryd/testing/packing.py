"""The part of the suite about configuration and items: what a sink says before it writes."""

# ruff: noqa: S101 - assertions are what this is for
from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from telemetryd.sinks.base import SinkConfig
from telemetryd.testing.lines import block, data_of, numbered_blocks
from telemetryd.testing.subject import Subject


class PackingContract(Subject):
    """A sink's constructor, `Config`, `pack` and `unpack`."""

    def test_constructor_does_no_io(self, tmp_path: Path, stack: ExitStack) -> None:
        """It needs no running loop, makes no file, and sends nothing."""
        received = stack.enter_context(self.destination(tmp_path))
        before = sorted(tmp_path.rglob("*"))
        self.make(tmp_path)
        assert sorted(tmp_path.rglob("*")) == before
        self.assert_received(received, b"")

    def test_its_configuration_is_accepted(self, tmp_path: Path) -> None:
        """`Config` has all keys that any sink has, and its rules agree with the suite's values."""
        config = self.config(tmp_path)
        assert isinstance(config, SinkConfig)
        assert isinstance(config, self.sink_class.Config)
        rules = getattr(config, "problems", tuple)
        assert [*config.shared_problems(), *rules()] == []

    def test_packed_items_stand_for_the_lines_and_give_them_back(self, tmp_path: Path) -> None:
        """Items hold the lines of the blocks in order, and `unpack` returns them unchanged."""
        sink = self.make(tmp_path)
        blocks = [*numbered_blocks(20), block(b"\xff\0", b"{", b"not json \xe2\x80\xa8")]
        items = list(sink.pack(blocks))
        unpacked = [sink.unpack(item) or b"" for item in items]
        assert sum(item.lines for item in items) == sum(each.lines for each in blocks)
        assert b"".join(unpacked) == data_of(blocks)
        assert [len(lines) for lines in unpacked] == [item.size for item in items]
        assert [lines.count(b"\n") for lines in unpacked] == [item.lines for item in items]

    def test_items_count_bytes_as_received(self, tmp_path: Path) -> None:
        """Bytes that `fields` added to the lines are delivered, but not counted."""
        sink = self.make(tmp_path)
        lines = [b'{"function":"orders","id":%d}' % number for number in range(10)]
        blocks = [block(*lines[at : at + 2], added=40) for at in range(0, 10, 2)]
        items = list(sink.pack(blocks))
        assert sum(item.size for item in items) == len(data_of(blocks)) - 5 * 40
        assert b"".join(sink.unpack(item) or b"" for item in items) == data_of(blocks)

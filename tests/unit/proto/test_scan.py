"""The compiled scanner is used where it is installed, and fits."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.flat_lines import flat_rows
from helpers.scanner import KINDS, Plain, compiled, using, widest_vectors
from telemetryd.core.watch import LIFE_CYCLE, EventWatch
from telemetryd_proto import scan
from telemetryd_proto.framing import Block, LineFramer, Rejected, TailBudget
from telemetryd_proto.record_bodies import RecordLines, to_lines

EVENT = b'{"time":"t","type":"platform.report","record":{}}\n'


@pytest.mark.parametrize(("api", "is_used"), [(3, False), (4, True), (5, False)])
def test_it_is_used_if_its_functions_are_the_expected_ones(
    monkeypatch: pytest.MonkeyPatch, api: int, is_used: bool
) -> None:
    installed = SimpleNamespace(API=api)
    monkeypatch.setitem(sys.modules, "telemetryd_scan", installed)
    assert scan._load() is (installed if is_used else None)


def test_without_it_python_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "telemetryd_scan", None)
    assert scan._load() is None


def test_it_takes_the_widest_vectors_of_this_processor() -> None:
    assert widest_vectors() == compiled().KIND
    assert {compiled(kind).KIND for kind in KINDS[1:]} == {"baseline"}


class Asked:
    """Notes what it is asked."""

    API = 4
    KIND = "asked"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def count_lines(self, data: bytes, /) -> int:
        """As `Plain` does."""
        self.asked.append("count_lines")
        return Plain.count_lines(data)

    def find_lines(self, data: bytes, marks: tuple[bytes, ...], /) -> list[tuple[int, int]]:
        """As `Plain` does."""
        self.asked.append("find_lines")
        return Plain.find_lines(data, marks)

    def find_events(
        self, data: bytes, marks: tuple[bytes, ...], names: tuple[bytes, ...], /
    ) -> tuple[list[bytes], list[int], int]:
        """As `Plain` does."""
        self.asked.append("find_events")
        return Plain.find_events(data, marks, names)

    def split_array(self, body: bytes | bytearray, at: int, /) -> tuple[bytes, int] | None:
        """As `Plain` does."""
        self.asked.append("split_array")
        return Plain.split_array(body, at)

    def add_rows(self, *arguments: Any) -> int:
        """As `Plain` does."""
        self.asked.append("add_rows")
        return Plain.add_rows(*arguments)


def test_framer_and_watch_ask_it() -> None:
    scanner = Asked()
    data = b"{}\n\n" + EVENT + b'{"type":"platform.report"\n'
    watch = EventWatch(LIFE_CYCLE)
    with using(scanner):
        block, blank = LineFramer(TailBudget(1000)).feed(data, len(data))
        assert isinstance(block, Block)
        assert isinstance(blank, Rejected)
        assert (block.lines, blank.lines) == (3, 1)
        assert [event.type for event in watch.find(block.data)] == ["platform.report"]
    assert watch.undecodable == 1
    assert scanner.asked == ["count_lines", "find_events"]


def test_the_flat_format_asks_it_for_logs() -> None:
    scanner = Asked()
    with using(scanner):
        log = b'{"type":"function","record":"x"}'
        assert len(flat_rows([b"{}", log, b"x", EVENT[:-1], log], {})[0]) == 5
    assert scanner.asked == ["add_rows", "add_rows"]


def test_bodies_ask_it_and_do_without_its_answer() -> None:
    scanner = Asked()
    with using(scanner):
        assert to_lines(b"\xef\xbb\xbf [1, 2]") == RecordLines(b"1\n2\n", 2)
        assert to_lines(b"[1, 2") == RecordLines(b"1\n", 1, "cut_off", b"2")
        assert to_lines(b"{}\n") == RecordLines(b"{}\n", None)
    assert scanner.asked == ["split_array", "split_array"]

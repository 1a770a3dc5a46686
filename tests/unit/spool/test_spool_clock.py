"""How long lines have waited, by clocks that are set: in one process, the next, another boot."""

# ruff: noqa: D102 - the names say it

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from telemetryd.clock import Clock, Moment
from telemetryd.core.ledger import SinkAccount
from telemetryd.sinks.base import Item, SpoolConfig
from telemetryd.spool.sink_spool import SinkSpool
from telemetryd.testing import LogBook

HOUR = 3_600_000
DAY = 24 * HOUR


class Machine:
    """Its two clocks."""

    def __init__(self) -> None:
        self.now = Moment("boot-1", 5 * HOUR, 1_773_489_600_000)

    def __call__(self) -> Moment:
        return self.now

    def passes(self, millis: int) -> None:
        _, steady_ms, wall_ms = self.now
        self.now = self.now._replace(steady_ms=steady_ms + millis, wall_ms=wall_ms + millis)

    def steps(self, millis: int) -> None:
        self.now = self.now._replace(wall_ms=self.now.wall_ms + millis)

    def boots(self) -> None:
        self.now = self.now._replace(boot=self.now.boot + "1", steady_ms=1000)


class Process:
    """One that has the spool open."""

    def __init__(self, path: Path, machine: Machine, **keys: Any) -> None:
        self.account = SinkAccount()
        self.lost: list[tuple[bytes, str]] = []
        self.unread: list[tuple[int, str]] = []
        self.spool = SinkSpool(
            "s",
            SpoolConfig(path=str(path), **{"max_age_ms": 6 * HOUR, **keys}),
            Item,
            self.account,
            lose=lambda item, reason: self.lost.append((item.payload, reason)),
            lose_unread=lambda lines, _, reason: self.unread.append((lines, reason)),
            wants_data=lambda: True,
            log=LogBook(),
            sink_type="t",
            clock=Clock(moment=machine),
        )
        self.spool.recover()

    def put(self, payload: bytes) -> None:
        self.spool.put([Item(payload, 1, len(payload), received_at=time.monotonic())])

    def take(self) -> list[bytes]:
        taken: list[bytes] = []
        while not self.spool.is_empty:
            taken += [item.payload for item in self.spool.take(1 << 20)[1]]
            self.spool.settle()
        return taken


@pytest.mark.parametrize("step", [-DAY, DAY, -300 * DAY, 300 * DAY])
def test_a_step_within_a_process_expires_nothing_and_keeps_nothing(
    tmp_path: Path, step: int
) -> None:
    machine = Machine()
    process = Process(tmp_path, machine)
    process.put(b"a\n")
    machine.steps(step)
    machine.passes(5 * HOUR)
    process.put(b"b\n")
    assert 4.9 * 3600 < process.spool.oldest_seconds < 5.1 * 3600
    machine.passes(2 * HOUR)
    assert process.take() == [b"b\n"]
    assert process.lost == [(b"a\n", "spool_expired")]


@pytest.mark.parametrize("step", [-DAY, DAY, -300 * DAY, 300 * DAY])
def test_a_step_between_processes_of_one_boot(tmp_path: Path, step: int) -> None:
    machine = Machine()
    first = Process(tmp_path, machine)
    first.put(b"a\n")
    machine.passes(3 * HOUR)
    first.put(b"b\n")
    first.spool.close()
    machine.steps(step)
    machine.passes(4 * HOUR)
    second = Process(tmp_path, machine)
    second.put(b"c\n")
    assert second.take() == [b"b\n", b"c\n"]
    assert second.lost == [(b"a\n", "spool_expired")]


@pytest.mark.parametrize("step", [-DAY, 0, DAY, 300 * DAY])
def test_after_another_boot_no_line_is_too_old_at_once(tmp_path: Path, step: int) -> None:
    machine = Machine()
    first = Process(tmp_path, machine)
    first.put(b"a\n")
    first.spool.close()
    machine.boots()
    machine.steps(step)
    second = Process(tmp_path, machine)
    second.put(b"b\n")
    machine.passes(HOUR - 1000)
    second.put(b"c\n")
    assert second.lost == []
    machine.passes(6 * HOUR - 1000)
    assert second.take() == [b"c\n"]
    assert [payload for payload, _ in second.lost] == [b"a\n", b"b\n"]


def test_after_another_boot_the_wall_clock_counts_where_it_can_be_right(tmp_path: Path) -> None:
    machine = Machine()
    first = Process(tmp_path, machine)
    first.put(b"a\n")
    first.spool.close()
    machine.boots()
    machine.passes(4 * HOUR)
    second = Process(tmp_path, machine)
    assert 3.9 * 3600 < second.spool.oldest_seconds < 4.1 * 3600
    second.put(b"b\n")
    second.spool.close()
    machine.passes(HOUR)
    third = Process(tmp_path, machine)
    assert 4.9 * 3600 < third.spool.oldest_seconds < 5.1 * 3600


@pytest.mark.parametrize(
    "note", [b"", b"{", b"[]", b'["boot-1",1]', b'["boot-1",1e99,2]', b"\xff" * 300]
)
def test_a_note_that_is_damaged_is_as_none(tmp_path: Path, note: bytes) -> None:
    machine = Machine()
    first = Process(tmp_path, machine)
    first.put(b"a\n")
    first.spool.close()
    (tmp_path / "s.t" / "lock").write_bytes(note)
    machine.steps(300 * DAY)
    assert Process(tmp_path, machine).take() == [b"a\n"]


# -- files that are gone ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["file", "directory", "replaced"])
def test_what_was_deleted_under_a_running_process_is_not_spooled(tmp_path: Path, how: str) -> None:
    process = Process(tmp_path, Machine())
    for number in range(3):
        process.put(b"%d\n" % number)
    (segment,) = (tmp_path / "s.t").glob("*.spool")
    if how == "directory":
        shutil.rmtree(tmp_path / "s.t")
    else:
        segment.unlink()
    if how == "replaced":
        segment.write_bytes(b"another")
    process.spool.close()
    assert process.account.spooled.lines == 0
    assert process.lost == [(b"%d\n" % number, "spool_damaged") for number in range(3)]


def test_what_was_cut_off_a_file_is_not_spooled(tmp_path: Path) -> None:
    process = Process(tmp_path, Machine())
    for number in range(3):
        process.put(b"%d\n" % number)
    (segment,) = (tmp_path / "s.t").glob("*.spool")
    os.truncate(segment, segment.stat().st_size - 1)
    process.spool.close()
    assert process.account.spooled.lines == 2
    assert process.unread == [(1, "spool_damaged")]
    assert Process(tmp_path, Machine()).take() == [b"0\n", b"1\n"]


def test_what_is_there_stays_spooled(tmp_path: Path) -> None:
    process = Process(tmp_path, Machine())
    process.put(b"a\n")
    process.spool.close()
    assert process.account.spooled.lines == 1
    assert (process.lost, process.unread) == ([], [])

"""The clock that continues in a freeze, and ages that no setting of a clock changes."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path

import pytest

from telemetryd.clock import Clock, Moment, decode_moment
from telemetryd.testing import LOOPS, LoopFactory, run


class TwoClocks:
    """The loop's and the wall clock, set by hand."""

    def __init__(self, loop: float, wall: float) -> None:
        self.loop = loop
        self.wall = wall
        self.clock = Clock(loop=lambda: self.loop, wall=lambda: self.wall)
        self.began = self.clock.elapsed()

    def at(self, loop: float, wall: float) -> float:
        """Seconds since the beginning, at this reading of the clocks."""
        self.loop, self.wall = loop, wall
        return self.clock.elapsed() - self.began


@pytest.mark.parametrize(
    ("loop", "wall", "expected"),
    [
        (5.0, 5.0, 5.0),
        (0.1, 3600.0, 3600.0),  # frozen, and the loop's clock with it
        (3600.0, 0.1, 3600.0),  # the other way round
        (5.0, -100.0, 5.0),  # the wall clock was set back
        (0.0, -100.0, 0.0),
    ],
)
def test_elapsed_takes_whichever_clock_went_on(loop: float, wall: float, expected: float) -> None:
    clocks = TwoClocks(100.0, 1_000_000.0)
    assert clocks.at(100.0 + loop, 1_000_000.0 + wall) == expected


def test_elapsed_goes_on_from_where_it_was() -> None:
    clocks = TwoClocks(0.0, 0.0)
    readings = [(1, 1), (1, 50), (2, 40), (3, 41)]
    assert [clocks.at(*reading) for reading in readings] == [1, 50, 51, 52]


def test_elapsed_is_no_faster_for_being_asked_often() -> None:
    """Uvloop's clock ticks once a turn, in milliseconds: the two tick at different times."""
    clocks = TwoClocks(0.0, 0.0)
    for tick in range(10_000):
        elapsed = clocks.at(tick // 10 / 100, tick / 1000)
    assert elapsed == pytest.approx(10, abs=0.01)


def test_many_short_freezes_count_as_well() -> None:
    clocks = TwoClocks(0.0, 0.0)
    for number in range(1, 101):  # each a tenth of a second long
        elapsed = clocks.at(number * 0.01, number * 0.11)
    assert elapsed == pytest.approx(11)


@LOOPS
def test_the_systems_clock_runs_on_any_loop(loop_factory: LoopFactory) -> None:
    async def scenario() -> None:
        clock = Clock()
        assert clock.loop() == pytest.approx(asyncio.get_running_loop().time(), abs=60)
        began, wall = clock.elapsed(), clock.wall()
        assert wall > 1_700_000_000
        while clock.elapsed() <= began:  # noqa: ASYNC110 - it is the clock that is looked at
            await asyncio.sleep(0)

    run(loop_factory, scenario())


def test_a_moment_survives_being_stored() -> None:
    now = Clock().moment()
    assert decode_moment(now.encode()) == now
    assert decode_moment(b"\xff") is None
    assert decode_moment(b"[1]") is None


def test_a_clock_since_boot_that_makes_no_sense_is_not_believed() -> None:
    now = Moment("b", 1000, 5000)
    assert now.until(Moment("b", 3000, 0)) == 2000
    assert now.until(Moment("b", 999, 5001)) is None
    assert now.until(Moment("c", 2000, 6000)) is None
    assert Moment("", 1, 1).until(Moment("", 2, 2)) is None
    faked = 1_796_000_000_000  # libfaketime: the time since boot is that since 1970
    assert now.until(Moment("b", faked, faked)) is None
    assert decode_moment(now.encode()) == now


# -- who reads the time --------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[2]
DAEMON = ROOT / "daemon" / "telemetryd"
READ_THEMSELVES = {
    "clock.py",
    "extension/boot.py",  # before anything else is loaded
    "extension/fallback.py",  # the rest may be what is broken
    "internal/flushing.py",  # in the function's Python, where there is nothing else
    "log_stream.py",  # waits for its threads
}
READINGS = {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "clock_gettime_ns"}


def reads_the_time(path: Path) -> bool:
    """True if the module asks `time` for the time."""
    return any(
        isinstance(node, ast.Attribute)
        and node.attr in READINGS
        and isinstance(node.value, ast.Name)
        and node.value.id == "time"
        for node in ast.walk(ast.parse(path.read_text()))
    )


def test_what_needs_the_time_takes_a_clock() -> None:
    """`local` is a program of its own."""
    readers = {
        str(path.relative_to(DAEMON))
        for path in DAEMON.rglob("*.py")
        if path.relative_to(DAEMON).parts[0] not in ("local", "testing") and reads_the_time(path)
    }
    assert readers == READ_THEMSELVES


def test_no_test_replaces_the_time_of_a_module() -> None:
    """It would continue passing when the module takes its time from elsewhere."""
    replaced = re.compile(r"""(setattr|patch)\w*\([^)]*(\.time["']|["'](time|monotonic)["'])""")
    found = [
        path.name
        for path in (ROOT / "tests").rglob("*.py")
        if path != Path(__file__) and replaced.search(path.read_text())
    ]
    assert found == []

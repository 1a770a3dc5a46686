"""The progress of a replay: how far, how fast, and how often that is said."""

from __future__ import annotations

import io

from telemetryd.clock import Clock
from telemetryd.replay.progress import Progress

MIB = 1 << 20


class Stage:
    """Where it is shown, and a clock to set."""

    def __init__(self, *, terminal: bool, total: int = 100 * MIB) -> None:
        self.now = 50.0
        self.out = Terminal() if terminal else io.StringIO()
        self.progress = Progress(self.out, total, clock=Clock(monotonic=lambda: self.now))

    def show(self, seconds: float, done: int, lines: int) -> None:
        """So much later, so far."""
        self.now += seconds
        self.progress.show(done, lines)

    @property
    def shown(self) -> list[str]:
        """What was printed, piece by piece."""
        return self.out.getvalue().replace("\r", "\n").split("\n")[1 if self.is_terminal else 0 :]

    @property
    def is_terminal(self) -> bool:
        """True if it is a terminal."""
        return self.out.isatty()


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        """It does."""
        return True


def test_a_bar_on_a_terminal_is_drawn_anew_now_and_then() -> None:
    stage = Stage(terminal=True)
    stage.show(0.0625, MIB, 10)  # too soon
    stage.show(0.0625, 10 * MIB, 100)
    stage.show(1.875, 50 * MIB, 5000)
    stage.progress.finish(100 * MIB, 10_000)
    first, second, last, end = stage.shown
    assert first == "[###" + "." * 27 + "]  10%  10.0 of 100.0 MiB, 100 lines\x1b[K"
    assert second == (
        "[" + "#" * 15 + "." * 15 + "]  50%  50.0 of 100.0 MiB, 5,000 lines, 24.5 MiB/s\x1b[K"
    )
    assert last.startswith("[" + "#" * 30 + "] 100%")
    assert end == ""


def test_elsewhere_it_is_a_line_every_ten_seconds() -> None:
    stage = Stage(terminal=False)
    for _ in range(21):
        stage.show(1.0, 50 * MIB, 7)
    stage.progress.finish(50 * MIB, 7)
    assert [text[:4] for text in stage.shown] == [" 50%"] * 3 + [""]


def test_the_rate_is_that_of_this_call() -> None:
    """What an earlier one delivered took this one no time."""
    stage = Stage(terminal=False)
    stage.show(0.0, 90 * MIB, 0)
    stage.show(10.0, 95 * MIB, 7)
    assert stage.shown[0] == " 95%  95.0 of 100.0 MiB, 7 lines, 0.5 MiB/s"


def test_nothing_is_all_of_nothing() -> None:
    stage = Stage(terminal=False, total=0)
    stage.progress.finish(0, 0)
    assert stage.shown[0] == "100%  0.0 of 0.0 MiB, 0 lines"

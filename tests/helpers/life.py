"""Plays the shell of `core.lifecycle` by a clock of its own: executes commands, waits for nothing.

What `extension.run` does with a loop, sockets and sinks, in a few lines: so that any order of
events can be played, and every wait be measured.
"""

from __future__ import annotations

from typing import Any, Final

from telemetryd.core import lifecycle as life
from telemetryd.core.lifecycle import LifeCycle, Limits, Moment, Pacer
from telemetryd.core.stats import DaemonStats

WALL: Final = 1_800_000_000.0
BATCH: Final = 0.025
ADDED: Final = 0.175
SILENCE: Final = 30.0
START_DUE: Final = BATCH + life.START_LATE_SECONDS


class Life:
    """One extension: its life cycle, and what it did."""

    def __init__(self, strategy: Any = "invocation", *, sees_ends: bool = True) -> None:
        self.now = 100.0
        self.stats = DaemonStats(())
        pacer = Pacer(strategy, interval_seconds=5.0, max_age_seconds=10.0, now=0.0)
        limits = Limits(batch=BATCH, added=ADDED, silence=SILENCE)
        self.cycle = LifeCycle(pacer, limits, told=True, sees_ends=sees_ends, counts=self.stats)
        self.connections = 0
        self.unfinished_since: float | None = None
        self.asked = 0
        """How often `next` was asked for."""
        self.answered = 0
        self.writing = False
        """A write may be in flight."""
        self.asked_while_writing: list[bool] = []
        self.flushes = 0
        self.trails = 0
        """Lines that come while the end of the wait for them has not."""
        self.told: list[str] = []
        self.left = False
        self.waiting = False
        """The shell waits within AWAIT."""
        self._rest: tuple[str, ...] = ()

    def moment(self) -> Moment:
        """Now, by all clocks."""
        return Moment(self.now, self.now, WALL + self.now)

    def connect(self, count: int = 1) -> Life:
        """So many connections are open."""
        lost, self.connections = count < self.connections, count
        self.cycle.on_connections(count, lost=lost)
        return self

    def start(self) -> Life:
        """Note that everything is up."""
        self._run(self.cycle.start())
        return self

    # -- the platform ----------------------------------------------------------------------------

    def invoke(self, request: str = "a", seconds: float = 60.0, oldest: float = 0.0) -> Life:
        """INVOKE, with a deadline in so many seconds."""
        self.answered += 1
        deadline = self.now + seconds
        self._run(self.cycle.invoke(request, deadline, oldest, self.moment()))
        return self

    def answer(self, what: str) -> Life:
        """`next` is answered with something else: an event of the table, or `malformed`."""
        self.answered += 1
        if what == "malformed":
            self._run(self.cycle.on_malformed())
        else:
            self._run(self.cycle.other() if what == life.OTHER else self.cycle.end(what))
        return self

    def begins(self, request: str = "a", *, before: int = 0, ago: float | None = None) -> Life:
        """`platform.start`, in a block that begins with `before` lines of other kinds."""
        at = None if ago is None else round(WALL + self.now - ago, 3)  # as events tell it
        self.cycle.on_start(request, before, at)
        return self.lines(before + 1)

    def ends(self, request: str = "a", *, is_report: bool = False, ago: float = 0.0) -> bool:
        """`platform.runtimeDone`, or the report, in a block of its own."""
        wall = WALL + self.now
        known = self.cycle.on_end(request, wall - ago, wall, is_report=is_report)
        self.lines(1)
        self.notice()
        return known

    def lines(self, count: int = 1) -> Life:
        """So many lines come, after the events among them."""
        self.cycle.on_lines(count, self.now)
        return self

    def lose(self, cause: str) -> Life:
        """Telemetry is lost."""
        self.cycle.on_loss(cause)
        self.notice()
        return self

    # -- time ------------------------------------------------------------------------------------

    def notice(self) -> Life:
        """The shell looks at what it has noticed."""
        if self.waiting:
            self.waiting = False
            self._run((life.AWAIT,))
        return self

    def until_next(self, most: float = 1000.0) -> float:
        """Let time pass until `next` is asked for; how long that took."""
        began, asked = self.now, self.asked
        while self.asked == asked:
            assert self.waiting, self.cycle.state
            self.now = self.cycle.due(self.unfinished_since, self.now)
            assert self.now - began <= most, f"still {self.cycle.state} after {most} s"
            self.notice()
        return self.now - began

    # -- the shell -------------------------------------------------------------------------------

    def _run(self, commands: tuple[str, ...]) -> None:
        self._rest = commands
        while self._rest and not self.waiting and not self.left:
            command, *rest = self._rest
            self._rest = tuple(rest)
            self._execute(command)

    def _execute(self, command: str) -> None:
        cycle = self.cycle
        if command == life.ASK:
            assert not self._rest, "nothing may follow ASK"
            self.asked += 1
            self.asked_while_writing.append(self.writing)
            cycle.on_asked(self.moment())
        elif command == life.AWAIT:
            commands = cycle.tick(self.unfinished_since, self.now)
            if commands == (life.AWAIT,):
                self.waiting = True
            else:
                self._rest = (*commands, *self._rest)
        elif command == life.FLUSH:
            self.now = max(self.now, cycle.trailing_until)
            if self.trails:
                cycle.on_lines(self.trails, self.now)
            self.flushes += 1
            self._rest = (*cycle.on_flush_end(self.moment(), all_of_it=True), *self._rest)
        elif command == life.HOLD:
            self.writing = False
            self._rest = (*cycle.held(), *self._rest)
        elif command == life.RELEASE:
            self.writing = True
        elif command == life.TELL:
            self.told.append(cycle.missed)
        elif command == life.LEAVE:
            self.left = True
        else:
            raise AssertionError(command)

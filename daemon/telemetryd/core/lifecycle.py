"""The life cycle of the extension as a table: events that may happen, and the commands for each.

    events   an answer to `next`, the end of an invocation, a bound that has passed, a signal
    commands what `extension.run` or `extension.fallback` executes, in order

Nothing here waits, reads a clock or communicates. Time is an argument. Every wait on the platform
has a bound, because the platform guarantees none of the awaited events: an invocation's end may be
lost, its line cut, its connection closed. While a function runs, waiting for its end costs nothing;
only silence is suspicious. The bounds are in `LifeCycle.bounds`, what ends a wait at once in
`CAUSES`. After a missed end no end is awaited until one is seen. Lines that trail behind an end are
waited for once some have been seen.

`fallback` runs this when everything else is broken, so it imports nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for typing's, which `fallback` can't rely on
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final, Literal, Protocol, TypeAlias, TypeVar

    _T = TypeVar("_T")

    Strategy: TypeAlias = Literal["auto", "invocation", "continuous", "interval"]
    Commands: TypeAlias = tuple[str, ...]

    class Counts(Protocol):
        """The counters: `core.stats.DaemonStats`."""

        invocations: int
        ends_missed: dict[str, int]
        trailing_lines: int
        unknown_requests: int

        def count_wait(self, seconds: float) -> None:
            """Count an invocation that had to wait for `seconds`."""


# -- the table -------------------------------------------------------------------------------------

INIT: Final = "INIT"
"""The daemon is not up. `boot` may have asked for the first `next` already."""
IDLE: Final = "IDLE"
"""`next` is on its way; the environment may be frozen, or a function may run unawaited."""
INVOKED: Final = "INVOKED"
"""A function runs, and its end is awaited."""
FLUSHING: Final = "FLUSHING"
"""The function has ended; what it printed last is awaited, and all is delivered."""
HELD: Final = "HELD"
"""Writes are broken off, so that a freeze can't cut one off unnoticed; then `next`."""
SHUTTING_DOWN: Final = "SHUTTING_DOWN"
"""There is nothing more to ask for."""
DEGRADED: Final = "DEGRADED"
"""`next` is on its way; after a bug of ours nothing is awaited any more."""
STATES: Final = (INIT, IDLE, INVOKED, FLUSHING, HELD, SHUTTING_DOWN, DEGRADED)

START: Final = "start"
INVOKE: Final = "invoke"
"""INVOKE, and the end of this invocation is to be awaited."""
INVOKE_ALONGSIDE: Final = "invoke_alongside"
"""INVOKE; lines are delivered alongside, nothing is awaited."""
OTHER: Final = "other"
"""The response to `next` was something else, or malformed."""
SHUTDOWN: Final = "shutdown"
GONE: Final = "gone"
"""The platform refuses, answers nonsense only, or is not there."""
SIGNAL: Final = "signal"
END: Final = "end"
"""The function has ended."""
MISS: Final = "miss"
"""Its end can't be awaited any longer."""
FLUSHED: Final = "flushed"
HELD_FAST: Final = "held_fast"
BUG: Final = "bug"
"""Our own, while `next` is on its way."""
BUG_OWING: Final = "bug_owing"
"""Our own, while the platform waits for our `next`."""

ASK: Final = "ASK"
"""Ask for `next` and wait for the answer."""
AWAIT: Final = "AWAIT"
"""Wait until `LifeCycle.due`, or until something is noticed; then `LifeCycle.tick`."""
TELL: Final = "TELL"
"""Log that an end was missed, once for each cause."""
FLUSH: Final = "FLUSH"
"""Wait for lines behind the end until `trailing_until`, then deliver all until `flush_until`."""
HOLD: Final = "HOLD"
RELEASE: Final = "RELEASE"
"""The environment runs (again): writes may begin."""
LEAVE: Final = "LEAVE"
"""Read what still comes, deliver, close, print the ledger, end."""

ROWS: Final[dict[tuple[str, str], tuple[str, Commands]]] = {
    (INIT, START): (IDLE, (ASK,)),
    (INIT, SIGNAL): (SHUTTING_DOWN, (LEAVE,)),
    (INIT, BUG): (DEGRADED, ()),
    (INIT, BUG_OWING): (DEGRADED, (ASK,)),
    (IDLE, INVOKE): (INVOKED, (RELEASE, AWAIT)),
    (IDLE, INVOKE_ALONGSIDE): (IDLE, (RELEASE, ASK)),
    (IDLE, OTHER): (IDLE, (RELEASE, ASK)),
    (IDLE, SHUTDOWN): (SHUTTING_DOWN, (RELEASE, LEAVE)),
    (IDLE, GONE): (SHUTTING_DOWN, (RELEASE, LEAVE)),
    (IDLE, SIGNAL): (SHUTTING_DOWN, (RELEASE, LEAVE)),
    (IDLE, BUG): (DEGRADED, ()),
    (IDLE, BUG_OWING): (DEGRADED, (ASK,)),
    (INVOKED, END): (FLUSHING, (FLUSH,)),
    (INVOKED, MISS): (IDLE, (TELL, ASK)),
    (INVOKED, SIGNAL): (SHUTTING_DOWN, (LEAVE,)),
    (INVOKED, BUG_OWING): (DEGRADED, (ASK,)),
    (FLUSHING, FLUSHED): (HELD, (HOLD,)),
    (FLUSHING, SIGNAL): (SHUTTING_DOWN, (LEAVE,)),
    (FLUSHING, BUG_OWING): (DEGRADED, (ASK,)),
    (HELD, HELD_FAST): (IDLE, (ASK,)),
    (HELD, SIGNAL): (SHUTTING_DOWN, (RELEASE, LEAVE)),
    (HELD, BUG_OWING): (DEGRADED, (ASK,)),
    (DEGRADED, INVOKE): (DEGRADED, (RELEASE, ASK)),
    (DEGRADED, INVOKE_ALONGSIDE): (DEGRADED, (RELEASE, ASK)),
    (DEGRADED, OTHER): (DEGRADED, (RELEASE, ASK)),
    (DEGRADED, SHUTDOWN): (SHUTTING_DOWN, (RELEASE, LEAVE)),
    (DEGRADED, GONE): (SHUTTING_DOWN, (RELEASE, LEAVE)),
    (DEGRADED, SIGNAL): (SHUTTING_DOWN, (RELEASE, LEAVE)),
    (DEGRADED, BUG): (DEGRADED, ()),
    (DEGRADED, BUG_OWING): (DEGRADED, (ASK,)),
}
"""The events of each state, with the next state and the commands. No other event may happen."""

CAUSES: Final = {
    "no_connection": "no telemetry connection was open when platform.start was due",
    "nothing_received": "nothing of this invocation had arrived when platform.start was due",
    "connection_closed": "the telemetry connection closed while the function ran",
    "logs_dropped": "the platform dropped telemetry while the function ran",
    "line_rejected": "a line was rejected while the function ran",
    "line_unfinished": "a line was not complete within a second",
    "event_malformed": "a life-cycle event was malformed",
    "silence": "nothing arrived for flush.max_silence_ms",
    "deadline": "the function's deadline came first; it may have timed out",
}
"""Reasons why the end of an invocation was not seen, or why the wait for it ended."""

MAX_MALFORMED: Final = 8
"""Malformed responses in a row after which the platform counts as gone."""


class Machine:
    """The state, and what the table says about it."""

    __slots__ = ("_malformed", "state")

    def __init__(self, state: str = INIT) -> None:
        self.state = state
        self._malformed = 0

    def step(self, event: str) -> Commands:
        """Take one row of the table; its commands. Raises KeyError: there is no such row."""
        self.state, commands = ROWS[self.state, event]
        self._malformed = 0
        return commands

    def on_malformed(self) -> Commands:
        """Note a malformed response to `next`: ask again, but not forever."""
        count = self._malformed + 1
        commands = self.step(OTHER if count < MAX_MALFORMED else GONE)
        self._malformed = count
        return commands


# -- when an invocation ends with a flush ----------------------------------------------------------

BUSY_GAP_SECONDS: Final = 1.0
"""Idle time between two invocations below which they count as close."""
BUSY_RUN: Final = 3
"""Close ones in a row that make a busy function."""


class Pacer:
    """Decides per invocation: the strategies of `[flush] strategy`.

    `auto` is the reason this is not one line: while invocations are rare, a record left behind
    would wait for the next one, so each invocation ends with a flush; while they follow each other
    closely the next one delivers it anyway, so nothing is added to any of them, up to a maximum
    age. Times are seconds of one clock that never runs backwards.
    """

    __slots__ = ("_close_in_a_row", "_interval", "_last_flush", "_max_age", "_parked", "_strategy")

    def __init__(
        self, strategy: Strategy, *, interval_seconds: float, max_age_seconds: float, now: float
    ) -> None:
        self._strategy = strategy
        self._interval = interval_seconds
        self._max_age = max_age_seconds
        self._last_flush = now
        self._parked: float | None = None
        self._close_in_a_row = 0

    @property
    def busy(self) -> bool:
        """True if the last invocations followed each other closely."""
        return self._close_in_a_row >= BUSY_RUN

    def on_park(self, now: float) -> None:
        """Note that `next` was asked for, so that the environment may freeze."""
        self._parked = now

    def on_invoke(self, now: float) -> None:
        """Note that the response to `next` was an invocation."""
        if self._parked is not None:
            close = now - self._parked < BUSY_GAP_SECONDS
            self._close_in_a_row = self._close_in_a_row + 1 if close else 0

    def on_flush(self, now: float) -> None:
        """Note that everything queued was delivered."""
        self._last_flush = now

    def flush_at_end(self, now: float, oldest_seconds: float) -> bool:
        """True if this invocation ends with a flush; `oldest_seconds` is the oldest line's age."""
        if self._strategy == "invocation":
            return True
        if self._strategy == "continuous":
            return False
        since = now - self._last_flush
        if self._strategy == "interval":
            return since >= self._interval
        return not self.busy or oldest_seconds >= self._max_age or since >= self._max_age


# -- the whole -------------------------------------------------------------------------------------

START_LATE_SECONDS: Final = 0.5
"""The latest `platform.start`, after its batch period. The measured delay is below 0.1."""
MOST_LAG_SECONDS: Final = 0.15
"""The most that the start says about the lag: there, a disk may have been waited for."""
LAG_FACTOR: Final = 2.0
"""As many times the measured lag are added: who gets no processor is late, and so is the platform
that shares it."""
UNFINISHED_SECONDS: Final = 1.0
"""The longest time for a line to be unfinished. After that its rest will not arrive."""
TICK_SECONDS: Final = 1.0
"""At least so often a wait is looked at: a line that is stuck makes no event."""
TAIL_MARGIN_SECONDS: Final = 0.005
BURST_SECONDS: Final = 0.002
"""For the rest of the batch that an end came in: over TCP a batch is one burst of writes."""
TRAILING_MEMORY: Final = 8
"""Waits for trailing lines that bring none, one after the other, before there is none any more."""
LONGEST_SECONDS: Final = 900.0
"""A function runs for at most 15 minutes (Lambda quotas): a deadline beyond that is a mistake."""
PLAUSIBLE_SECONDS: Final = 60.0
"""An event that reports an end just seen has a time closer to now, or a wrong one."""
WORK_SECONDS: Final = 0.01
"""Processor time of what is done at an end, by which a share of a processor becomes a lag."""
MOST_PART: Final = 0.45
"""Part of the remaining time that margins may take."""
MAX_REMEMBERED: Final = 64
"""Requests that are remembered: one at a time is normal, a few where events come late."""
MAX_ID: Final = 128
"""Characters of a request id; a longer one is none (the platform's have 36)."""


class Moment:
    """One reading of all clocks, in seconds."""

    __slots__ = ("elapsed", "loop", "wall")

    def __init__(self, loop: float, elapsed: float, wall: float) -> None:
        self.loop = loop
        """Of the event loop: for bounds within an invocation."""
        self.elapsed = elapsed
        """Frozen time included (`Clock.elapsed`)."""
        self.wall = wall
        """Since the epoch: the clock of the events."""


class Limits:
    """Time limits, in seconds."""

    __slots__ = ("added", "batch", "silence")

    def __init__(self, *, batch: float, added: float, silence: float) -> None:
        self.batch = batch
        """The platform's batch period: so old is what it sends."""
        self.added = added
        """Most seconds to add after an invocation's end is known, a batch period after the end."""
        self.silence = silence
        """Since the last telemetry of an invocation that has not ended."""


class Trail:
    """Trailing lines: those between an end, in an earlier block, and the next start of the stream.

    They are waited for, a batch period long, once some have arrived, until such waits bring none.
    """

    __slots__ = (
        "_after", "_counts", "_ended", "_has_arrived", "_is_flushed", "_marks", "_waits",
        "_waits_left",
    )  # fmt: skip

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._marks = 0
        """Events of the block at hand, those before its first turn."""
        self._ended = ""
        """The request whose end is the last event so far; "" after a start."""
        self._after = ""
        """The same, when the block at hand began."""
        self._is_flushed = False
        """True if the flush at this end is over, so that further lines are late for it."""
        self._waits = False
        """True if that flush waits for lines, or has waited."""
        self._has_arrived = False
        """True if some arrived before it was over."""
        self._waits_left = 0

    @property
    def is_behind_an_end(self) -> bool:
        """True if the current block began after an end."""
        return bool(self._after)

    def begin_flush(self) -> bool:
        """Note that an invocation has ended. True if its flush waits for lines behind the end."""
        self._waits, self._has_arrived = self._waits_left > 0, False
        return self._waits

    def end_flush(self) -> None:
        """Note that the flush is over."""
        self._is_flushed = True
        if self._waits:
            self._waits_left = TRAILING_MEMORY if self._has_arrived else self._waits_left - 1

    def on_start(self, before: int) -> None:
        """Note a start, after `before` lines of its block."""
        self._on_trailing(before)
        self._turn("")

    def on_end(self, request: str) -> None:
        """Note the end of `request`; "": a report, or an unknown request."""
        if request and request[:MAX_ID] != self._ended:
            self._turn(request[:MAX_ID])
        else:
            self._marks += 1

    def on_lines(self, lines: int) -> None:
        """Note that the current block is over. It had `lines` lines."""
        self._on_trailing(lines)
        self._after, self._marks = self._ended, 0

    def _turn(self, ended: str) -> None:
        self._ended, self._after = ended, ""
        self._is_flushed = self._waits = False

    def _on_trailing(self, lines: int) -> None:
        """Count the lines of the block before the current event, its events included."""
        lines -= self._marks
        if not self._after or lines <= 0:
            return
        if self._is_flushed:
            self._counts.trailing_lines += lines
        else:
            self._has_arrived = True
        if not self._waits:  # else `end_flush` has decided, or will
            self._waits_left = TRAILING_MEMORY


class LifeCycle:
    """The machine of `extension.run`: the table, with what decides between its rows.

    `on_...` take note of what telemetry says, and decide nothing; the others return commands.
    """

    def __init__(
        self, pacer: Pacer, limits: Limits, *, told: bool, sees_ends: bool, counts: Counts
    ) -> None:
        """Set the initial state. `told`: True if INVOKE announces each invocation, one at a time.

        `sees_ends`: so does telemetry of its end, and in time to be waited for.
        """
        self.machine = Machine()
        self.trailing_until = 0.0
        self.flush_until = 0.0
        self.missed = ""
        """The cause of the last end that was missed, until one is seen: none is awaited."""
        self._lag = 0.0
        self._least_lag = 0.0
        self._pacer = pacer
        self._limits = limits
        self._told = told
        self._sees_ends = told and sees_ends
        self._counts = counts
        self._connections = 0
        self._broken = False
        self._stopped = False
        # of the last invocation
        self._request = ""
        self._invoked_at = 0.0
        self._invoked_wall = 0.0
        self._repeats = False
        """True if INVOKE announced this request before: Lambda repeats an event under its id."""
        self._has_started = False
        """True if its own `platform.start` was seen, and not only that of an earlier attempt."""
        self._deadline = 0.0
        self._heard: float | None = None
        self._foreign_lines = 0
        self._ended = False
        self._lost = ""
        self._ahead = ""
        """The request that telemetry says has begun, before INVOKE does: what is lost counts."""
        self._lost_ahead = ""
        self._ended_at: float | None = None  # wall
        self._missed_it = False
        self._uncounted = False
        self._unsettled: tuple[str, float, float] | None = None
        """Request, when `next` was asked for (wall), and what the wait for its end took at most."""
        self._trail = Trail(counts)
        # of all, bounded
        self._begun: dict[str, int] = {}
        """Requests that INVOKE has announced; the number of such INVOKEs whose start is due."""
        self._started: dict[str, float | None] = {}
        """Requests that have begun before INVOKE announced that; when they have ended (wall)."""
        self._start_times: dict[str, float] = {}
        """When the last start of each was made (wall, the platform's), if it says so."""
        self._unknown: dict[str, int] = {}
        """The number of ends of each that were counted as those of a request that never began."""

    @property
    def state(self) -> str:
        """One of `STATES`."""
        return self.machine.state

    @property
    def deadline(self) -> float:
        """Return the deadline of the last invocation, by the loop's clock; 0 before the first."""
        return self._deadline

    @property
    def lag(self) -> float:
        """The recent delay of this process's turns, in seconds."""
        return max(self._lag, self._least_lag)

    def margin(self, least: float, left: float) -> float:
        """Return the margin before a deadline in `left` seconds: `least`, and more with the lag."""
        return min(least + LAG_FACTOR * self.lag, max(least, left * MOST_PART))

    @property
    def delivers_alongside(self) -> bool:
        """True if no end is awaited now, so that lines are flushed by the clock."""
        return not self._sees_ends or self._broken or bool(self.missed)

    # -- answers to `next` ---------------------------------------------------------------------

    def start(self) -> Commands:
        """Note that everything is up."""
        return self.machine.step(SIGNAL if self._stopped else START)

    def on_asked(self, now: Moment) -> None:
        """Note that `next` is in flight, so that the environment may freeze."""
        self._pacer.on_park(now.elapsed)
        self._count_wait(now)

    def invoke(self, request: str, deadline: float, oldest: float, now: Moment) -> Commands:
        """Note an INVOKE. `deadline`: the function's, by the loop's clock.

        `oldest`: the age of the oldest line that waits. A deadline beyond `LONGEST_SECONDS` is
        treated as that.
        """
        self._on_answer()
        self._counts.invocations += 1
        self._uncounted = True
        self._missed_it = False
        self._request = request if len(request) <= MAX_ID else ""
        self._invoked_at, self._invoked_wall = now.loop, now.wall
        self._deadline = min(deadline, now.loop + LONGEST_SECONDS)
        self._repeats = self._request in self._begun
        self._has_started = self._request in self._started
        self._heard = now.loop if self._has_started else None
        self._foreign_lines = 0
        self._lost = self._lost_ahead if self._ahead == request else ""
        self._ahead = self._lost_ahead = ""
        # its end may be read before INVOKE, which was sent earlier, on another connection
        self._ended_at = self._started.pop(self._request, None)
        self._counts.unknown_requests -= self._unknown.pop(self._request, 0)
        self._ended = self._ended_at is not None
        if self._ended:
            self.missed = ""
        if self._request:
            due = self._begun.get(self._request, 0) + (not self._has_started)
            _remember(self._begun, self._request, due)
        self._pacer.on_invoke(now.elapsed)
        awaited = (
            not self.delivers_alongside
            and self._request != ""
            and self._pacer.flush_at_end(now.elapsed, oldest)
        )
        return self.machine.step(INVOKE if awaited else INVOKE_ALONGSIDE)

    def other(self) -> Commands:
        """Note an event of an unknown type."""
        self._on_answer()
        return self.machine.step(OTHER)

    def on_malformed(self) -> Commands:
        """Note a malformed response to `next`."""
        self._on_answer()
        return self.machine.on_malformed()

    def end(self, event: str) -> Commands:
        """Return the commands for SHUTDOWN, GONE or SIGNAL."""
        self._settle_missed()
        return self.machine.step(event)

    def _on_answer(self) -> None:
        """Note a response to `next`. It settles misses that were in doubt."""
        self._settle_missed()
        if self._broken and self.machine.state == IDLE:
            self.machine.step(BUG)

    # -- within an invocation ------------------------------------------------------------------

    def bounds(self, unfinished_since: float | None) -> Iterator[tuple[str, float]]:
        """Yield each bound of the wait: its cause, and the loop's time at which it passes."""
        yield "deadline", self._deadline
        start_due = self._limits.batch + START_LATE_SECONDS + LAG_FACTOR * self.lag
        if not self._connections:
            yield "no_connection", self._invoked_at + start_due
        if self._heard is None:
            yield "nothing_received", self._invoked_at + start_due
        else:
            yield "silence", self._heard + self._limits.silence
        if unfinished_since is not None:
            since = max(unfinished_since, self._invoked_at)
            yield "line_unfinished", since + UNFINISHED_SECONDS + LAG_FACTOR * self.lag

    def due(self, unfinished_since: float | None, now: float) -> float:
        """Return the loop's time for the next look, if nothing is noticed before."""
        return min(now + TICK_SECONDS, *(at for _, at in self.bounds(unfinished_since)))

    def tick(self, unfinished_since: float | None, now: float) -> Commands:
        """Look at the wait: what ends it, or AWAIT.

        `unfinished_since`: when the oldest unfinished line began, by the loop's clock.
        """
        if self._broken:
            return self.machine.step(BUG_OWING)
        if self._stopped:
            return self.end(SIGNAL)
        if self._ended:
            self.flush_until = min(self._deadline, now + self._limits.added)
            # where lines trail, they come up to one batch period later
            waits = self._trail.begin_flush()
            seconds = self._limits.batch + TAIL_MARGIN_SECONDS if waits else BURST_SECONDS
            self.trailing_until = min(now + seconds, self.flush_until)
            return self.machine.step(END)
        passed = (cause for cause, at in self.bounds(unfinished_since) if at <= now)
        cause = self._lost or next(passed, "")
        if not cause:
            return (AWAIT,)
        self.missed = cause
        self._missed_it = True
        self._counts.ends_missed[cause] = self._counts.ends_missed.get(cause, 0) + 1
        return self.machine.step(MISS)

    def on_flush_end(self, now: Moment, *, all_of_it: bool) -> Commands:
        """Note that the flush has ended; `all_of_it`: True if everything was delivered."""
        if all_of_it:
            self._pacer.on_flush(now.elapsed)
        self._trail.end_flush()
        return self.machine.step(self._trouble() or FLUSHED)

    def held(self) -> Commands:
        """Return the commands if no write is in flight that a freeze could cut off."""
        return self.machine.step(self._trouble() or HELD_FAST)

    def fail(self, *, owing: bool) -> Commands:
        """Note a bug; `owing`: the platform waits for our `next`."""
        self._broken = True
        return self.machine.step(BUG_OWING if owing else BUG)

    def _trouble(self) -> str:
        if self._broken:
            return BUG_OWING
        return SIGNAL if self._stopped else ""

    # -- what is noticed: decides nothing ------------------------------------------------------

    def has_begun(self, request: str) -> bool:
        """True if INVOKE has announced this request."""
        return request in self._begun

    @property
    def awaits_start(self) -> bool:
        """True if lines before the next `platform.start` trail behind an end."""
        return self._trail.is_behind_an_end

    def on_start(self, request: str, before: int = 0, at: float | None = None) -> None:
        """Note a `platform.start`, after `before` lines of its block.

        `before` counts only where `awaits_start`. `at` is when it was made, if it says so.
        """
        self._trail.on_start(before)
        if len(request) > MAX_ID:
            return
        if at is not None:
            if request in self._begun and at <= self._start_times.get(request, 0.0):
                self._foreign_lines += 1  # delivered twice: over HTTP a batch may be
                return
            _remember(self._start_times, request, at)
        if due := self._begun.get(request, 0):  # the last one due is that of the last INVOKE
            self._begun[request] = due - 1
            is_own = request == self._request and due == 1
            self._has_started |= is_own
            self._foreign_lines += not is_own
        elif request != self._request or self.machine.state in (IDLE, DEGRADED):
            _remember(self._started, request, None)
            self._foreign_lines += 1
            self._ahead, self._lost_ahead = request, ""

    def on_end(self, request: str, at: float | None, wall: float, *, is_report: bool) -> bool:
        """Note a `platform.runtimeDone` or (`is_report`) `platform.report` that arrived at `wall`.

        `at` is when it was made, if it says so; what is not plausible was made when it came.
        The report is made when everybody has asked for `next`: it says nothing about whether the
        next end will be seen. False: no such request has begun, as far as we know.
        """
        made = wall if at is None else at
        is_own = self._is_own_end(request, made, is_report=is_report)
        if at is None or not 0 <= wall - at < PLAUSIBLE_SECONDS:
            at = wall
        known = not self._told or request in self._begun or request in self._started
        if not known:
            self._counts.unknown_requests += 1
            if len(request) <= MAX_ID:
                _remember(self._unknown, request, self._unknown.get(request, 0) + 1)
        if is_own:
            self._ended = True
            if self._ended_at is None:
                self._ended_at = at
        else:
            self._foreign_lines += 1
        self._trail.on_end(request if known and not is_report else "")
        if not is_report:
            self._on_runtime_done(request, made, at)
        return known

    def _on_runtime_done(self, request: str, made: float, at: float) -> None:
        """Note what an end says beside the end of the last invocation. `at`: `made` made good."""
        if request in self._begun:
            self.missed = ""
        if request in self._started:
            if request not in self._begun or made >= self._start_times.get(request, 0.0):
                self._started[request] = at
        elif self._unsettled is not None and request == self._unsettled[0]:
            self._counts.count_wait(self._unsettled[1] - at)
            self._unsettled = None

    def _is_own_end(self, request: str, made: float, *, is_report: bool) -> bool:
        """True if this ends the last invocation, and not an earlier attempt of the same request.

        An earlier attempt's report often arrives when the next one runs. Ours can't be made before
        our `next`, unless a reset follows.
        """
        if request != self._request or request in self._started:
            return False
        if made >= self._invoked_wall:
            return True
        is_behind_start = self._has_started and made >= self._start_times.get(request, 0.0)
        return not is_report and (is_behind_start or not self._repeats)

    def on_lines(self, lines: int, now: float) -> None:
        """Note that `lines` whole lines have arrived, after their events were noticed."""
        if lines > self._foreign_lines:
            self._heard = now
        self._foreign_lines = 0
        self._trail.on_lines(lines)

    def on_loss(self, cause: str) -> None:
        """Note that telemetry was lost, possibly with the end."""
        if self.machine.state == INVOKED:
            self._lost = self._lost or cause
        elif self._ahead:
            self._lost_ahead = self._lost_ahead or cause

    def on_connections(self, count: int, *, lost: bool) -> None:
        """Note the number of open connections; `lost`: the platform's may have ended."""
        self._connections = count
        if lost:
            self.on_loss("connection_closed")

    def on_lag(self, seconds: float) -> None:
        """Note that one of our timers was late by `seconds`."""
        self._lag = max(seconds, self._lag * 0.9)

    def on_share(self, seconds: float, cpu_seconds: float) -> None:
        """Note how long work without a pause took, and its processor time."""
        slowness = max(seconds / max(cpu_seconds, 0.001), 1.0)
        self._least_lag = min(WORK_SECONDS * (slowness - 1.0), MOST_LAG_SECONDS)

    def on_flushed(self, now: Moment) -> None:
        """Note that a flush by the clock delivered everything queued."""
        self._pacer.on_flush(now.elapsed)

    def on_bug(self) -> None:
        """Note a bug in telemetryd, after which nothing is awaited."""
        self._broken = True

    def on_signal(self) -> None:
        """Note that a signal asks for the end of the process."""
        self._stopped = True

    # -- what an invocation was kept waiting for -----------------------------------------------

    def _count_wait(self, now: Moment) -> None:
        """Count how long the last invocation was kept: from its end to our `next`."""
        if not self._uncounted:
            return
        self._uncounted = False
        if self._ended_at is not None:
            self._counts.count_wait(now.wall - self._ended_at)
        elif self._missed_it:
            since = self._invoked_at if self._heard is None else self._heard
            self._unsettled = (self._request, now.wall, now.loop - since)
        else:
            self._counts.count_wait(0.0)

    def _settle_missed(self) -> None:
        """Count the wait for an end that never came, at most: from the last telemetry on."""
        if self._unsettled is not None:
            self._counts.count_wait(self._unsettled[2])
            self._unsettled = None


def _remember(table: dict[str, _T], name: str, value: _T) -> None:
    """Put it last, and forget the first of too many."""
    table.pop(name, None)
    while len(table) >= MAX_REMEMBERED:
        del table[next(iter(table))]
    table[name] = value

"""Any order of events: `next` once per event, always in time, and all can always end."""

# ruff: noqa: D102 - the names of the rules say it
from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from helpers.life import BATCH, SILENCE, START_DUE, Life
from telemetryd.core import lifecycle as life

REQUESTS = st.sampled_from(["a", "b", "c", "", "x" * 200])
SECONDS = st.sampled_from([0.0, 0.01, 0.3, 0.6, 1.0, 5.0, 40.0])
STRATEGIES = st.sampled_from(["auto", "invocation", "continuous", "interval"])
LOSSES = st.sampled_from(["logs_dropped", "line_rejected", "event_malformed"])


class AnyOrder(RuleBasedStateMachine):
    """The platform, telemetry, time, signals and bugs, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.life = Life()
        self.strategy = ""
        self.request = ""
        self.ended = ""
        self.flushes: int | None = None
        """Flushes there were at the last end in the stream; None behind a start."""
        self.trailing = 0

    @initialize(strategy=STRATEGIES, sees_ends=st.booleans(), connections=st.integers(0, 2))
    def begin(self, strategy: str, sees_ends: bool, connections: int) -> None:
        self.strategy = strategy
        self.life = Life(strategy, sees_ends=sees_ends).connect(connections)
        self.life.start()

    def may_answer(self) -> bool:
        return not self.life.left and self.life.cycle.state in (life.IDLE, life.DEGRADED)

    # -- answers ---------------------------------------------------------------------------------

    @precondition(may_answer)
    @rule(request=REQUESTS, seconds=st.sampled_from([-1.0, 0.5, 3.0, 900.0, 1e15]))
    def invoke(self, request: str, seconds: float) -> None:
        self.request = request
        self.life.invoke(request, seconds)

    @precondition(may_answer)
    @rule(what=st.sampled_from([life.OTHER, "malformed"]))
    def answer(self, what: str) -> None:
        self.life.answer(what)

    @precondition(may_answer)
    @rule(what=st.sampled_from([life.SHUTDOWN, life.GONE]))
    def finish(self, what: str) -> None:
        self.life.answer(what)
        assert self.life.left

    # -- telemetry -------------------------------------------------------------------------------

    @rule(request=REQUESTS, before=st.integers(0, 2))
    def begins(self, request: str, before: int) -> None:
        if self.is_behind_an_end():
            self.trailing += before
        self.life.begins(request, before=before)
        self.flushes = None

    def is_behind_an_end(self) -> bool:
        """The flush at the last end is over, and the stream has not gone on to another one."""
        return self.flushes is not None and self.life.flushes > self.flushes

    @rule(request=REQUESTS, is_report=st.booleans(), ago=st.sampled_from([0.0, 0.2, 99.0, -5.0]))
    def ends(self, request: str, is_report: bool, ago: float) -> None:
        awaited = self.life.waiting and request == self.request
        flushes = self.life.flushes
        new = request[: life.MAX_ID] != self.ended or self.flushes is None
        known = self.life.ends(request, is_report=is_report, ago=ago)
        if known and not is_report and new:
            self.flushes, self.ended = flushes, request[: life.MAX_ID]
        if awaited and self.life.flushes > flushes:
            assert self.life.asked_while_writing[-1] is False

    @rule(lines=st.integers(1, 3))
    def lines(self, lines: int) -> None:
        if self.is_behind_an_end():
            self.trailing += lines
        self.life.lines(lines)

    @rule(lines=st.integers(0, 2))
    def lines_trail(self, lines: int) -> None:
        self.life.trails = lines

    @rule(cause=LOSSES)
    def lose(self, cause: str) -> None:
        self.life.lose(cause)
        assert not self.life.waiting

    @rule(count=st.integers(0, 2))
    def connect(self, count: int) -> None:
        closes = count < self.life.connections
        self.life.connect(count).notice()
        assert not (closes and self.life.waiting)

    @rule(stuck=st.booleans())
    def a_line_in_the_making(self, stuck: bool) -> None:
        self.life.unfinished_since = self.life.now if stuck else None

    # -- time, and what is wrong with us ---------------------------------------------------------

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        subject, until = self.life, self.life.now + seconds
        while (
            subject.waiting
            and (due := subject.cycle.due(subject.unfinished_since, subject.now)) <= until
        ):
            subject.now = due
            subject.notice()
        subject.now = max(subject.now, until)

    @rule(seconds=st.sampled_from([0.0, 0.1, 2.0]))
    def is_late(self, seconds: float) -> None:
        self.life.cycle.on_lag(seconds)

    @rule()
    def bug(self) -> None:
        self.life.cycle.on_bug()
        self.life.notice()
        assert not self.life.waiting

    @precondition(lambda self: self.life.waiting)
    @rule()
    def signal(self) -> None:
        self.life.cycle.on_signal()
        self.life.notice()
        assert self.life.left

    # -- what always holds -----------------------------------------------------------------------

    @invariant()
    def next_is_asked_for_once_per_event(self) -> None:
        subject = self.life
        if not subject.asked:
            return  # it has not begun
        owes = subject.waiting or subject.left
        assert subject.asked == subject.answered + (0 if owes else 1)
        resting = {life.IDLE, life.DEGRADED}
        assert subject.left or subject.waiting == (subject.cycle.state not in resting)

    @invariant()
    def a_wait_ends_within_its_bound_though_nothing_comes_any_more(self) -> None:
        if self.life.waiting:
            subject = copy.deepcopy(self.life)
            late = life.LAG_FACTOR * subject.cycle.lag
            subject.until_next(
                most=max(SILENCE, START_DUE + late, life.UNFINISHED_SECONDS + late) + 0.001
            )

    @invariant()
    def nothing_is_awaited_after_a_miss(self) -> None:
        subject = self.life
        if subject.asked and subject.waiting:
            assert not subject.cycle.delivers_alongside
            assert self.strategy != "continuous"

    @invariant()
    def the_environment_can_end(self) -> None:
        subject = copy.deepcopy(self.life)
        over = subject.left
        if over or not subject.asked:
            return
        if subject.waiting:
            subject.until_next()
        subject.answer(life.SHUTDOWN)
        assert subject.left
        counted = subject.stats.added_seconds.count
        assert counted == subject.stats.invocations

    @invariant()
    def what_trails_behind_a_flush_is_counted(self) -> None:
        assert self.life.stats.trailing_lines == self.trailing

    @invariant()
    def a_wait_for_lines_is_one_of_two(self) -> None:
        subject = copy.deepcopy(self.life)
        if subject.waiting and not subject.stats.trailing_lines and not subject.trails:
            flushes, began = subject.flushes, subject.now
            subject.ends(self.request)
            if subject.flushes > flushes:
                assert subject.now - began <= BATCH + life.TAIL_MARGIN_SECONDS + 0.001

    @invariant()
    def memory_is_bounded(self) -> None:
        tables = [v for v in vars(self.life.cycle).values() if isinstance(v, dict)]
        assert all(len(table) <= life.MAX_REMEMBERED for table in tables)


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase


class InOrder:
    """A platform whose stream is in order and complete, and late by as much as it likes.

    Over HTTP it may deliver an event twice, and all that came since.
    """

    def __init__(self, strategy: str, choose: Callable[[int], int]) -> None:
        self.life = Life(strategy).connect().start()
        self._choose = choose
        self._made: deque[tuple[str, str, float]] = deque()
        self._sent: deque[tuple[str, str, float]] = deque(maxlen=3)

    def make(self, what: str, request: str) -> None:
        """Make an event, and send some of those that wait."""
        self.life.now += 0.001
        self._made.append((what, request, self.life.now))
        self.send(self._choose(len(self._made)))

    def send(self, count: int) -> None:
        for _ in range(count):
            event = self._made.popleft()
            self._sent.append(event)
            self._deliver(*event)

    def send_again(self) -> None:
        for event in [*self._sent]:
            self._deliver(*event)

    def _deliver(self, what: str, request: str, made: float) -> None:
        ago = self.life.now - made
        if what == "start":
            self.life.begins(request, ago=ago).notice()
        else:
            self.life.ends(request, is_report=what == "report", ago=ago)

    def call(self, request: str, *, is_read_late: bool) -> None:
        """Run one invocation; its end, and no other, is followed by a flush."""
        subject, flushes = self.life, self.life.flushes
        self.make("start", request)
        if not is_read_late:
            subject.now += 0.001
            subject.invoke(request)
            if self._choose(1):
                self.send_again()
            self.send(self._choose(len(self._made)))
            assert subject.flushes == flushes
        awaited = subject.waiting
        self.make("runtimeDone", request)
        if is_read_late:
            subject.now += 0.001
            subject.invoke(request)
            awaited = subject.waiting
        if awaited:
            self.send(len(self._made))
            assert subject.flushes == flushes + 1
        assert (subject.waiting, subject.stats.ends_missed) == (False, {})
        self.make("report", request)


@settings(deadline=None)
@given(st.data())
def test_an_invocation_ends_with_its_own_end_however_often_an_event_is_repeated(
    data: st.DataObject,
) -> None:
    def choose(most: int) -> int:
        return data.draw(st.integers(0, most))

    platform = InOrder(data.draw(st.sampled_from(["invocation", "interval", "auto"])), choose)
    for request in data.draw(st.lists(st.sampled_from("aaab"), max_size=8)):
        platform.call(request, is_read_late=data.draw(st.booleans()))
        platform.life.now += data.draw(st.sampled_from([0.001, 60.0, 3600.0]))

"""The life cycle row by row: each bound of a wait, what is learned from it, what it costs."""

from __future__ import annotations

import pytest

from helpers.life import ADDED, BATCH, SILENCE, START_DUE, Life
from telemetryd.core import lifecycle as life
from telemetryd.core.stats import DaemonStats
from telemetryd_proto.request_ids import MAX_REQUEST_ID

TRAIL = BATCH + life.TAIL_MARGIN_SECONDS
ENDS = {life.SHUTDOWN, life.GONE, life.SIGNAL}


def running(strategy: str = "invocation") -> Life:
    """A function runs, and telemetry has told so."""
    return Life(strategy).connect().start().begins("a").invoke("a")


# -- the table -----------------------------------------------------------------------------------


def test_every_row_leads_to_a_state_and_known_commands() -> None:
    commands = {life.ASK, life.AWAIT, life.TELL, life.FLUSH, life.HOLD, life.RELEASE, life.LEAVE}
    for (state, _), (following, todo) in life.ROWS.items():
        assert state in life.STATES
        assert following in life.STATES
        assert set(todo) <= commands


def test_every_state_but_the_last_can_be_left_and_reached() -> None:
    reached = {following for following, _ in life.ROWS.values()}
    assert reached == set(life.STATES) - {life.INIT}
    assert {state for state, _ in life.ROWS} == set(life.STATES) - {life.SHUTTING_DOWN}


def test_next_is_asked_for_by_every_row_that_comes_to_rest() -> None:
    """Where a row ends in a state that waits for the platform, it has asked, then or before."""
    resting = {life.IDLE, life.DEGRADED}
    for (state, event), (following, todo) in life.ROWS.items():
        if following in resting:
            assert (todo[-1:] == (life.ASK,)) == (event != life.BUG), (state, event)
        else:
            assert life.ASK not in todo, (state, event)


@pytest.mark.parametrize("state", [s for s in life.STATES if s != life.SHUTTING_DOWN])
def test_a_signal_ends_it_from_anywhere(state: str) -> None:
    following, todo = life.ROWS[state, life.SIGNAL]
    assert following == life.SHUTTING_DOWN
    assert todo[-1] == life.LEAVE


@pytest.mark.parametrize("state", [life.IDLE, life.DEGRADED])
@pytest.mark.parametrize("event", sorted(ENDS))
def test_the_end_releases_writes_and_leaves(state: str, event: str) -> None:
    machine = life.Machine(state)
    assert machine.step(event) == (life.RELEASE, life.LEAVE)
    assert machine.state == life.SHUTTING_DOWN


def test_what_is_in_no_row_does_not_happen() -> None:
    with pytest.raises(KeyError):
        life.Machine(life.INIT).step(life.FLUSHED)


def test_nonsense_is_answered_by_asking_again_but_not_for_ever() -> None:
    machine = life.Machine(life.DEGRADED)
    for _ in range(life.MAX_MALFORMED - 1):
        assert life.ASK in machine.on_malformed()
    assert life.LEAVE in machine.on_malformed()


def test_an_answer_that_makes_sense_begins_the_count_of_nonsense_again() -> None:
    machine = life.Machine(life.IDLE)
    for _ in range(3):
        for _ in range(life.MAX_MALFORMED - 1):
            assert life.ASK in machine.on_malformed()
        machine.step(life.OTHER)


# -- an invocation as it should be -----------------------------------------------------------------


def test_the_end_is_followed_by_a_flush_a_hold_and_next() -> None:
    subject = running()
    assert (subject.cycle.state, subject.asked) == (life.INVOKED, 1)
    subject.ends("a")
    assert (subject.cycle.state, subject.asked, subject.flushes) == (life.IDLE, 2, 1)
    assert subject.asked_while_writing[-1] is False
    assert subject.stats.ends_missed == {}


@pytest.mark.parametrize(("seconds", "flush_until"), [(60.0, ADDED), (0.1, 0.1)])
def test_a_flush_may_take_what_may_be_added_or_what_is_left(
    seconds: float, flush_until: float
) -> None:
    subject = Life().connect().start().begins("a").invoke("a", seconds)
    began = subject.now
    subject.ends("a")
    assert subject.cycle.flush_until == pytest.approx(began + flush_until)
    assert subject.cycle.trailing_until == pytest.approx(began + life.BURST_SECONDS)


@pytest.mark.parametrize(("seconds", "least"), [(60.0, TRAIL), (0.02, 0.02), (0.001, 0.001)])
def test_neither_wait_for_lines_is_longer_than_a_flush_may_be(seconds: float, least: float) -> None:
    for trails in (0, 3):
        subject = running()
        subject.ends("a")
        if trails:
            subject.lines(trails)
        subject.begins("b").invoke("b", seconds)
        began = subject.now
        subject.ends("b")
        expected = least if trails else min(least, life.BURST_SECONDS)
        assert subject.cycle.trailing_until == pytest.approx(began + expected)


def test_an_end_that_is_here_already_is_not_waited_for() -> None:
    subject = Life().connect().start().begins("a")
    subject.ends("a")
    subject.invoke("a")
    assert (subject.cycle.state, subject.asked, subject.flushes) == (life.IDLE, 2, 1)


@pytest.mark.parametrize("strategy", ["continuous", "interval"])
def test_what_is_not_to_be_flushed_is_not_awaited(strategy: str) -> None:
    subject = Life(strategy).connect().start()
    subject.invoke("a")
    if strategy == "interval":  # due with the first one, not with one right after it
        subject.ends("a")
        subject.invoke("b")
    assert (subject.cycle.state, subject.waiting) == (life.IDLE, False)


def test_the_end_of_another_request_is_not_the_end() -> None:
    subject = running()
    subject.ends("b")
    assert subject.cycle.state == life.INVOKED


def test_an_event_that_is_not_known_is_passed_over() -> None:
    subject = Life().start().answer(life.OTHER)
    assert (subject.cycle.state, subject.asked) == (life.IDLE, 2)


# -- an event that Lambda repeats under its id -----------------------------------------------------

LATER = 60.0
"""Seconds before Lambda repeats an event; so old is what comes late of its first attempt."""


def repeated() -> Life:
    """An event's first attempt is over, and INVOKE has announced the second."""
    subject = running()
    subject.ends("a")
    subject.now += LATER
    return subject.invoke("a")


@pytest.mark.parametrize("is_behind", [False, True])
def test_the_report_of_the_attempt_before_is_not_the_end(is_behind: bool) -> None:
    """It comes with the thaw, ahead of the next start or behind it."""
    subject = repeated()
    if is_behind:
        subject.begins("a")
    subject.ends("a", is_report=True, ago=LATER)
    if not is_behind:
        subject.begins("a")
    assert (subject.cycle.state, subject.flushes) == (life.INVOKED, 1)
    subject.ends("a")
    assert (subject.cycle.state, subject.flushes) == (life.IDLE, 2)
    assert subject.stats.ends_missed == {}


def test_the_report_of_the_attempt_before_is_no_sign_of_this_one() -> None:
    subject = repeated()
    subject.ends("a", is_report=True, ago=LATER)
    assert subject.until_next() == pytest.approx(START_DUE)
    assert subject.stats.ends_missed == {"nothing_received": 1}


def test_all_of_the_attempt_before_may_come_late() -> None:
    """Nothing was awaited of it, and the environment froze before anything was sent."""
    subject = Life("interval").connect().start().begins("z").invoke("z")
    subject.ends("z")
    subject.invoke("a")
    assert subject.cycle.state == life.IDLE
    subject.now += LATER
    subject.invoke("a")
    subject.begins("a")
    subject.ends("a", ago=LATER)
    subject.ends("a", is_report=True, ago=LATER)
    assert (subject.cycle.state, subject.flushes) == (life.INVOKED, 1)
    subject.begins("a")
    subject.ends("a")
    assert (subject.cycle.state, subject.flushes) == (life.IDLE, 2)


def test_start_and_end_of_a_repeated_event_may_be_read_before_its_invoke() -> None:
    subject = running()
    subject.ends("a")
    subject.now += LATER
    subject.begins("a")
    subject.ends("a", ago=0.05)
    subject.invoke("a")
    assert (subject.cycle.state, subject.flushes) == (life.IDLE, 2)
    assert subject.stats.added_last == about(0.05 + life.BURST_SECONDS)


def test_a_loss_between_start_and_invoke_counts_for_a_repeated_event() -> None:
    subject = running()
    subject.ends("a")
    subject.begins("a").lose("logs_dropped").invoke("a")
    assert subject.stats.ends_missed == {"logs_dropped": 1}


def test_a_start_that_comes_twice_announces_no_attempt() -> None:
    subject = running().begins("a")
    subject.ends("a")
    assert (subject.cycle.state, subject.flushes) == (life.IDLE, 1)


@pytest.mark.parametrize("is_invoked", [False, True])
def test_what_is_delivered_twice_is_of_no_other_attempt(is_invoked: bool) -> None:
    """Over HTTP: with the thaw the platform repeats a batch whose answer it did not get."""
    subject = Life().connect().start().begins("a", ago=0.0).invoke("a")
    subject.ends("a")
    subject.now += LATER
    if is_invoked:
        subject.invoke("a")
    subject.begins("a", ago=LATER + life.BURST_SECONDS)
    subject.ends("a", ago=LATER)
    if not is_invoked:
        subject.invoke("a")
    assert (subject.cycle.state, subject.flushes) == (life.INVOKED, 1)
    subject.begins("a", ago=0.0)
    subject.ends("a")
    assert (subject.cycle.state, subject.flushes) == (life.IDLE, 2)


def test_starts_of_two_requests_may_have_one_time() -> None:
    subject = Life().connect().start().begins("a", ago=0.0).invoke("a")
    subject.ends("a")
    subject.invoke("b").begins("b", ago=life.BURST_SECONDS)
    assert subject.until_next() == pytest.approx(SILENCE), "its start was seen"


def test_where_a_start_is_lost_the_time_tells_the_attempts_apart() -> None:
    for lost in ("first", "second"):
        subject = Life().connect().start()
        if lost == "second":
            subject.begins("a")
        subject.invoke("a")
        subject.ends("a")
        subject.now += LATER
        subject.invoke("a")
        if lost == "first":
            subject.begins("a")
        subject.ends("a", ago=LATER)
        assert (subject.cycle.state, subject.flushes) == (life.INVOKED, 1)
        subject.ends("a")
        assert (subject.cycle.state, subject.flushes) == (life.IDLE, 2)


def test_other_invocations_between_two_attempts_change_nothing() -> None:
    subject = running()
    subject.ends("a")
    subject.begins("b").invoke("b")
    subject.ends("b")
    subject.invoke("a")
    subject.ends("a", is_report=True, ago=LATER)
    subject.begins("a")
    assert (subject.cycle.state, subject.flushes) == (life.INVOKED, 2)
    subject.ends("a")
    assert (subject.cycle.state, subject.flushes) == (life.IDLE, 3)


@pytest.mark.parametrize("is_report", [False, True])
def test_after_a_reset_the_end_of_the_attempt_before_is_not_that_of_the_next(
    is_report: bool,
) -> None:
    """A new process knows nothing of the first attempt, and is told of its end."""
    subject = Life().connect().start()
    subject.ends("a", is_report=is_report, ago=LATER)
    subject.invoke("a")
    if is_report:
        subject.ends("a", is_report=True, ago=LATER)
    subject.begins("a")
    assert (subject.cycle.state, subject.flushes) == (life.INVOKED, 0)
    subject.ends("a")
    assert (subject.cycle.state, subject.flushes) == (life.IDLE, 1)


def test_a_report_that_is_made_while_the_function_should_run_is_its_end() -> None:
    """A runtime that was killed: `runtimeDone` may be missing."""
    for subject in (running(), repeated()):
        flushes = subject.flushes
        subject.ends("a", is_report=True)
        assert subject.flushes == flushes + 1


# -- the bounds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("connections", "cause"), [(0, "no_connection"), (1, "nothing_received")])
def test_where_nothing_has_come_when_start_is_due_nothing_is_awaited(
    connections: int, cause: str
) -> None:
    subject = Life().connect(connections).start().invoke("a")
    assert subject.until_next() == pytest.approx(START_DUE)
    assert subject.stats.ends_missed == {cause: 1}
    assert subject.told == [cause]


def test_the_first_wait_grows_with_the_lag_that_is_measured() -> None:
    subject = Life().connect().start()
    subject.cycle.on_lag(1.5)
    subject.invoke("a")
    expected = START_DUE + 1.5 * life.LAG_FACTOR
    assert subject.until_next() == pytest.approx(expected)
    for _ in range(100):
        subject.cycle.on_lag(0.0)
    assert subject.cycle.lag < 0.001


def test_the_share_of_a_processor_says_how_late_it_will_be() -> None:
    """As at 7.25 % of one: the start took 14 times as long as it worked."""
    subject = Life()
    subject.cycle.on_share(1.0, 1.0)
    assert subject.cycle.lag == 0
    subject.cycle.on_share(6.9, 0.5)
    assert subject.cycle.lag == pytest.approx(life.WORK_SECONDS * 12.8)
    for _ in range(50):
        subject.cycle.on_lag(0.0)
    assert subject.cycle.lag == pytest.approx(life.WORK_SECONDS * 12.8), "it stays"
    subject.cycle.on_share(3600.0, 0.0)
    assert subject.cycle.lag == life.MOST_LAG_SECONDS


@pytest.mark.parametrize(
    ("lag", "left", "expected"),
    [
        (0.0, 2.0, 0.15),
        (0.1, 2.0, 0.15 + 0.1 * life.LAG_FACTOR),
        (9.0, 2.0, 2.0 * life.MOST_PART),
        (9.0, 0.1, 0.15),
    ],
)
def test_margins_grow_with_the_lag_but_not_beyond_a_part_of_the_time(
    lag: float, left: float, expected: float
) -> None:
    subject = Life()
    subject.cycle.on_lag(lag)
    assert subject.cycle.margin(0.15, left) == pytest.approx(expected)


def test_events_of_the_invocation_before_are_no_sign_of_this_one() -> None:
    """Its report comes with the thaw, when the next one has begun."""
    subject = running()
    subject.ends("a")
    subject.invoke("b")
    subject.ends("a", is_report=True)
    assert subject.until_next() == pytest.approx(START_DUE)
    assert subject.stats.ends_missed == {"nothing_received": 1}


def test_a_line_of_the_function_is_a_sign_though_its_start_was_lost() -> None:
    subject = Life().connect().start().invoke("a")
    subject.lines(1)
    assert subject.until_next() == pytest.approx(SILENCE)


def test_silence_counts_from_the_last_line() -> None:
    subject = Life().connect().start().begins("a").invoke("a", 900.0)
    for _ in range(10):
        subject.now += SILENCE - 1
        subject.lines(1).notice()
        assert subject.cycle.state == life.INVOKED
    assert subject.until_next() == pytest.approx(SILENCE)


def test_after_the_silence_nothing_is_awaited() -> None:
    subject = running()
    subject.now += 10
    subject.lines(3)
    assert subject.until_next() == pytest.approx(SILENCE)
    assert subject.stats.ends_missed == {"silence": 1}


def test_the_functions_deadline_comes_first() -> None:
    subject = Life().connect().start().begins("a").invoke("a", 2.0)
    assert subject.until_next() == pytest.approx(2.0)
    assert subject.stats.ends_missed == {"deadline": 1}


def test_a_deadline_beyond_all_functions_is_none() -> None:
    subject = Life().connect().start().begins("a").invoke("a", 1e15)
    while subject.waiting:
        subject.lines(1)
        subject.now += 1.0
        subject.notice()
    assert subject.stats.ends_missed == {"deadline": 1}
    assert subject.now <= 100.0 + life.LONGEST_SECONDS + 1.0


def test_a_line_in_the_making_for_a_second_will_not_be_finished() -> None:
    subject = running()
    subject.now += 0.3
    subject.unfinished_since = subject.now
    assert subject.until_next() == pytest.approx(life.UNFINISHED_SECONDS)
    assert subject.stats.ends_missed == {"line_unfinished": 1}


def test_a_line_begun_before_the_invocation_has_a_second_of_it() -> None:
    subject = Life().connect().start().begins("a")
    subject.unfinished_since = subject.now - 3600
    subject.invoke("a")
    assert subject.until_next() == pytest.approx(life.UNFINISHED_SECONDS)


def test_a_line_that_is_finished_in_time_is_no_matter() -> None:
    subject = running()
    subject.unfinished_since = subject.now
    subject.now += 0.9
    subject.unfinished_since = None
    subject.notice()
    subject.now += 0.5
    subject.notice()
    assert subject.cycle.state == life.INVOKED


@pytest.mark.parametrize("cause", ["logs_dropped", "line_rejected", "event_malformed"])
def test_a_loss_ends_the_wait_at_once(cause: str) -> None:
    subject = running().lose(cause)
    assert (subject.cycle.state, subject.asked) == (life.IDLE, 2)
    assert subject.stats.ends_missed == {cause: 1}


def test_a_connection_that_ends_ends_the_wait_at_once() -> None:
    subject = running().connect(0)
    subject.notice()
    assert subject.cycle.state == life.IDLE
    assert subject.stats.ends_missed == {"connection_closed": 1}


@pytest.mark.parametrize("cause", ["logs_dropped", "line_rejected", ""])
def test_a_loss_between_start_and_invoke_counts(cause: str) -> None:
    """At a cold start all of it may have arrived before INVOKE is looked at."""
    subject = Life().connect().start().begins("a")
    if cause:
        subject.lose(cause)
    else:
        subject.connect(0)
    subject.invoke("a")
    assert (subject.cycle.state, subject.asked) == (life.IDLE, 2)
    assert subject.stats.ends_missed == {cause or "connection_closed": 1}


def test_a_loss_while_nothing_runs_is_no_matter() -> None:
    subject = Life().connect().start().lose("logs_dropped").invoke("a")
    assert subject.cycle.state == life.INVOKED


def test_an_end_in_the_same_read_as_a_loss_is_an_end() -> None:
    subject = running()
    subject.cycle.on_loss("logs_dropped")
    subject.ends("a")
    assert (subject.flushes, subject.stats.ends_missed) == (1, {})


def test_a_connection_that_ended_while_idle_is_waited_for_as_long_as_for_a_start() -> None:
    subject = running()
    subject.ends("a")
    subject.connect(0).invoke("b")
    subject.lines(1)
    assert subject.until_next() == pytest.approx(START_DUE)
    assert subject.stats.ends_missed == {"no_connection": 1}


def test_every_cause_has_its_words() -> None:
    seen = {"connection_closed", "logs_dropped", "line_rejected", "event_malformed"}
    subject = Life().connect(0).start().invoke("a")
    seen |= {cause for cause, _ in subject.cycle.bounds(1.0)}
    subject.lines(1)
    seen |= {cause for cause, _ in subject.cycle.bounds(1.0)}
    assert seen == set(life.CAUSES)


# -- what is learned -------------------------------------------------------------------------------


def missed() -> Life:
    """An end was missed by silence."""
    subject = running()
    subject.until_next()
    return subject


def test_after_a_miss_none_is_awaited() -> None:
    subject = missed()
    for request in "bcd":
        subject.begins(request).invoke(request)
        assert (subject.cycle.state, subject.waiting) == (life.IDLE, False)
        assert subject.cycle.delivers_alongside
    assert subject.stats.ends_missed == {"silence": 1}


def test_once_an_end_is_seen_ends_are_awaited() -> None:
    subject = missed()
    subject.begins("b").invoke("b")
    subject.ends("b")
    subject.begins("c").invoke("c")
    assert subject.cycle.state == life.INVOKED


def test_an_end_that_comes_late_counts_as_seen() -> None:
    subject = missed()
    subject.ends("a")
    subject.begins("b").invoke("b")
    assert subject.cycle.state == life.INVOKED


def test_a_report_does_not_say_that_ends_are_seen() -> None:
    """It is made after our `next`, whether or not `runtimeDone` gets through."""
    subject = missed()
    subject.ends("a", is_report=True)
    subject.begins("b").invoke("b")
    assert subject.cycle.state == life.IDLE


def test_the_end_of_a_request_that_never_began_says_nothing() -> None:
    subject = missed()
    assert subject.ends("forged") is False
    assert subject.stats.unknown_requests == 1
    subject.begins("b").invoke("b")
    assert subject.cycle.state == life.IDLE


def test_an_end_that_is_read_before_its_invoke_is_of_no_unknown_request() -> None:
    """Two connections: either may be read first, and more than one may report the end."""
    subject = Life().connect().start()
    for request in ("a", "a", "forged"):
        subject.ends(request)
    assert subject.stats.unknown_requests == 3
    subject.invoke("a")
    assert subject.stats.unknown_requests == 1
    subject.ends("a", is_report=True)
    subject.invoke("b")
    subject.ends("b")
    subject.invoke("a")
    assert subject.stats.unknown_requests == 1


def test_requests_that_never_began_are_forgotten() -> None:
    subject = Life().connect().start()
    for number in range(10_000):
        subject.ends(f"forged-{number}")
        subject.begins(f"begun-{number}", ago=0.0)
    subject.ends("x" * 1_000_000)
    subject.begins("x" * 1_000_000)
    subject.invoke("y" * 1_000_000)
    assert subject.cycle.state == life.IDLE, "an id that is none is not awaited"
    kept = [value for value in vars(subject.cycle).values() if isinstance(value, dict)]
    assert len(kept) == 4
    assert max(map(len, kept)) <= life.MAX_REMEMBERED
    assert max(len(name) for table in kept for name in table) <= life.MAX_ID


# -- lines behind the end --------------------------------------------------------------------------


def about(seconds: float) -> object:
    """So many seconds, as far as the wall clock's numbers tell them."""
    return pytest.approx(seconds, abs=1e-5)


def added(subject: Life, request: str) -> float:
    """What one more invocation is kept waiting for, from its end on."""
    subject.begins(request).invoke(request)
    subject.ends(request)
    return subject.stats.added_last


def awaits_start(subject: Life) -> bool:
    """Whether the lines ahead of the next start are counted."""
    return subject.cycle.awaits_start


def test_an_end_is_not_waited_behind_until_lines_have_come_there() -> None:
    subject = running()
    subject.ends("a")
    assert added(subject, "b") == about(life.BURST_SECONDS)
    subject.lines(2)
    assert added(subject, "c") == about(TRAIL)
    assert subject.stats.trailing_lines == 2


def test_lines_in_the_block_of_the_end_do_not_trail() -> None:
    subject = running()
    subject.cycle.on_end("a", None, 0.0, is_report=False)
    subject.lines(9)
    subject.notice()
    assert added(subject, "b") == about(life.BURST_SECONDS)
    assert subject.stats.trailing_lines == 0


def test_lines_ahead_of_the_next_start_trail_and_the_report_does_not() -> None:
    """All that was held up by the freeze comes in one block, and INVOKE may be read before."""
    for before, trailing in ((1, 0), (3, 2)):
        subject = running()
        subject.ends("a")
        subject.invoke("b")
        assert awaits_start(subject)
        subject.cycle.on_end("a", None, 0.0, is_report=True)
        subject.begins("b", before=before)
        assert not awaits_start(subject)
        subject.lines(7)
        assert subject.stats.trailing_lines == trailing
        subject.ends("b")
        expected = TRAIL if trailing else life.BURST_SECONDS
        assert subject.stats.added_last == about(expected)


def test_the_first_lines_of_an_invocation_whose_start_was_lost_do_not_trail_twice() -> None:
    """The end of another request is a turn of the stream as well."""
    subject = running()
    subject.ends("a")
    subject.invoke("b")
    subject.lines(1)
    subject.trails = 1
    subject.ends("b")
    assert subject.stats.trailing_lines == 1, "whose they are can't be known"
    subject.cycle.on_end("b", None, 0.0, is_report=False)
    subject.lines(2)
    assert subject.stats.trailing_lines == 2, "the same end once more is none"


def test_lines_behind_a_start_do_not_trail_whatever_is_reported_between() -> None:
    """The report of the invocation before may come late."""
    for is_behind in (False, True):
        subject = running()
        subject.ends("a")
        subject.invoke("b")
        if not is_behind:
            subject.cycle.on_end("a", None, 0.0, is_report=True)
        subject.cycle.on_start("b", 0 if is_behind else 1)
        if is_behind:
            subject.cycle.on_end("a", None, 0.0, is_report=True)
        subject.lines(5)
        subject.lines(5)
        subject.ends("b")
        assert subject.stats.added_last == about(life.BURST_SECONDS)
        assert subject.stats.trailing_lines == 0


def test_lines_that_are_not_waited_for_in_vain_keep_the_wait() -> None:
    subject = running()
    subject.trails = 1
    subject.ends("a")
    for number in range(3 * life.TRAILING_MEMORY):
        assert added(subject, f"b{number}") == about(TRAIL)
    assert subject.stats.trailing_lines == 0, "they came while they were waited for"


def test_waits_that_bring_nothing_are_given_up() -> None:
    subject = running()
    subject.ends("a")
    subject.lines(1)
    for number in range(life.TRAILING_MEMORY):
        assert added(subject, f"b{number}") == about(TRAIL)
        subject.lines(1)  # later than any wait
    assert added(subject, "c") == about(life.BURST_SECONDS)
    assert subject.stats.trailing_lines == 1 + life.TRAILING_MEMORY
    subject.lines(1)
    assert added(subject, "d") == about(TRAIL)


def test_a_wait_that_brings_lines_begins_the_count_again() -> None:
    subject = running()
    subject.ends("a")
    subject.lines(1)
    for number in range(life.TRAILING_MEMORY - 1):
        added(subject, f"b{number}")
    subject.trails = 1
    added(subject, "c")
    subject.trails = 0
    for number in range(life.TRAILING_MEMORY):
        assert added(subject, f"d{number}") == about(TRAIL)
    assert added(subject, "e") == about(life.BURST_SECONDS)


def test_what_was_not_flushed_at_its_end_trails_behind_no_flush() -> None:
    """A busy function: its lines go with the next flush in any case. But they tell of the wait."""
    subject = Life("continuous").connect().start().begins("a").invoke("a")
    subject.ends("a")
    subject.lines(3)
    assert subject.stats.trailing_lines == 0
    assert subject.cycle.awaits_start


def test_a_wait_of_an_earlier_end_says_nothing_of_what_trails_behind_this_one() -> None:
    """Between the two, invocations may follow each other too closely for a flush."""
    trail = life.Trail(DaemonStats(()))
    trail.on_end("a")
    trail.on_lines(1)
    trail.on_lines(1)
    for _ in range(life.TRAILING_MEMORY):
        assert trail.begin_flush()
        trail.end_flush()
    assert not trail.begin_flush()
    trail.end_flush()
    trail.on_lines(1)
    assert trail.begin_flush()
    trail.end_flush()
    for request in "bc":
        trail.on_start(0)
        trail.on_end(request)
        trail.on_lines(2)
        trail.on_lines(1)
    for _ in range(life.TRAILING_MEMORY):
        assert trail.begin_flush()
        trail.end_flush()
    assert not trail.begin_flush()


def test_the_end_of_a_request_that_never_began_has_no_lines_behind_it() -> None:
    subject = running()
    subject.ends("forged")
    subject.lines(1)
    subject.ends("a")
    assert subject.stats.added_last == about(life.BURST_SECONDS)


def test_lines_behind_an_end_that_was_there_before_invoke_are_learned_from() -> None:
    subject = Life().connect().start().begins("a")
    subject.ends("a")
    subject.lines(1)
    subject.invoke("a")
    assert subject.stats.added_last == about(TRAIL)


def test_lines_behind_the_last_end_count_at_the_shutdown() -> None:
    subject = running()
    subject.ends("a")
    subject.answer(life.SHUTDOWN)
    subject.cycle.on_end("a", None, 0.0, is_report=True)
    subject.lines(4)
    assert subject.stats.trailing_lines == 3


# -- a bug, a signal -------------------------------------------------------------------------------


def test_after_a_bug_nothing_is_awaited() -> None:
    subject = running()
    subject.cycle.on_bug()
    subject.notice()
    assert (subject.cycle.state, subject.asked) == (life.DEGRADED, 2)
    subject.begins("b").invoke("b")
    assert (subject.cycle.state, subject.asked) == (life.DEGRADED, 3)
    subject.answer(life.SHUTDOWN)
    assert subject.left


def test_a_bug_while_idle_asks_for_nothing_twice() -> None:
    subject = Life().connect().start()
    subject.cycle.on_bug()
    assert subject.asked == 1
    subject.invoke("a")
    assert (subject.cycle.state, subject.asked) == (life.DEGRADED, 2)


def test_a_bug_before_the_answer_was_taken_asks() -> None:
    subject = Life().connect().start()
    assert subject.cycle.fail(owing=True) == (life.ASK,)
    assert subject.cycle.fail(owing=False) == ()
    assert subject.cycle.state == life.DEGRADED


def test_a_signal_while_a_function_runs_asks_for_nothing() -> None:
    subject = running()
    subject.cycle.on_signal()
    subject.notice()
    assert (subject.left, subject.asked) == (True, 1)


def test_a_signal_before_the_start_ends_it() -> None:
    subject = Life()
    subject.cycle.on_signal()
    subject.start()
    assert (subject.left, subject.asked) == (True, 0)


# -- what an invocation was kept waiting for -------------------------------------------------------


def test_from_the_end_of_the_runtime_to_our_next() -> None:
    subject = running()
    subject.ends("a", ago=0.05)
    assert subject.stats.added_last == pytest.approx(0.05 + life.BURST_SECONDS, abs=1e-5)
    assert subject.stats.invocations == subject.stats.added_seconds.count == 1


def test_the_first_word_of_an_end_counts() -> None:
    """`platform.report` reports it again."""
    subject = Life().connect().start().begins("a")
    subject.ends("a", ago=0.05)
    subject.ends("a", ago=0.01, is_report=True)
    subject.invoke("a")
    assert subject.stats.added_last == pytest.approx(0.05 + life.BURST_SECONDS, abs=1e-5)


def test_who_asks_before_the_end_keeps_nobody_waiting() -> None:
    subject = Life("continuous").connect().start().invoke("a")
    subject.ends("a", ago=0.0)
    assert (subject.stats.added_seconds.count, subject.stats.added_seconds.sum) == (1, 0)


@pytest.mark.parametrize("ago", [3600.0, -1.0])
def test_an_event_with_a_senseless_time_ended_when_it_came(ago: float) -> None:
    subject = running()
    subject.ends("a", ago=ago)
    assert subject.stats.added_last == pytest.approx(life.BURST_SECONDS, abs=1e-5)


def test_asking_without_an_invocation_is_no_wait() -> None:
    assert Life().start().answer(life.OTHER).stats.added_seconds.count == 0


def test_a_missed_end_costs_what_passed_since_the_last_sign() -> None:
    """At the most: whether the function still ran, no one said."""
    subject = missed()
    assert subject.stats.added_seconds.count == 0
    subject.begins("b").invoke("b")
    assert subject.stats.added_peak.value == pytest.approx(SILENCE)
    assert subject.stats.added_seconds.count == subject.stats.invocations == 2


def test_a_missed_end_that_comes_late_says_what_it_cost() -> None:
    subject = missed()
    subject.now += 5.0  # the function had run on for 4 seconds after our `next`
    subject.ends("a", ago=1.0)
    subject.answer(life.SHUTDOWN)
    assert (subject.stats.added_seconds.count, subject.stats.added_last) == (1, 0)


def test_a_missed_end_is_in_the_books_at_the_end() -> None:
    subject = missed()
    subject.answer(life.SHUTDOWN)
    assert subject.stats.added_last == pytest.approx(SILENCE)


def test_the_longest_id_is_that_of_the_protocol() -> None:
    """Written down twice, because the module imports nothing."""
    assert life.MAX_ID == MAX_REQUEST_ID


def test_what_is_asked_before_a_bug_is_owed_after_it() -> None:
    """A flush that ends after a bug leads to `next`, without a hold."""
    for ended in ("flushed", "held"):
        subject = running()
        subject.cycle.on_bug()
        done = (
            subject.cycle.held()
            if ended == "held"
            else subject.cycle.on_flush_end(subject.moment(), all_of_it=False)
        )
        assert done[-1:] == (life.ASK,)


def test_a_request_has_begun_once_it_was_announced() -> None:
    subject = running()
    assert subject.cycle.has_begun("a")
    assert not subject.cycle.has_begun("b")


def test_a_flush_by_the_clock_counts_as_one() -> None:
    subject = running()
    subject.cycle.on_flushed(subject.moment())
    assert subject.cycle.state == life.INVOKED


def test_the_deadline_is_that_of_the_last_invocation() -> None:
    subject = Life().connect().start()
    assert subject.cycle.deadline == 0.0
    subject.invoke("a", seconds=60.0)
    assert subject.cycle.deadline == subject.now + 60.0

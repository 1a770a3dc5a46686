"""The delivery's table, and what is decided between its rows."""

from __future__ import annotations

import pytest

from helpers.delivery_shell import BATCH, WAITS, Shell
from telemetryd.core import delivery as d
from telemetryd.core.breaker import FAILURES
from telemetryd.core.direct import MAX_BYTES

CHANGING = {pair: row for pair, row in d.ROWS.items() if pair[1] not in {*d.ANY_STATE, d.ABANDON}}


def shell(*, disk: bool = False, lines: int = BATCH) -> Shell:
    """One that has been offered `lines`, and waits."""
    subject = Shell(has_disk=disk)
    subject.run()
    subject.queue.lines += range(lines)
    subject.offered = lines
    return subject


def writing(*, disk: bool = False, lines: int = BATCH) -> Shell:
    """One with an attempt on its way."""
    subject = shell(disk=disk, lines=lines)
    while subject.waiting_in != d.WRITE:
        subject.run()
    return subject


class OwnItems(Shell):
    """One whose sink has an item of its own at the end."""

    def take_own(self) -> None:
        """As of Shell, and it is packed."""
        self.own_items_asked += 1
        self.hand = [1000]
        self.delivery.on_packed(1, self.schedule())


def deliver(subject: Shell) -> None:
    """Let the attempt on its way succeed."""
    subject.destination.breaker.on_success()
    subject.delivered += subject.hand
    subject.hand = []
    subject.delivery.on_written(0, subject.destination.now)


def fail(subject: Shell, *, times: int = 1, wish: float = 0.0) -> None:
    """Let attempts fail; the waits between them are over at once."""
    for number in range(times):
        subject.destination.breaker.on_failure(subject.destination.now)
        left = len(subject.hand)
        subject.delivery.on_written(left, subject.destination.now, retry_after=wish)
        subject.run()
        if number + 1 < times:
            subject.run()


# -- the table -------------------------------------------------------------------------------------


def test_every_state_is_reached_and_can_be_left() -> None:
    reached = {following for following, _ in d.ROWS.values()}
    assert reached == set(d.STATES)
    assert {state for state, _ in CHANGING} == set(d.STATES) - {d.ENDING, d.CLOSED}
    assert {state for state, event in d.ROWS if event == d.ABANDON} == set(d.STATES)


def test_what_is_awaited_belongs_to_one_state() -> None:
    """And it is the last thing that a row does."""
    states: dict[str, set[str]] = {}
    for following, todo in CHANGING.values():
        for command in todo:
            if command in WAITS:
                states.setdefault(command, set()).add(following)
                assert todo[-1] == command
    assert states == {
        d.REST: {d.IDLE}, d.LINGER: {d.LINGERING}, d.AWAIT_RELEASE: {d.HELD},
        d.AWAIT_PROBE: {d.PROBING}, d.WRITE: {d.WRITING}, d.BACK_OFF: {d.BACKING_OFF},
    }  # fmt: skip


def test_writing_begins_only_with_a_write_and_packing_with_a_batch() -> None:
    takes = {d.TAKE, d.TAKE_SPOOLED, d.TAKE_OWN}
    for following, todo in CHANGING.values():
        assert (following == d.WRITING) == bool({d.WRITE, d.WRITE_DIRECT} & set(todo))
        assert (following == d.PACKING) == bool(takes & set(todo))


def test_a_batch_ends_with_its_bytes_given_back() -> None:
    """A block that is written at once is none: its bytes were never charged."""
    for (state, event), (following, todo) in CHANGING.items():
        if event in {d.WRITTEN, d.PASSED}:
            assert todo == (() if event == d.WRITTEN else (d.ENQUEUE,))
            continue
        has_batch = state in {d.PACKING, d.WRITING, d.BACKING_OFF}
        assert (has_batch and following == d.IDLE) <= (d.SETTLE in todo)
        assert (d.SETTLE in todo) <= (following == d.IDLE)


def test_what_may_happen_at_any_time_changes_no_state() -> None:
    for state in d.STATES:
        for event, todo in d.ANY_STATE.items():
            assert d.ROWS[state, event] == (state, todo)


# -- direct writes ---------------------------------------------------------------------------------


def test_a_block_may_be_written_at_once_where_nothing_is_ahead_of_it() -> None:
    subject = shell(lines=0)
    assert subject.delivery.may_write_direct(BATCH)
    assert not subject.delivery.may_write_direct(BATCH + 1), "it is more than a batch"
    assert subject.delivery.direct() == (d.WRITE_DIRECT,)
    assert subject.delivery.state == d.WRITING
    assert not subject.delivery.may_write_direct(1)
    assert subject.delivery.on_direct(is_written=True) == ()
    assert subject.delivery.state == d.IDLE


def test_a_block_that_was_not_written_goes_into_the_queue() -> None:
    subject = shell(lines=0)
    subject.delivery.direct()
    assert subject.delivery.on_direct(is_written=False) == (d.ENQUEUE,)
    subject.queue.lines, subject.offered = [0], 1
    while subject.waiting_in != d.WRITE:
        subject.run()
    assert subject.hand == [0]


def test_a_large_block_is_not_written_at_once_however_large_a_batch_may_be() -> None:
    queue, circuit = Shell(has_disk=False).queue, Shell(has_disk=False).destination
    delivery = d.Delivery(queue, circuit, None, batch_max_bytes=64 * MAX_BYTES)
    delivery.next(0.0)
    delivery.on_opened()
    delivery.next(0.0)
    assert delivery.may_write_direct(MAX_BYTES)
    assert not delivery.may_write_direct(MAX_BYTES + 1)


@pytest.mark.parametrize(
    "why", ["not open", "queue", "hand", "disk", "circuit", "held", "stopping", "closed"]
)
def test_a_block_waits_for_what_is_ahead_of_it_or_in_its_way(why: str) -> None:
    subject = Shell(has_disk=True)
    if why != "not open":
        subject.run()
        assert subject.delivery.may_write_direct(1)
    if why == "queue":
        subject.queue.lines = [0]
    elif why == "hand":
        subject = writing()
    elif why == "disk":
        assert subject.disk is not None
        subject.disk.lines = [0]
    elif why == "circuit":
        for _ in range(FAILURES):
            subject.destination.breaker.on_failure(0.0)
    elif why == "held":
        subject.delivery.hold()
    elif why == "stopping":
        subject.delivery.stop(10.0, "signal", keep=False)
    elif why == "closed":
        subject.delivery.abandon(keep=False)
    assert not subject.delivery.may_write_direct(1)


def test_while_a_circuit_is_half_open_nothing_is_written_at_once() -> None:
    """The attempt that is let through is one of the ordinary kind, with a deadline."""
    subject = shell(lines=0)
    for _ in range(FAILURES):
        subject.destination.breaker.on_failure(0.0)
    subject.destination.now = 1000.0
    assert not subject.destination.is_open
    assert not subject.delivery.may_write_direct(1)


# -- freezes ---------------------------------------------------------------------------------------


def test_an_attempt_that_a_freeze_cuts_off_says_nothing_of_its_lines() -> None:
    """It is no failure: neither a retry nor a reason to give up."""
    subject = writing()
    subject.delivery.hold()
    subject.destination.now += 100.0  # far beyond the time for retries
    subject.delivery.on_written(BATCH, subject.destination.now, is_cut=True)
    subject.run()
    assert subject.delivery.state == d.HELD
    subject.delivery.release()
    subject.run()
    assert subject.waiting_in == d.WRITE
    assert subject.lost == []


def test_nothing_is_taken_while_held() -> None:
    subject = shell(disk=True)
    subject.delivery.hold()
    for _ in range(5):
        subject.run()
    assert subject.delivery.state == d.HELD
    assert subject.hand == []


# -- retries ---------------------------------------------------------------------------------------


def test_a_retry_that_would_come_after_the_end_is_none() -> None:
    """`stop` bounds the waits between attempts as well."""
    subject = writing()
    subject.delivery.stop(subject.destination.now + 1.0, "signal", keep=False)
    fail(subject, wish=3.0)
    assert subject.lost == list(range(BATCH))


def test_a_retry_waits_as_long_as_the_destination_wishes() -> None:
    subject = writing()
    fail(subject, wish=3.0)
    assert subject.delivery.state == d.BACKING_OFF
    assert subject.delivery.retry_at >= subject.destination.now + 3.0


@pytest.mark.parametrize("disk", [False, True])
def test_what_can_not_be_delivered_in_time_waits_on_disk_or_is_lost(*, disk: bool) -> None:
    subject = writing(disk=disk)
    subject.destination.now += 100.0
    fail(subject)
    assert subject.lost == ([] if disk else list(range(BATCH)))
    if disk:
        assert subject.disk is not None
        assert sorted(subject.disk.lines + subject.hand) == list(range(BATCH))


def test_lines_that_a_destination_refuses_in_part_are_not_its_fault() -> None:
    """They are lost when their time is over, not kept for ever in front of all others."""
    subject = writing(disk=True)
    subject.destination.breaker.on_success()
    subject.delivered, subject.hand = subject.hand[:1], subject.hand[1:]
    subject.delivery.on_written(len(subject.hand), subject.destination.now + 100.0)
    subject.run()
    assert subject.lost == list(range(1, BATCH))


def test_an_open_circuit_moves_the_batch_to_the_disk() -> None:
    subject = writing(disk=True)
    subject.destination.breaker.on_failure(0.0, permanent=True)
    subject.delivery.on_written(BATCH, 0.0)
    subject.run()
    assert subject.disk is not None
    assert subject.disk.lines == list(range(BATCH))
    assert subject.hand == []


def test_without_a_disk_an_open_circuit_is_waited_for() -> None:
    subject = writing()
    fail(subject, times=5)
    subject.run()
    assert subject.delivery.state == d.PROBING
    assert len(subject.hand) == BATCH


def test_with_a_failover_nothing_waits_for_an_open_circuit() -> None:
    subject = writing()
    subject.delivery.fail_over()
    fail(subject, times=5)
    assert subject.lost == list(range(BATCH))


# -- flushes and ends ------------------------------------------------------------------------------


def test_a_flush_ends_lingering() -> None:
    subject = shell(lines=1)
    lingers = [subject.delivery.may_linger]
    subject.delivery.begin_flush()
    lingers.append(subject.delivery.may_linger)
    subject.delivery.end_flush()
    lingers.append(subject.delivery.may_linger)
    assert lingers == [True, False, True]


def test_the_sink_is_asked_for_its_own_items_once_all_is_delivered() -> None:
    subject = shell()
    subject.delivery.stop(10.0, "signal", keep=False)
    subject.run()
    assert subject.own_items_asked == 0
    while subject.waiting_in != d.WRITE:
        subject.run()
    subject.delivered, subject.hand = subject.hand, []
    subject.delivery.on_written(0, 0.0)
    subject.run()
    assert subject.own_items_asked == 1
    subject.run()
    assert subject.own_items_asked == 1
    assert subject.is_idle


def test_the_rest_is_left_to_the_next_process_where_the_destination_takes_nothing() -> None:
    subject = writing(disk=True, lines=3 * BATCH)
    subject.destination.breaker.on_failure(0.0, permanent=True)
    subject.delivery.stop(10.0, "spindown", keep=True)
    assert subject.delivery.has_last_chance
    subject.delivery.on_written(BATCH, 0.0)
    subject.run()
    assert subject.is_over
    assert subject.disk is not None
    assert subject.disk.lines == list(range(BATCH))


def test_the_end_is_the_end() -> None:
    subject = shell()
    subject.delivery.stop(1.0, "signal", keep=False)
    subject.destination.now = 1.0
    subject.run()
    assert subject.is_over
    assert subject.delivery.state == d.ENDING


def test_no_batch_is_taken_while_another_is_in_hand() -> None:
    subject = writing(lines=2 * BATCH)
    with pytest.raises(KeyError):
        subject.delivery._step(d.MAY_TAKE)


# -- overflow --------------------------------------------------------------------------------------


@pytest.mark.parametrize("disk", [False, True])
def test_what_a_full_queue_gives_up_goes_on_disk_where_there_is_one(*, disk: bool) -> None:
    expected = d.SPOOL_OVERFLOW if disk else d.LOSE_OVERFLOW
    assert shell(disk=disk).delivery.overflow() == (expected,)


def test_a_disk_that_takes_nothing_is_none() -> None:
    subject = shell(disk=True)
    assert subject.disk is not None
    subject.disk.is_usable = False
    assert subject.delivery.overflow() == (d.LOSE_OVERFLOW,)
    assert subject.delivery.divert() == ()
    assert subject.delivery.empty_queue() == ()


# -- what the shell asks ---------------------------------------------------------------------------


def test_before_an_end_is_near_nothing_says_when_or_why() -> None:
    subject = shell()
    delivery = subject.delivery
    assert (delivery.stop_at, delivery.end, delivery.keeps) == (None, "", False)
    delivery.stop(7.0, "failure", keep=True)
    assert (delivery.stop_at, delivery.end, delivery.keeps) == (7.0, "failure", True)


def test_a_batch_is_of_the_disk_or_of_the_queue() -> None:
    subject = writing(disk=True)
    before = subject.delivery.is_spooled
    assert subject.disk is not None
    subject.disk.lines.append(99)
    deliver(subject)
    while subject.hand != [99]:
        subject.run()
    assert (before, subject.delivery.is_spooled) == (False, True)


def test_once_the_sink_has_added_its_own_items_the_end_is_told_no_more() -> None:
    subject = OwnItems(has_disk=False)
    subject.run()
    subject.delivery.stop(100.0, "spindown", keep=False)
    assert subject.delivery.end == "spindown"
    while subject.waiting_in != d.WRITE:
        subject.run()
    assert (subject.own_items_asked, subject.delivery.end) == (1, "")


def test_while_the_circuit_is_open_nothing_is_taken() -> None:
    subject = shell(lines=0)
    subject.run()
    for _ in range(FAILURES):
        subject.destination.breaker.on_failure(subject.destination.now)
    subject.queue.lines += range(BATCH)
    subject.offered = BATCH
    subject.run()
    assert subject.delivery.state == d.LINGERING
    subject.run()
    assert (subject.delivery.state, subject.hand) == (d.PROBING, [])


def test_a_batch_that_can_not_be_packed_is_lost() -> None:
    subject = shell()
    subject.packs_well = False
    while not subject.lost:
        subject.run()
    assert subject.lost == list(range(BATCH))
    assert subject.delivery.state == d.IDLE


def test_the_end_does_not_wait_for_an_open_circuit() -> None:
    """A batch in hand is tried once more, whatever the circuit says."""
    subject = writing()
    subject.delivery.stop(10.0, "signal", keep=False)
    fail(subject, times=FAILURES)
    assert subject.destination.is_open
    subject.run()
    assert subject.waiting_in == d.WRITE


def test_what_came_from_the_disk_is_left_there_where_the_destination_fails() -> None:
    subject = shell(disk=True, lines=0)
    assert subject.disk is not None
    subject.disk.lines += range(BATCH)
    while subject.waiting_in != d.WRITE:
        subject.run()
    subject.delivery.stop(10.0, "spindown", keep=True)
    fail(subject, wish=100.0)  # after the end
    assert subject.disk.lines == list(range(BATCH))
    assert subject.is_over


def test_a_batch_that_is_taken_while_waiting_would_not_help_is_lost_at_once() -> None:
    """To the failover, that is."""
    subject = shell()
    subject.delivery.fail_over()
    subject.destination.breaker.on_failure(0.0, permanent=True)
    while not subject.lost:
        subject.run()
    assert subject.lost == list(range(BATCH))

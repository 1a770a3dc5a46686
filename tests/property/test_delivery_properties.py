"""Any order of lines, answers, freezes, flushes and ends: no line is anywhere twice, or nowhere."""

# ruff: noqa: D102 - the names of the rules say it
from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from helpers.delivery_shell import BATCH, Shell
from telemetryd.core import delivery as d

NO_BATCH = {d.OPENING, d.IDLE, d.LINGERING, d.ENDING, d.CLOSED}


class AnyOrder(RuleBasedStateMachine):
    """Whatever comes, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.shell = Shell(has_disk=False)

    @initialize(has_disk=st.booleans(), has_failover=st.booleans())
    def begin(self, has_disk: bool, has_failover: bool) -> None:
        self.shell = Shell(has_disk=has_disk)
        if has_failover:
            self.shell.delivery.fail_over()
        self.shell.run()

    def runs(self) -> bool:
        return not self.shell.is_over and self.shell.delivery.state != d.CLOSED

    def writes(self) -> bool:
        return self.shell.waiting_in == d.WRITE and self.runs()

    def sleeps(self) -> bool:
        return self.shell.waiting_in != d.WRITE and self.runs()

    # -- lines and time --------------------------------------------------------------------------

    @precondition(runs)
    @rule(lines=st.integers(1, 5))
    def offer(self, lines: int) -> None:
        shell = self.shell
        shell.queue.lines += range(shell.offered, shell.offered + lines)
        shell.offered += lines
        shell.is_idle = False
        shell.execute_all(shell.delivery.divert())
        if shell.waiting_in in {d.REST, d.LINGER}:
            shell.run()

    @precondition(runs)
    @rule(lines=st.integers(1, 5), writes=st.booleans())
    def offer_to_an_instant_sink(self, lines: int, writes: bool) -> None:
        """What it writes at once is behind all that was offered before, and ahead of no write."""
        shell = self.shell
        if not shell.delivery.may_write_direct(lines):
            self.offer(lines)
            return
        on_disk = shell.disk.lines if shell.disk is not None else []
        assert not shell.queue.lines
        assert not shell.hand
        assert not on_disk
        assert not shell.delivery.is_held
        assert shell.waiting_in == d.REST
        assert shell.delivery.direct() == (d.WRITE_DIRECT,)
        if writes:
            shell.delivered += range(shell.offered, shell.offered + lines)
            shell.offered += lines
        if d.ENQUEUE in shell.delivery.on_direct(is_written=writes):
            assert not writes
            self.offer(lines)

    @precondition(sleeps)
    @rule(seconds=st.sampled_from([0.0, 0.1, 2.0, 70.0]))
    def wake(self, seconds: float) -> None:
        self.shell.destination.now += seconds
        self.shell.run()

    # -- answers ---------------------------------------------------------------------------------

    @precondition(writes)
    @rule(left=st.integers(0, BATCH), wish=st.sampled_from([0.0, 3.0]))
    def answer(self, left: int, wish: float) -> None:
        """Some are delivered, the last ones may be tried again."""
        shell = self.shell
        left = min(left, len(shell.hand))
        if left == len(shell.hand):
            shell.destination.breaker.on_failure(shell.destination.now)
        else:
            shell.destination.breaker.on_success()
        count = len(shell.hand) - left
        shell.delivered += shell.hand[:count]
        shell.hand = shell.hand[count:]
        shell.delivery.on_written(left, shell.destination.now, retry_after=wish)
        shell.run()

    @precondition(writes)
    @rule(permanent=st.booleans(), seconds=st.sampled_from([0.1, 5.0]))
    def fail(self, permanent: bool, seconds: float) -> None:
        shell = self.shell
        shell.destination.now += seconds
        shell.destination.breaker.on_failure(shell.destination.now, permanent=permanent)
        shell.delivery.on_written(len(shell.hand), shell.destination.now)
        shell.run()

    @rule(well=st.booleans())
    def change_packing(self, well: bool) -> None:
        self.shell.packs_well = well

    @rule(usable=st.booleans())
    def change_disk(self, usable: bool) -> None:
        if self.shell.disk is not None:
            self.shell.disk.is_usable = usable

    # -- freezes, flushes and ends ---------------------------------------------------------------

    @precondition(runs)
    @rule()
    def hold(self) -> None:
        shell = self.shell
        shell.delivery.hold()
        if shell.waiting_in == d.WRITE:  # it is broken off, and the worker hears of that at once
            shell.delivery.on_written(len(shell.hand), shell.destination.now, is_cut=True)
            shell.run()
        assert shell.waiting_in != d.WRITE

    @precondition(runs)
    @rule()
    def release(self) -> None:
        self.shell.delivery.release()
        if self.shell.waiting_in != d.WRITE:
            self.shell.run()

    @precondition(sleeps)
    @rule()
    def flush(self) -> None:
        """A flush with an answering destination ends, and with all delivered or counted."""
        shell = self.shell
        if shell.delivery.is_held or shell.destination.is_open:
            return
        shell.delivery.begin_flush()
        shell.is_idle = not shell.queue.lines and not shell.hand
        for _ in range(200):
            if shell.is_idle or shell.is_over:
                break
            self.answer(left=0, wish=0.0) if shell.waiting_in == d.WRITE else shell.run()
        shell.delivery.end_flush()
        assert shell.is_idle or shell.is_over

    @precondition(runs)
    @rule(seconds=st.sampled_from([0.5, 10.0]), keep=st.booleans())
    def stop(self, seconds: float, keep: bool) -> None:
        shell = self.shell
        shell.delivery.stop(shell.destination.now + seconds, "signal", keep=keep)
        shell.delivery.release()
        if shell.waiting_in != d.WRITE:
            shell.run()

    @rule(keep=st.booleans())
    def abandon(self, keep: bool) -> None:
        shell = self.shell
        shell.execute_all(shell.delivery.abandon(keep=keep))
        assert shell.delivery.state == d.CLOSED
        assert not shell.hand
        assert not shell.queue.lines

    def teardown(self) -> None:
        """Whatever has happened: a stop ends, in a bounded number of steps."""
        shell = self.shell
        if self.runs():
            shell.delivery.release()
            shell.delivery.stop(shell.destination.now + 1.0, "signal", keep=False)
            for _ in range(500):
                if shell.is_over:
                    break
                if shell.waiting_in == d.WRITE:
                    shell.destination.now += 0.01
                    self.fail(permanent=False, seconds=0.1)
                else:
                    shell.destination.now += 0.01
                    shell.run()
            assert shell.is_over
        self.abandon(keep=False)
        assert sorted(shell.delivered + shell.lost) == list(range(shell.offered))

    # -- what always holds -----------------------------------------------------------------------

    @invariant()
    def every_line_is_in_one_place(self) -> None:
        shell = self.shell
        on_disk = shell.disk.lines if shell.disk is not None else []
        places = [*shell.queue.lines, *on_disk, *shell.hand, *shell.delivered, *shell.lost]
        assert sorted(places) == list(range(shell.offered))

    @invariant()
    def a_write_is_in_flight_exactly_in_writing(self) -> None:
        shell = self.shell
        if self.runs():
            assert (shell.delivery.state == d.WRITING) == (shell.waiting_in == d.WRITE)
        if shell.waiting_in == d.WRITE and self.runs():
            assert shell.hand
            assert not shell.delivery.is_held

    @invariant()
    def no_batch_is_in_hand_where_none_may_be(self) -> None:
        if self.shell.delivery.state in NO_BATCH:
            assert not self.shell.hand


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
test_any_order = AnyOrder.TestCase

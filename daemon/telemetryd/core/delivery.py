"""The delivery of one sink as a table: what may happen, and what is to be done about it.

    events     what has happened, or what stands in the way of the next step
    commands   what `delivery.steps` executes, in order

Nothing here waits, reads a clock or touches a sink. Lines are in one of four places: in the queue,
on disk, in the batch that is in hand, or gone. There is one batch at a time. It is in hand from
PACKING until `SETTLE`; HELD and PROBING may come with it or before it.

A block that is written at once (DIRECT) is never in hand: it is delivered when the call that offers
it returns, or in the queue.

`stop` is no state: at the end of the process the same steps continue, faster and within a bound.
`Delivery` owns every flag that says so.
"""

from __future__ import annotations

from typing import Final, Protocol, TypeAlias

from telemetryd.core.direct import MAX_BYTES
from telemetryd.core.retry import RetrySchedule

Commands: TypeAlias = tuple[str, ...]

# -- the table -------------------------------------------------------------------------------------

OPENING: Final = "OPENING"
"""The sink is opened ahead of the first line."""
IDLE: Final = "IDLE"
"""No batch is in hand, and no wait is on its way, but for lines."""
LINGERING: Final = "LINGERING"
"""Lines wait for more, so that a batch fills."""
HELD: Final = "HELD"
"""The process may be frozen at any moment: no write begins, nothing is taken."""
PROBING: Final = "PROBING"
"""The circuit is open; the next attempt waits for its time."""
PACKING: Final = "PACKING"
"""A batch is taken, and becomes items."""
WRITING: Final = "WRITING"
"""One attempt is on its way."""
BACKING_OFF: Final = "BACKING_OFF"
"""The same batch is tried again later."""
ENDING: Final = "ENDING"
"""No attempt is made any more; what is left goes to disk, or is lost."""
CLOSED: Final = "CLOSED"
STATES: Final = (
    OPENING, IDLE, LINGERING, HELD, PROBING, PACKING, WRITING, BACKING_OFF, ENDING, CLOSED,
)  # fmt: skip

START: Final = "start"
OPENED: Final = "opened"
"""The sink is open, or could not be: the first write tries again."""
DRY: Final = "dry"
"""No line waits, in memory or on disk."""
LINES: Final = "lines"
"""Lines wait in the queue. At the end, those on disk count as well."""
DIRECT: Final = "direct"
"""A block is offered, nothing waits or stands in the way, and the sink may write it at once."""
WRITTEN: Final = "written"
"""It is delivered."""
PASSED: Final = "passed"
"""The sink could not write it at once, and has written nothing of it."""
LINES_ON_DISK: Final = "lines_on_disk"
"""Lines wait on disk only; no flush waits for them."""
LAST: Final = "last"
"""Nothing waits, and the process ends: the sink may add items of its own."""
HOLD: Final = "hold"
"""No write may begin until `release`."""
CIRCUIT_OPEN: Final = "circuit_open"
"""The destination takes nothing, and waiting is of use."""
MAY_TAKE: Final = "may_take"
MAY_TAKE_SPOOLED: Final = "may_take_spooled"
MAY_WRITE: Final = "may_write"
BUG: Final = "bug"
"""The sink's `pack` broke its contract."""
NOTHING: Final = "nothing"
"""The batch has no items: all were expired or damaged, or the sink added none."""
SETTLED: Final = "settled"
"""Every item of the batch is delivered, or refused for good."""
RETRY: Final = "retry"
KEEP: Final = "keep"
"""The batch can't be delivered now, and can wait on disk."""
LOSE: Final = "lose"
"""The batch can't be delivered, and can't wait."""
FULL: Final = "full"
"""The queue is nearly full, or the circuit is open: lines should wait on disk instead."""
OVERFLOW: Final = "overflow"
"""The queue has no room: it gave up its oldest lines, or the new ones, as its policy says."""
OVERFLOW_TO_DISK: Final = "overflow_to_disk"
"""The same, and there is room on disk."""
OVER: Final = "over"
"""Time is up, or what is on disk is left to the next process."""
ABANDON: Final = "abandon"

OPEN: Final = "OPEN"
REST: Final = "REST"
"""Wait until a line comes, or somebody asks."""
TELL_IDLE: Final = "TELL_IDLE"
"""Let flushes know that nothing of the queue waits or is in flight."""
LINGER: Final = "LINGER"
"""Wait until a batch is full, its time is up, or somebody asks."""
AWAIT_RELEASE: Final = "AWAIT_RELEASE"
AWAIT_PROBE: Final = "AWAIT_PROBE"
"""Wait until the circuit lets an attempt pass, or somebody asks."""
TAKE: Final = "TAKE"
"""Take a batch from the queue."""
TAKE_SPOOLED: Final = "TAKE_SPOOLED"
"""Take a batch from the disk. It consists of items already."""
TAKE_OWN: Final = "TAKE_OWN"
"""Ask the sink for items of its own."""
PACK: Final = "PACK"
WRITE: Final = "WRITE"
WRITE_DIRECT: Final = "WRITE_DIRECT"
"""Have the sink write the block that is offered, within the call-back that has read it."""
ENQUEUE: Final = "ENQUEUE"
"""Put the block into the queue, as every other."""
BACK_OFF: Final = "BACK_OFF"
"""Wait until `Delivery.retry_at`, or until somebody asks."""
SPOOL: Final = "SPOOL"
"""Move a batch of the queue to the disk."""
PUT_BACK: Final = "PUT_BACK"
"""Put what is left of the batch on disk, before all that is there."""
LOSE_BATCH: Final = "LOSE_BATCH"
SPOOL_OVERFLOW: Final = "SPOOL_OVERFLOW"
LOSE_OVERFLOW: Final = "LOSE_OVERFLOW"
SETTLE: Final = "SETTLE"
"""The batch has met its end: give its bytes back."""
KEEP_OR_LOSE_ALL: Final = "KEEP_OR_LOSE_ALL"
"""Put all that waits on disk if that is of use, else lose it. Close the disk's files."""

_BEFORE_A_WRITE: Final = {
    HOLD: (HELD, (AWAIT_RELEASE,)),
    LOSE: (IDLE, (LOSE_BATCH, SETTLE)),
    KEEP: (IDLE, (PUT_BACK, SETTLE)),
    CIRCUIT_OPEN: (PROBING, (AWAIT_PROBE,)),
    MAY_WRITE: (WRITING, (WRITE,)),
}
"""With a batch in hand."""
_BEFORE_A_BATCH: Final = {
    HOLD: (HELD, (AWAIT_RELEASE,)),
    CIRCUIT_OPEN: (PROBING, (AWAIT_PROBE,)),
    MAY_TAKE_SPOOLED: (PACKING, (TAKE_SPOOLED,)),
    MAY_TAKE: (PACKING, (TAKE, PACK)),
    DRY: (IDLE, ()),
}
"""DRY: the lines went another way."""
_ROWS: Final[dict[str, dict[str, tuple[str, Commands]]]] = {
    OPENING: {START: (OPENING, (OPEN,)), OPENED: (IDLE, ())},
    IDLE: {
        DRY: (IDLE, (TELL_IDLE, REST)),
        LINES: (LINGERING, (LINGER,)),
        LINES_ON_DISK: (LINGERING, (TELL_IDLE, LINGER)),
        LAST: (PACKING, (TAKE_OWN,)),
        DIRECT: (WRITING, (WRITE_DIRECT,)),
        OVER: (ENDING, ()),
    },
    LINGERING: _BEFORE_A_BATCH,
    HELD: _BEFORE_A_BATCH | _BEFORE_A_WRITE,
    PROBING: _BEFORE_A_BATCH | _BEFORE_A_WRITE,
    PACKING: _BEFORE_A_WRITE | {BUG: (IDLE, (LOSE_BATCH, SETTLE)), NOTHING: (IDLE, (SETTLE,))},
    WRITING: {
        SETTLED: (IDLE, (SETTLE,)),
        WRITTEN: (IDLE, ()),
        PASSED: (IDLE, (ENQUEUE,)),
        HOLD: (HELD, (AWAIT_RELEASE,)),
        RETRY: (BACKING_OFF, (BACK_OFF,)),
        KEEP: (IDLE, (PUT_BACK, SETTLE)),
        LOSE: (IDLE, (LOSE_BATCH, SETTLE)),
    },
    BACKING_OFF: _BEFORE_A_WRITE,
}
ANY_STATE: Final[dict[str, Commands]] = {
    FULL: (SPOOL,),
    OVERFLOW: (LOSE_OVERFLOW,),
    OVERFLOW_TO_DISK: (SPOOL_OVERFLOW,),
}
"""Events that may happen at any time and do not change the state."""
ROWS: Final[dict[tuple[str, str], tuple[str, Commands]]] = {
    (state, event): row for state, rows in _ROWS.items() for event, row in rows.items()
}
ROWS.update(
    {(state, event): (state, commands) for state in STATES for event, commands in ANY_STATE.items()}
)
ROWS.update({(state, ABANDON): (CLOSED, (KEEP_OR_LOSE_ALL,)) for state in STATES})
"""The events of each state, with the next state and the commands. No other event may happen."""

_OVER: Final = frozenset({ENDING, CLOSED})
_OF_A_BATCH: Final = frozenset({SETTLED, KEEP, LOSE, BUG, NOTHING})
"""Events that end it."""
_TAKES: Final = frozenset({MAY_TAKE, MAY_TAKE_SPOOLED, LAST})


# -- what the decisions depend on ------------------------------------------------------------------


class Waiting(Protocol):
    """The queue: `delivery.queue.SinkQueue`."""

    def __len__(self) -> int: ...

    @property
    def queued_bytes(self) -> int:
        """Bytes of the lines waiting."""

    @property
    def is_nearly_full(self) -> bool:
        """True if lines should wait on disk instead."""


class Destination(Protocol):
    """The state of the destination: `delivery.circuit.Circuit`."""

    @property
    def is_open(self) -> bool:
        """True if no attempt should be made now."""

    @property
    def is_closed(self) -> bool:
        """True if attempts are made as usual."""

    @property
    def is_failing(self) -> bool:
        """True if the destination accepted nothing of the last attempt."""

    @property
    def is_permanent(self) -> bool:
        """True if the destination said that waiting will not help."""

    def leave_alone(self, seconds: float) -> None:
        """Make no attempt for so long, as the destination wishes."""


class Disk(Protocol):
    """The disk on which lines can wait: `spool.sink_spool.SinkSpool`."""

    @property
    def is_empty(self) -> bool:
        """True if nothing waits there."""

    @property
    def is_usable(self) -> bool:
        """True if it accepts lines. Ask only if it should, because this may open it."""


class Delivery:
    """The state, the flags, and the decisions between rows of the table.

    Times are loop seconds. `delivery.steps` calls `next` after it has executed the commands of the
    last call, and tells what came of them with `on_opened`, `on_packed` or `on_written`.
    """

    def __init__(
        self,
        queue: Waiting,
        circuit: Destination,
        disk: Disk | None,
        *,
        batch_max_bytes: int,
    ) -> None:
        self._state = OPENING
        self._queue = queue
        self._circuit = circuit
        self._disk = disk
        self._batch_max_bytes = batch_max_bytes
        self._has_failover = False
        self._is_held = False
        self._flushes = 0
        self._stop_at: float | None = None
        self._keeps = False
        self._has_last_chance = False
        self._end = ""
        self._owes_own = False
        """True if the sink must be asked for its own items when nothing else waits."""
        # of the batch
        self._in_hand = False
        self._is_spooled = False
        self._is_last = False
        self._schedule: RetrySchedule | None = None
        self._news = ""
        """The event that the last commands brought about."""
        self._retry_at = 0.0

    # -- what is asked -------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """One of `STATES`."""
        return self._state

    @property
    def is_held(self) -> bool:
        """True if no write may begin."""
        return self._is_held

    @property
    def stop_at(self) -> float | None:
        """The time when everything ends; None while the process is not ending."""
        return self._stop_at

    @property
    def end(self) -> str:
        """The reason of the process's end; "" before it, and after the sink has added its items."""
        return self._end

    @property
    def keeps(self) -> bool:
        """True if, at the end, lines on disk are left to the next process."""
        return self._keeps

    @property
    def is_spooled(self) -> bool:
        """True if the batch in hand, or the last one, came from the disk."""
        return self._is_spooled

    @property
    def has_last_chance(self) -> bool:
        """True if a failing destination gets one more short attempt, because lines can wait."""
        return self._has_last_chance and not self._circuit.is_closed

    @property
    def retry_at(self) -> float:
        """The time of the batch's next attempt."""
        return self._retry_at

    @property
    def may_linger(self) -> bool:
        """True if a batch should continue filling: it is not full, and no flush waits for it."""
        return not self._flushes and self._queue.queued_bytes < self._batch_max_bytes

    def may_write_direct(self, size: int) -> bool:
        """True if a block of so many bytes that is offered now may be written at once.

        It may where it is the whole batch, ahead of which nothing is, and where no wait of any
        kind would come before the write.
        """
        return (
            self._state == IDLE
            and size <= min(self._batch_max_bytes, MAX_BYTES)
            and not self._is_held
            and self._stop_at is None
            and not len(self._queue)
            and self._circuit.is_closed
            and not self.has_spooled
        )

    @property
    def has_spooled(self) -> bool:
        """True if there is something on disk."""
        return self._disk is not None and not self._disk.is_empty

    def is_out_of_time(self, now: float) -> bool:
        """True if the process is ending."""
        return self._stop_at is not None and now >= self._stop_at

    def is_left_to_the_next(self) -> bool:
        """True if, at the end, lines on disk stay there: the destination accepts nothing."""
        circuit = self._circuit
        return self._keeps and circuit.is_failing and not circuit.is_closed and self._can_spool()

    # -- what is told --------------------------------------------------------------------------

    def fail_over(self) -> None:
        """Note that another sink gets the lines that this one can't deliver."""
        self._has_failover = True

    def hold(self) -> None:
        """Begin no write, and take nothing, until `release`."""
        self._is_held = True

    def release(self) -> None:
        """Note that the process runs again after a freeze."""
        self._is_held = False

    def begin_flush(self) -> None:
        """Stop lingering until `end_flush`, because a flush waits until all is delivered."""
        self._flushes += 1

    def end_flush(self) -> None:
        """Note that the flush is over."""
        self._flushes -= 1

    def stop(self, at: float, reason: str, *, keep: bool) -> None:
        """End at `at`. With `keep` the disk outlives the process. `reason`: for own items."""
        self._stop_at = at
        self._keeps = keep
        self._end = reason
        self._owes_own = bool(reason)
        self._has_last_chance = keep and self._can_spool()

    def on_opened(self) -> None:
        """Note that OPEN was executed, whatever the result."""
        self._news = OPENED

    def on_packed(self, items: int | None, schedule: RetrySchedule) -> None:
        """Note that the batch has become `items` items; None: the sink broke its contract.

        `schedule`: of the attempts to deliver them.
        """
        self._schedule = schedule
        if items is None:
            self._news = BUG
        elif not items:
            self._news = NOTHING
        elif self._is_last:
            self._end = ""

    def on_written(
        self, left: int, now: float, *, retry_after: float = 0.0, is_cut: bool = False
    ) -> None:
        """Note that WRITE was executed. `left` items are not settled.

        `retry_after`: the destination's wish, in seconds. `is_cut`: it did not say anything, since
        `hold` or the end of the process broke the attempt off.
        """
        self._news = self._outcome(left, now, retry_after, is_cut=is_cut)

    # -- what comes next -----------------------------------------------------------------------

    def direct(self) -> Commands:
        """A block is written at once; `may_write_direct` has said that it may be."""
        return self._step(DIRECT)

    def on_direct(self, *, is_written: bool) -> Commands:
        """WRITE_DIRECT was executed; what is to be done with the block."""
        return self._step(WRITTEN if is_written else PASSED)

    def next(self, now: float) -> Commands:
        """Take the row of what has happened since; its commands. None when it is over."""
        while self._state not in _OVER:
            if commands := self._step(self._event(now)):
                return commands
        return ()

    def divert(self) -> Commands:
        """Move lines from memory to disk, if they should wait there."""
        return self._step(FULL) if len(self._queue) and self.should_divert() else ()

    def empty_queue(self) -> Commands:
        """Return the commands that move lines to a disk that outlives the process."""
        return self._step(FULL) if len(self._queue) and self._can_spool() else ()

    def overflow(self) -> Commands:
        """Return the commands for the oldest lines, which the queue gave up."""
        return self._step(OVERFLOW_TO_DISK if self._may_spill() else OVERFLOW)

    def abandon(self, *, keep: bool) -> Commands:
        """End now, whatever the state is. With `keep` the disk outlives the process."""
        self._keeps = keep
        return self._step(ABANDON)

    def _step(self, event: str) -> Commands:
        """Take one row of the table. Raises KeyError: there is no such row."""
        self._state, commands = ROWS[self._state, event]
        if event in _TAKES:
            assert not self._in_hand, event  # noqa: S101 - one batch at a time
            assert not self._is_held, event  # noqa: S101 - a freeze may come
            self._in_hand = True
            self._is_spooled, self._is_last = event == MAY_TAKE_SPOOLED, event == LAST
            self._owes_own = bool(self._end) and not self._is_last
        elif event in _OF_A_BATCH:
            self._in_hand = False
        return commands

    def _event(self, now: float) -> str:
        if event := self._news:
            self._news = ""
            return event
        if self._state == OPENING:
            return START
        if self._state == IDLE:
            return self._look(now)
        if self._is_held:
            return HOLD
        return self._before_a_write() if self._in_hand else self._before_a_batch()

    def _look(self, now: float) -> str:
        """Return the event for a state without a batch in hand."""
        if self.is_out_of_time(now) or self._leaves():
            return OVER
        if len(self._queue):
            return LINES
        if self.has_spooled:
            return LINES_ON_DISK if self._stop_at is None else LINES
        return LAST if self._owes_own and not self._is_held else DRY

    def _before_a_batch(self) -> str:
        if self._circuit.is_open and self._stop_at is None and not self._is_futile():
            return CIRCUIT_OPEN
        if self.has_spooled:
            return MAY_TAKE_SPOOLED
        return MAY_TAKE if len(self._queue) else DRY

    def _before_a_write(self) -> str:
        if not self._circuit.is_open:
            return MAY_WRITE
        if self._is_futile():
            return LOSE
        if self._stop_at is not None:
            return MAY_WRITE  # the end of the process does not wait
        return KEEP if self._can_spool() else CIRCUIT_OPEN

    def _leaves(self) -> bool:
        """True if the rest is left to the next process, after the last batch in hand."""
        if self._is_spooled:
            return self._keeps and self._circuit.is_failing
        return self.has_spooled and self.is_left_to_the_next()

    def _outcome(self, left: int, now: float, retry_after: float, *, is_cut: bool) -> str:
        """Return the event that ends WRITING."""
        if not left:
            return SETTLED
        if is_cut and self._is_held:
            return HOLD  # says nothing of these lines
        again_at = None
        if self._schedule is not None and not self.is_left_to_the_next():
            again_at = self._schedule.next_attempt(
                now, retry_after=retry_after, deadline=self._stop_at
            )
        if again_at is None:
            ending = self._stop_at is not None
            if not ending:  # what comes next would meet the same wish
                self._circuit.leave_alone(retry_after)
            is_worth_it = self._keeps if ending else self._circuit.is_failing
            # the destination's fault, not that of these lines
            return KEEP if is_worth_it and self._can_spool() else LOSE
        if self._is_futile():
            return LOSE
        if self._makes_way():
            return KEEP
        self._retry_at = again_at
        return RETRY

    # -- circuit and disk ----------------------------------------------------------------------

    def _can_spool(self) -> bool:
        return self._disk is not None and self._disk.is_usable

    def _is_futile(self) -> bool:
        """True to give up without an attempt: the circuit is open, and waiting would not help."""
        circuit = self._circuit
        if not circuit.is_open:
            return False
        if self._has_failover:  # rather there than to wait, unless it is soon over
            return circuit.is_permanent or not self._can_spool()
        return circuit.is_permanent and not self._can_spool()  # else memory or disk may outlast it

    def _makes_way(self) -> bool:
        """True if the batch in hand should wait on disk: the circuit is open."""
        return self._stop_at is None and self._circuit.is_open and self._can_spool()

    def _may_spill(self) -> bool:
        """True if lines without room in the queue go to disk."""
        wished = self._keeps if self._stop_at is not None else not self._is_futile()
        return self._disk is not None and wished and self._disk.is_usable

    def should_divert(self) -> bool:
        """True if lines of the queue should wait on disk instead. Then `divert` moves some."""
        return (
            self._disk is not None
            and self._stop_at is None
            and (self._queue.is_nearly_full or (self._circuit.is_open and not self._is_futile()))
            and self._disk.is_usable
        )

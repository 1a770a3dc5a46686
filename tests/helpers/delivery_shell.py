"""`core.delivery` without a loop, a sink or a disk: lines are numbers, time is a number."""

# ruff: noqa: D102 - the names of the commands say it
from __future__ import annotations

import random

from telemetryd.core import delivery as d
from telemetryd.core.breaker import Breaker
from telemetryd.core.retry import RetrySchedule

BATCH = 4
"""Lines of one byte, each an item."""
WAITS = {d.REST, d.LINGER, d.AWAIT_RELEASE, d.AWAIT_PROBE, d.BACK_OFF, d.WRITE}


class Queue:
    """Lines by number."""

    def __init__(self) -> None:
        self.lines: list[int] = []

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def queued_bytes(self) -> int:
        return len(self.lines)

    @property
    def is_nearly_full(self) -> bool:
        return len(self.lines) > 2 * BATCH


class Disk:
    """Lines by number, in order."""

    def __init__(self) -> None:
        self.lines: list[int] = []
        self.is_usable = True

    @property
    def is_empty(self) -> bool:
        return not self.lines


class Destination:
    """The circuit, as the shell has it."""

    def __init__(self) -> None:
        self.breaker = Breaker()
        self.now = 0.0

    @property
    def is_open(self) -> bool:
        return self.breaker.state(self.now) == "open"

    @property
    def is_closed(self) -> bool:
        return self.breaker.is_closed

    @property
    def is_failing(self) -> bool:
        return self.breaker.is_failing

    @property
    def is_permanent(self) -> bool:
        return self.breaker.permanent

    def leave_alone(self, seconds: float) -> None:
        self.breaker.leave_alone(self.now, seconds)


class Shell:
    """Executes commands as `shell.delivery` does, without a loop and without a sink."""

    def __init__(self, *, has_disk: bool) -> None:
        self.queue, self.destination = Queue(), Destination()
        self.disk = Disk() if has_disk else None
        self.delivery = d.Delivery(self.queue, self.destination, self.disk, batch_max_bytes=BATCH)
        self.hand: list[int] = []
        self.delivered: list[int] = []
        self.lost: list[int] = []
        self.offered = 0
        self.waiting_in = ""
        self.is_idle = True
        self.is_over = False
        self.packs_well = True
        self.own_items_asked = 0

    def schedule(self) -> RetrySchedule:
        return RetrySchedule(give_up_at=self.destination.now + 20.0, rng=random.Random(1))

    def run(self) -> None:
        """Until something has to be waited for."""
        self.waiting_in = ""
        while not self.waiting_in:
            commands = self.delivery.next(self.destination.now)
            if not commands:
                self.is_over = True
                return
            for command in commands:
                self.execute(command)

    def execute(self, command: str) -> None:
        if command in WAITS:
            self.waiting_in = command
        else:
            getattr(self, command.lower())()

    def execute_all(self, commands: d.Commands) -> None:
        for command in commands:
            self.execute(command)

    # -- commands --------------------------------------------------------------------------------

    def open(self) -> None:
        self.delivery.on_opened()

    def tell_idle(self) -> None:
        assert not self.queue.lines
        assert not self.hand
        self.is_idle = True

    def take(self) -> None:
        assert not self.hand
        self.hand = self.queue.lines[:BATCH]
        del self.queue.lines[:BATCH]
        assert self.hand

    def pack(self) -> None:
        if not self.packs_well:
            self.lost += self.hand
            self.hand = []
        self.delivery.on_packed(len(self.hand) if self.packs_well else None, self.schedule())

    def take_spooled(self) -> None:
        assert self.disk is not None
        assert not self.hand
        self.hand = self.disk.lines[:BATCH]
        del self.disk.lines[:BATCH]
        self.delivery.on_packed(len(self.hand), self.schedule())

    def take_own(self) -> None:
        self.own_items_asked += 1
        assert self.delivery.end
        assert not self.queue.lines
        self.delivery.on_packed(0, self.schedule())

    def settle(self) -> None:
        assert not self.hand

    def put_back(self) -> None:
        assert self.disk is not None
        self.disk.lines = self.hand + self.disk.lines
        self.hand = []

    def lose_batch(self) -> None:
        self.lost += self.hand
        self.hand = []

    def spool(self) -> None:
        assert self.disk is not None
        self.disk.lines += self.queue.lines[:BATCH]
        del self.queue.lines[:BATCH]

    def keep_or_lose_all(self) -> None:
        rest = self.hand + self.queue.lines
        self.hand, self.queue.lines = [], []
        if self.disk is not None and self.delivery.keeps:
            self.disk.lines += rest
        else:
            self.lost += rest
            if self.disk is not None:
                self.lost += self.disk.lines
                self.disk.lines = []

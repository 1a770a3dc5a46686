"""One place for an invocation: a runtime process, and what it is working on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from telemetryd.local.clock import monotonic

if TYPE_CHECKING:
    from telemetryd.local.invocation import Invocation
    from telemetryd.local.processes import ChildProcess


class RuntimeSlot:
    """One runtime process and the invocation it works on."""

    def __init__(self, index: int, address: str) -> None:
        self.index = index
        self.address = address
        self.process: ChildProcess | None = None
        self.ready = False
        """It has asked for an invocation and has none."""
        self.asked = False
        """It has asked for an invocation at least once: its init is done."""
        self.current: Invocation | None = None
        self.invocation: Invocation | None = None
        """The one it works on, or, when that is done, the one it worked on last."""
        self._poll: asyncio.Future[Invocation] | None = None

    def begin_poll(self) -> asyncio.Future[Invocation]:
        """Note that the runtime waits for its next invocation."""
        self.ready = True
        self._poll = asyncio.get_running_loop().create_future()
        return self._poll

    def end_poll(self) -> None:
        """Note that the runtime has got its invocation, or has ended."""
        self.ready = False
        self._poll = None

    def assign(self, invocation: Invocation) -> None:
        """Hand an invocation to the waiting runtime."""
        invocation.sent = monotonic()
        self.current = self.invocation = invocation
        self.ready = False
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(invocation)

    @property
    def waiting(self) -> bool:
        """True if a poll of the runtime can take an invocation now."""
        return self.ready and self._poll is not None and not self._poll.done()

    def abandon(self) -> None:
        """End the waiting poll, because the environment has ended."""
        if self._poll is not None:
            self._poll.cancel()

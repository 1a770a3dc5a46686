"""One registered extension: its state machine and the events that wait for it.

States (they surface in `platform.extension`): Started, Registered, Ready, Running, and the ends
InitError, ExitError, LaunchError, Exited, ShutdownFailed.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from telemetryd.local.processes import ChildProcess

State = Literal[
    "Started",
    "Registered",
    "Ready",
    "Running",
    "InitError",
    "ExitError",
    "LaunchError",
    "Exited",
    "ShutdownFailed",
]


class StateError(Exception):
    """The call is not allowed in the extension's state (403 `Extension.InvalidExtensionState`)."""


class Extension:
    """An external extension (with a process) or an internal one (inside the runtime)."""

    def __init__(self, name: str, *, internal: bool) -> None:
        self.name = name
        self.internal = internal
        self.identifier = str(uuid.uuid4())
        self.state: State = "Started"
        self.events: tuple[str, ...] = ()
        self.error_type: str | None = None
        self.process: ChildProcess | None = None
        self.shutdown_sent = False
        self._queue: deque[dict[str, Any]] = deque()
        self._poll: asyncio.Future[None] | None = None

    @property
    def is_registered(self) -> bool:
        """Whether the extension has registered, whatever became of it since."""
        return self.state not in ("Started", "LaunchError")

    @property
    def at_rest(self) -> bool:
        """Whether it has asked for the next event and all earlier ones were delivered."""
        return self.state == "Ready" and not self._queue

    def register(self, events: tuple[str, ...]) -> None:
        """Raise `StateError` when registered already."""
        if self.state != "Started":
            raise StateError(
                f"State transition from {self.state} to Registered failed for extension {self.name}"
            )
        self.state = "Registered"
        self.events = events

    def report_error(self, state: Literal["InitError", "ExitError"], error_type: str) -> None:
        """Take an init error (only before the first `next`) or an exit error."""
        allowed = ("Registered",) if state == "InitError" else ("Registered", "Ready", "Running")
        if self.state == state:
            return
        if self.state not in allowed:
            raise StateError(f"State transition from {self.state} to {state} failed")
        self.state = state
        self.error_type = error_type

    def begin_poll(self) -> None:
        """The extension has asked for its next event. Raises `StateError`."""
        if self.state not in ("Registered", "Ready", "Running") or self._poll is not None:
            raise StateError(f"State transition from {self.state} to Ready failed")
        self.state = "Ready"

    async def poll(self) -> dict[str, Any]:
        """Wait for the next event, for as long as the environment lives.

        Cancelled when the connection or the environment ends; the event is then not lost.
        """
        while not self._queue:
            self._poll = asyncio.get_running_loop().create_future()
            try:
                await self._poll
            finally:
                self._poll = None
        self.state = "Running"
        return self._queue.popleft()

    def send(self, event: dict[str, Any]) -> None:
        """Queue an event; delivered at once when the extension is waiting."""
        self._queue.append(event)
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(None)

    def abandon(self) -> None:
        """The environment is over: end the waiting poll."""
        if self._poll is not None:
            self._poll.cancel()

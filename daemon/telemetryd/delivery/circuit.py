"""The circuit of one sink: reports attempts to the breaker, and logs its changes.

An environment may run for a tenth of a second per minute. By a clock that stands still in between,
a destination would get no attempt for hours. So the time here is `Clock.elapsed`.
"""

from __future__ import annotations

from typing import Final

from telemetryd.clock import SYSTEM, Clock
from telemetryd.core.breaker import Breaker
from telemetryd.errors import PermanentSinkError
from telemetryd.log import DaemonLog
from telemetryd.sinks.base import Batch, WriteResult

CUT_OFF: Final = "cut_off"
"""The reason the log gives for a circuit that was opened by attempts without an answer."""
PATIENCE_SECONDS: Final = 1.0
"""So much time of attempts without any answer, the last of them cut off, and no flush waits for the
destination any more."""


class Circuit:
    """Closed while the destination takes something; open for a time when it takes nothing."""

    def __init__(self, sink: str, log: DaemonLog, clock: Clock = SYSTEM) -> None:
        self._sink = sink
        self._log = log
        self._breaker = Breaker()
        self._clock = clock
        self._now = clock.elapsed
        self._unanswered = 0.0
        """Seconds of attempts since the last answer."""
        self._code = ""
        """The reason of the last failure."""

    @property
    def is_open(self) -> bool:
        """True if no attempt should be made now."""
        # asked for every block: no clock is needed while all goes well
        return not self._breaker.is_closed and self._breaker.state(self._now()) == "open"

    @property
    def is_closed(self) -> bool:
        """True if attempts are made without restriction."""
        return self._breaker.is_closed

    @property
    def is_failing(self) -> bool:
        """True if the destination took nothing of the last attempt."""
        return self._breaker.is_failing

    @property
    def is_permanent(self) -> bool:
        """True if the destination said that waiting does not help."""
        return self._breaker.permanent

    @property
    def probe_at(self) -> float:
        """Return the loop time of the next permitted attempt, if the process runs until then."""
        return self._clock.loop() + self._breaker.probe_at - self._now()

    def on_delivery(self) -> None:
        """Note that the destination has taken something."""
        self._unanswered = 0.0
        if self._breaker.on_success():
            self._log.info("circuit_closed", sink=self._sink)

    def on_answer(self, batch: Batch, result: WriteResult) -> None:
        """Note a response of the destination, which shows whether it takes anything."""
        self._unanswered = 0.0
        if not result.refuses_all_of(batch):
            self.on_delivery()
        elif all(failure.retryable for failure in result.failures):
            self._note(self._breaker.on_failure(self._now()), result.failures[0].code)

    def on_failure(self, error: BaseException, code: str, seconds: float) -> None:
        """Note that an attempt failed as a whole, which may open the circuit.

        `seconds`: how long it took, which matters where there was no answer.
        """
        self._unanswered = self._unanswered + seconds if isinstance(error, TimeoutError) else 0.0
        self._code = code
        permanent = isinstance(error, PermanentSinkError)
        if isinstance(error, PermanentSinkError) and not error.stops_sink:
            return  # against these lines only
        self._note(self._breaker.on_failure(self._now(), permanent=permanent), code)

    def leave_alone(self, seconds: float) -> None:
        """Make no attempt for so long, as the destination wished when it failed just now."""
        self._note(self._breaker.leave_alone(self._now(), seconds), self._code)

    def became_ready(self) -> None:
        """Note that the sink is open. The time that took does not count against it."""
        self._unanswered = 0.0

    def on_cut_off(self, seconds: float, *, opening: bool = False) -> None:
        """Note that a freeze cut off an attempt without a response, after so many seconds.

        One that hangs may never be given the time to fail; without this, each invocation of a
        function would wait for it. `opening`: the sink was still getting ready, which may take
        its time, as where a small function imports a client for it; that opens the circuit only
        when it happens again and again.
        """
        self._unanswered += seconds
        is_silent = self._unanswered >= PATIENCE_SECONDS
        if not is_silent and self._breaker.state(self._now()) != "half_open":
            return
        self._unanswered = 0.0
        self._note(self._breaker.on_failure(self._now(), at_once=not opening), CUT_OFF)

    def _note(self, opened: bool, code: str) -> None:
        if opened:
            self._log.error(
                "circuit_opened", sink=self._sink, code=code,
                permanent=self._breaker.permanent,
                next_attempt_seconds=round(self._breaker.probe_at - self._now(), 1),
            )  # fmt: skip

"""Statistics: sizes, durations, states. The ledger counts where lines went, this how.

Everything is counted once per block, batch or attempt, never per line. Code that counts holds the
object itself, so that it looks nothing up. The caller reads the clocks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, TypeAlias, get_args

Outcome: TypeAlias = Literal["ok", "partial", "transient", "permanent", "timeout", "cut"]
ErrorKind: TypeAlias = Literal["transient", "permanent", "bug"]
Trigger: TypeAlias = Literal["invocation", "timer", "shutdown"]

OUTCOMES: Final[tuple[Outcome, ...]] = (
    "ok", "partial", "transient", "permanent", "timeout", "cut",
)  # fmt: skip
TRIGGERS: Final[tuple[Trigger, ...]] = ("invocation", "timer", "shutdown")
Derived: TypeAlias = Literal["metrics", "spans"]
DerivedOutcome: TypeAlias = Literal["made", "delivered", "refused"]
MAX_ERRORS: Final = 32
"""Distinct (kind, code) pairs per sink: third-party sinks choose their codes, labels stay few."""

LINES: Final = (1, 10, 100, 1000, 10_000, 100_000)
BYTES: Final = (1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216)
SECONDS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
    300,
)


class Histogram:
    """Observations in fixed buckets, each of values up to its bound; the last has none."""

    __slots__ = ("bounds", "count", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        """Observations by bucket, not accumulated."""
        self.sum = 0.0
        self.count = 0

    @property
    def mean(self) -> float:
        """The mean of all values; 0 without any."""
        return self.sum / self.count if self.count else 0.0

    def observe(self, value: float, weight: int = 1) -> None:
        """Count `value`, `weight` times."""
        self.counts[bisect_left(self.bounds, value)] += weight
        self.sum += value * weight
        self.count += weight


class Peak:
    """The highest value there was: ever, and since each reader last looked."""

    __slots__ = ("_windows", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self._windows: list[list[float]] = []

    def note(self, value: float) -> None:
        """Note a value."""
        if value > self.value:  # noqa: PLR1730 - `max` takes twice as long
            self.value = value
        for window in self._windows:
            if value > window[0]:  # noqa: PLR1730 - as above
                window[0] = value

    def reader(self) -> Callable[[], float]:
        """Return a function for the highest value since its last call, at first of all; 0: none."""
        window = [self.value]
        self._windows.append(window)

        def read() -> float:
            highest, window[0] = window[0], 0.0
            return highest

        return read


class Pauses:
    """The number and total duration of pauses."""

    __slots__ = ("_seconds", "_since", "count")

    def __init__(self) -> None:
        self.count = 0
        self._seconds = 0.0
        self._since: float | None = None

    @property
    def is_on(self) -> bool:
        """True while it is paused."""
        return self._since is not None

    def change(self, now: float, *, paused: bool) -> None:
        """Begin or end a pause at `now`, if it has not begun or ended yet."""
        if paused and self._since is None:
            self.count += 1
            self._since = now
        elif not paused and self._since is not None:
            self._seconds += now - self._since
            self._since = None

    def seconds(self, now: float) -> float:
        """Return the total duration of all pauses, the one at `now` included."""
        return self._seconds + (now - self._since if self._since is not None else 0.0)


HttpOutcome = Literal[
    "accepted", "busy", "malformed", "too_large", "unauthorized", "unsupported", "unreadable",
    "cut_off",
]  # fmt: skip
"""The fate of an HTTP request. `busy`: a queue was full, and the sender was asked to come
again. `cut_off`: the connection ended before it was whole."""
HTTP_OUTCOMES: Final = get_args(HttpOutcome)


class SinkStats:
    """The delivery to one sink."""

    __slots__ = (
        "batch_bytes",
        "batch_lines",
        "delivery_peak",
        "delivery_seconds",
        "derived",
        "direct_writes",
        "errors",
        "queue_capacity_bytes",
        "queue_peak",
        "read_pauses",
        "retries",
        "slow_writes",
        "unjudged_lines",
        "write_seconds",
        "writes_in_flight",
    )

    def __init__(self) -> None:
        self.batch_lines = Histogram(LINES)
        self.batch_bytes = Histogram(BYTES)
        self.write_seconds = {outcome: Histogram(SECONDS) for outcome in OUTCOMES}
        self.writes_in_flight = 0
        self.retries = 0
        """Attempts after the first for a batch."""
        self.direct_writes = 0
        """Attempts that were made in the call-back of the read, and delivered its lines."""
        self.slow_writes = 0
        """Such calls that took long; after one there is none for a while."""
        self.errors: dict[tuple[str, str], int] = {}
        """Attempts in which the destination gave (kind, code)."""
        self.derived: dict[tuple[Derived, DerivedOutcome], int] = {}
        """Metrics and spans that the sink has made of lines: the ledger counts only lines."""
        self.delivery_seconds = Histogram(SECONDS)
        """Seconds from the socket read to the acknowledgement, one observation per line."""
        self.delivery_peak = Peak()
        self.queue_capacity_bytes = 0
        self.queue_peak = Peak()
        """Bytes charged to the queue."""
        self.read_pauses = 0
        """The number of times that the queue stopped reading."""
        self.unjudged_lines = 0
        """Lines that passed because filters or fields of the sink could not look into them."""

    def count_attempt(self, outcome: Outcome, seconds: float) -> None:
        """Count an attempt that took `seconds`."""
        self.write_seconds[outcome].observe(seconds)

    def count_failure(self, kind: ErrorKind, code: str) -> None:
        """Count an error; `code` is a snake_case constant, beyond `MAX_ERRORS` it is `other`."""
        if (kind, code) not in self.errors and len(self.errors) >= MAX_ERRORS:
            code = "other"
        self.errors[kind, code] = self.errors.get((kind, code), 0) + 1

    def count_derived(self, kind: Derived, outcome: DerivedOutcome, number: int) -> None:
        """Count metrics or spans that the sink has made of lines, or what became of them."""
        self.derived[kind, outcome] = self.derived.get((kind, outcome), 0) + number

    def count_delivery(self, seconds: float, lines: int) -> None:
        """Count `lines` that were delivered `seconds` after they had been read."""
        if lines:
            self.delivery_seconds.observe(max(seconds, 0.0), lines)
            self.delivery_peak.note(seconds)


class HookStats:
    """The calls of one hook. Its thread counts them."""

    __slots__ = ("calls", "failures", "off", "seconds", "skipped_lines")

    def __init__(self) -> None:
        self.calls = 0
        self.failures = 0
        """Calls that raised."""
        self.seconds = 0.0
        """Duration of all calls."""
        self.skipped_lines = 0
        """Lines that were not handed over, because too much waited."""
        self.off = 0
        """1 if it is not called any more."""


class DaemonStats:
    """One process."""

    __slots__ = (
        "added_last",
        "added_peak",
        "added_seconds",
        "connections_accepted",
        "connections_beyond",
        "connections_foreign",
        "connections_held",
        "connections_idle",
        "connections_refused",
        "ends_missed",
        "flush_seconds",
        "hooks",
        "http_requests",
        "invocations",
        "loop_lag_seconds",
        "malformed_events",
        "pauses",
        "port_taken",
        "redacted",
        "sandbox_not_ours",
        "sinks",
        "start_seconds",
        "trailing_lines",
        "unknown_requests",
    )

    def __init__(self, sinks: Iterable[str]) -> None:
        self.sinks = {name: SinkStats() for name in sinks}
        self.connections_accepted = 0
        self.connections_refused = 0
        self.connections_beyond = 0
        """Connections in Lambda beyond the first, although the platform needs only one."""
        self.connections_foreign = 0
        """Made in Lambda to an address that is neither loopback nor the sandbox's."""
        self.connections_held = 0
        """Those of other processes of the sandbox that had to wait while the queues filled."""
        self.port_taken = 0
        """1 in Lambda if the telemetry port could not be had, and another one is used."""
        self.sandbox_not_ours = 0
        """1 in Lambda if what it calls the sandbox is no address of this one."""
        self.connections_idle = 0
        """Closed because nothing came for `telemetry.idle_seconds`."""
        self.http_requests: dict[HttpOutcome, int] = {}
        """Requests to the telemetry port, by what became of them."""
        self.pauses = Pauses()
        """Pauses in reading, from all connections."""
        self.malformed_events = 0
        """Life-cycle events whose record telemetryd itself could not make sense of."""
        self.hooks: dict[str, HookStats] = {}
        self.redacted: dict[str, int] = {}
        """Matches that were masked, by rule."""
        self.invocations = 0
        self.ends_missed: dict[str, int] = {}
        """Invocations whose end was awaited and not seen, by cause (`core.lifecycle.CAUSES`)."""
        self.trailing_lines = 0
        """Lines that came after the flush at the end of their invocation was over."""
        self.unknown_requests = 0
        """Ends of requests that never began, as far as this process was told."""
        self.added_seconds = Histogram(SECONDS)
        """Seconds from the end of an invocation to our `next`; 0 if that was sent before."""
        self.added_peak = Peak()
        self.added_last = 0.0
        self.flush_seconds = {trigger: Histogram(SECONDS) for trigger in TRIGGERS}
        self.loop_lag_seconds = Histogram(SECONDS)
        self.start_seconds: dict[str, float] = {}
        """Seconds from the start of the process to `registered`, `next`, `up`, if reached."""

    def count_wait(self, seconds: float) -> None:
        """Count an invocation that had to wait for `seconds`."""
        self.added_last = max(seconds, 0.0)
        self.added_seconds.observe(self.added_last)
        self.added_peak.note(self.added_last)

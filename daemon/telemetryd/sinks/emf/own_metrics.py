"""Metrics of telemetryd itself, as a document once a minute and at the end.

Each metric is billed, so there are few. The other figures are members that can be searched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from telemetryd.core.figures import Figures
from telemetryd.sinks._platform.measured import Measured

PERIOD_SECONDS: Final = 60.0
"""The least time between two documents: CloudWatch keeps minutes."""
_MIB: Final = 1024 * 1024
_DIGITS: Final = 3


class SelfMetrics:
    """Measures for one sink. `wall` gives seconds that pass while the process is frozen."""

    def __init__(
        self,
        figures: Callable[[], Figures],
        wall: Callable[[], float],
        function: str,
        version: str,
    ) -> None:
        self._figures = figures
        self._wall = wall
        self._function = function
        self._version = version
        self._due = wall() + PERIOD_SECONDS

    def when_due(self) -> Measured | None:
        """Return the measurement since the last one; None before a minute has passed."""
        now = self._wall()
        if now < self._due:
            # a clock that was set back, by much: not to be waited for
            self._due = min(self._due, now + PERIOD_SECONDS)
            return None
        self._due = now + PERIOD_SECONDS
        return self.now()

    def now(self) -> Measured:
        """Return the measurement of the time since the last."""
        figures = self._figures()
        values: list[tuple[str, float]] = [
            ("telemetryd_queue_used", round(figures.queue_fraction * 100, _DIGITS)),
            ("telemetryd_peak_memory", round(figures.peak_rss_bytes / _MIB, _DIGITS)),
            ("telemetryd_cpu_time", _ms(figures.cpu_seconds)),
        ]
        if figures.lost_lines:
            values.append(("telemetryd_lines_lost", figures.lost_lines))
        if figures.delivery_seconds is not None:
            values.append(("telemetryd_delivery_latency", _ms(figures.delivery_seconds)))
        if figures.added_seconds is not None:
            values.append(("telemetryd_added_duration", _ms(figures.added_seconds)))
        return Measured(self._function, self._version, values, facts=figures.facts)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, _DIGITS)

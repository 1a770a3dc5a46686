"""The arithmetic of results: medians with their spread, percentiles, ratios of paired runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """Several measurements of one thing."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Raises ValueError where there are none."""
        if not values:
            raise ValueError("no measurement")
        return cls(statistics.median(values), min(values), max(values))


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Spread:
    """Return the median, and values between which that of all that could be measured is.

    The closest pair of order statistics for which that is so with `confidence` (the binomial
    distribution; nothing is assumed of the values). Fewer than six can't say so: then it is the
    least and the highest. Raises ValueError where there are none.
    """
    whole, ordered, count = Spread.of(values), sorted(values), len(values)
    outside, left_out = 0.0, 0
    while 2 * left_out + 2 < count:
        outside += 2 * math.comb(count, left_out) / 2**count
        if 1 - outside < confidence:
            break
        left_out += 1
    if not left_out:
        return whole
    return Spread(whole.median, ordered[left_out - 1], ordered[-left_out])


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that at least `share` (0 to 1) of them do not exceed."""
    if not values:
        raise ValueError("no measurement")
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1]


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of runs made side by side: what a noisy machine distorts least.

    Infinite where the clock did not tick for theirs.
    """
    return statistics.median(a / b if b else math.inf for a, b in zip(ours, theirs, strict=True))


def highest_rate(holds: Callable[[int], bool], start: int, limit: int, steps: int) -> int:
    """The highest rate found for which `holds` is true, 0 if not even a sixteenth of `start` does.

    Doubles from `start` until it fails, or halves until it holds; then bisects, `steps` times.
    """
    good, bad = 0, 0
    rate = start
    while not bad and rate <= limit:
        if holds(rate):
            good, rate = rate, rate * 2
        else:
            bad = rate
    while not good and bad > start // 16:
        rate = bad // 2
        if holds(rate):
            good = rate
        else:
            bad = rate
    for _ in range(steps if good and bad else 0):
        rate = (good + bad) // 2
        if holds(rate):
            good = rate
        else:
            bad = rate
    return good


def slope(values: Sequence[float]) -> float:
    """Return the rise of evenly spaced values from one to the next, by least squares."""
    count = len(values)
    if count < 2:
        return 0.0
    middle, mean = (count - 1) / 2, sum(values) / count
    rise = sum((at - middle) * (value - mean) for at, value in enumerate(values))
    return rise / sum((at - middle) ** 2 for at in range(count))

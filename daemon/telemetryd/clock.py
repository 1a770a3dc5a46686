"""The time: one object that the composition root makes and passes like the log.

`Clock` has each kind of time that telemetryd needs. Code that takes a clock has the system's by
default; a test makes its own. The modules that run before everything else is loaded
(`extension.boot`, `extension.fallback`) read the time themselves. So does code that waits for a
thread.

The wall clock gives dates. It may be set, by a day or by decades. Ages come from the clock since
boot. Processes share that clock as long as the machine is not started again. Across boots, or if
that clock is implausible, only the wall clock is left. Then the caller bounds the effect of a wrong
time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from resource import struct_rusage

_SINCE_BOOT: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_LONGEST_MS: Final = 20 * 366 * 86_400_000
"""No machine has been up for longer: such a clock since boot counts from somewhere else."""
_APART_SECONDS: Final = 0.25
"""Two clocks that are this far apart did not only tick at different times: one has stood still."""


class Moment(NamedTuple):
    """One moment on both clocks."""

    boot: str
    """The id of this boot of this machine; empty if unknown."""
    steady_ms: int
    """Milliseconds since that boot: continues while the machine sleeps, and is never set."""
    wall_ms: int
    """Milliseconds since the Unix epoch, as far as the clock was right."""

    def until(self, later: Moment) -> int | None:
        """Return milliseconds from here to `later`; None where only the wall clock could tell."""
        if not self.boot or self.boot != later.boot:
            return None
        passed = later.steady_ms - self.steady_ms
        makes_sense = passed >= 0 and max(self.steady_ms, later.steady_ms) < _LONGEST_MS
        return passed if makes_sense else None

    def encode(self) -> bytes:
        """Return the moment as one line to be stored."""
        return msgspec.json.encode(self) + b"\n"


def decode_moment(data: bytes) -> Moment | None:
    """Return what `Moment.encode` made; None if `data` is anything else."""
    try:
        return msgspec.json.decode(data, type=Moment)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


@cache
def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123 - pathlib takes 2 ms
            return file.read(64).strip()
    except (OSError, ValueError):
        return ""


def _moment() -> Moment:
    steady_ms = time.clock_gettime_ns(_SINCE_BOOT) // 1_000_000
    return Moment(_boot(), steady_ms, time.time_ns() // 1_000_000)


@cache
def _running_loop() -> Callable[[], AbstractEventLoop]:
    from asyncio import get_running_loop  # noqa: PLC0415 - most commands do without asyncio

    return get_running_loop


def _loop() -> float:
    return _running_loop()().time()


@cache
def _usage_of_thread() -> Callable[[], struct_rusage]:
    import resource  # noqa: PLC0415 - most commands do without it

    # where it is not known of a thread, the process may have waited elsewhere: slow, if in doubt
    return partial(resource.getrusage, getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF))


def _usage() -> struct_rusage:
    return _usage_of_thread()()


class Clock:
    """Each kind of time, as a function that a caller may keep.

    `monotonic` gives seconds that no setting moves. Whether they pass while the environment is
    frozen is documented nowhere. `wall` gives seconds since the Unix epoch, `loop` those of the
    running event loop, `moment` what an age is told by in another process. `usage` gives the CPU
    that the calling thread has used, and how often it has waited.
    """

    __slots__ = (
        "_elapsed", "_from_loop", "_from_wall", "loop", "moment", "monotonic", "usage", "wall",
    )  # fmt: skip

    def __init__(
        self,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        loop: Callable[[], float] = _loop,
        moment: Callable[[], Moment] = _moment,
        usage: Callable[[], struct_rusage] = _usage,
    ) -> None:
        self.monotonic: Callable[[], float] = monotonic
        self.wall: Callable[[], float] = wall
        self.loop: Callable[[], float] = loop
        self.moment: Callable[[], Moment] = moment
        self.usage: Callable[[], struct_rusage] = usage
        self._elapsed = 0.0
        self._from_loop = self._from_wall = -math.inf
        """Seconds to add to each clock's time for `elapsed`."""

    def elapsed(self) -> float:
        """Return seconds that pass in a freeze as well; on a running loop only.

        Either clock may stand still in a freeze, and the wall clock may be set then. So this time
        is as fast as the faster of the two. It never goes back.
        """
        loop, wall = self.loop(), self.wall()
        now = max(self._elapsed, loop + self._from_loop, wall + self._from_wall)
        if now - (loop + self._from_loop) > _APART_SECONDS:
            self._from_loop = now - loop
        if now - (wall + self._from_wall) > _APART_SECONDS:
            self._from_wall = now - wall
        self._elapsed = now
        return now


SYSTEM: Final = Clock()
"""The machine's clocks."""

"""The settings of `bench.short_life`: lives, shares of a CPU, sinks, and their defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from bench.coldstart.subjects import LAYER
from telemetryd.core.lifecycle import BUSY_GAP_SECONDS

GAP_SECONDS: Final = 1.25 * BUSY_GAP_SECONDS
"""Between the calls of a rare function."""
WHOLE: Final = 100.0
"""Per cent of a CPU: one core."""

T = TypeVar("T")


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """The events of an environment between its init and its shutdown."""

    name: str
    title: str
    calls: int
    busy: bool = False
    """Called again as soon as there is an answer, instead of every `GAP_SECONDS`."""
    lines: int = 10
    """Lines that the function prints in each invocation."""
    width: int = 0
    """Bytes of a line, about; 0: a short one."""
    killed: bool = False
    """SIGKILL in its last freeze, instead of a shutdown: only what was sent before can arrive."""


LIVES: Final = {
    each.name: each
    for each in (
        Life(name="1", title="1 rare invocation", calls=1),
        Life(name="3", title="3 rare invocations", calls=3),
        Life(name="8", title="8 rare invocations", calls=8),
        Life(name="busy", title="30 busy invocations", calls=30, busy=True),
        Life(name="killed", title="1 invocation, then SIGKILL", calls=1, killed=True),
        Life(name="burst", title="one invocation prints 5 MB", calls=1, lines=5000, width=1000),
    )
}


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """The function's share of a CPU, in per cent."""

    then: float
    """From the end of init on."""
    init: float
    """During init."""

    @property
    def name(self) -> str:
        """As it is given on the command line."""
        return f"{self.then:g}" if self.init == self.then else f"{self.init:g}:{self.then:g}"

    @property
    def title(self) -> str:
        """As it stands in a table."""
        if self.init == self.then:
            return "a whole CPU" if self.then == WHOLE else f"{self.then:g} % of a CPU"
        return f"{self.init:g} % of a CPU until init ends, then {self.then:g} %"

    @classmethod
    def parse(cls, text: str) -> Share:
        """Parse `7.25`, or `100:7.25` if init has another share. Raises ValueError."""
        init, _, then = text.rpartition(":")
        found = cls(then=float(then), init=float(init or then))
        if not all(0 < share <= WHOLE for share in (found.init, found.then)):
            raise ValueError(f"{text}: a share is greater than 0 and at most 100")
        return found


SHARES: Final = tuple(map(Share.parse, ("7.25", "29", "100", "100:7.25", "100:29")))
SINKS: Final = ("file", "emf", "kinesis", "logs", "http", "otlp")
ALONE: Final = "alone"
OURS: Final = "telemetryd"
IN_INIT: Final = "init"
"""The same with `lambda.start = "init"`."""
BEFORE: Final = "before"
"""telemetryd of another layer, to compare with in the same turns."""
DELIVERIES: Final = "deliveries"
PEERS: Final = {"rust": "Rust, crate lambda-extension", "go-extension": "Go, net/http and a queue"}
SUBJECTS: Final = (ALONE, OURS, IN_INIT, *PEERS, DELIVERIES)
"""Names for `--only`. The last one stands for the rows of deliveries that come alone."""

_SURE_LIVES: Final = ("3", "8", "busy")
_SURE_SINKS: Final = ("file", "kinesis", "http", "otlp")
_SURE_SHARES: Final = ("7.25", "100")
SURE_RUNS: Final = 10
"""So many runs, of which none may lose a line, where `is_sure` is true."""


def is_sure(life: str, share: str, sink: str) -> bool:
    """True if no run of telemetryd may lose a line there: what decides the exit status."""
    return life in _SURE_LIVES and sink in _SURE_SINKS and share in _SURE_SHARES


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The choice of measurements."""

    layer: Path = LAYER
    against: Path | None = None
    """Another layer, measured beside it."""
    delay_ms: Annotated[float, Meta(ge=0)] = 0.0
    """The delay of the network to the service in each direction."""
    variables: dict[str, str] = {}
    """Further environment variables of telemetryd."""
    runs: Annotated[int, Meta(ge=0)] = 0
    """Of everything; 0: `SURE_RUNS` where `is_sure` is true, 1 elsewhere."""
    lives: tuple[str, ...] = tuple(LIVES)
    shares: tuple[Share, ...] = SHARES
    sinks: tuple[str, ...] = SINKS
    only: tuple[str, ...] = SUBJECTS

    def runs_of(self, life: str, share: str, sink: str) -> int:
        """Return how often telemetryd with `sink` is to be measured."""
        return self.runs or (SURE_RUNS if is_sure(life, share, sink) else 1)

    def rounds_of(self, life: str, share: str) -> int:
        """Return how often everything that has no sink is to be measured: as the most frequent."""
        sinks = self.sinks if {OURS, IN_INIT} & set(self.only) else ("",)
        return max(self.runs_of(life, share, sink) for sink in sinks)


QUICK: Final = Settings(
    runs=1, lives=("1", "3"), shares=(SHARES[0], SHARES[2]), sinks=("file", "kinesis")
)


def choose(
    texts: Sequence[str] | None, known: Iterable[str], usual: tuple[T, ...], of: Callable[[str], T]
) -> tuple[T, ...]:
    """Return what a repeatable option names, `usual` without it.

    Each text may name several, separated by commas. Raises ValueError for what is not `known`;
    without any `known`, `of` raises it.
    """
    if not texts:
        return usual
    names = [name for text in texts for name in text.split(",")]
    if there_is := list(known):
        for name in names:
            if name not in there_is:
                raise ValueError(f"{name}: there is {', '.join(there_is)}")
    return tuple(map(of, names))

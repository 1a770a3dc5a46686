"""Losses on demand of the Telemetry API: any event, a line, a batch, the connection.

One loss is written `WHAT[:HOW][@INVOCATIONS]`.

`WHAT` is `connection` (none is made, though the subscription is answered), an event's type with or
without `platform.`, `function`, `extension`, or `*` for every event. `HOW` is one of `HOWS`.
`INVOCATIONS` are numbers, ranges (`2-4`, `3-`), or several of them with commas; 0 is everything
before the first `platform.start`. Without it every invocation is meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, cast, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable

    from telemetryd.local.events import PlatformEvent

How = Literal["drop", "late", "trail", "garble", "batch", "close", "cut", "stall"]
"""The effect on an event.

- `drop`: it is not sent, and no notice of it.
- `late`: it is sent before the next `platform.start`.
- `trail`: it is sent in the batch behind that of the next `platform.runtimeDone`.
- `garble`: the second half of its line is missing; the next line follows.
- `batch`: its whole batch is not sent, and `platform.logsDropped` says so.
- `close`: the connection is closed instead.
- `cut`: half of its line is sent, then the connection is closed.
- `stall`: half of its line is sent, then nothing more; the connection stays open.
"""

HOWS: Final[tuple[How, ...]] = get_args(How)
ENDS: Final = ("close", "cut", "stall")
"""After these nothing more comes."""

CONNECTION: Final = "connection"
EVERYTHING: Final = "*"
PLATFORM_TYPES: Final = (
    "initStart",
    "initRuntimeDone",
    "initReport",
    "restoreStart",
    "restoreRuntimeDone",
    "restoreReport",
    "extension",
    "telemetrySubscription",
    "logsDropped",
    "start",
    "runtimeDone",
    "report",
)

_WITHIN: Final = ("platform.start", "platform.runtimeDone", "platform.report")
"""Events of an invocation."""

_FORM = re.compile(
    r"(?P<what>[A-Za-z.]+|\*)(:(?P<how>[a-z]+))?(@(?P<when>\d+(-\d*)?(,\d+(-\d*)?)*))?"
)
_WHATS: Final = {
    EVERYTHING: EVERYTHING,
    CONNECTION: CONNECTION,
    **{name: f"platform.{name}" for name in PLATFORM_TYPES},
    **{f"platform.{name}": f"platform.{name}" for name in PLATFORM_TYPES},
    # The bare name is what an extension printed; `platform.extension` has to be written out.
    "extension": "extension",
    "function": "function",
}


class LossError(ValueError):
    """A loss that is not of the form; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class _Loss:
    what: str
    how: How
    when: tuple[tuple[int, int | None], ...]

    def hits(self, event_type: str, invocation: int) -> bool:
        """True if an event of this type in this invocation is lost."""
        return self.what in (event_type, EVERYTHING) and (
            not self.when
            or any(
                low <= invocation and (high is None or invocation <= high)
                for low, high in self.when
            )
        )


@dataclass(frozen=True, slots=True)
class Losses:
    """A set of losses. The first that hits an event decides."""

    _losses: tuple[_Loss, ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Losses:
        """Read losses as they are written. Raises `LossError`."""
        return cls(tuple(map(_parse, texts)))

    @property
    def makes_connection(self) -> bool:
        """False if no connection is to be made."""
        return all(loss.what != CONNECTION for loss in self._losses)

    def fate(self, event_type: str, invocation: int) -> How | None:
        """Return what becomes of an event; None: it is delivered."""
        for loss in self._losses:
            if loss.hits(event_type, invocation):
                return loss.how
        return None


def _parse(text: str) -> _Loss:
    form = _FORM.fullmatch(text)
    if form is None:
        raise LossError(
            f"{text!r} is not of the form WHAT[:HOW][@INVOCATIONS], "
            "for example runtimeDone, runtimeDone:cut@2, function:batch@1-3"
        )
    what = _WHATS.get(form["what"])
    if what is None:
        raise LossError(f"{text!r}: {form['what']!r} is not one of {', '.join(_WHATS)}")
    how = form["how"] or "drop"
    if how not in HOWS:
        raise LossError(f"{text!r}: {how!r} is not one of {', '.join(HOWS)}")
    if what == CONNECTION and (form["how"] or form["when"]):
        raise LossError(
            f"{text!r}: `{CONNECTION}` is never made; to close one write {EVERYTHING}:close@2"
        )
    when = (form["when"] or "").split(",") if form["when"] else []
    ranges = tuple(map(_range, when))
    for part, (low, high) in zip(when, ranges, strict=True):
        if high is not None and high < low:
            raise LossError(f"{text!r}: {part} is empty; write {high}-{low}")
    if ranges and what in _WITHIN and all(high == 0 for _, high in ranges):
        raise LossError(
            f"{text!r}: 0 is before the first invocation, and {form['what']} comes within one; "
            "the first is 1"
        )
    return _Loss(what, cast("How", how), ranges)


def _range(text: str) -> tuple[int, int | None]:
    low, dash, high = text.partition("-")
    if not dash:
        return int(low), int(low)
    return int(low), int(high) if high else None


class LossPlan:
    """The losses of one environment, and where its invocations are."""

    def __init__(self, losses: Losses) -> None:
        self.losses = losses
        self._started = 0
        self._running: dict[str, int] = {}

    def of_event(self, event: PlatformEvent) -> How | None:
        """Return what becomes of this platform event, and take note of starts and reports."""
        request_id = event.record.get("requestId")
        number = self._running.get(request_id, self._started) if request_id else self._started
        if event.type == "platform.start":
            self._started += 1
            number = self._started
            self._running[str(request_id)] = number
        elif event.type == "platform.report":
            self._running.pop(str(request_id), None)
        return self.losses.fate(event.type, number)

    def of(self, event_type: str) -> How | None:
        """Return what becomes of an event of this type that belongs to no request."""
        return self.losses.fate(event_type, self._started)

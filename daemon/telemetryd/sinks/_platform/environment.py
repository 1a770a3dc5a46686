"""The state of an execution environment, by the times of its events.

Events do not arrive in the order in which things happened. With SnapStart the events of the
snapshot's initialisation may arrive after those of the restore, weeks later. So each beginning of
an environment, an initialisation or a restore, is found by the time of the event.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

Kind: TypeAlias = Literal["init", "restore"]

MAX_BEGINNINGS: Final = 4
"""Beginnings of one environment that are remembered: a failed initialisation, its repetition inside
an invocation, and what is late of earlier ones."""


class Beginning(msgspec.Struct, gc=False):
    """One initialisation or restore."""

    kind: Kind
    phase: str | None
    at: int
    """The time when it began, in ms; if that is unknown, the time of its first event."""
    is_known: bool
    """True if `at` is the time when it began."""
    request_id: str | None = None
    """The invocation inside which an initialisation was repeated."""
    has_failed: bool = False
    has_succeeded: bool = False
    """Both are False while it lasts."""
    is_measured: bool = False

    def is_of(self, kind: Kind, phase: str | None, at: int) -> bool:
        """True if an event of the time `at` can be of this one."""
        if self.kind != kind or (phase and self.phase and phase != self.phase):
            return False
        return self.at <= at or not self.is_known


class Environment:
    """One execution environment: how it began, and which invocations it had last."""

    __slots__ = ("beginnings", "current", "current_at", "failure", "first", "first_at",
                 "function", "initialization", "ready_at", "saw_start", "suspect", "version",
                 "waited_for")  # fmt: skip

    def __init__(self, function: str, version: str) -> None:
        self.function = function
        self.version = version
        self.initialization: str | None = None
        self.beginnings: list[Beginning] = []
        """Events in order of time."""
        self.ready_at = 0
        """The time of its last report of an initialisation, in ms."""
        self.waited_for = False
        """Initialised or restored, and the invocation that waited for it has not begun yet."""
        self.failure: str | None = None
        """The reason of its failed initialisation, which was counted: the next invocation may fail
        for it. Empty for an unknown reason, None without a failure."""
        self.saw_start = False
        self.current: str | None = None
        """The invocation begun last."""
        self.current_at = 0
        self.suspect: tuple[str, str] | None = None
        """Invocation and type of an exception that counts if no log line follows it."""
        self.first: str | None = None
        """The first invocation since the environment began."""
        self.first_at = 0

    @property
    def began_at(self) -> int | None:
        """Return the time when it began last, in ms; None if no such event has arrived."""
        return next((each.at for each in reversed(self.beginnings) if each.is_known), None)

    @property
    def restored_at(self) -> int | None:
        """Return the time when it was restored last, in ms."""
        for each in reversed(self.beginnings):
            if each.kind == "restore" and each.is_known:
                return each.at
        return None

    def begin(self, kind: Kind, phase: str | None, at: int) -> Beginning | None:
        """Return the beginning that started at `at`; None if it is known, or too old to matter."""
        for each in self.beginnings:
            if each.kind != kind or (phase and each.phase and phase != each.phase):
                continue
            if each.is_known and each.at == at:
                return None
            if not each.is_known and at <= each.at:  # what followed it has arrived before it
                each.at, each.is_known = at, True
                each.phase = each.phase or phase
                self.beginnings.sort(key=_time)
                return each
        return self._remember(Beginning(kind, phase, at, is_known=True))

    def beginning(self, kind: Kind, phase: str | None, at: int) -> Beginning:
        """Return the one that an event of the time `at` is of, the last that can be."""
        for each in reversed(self.beginnings):
            if each.is_of(kind, phase, at):
                return each
        made = Beginning(kind, phase, at, is_known=False)
        self._remember(made)
        return made

    def is_newest(self, beginning: Beginning) -> bool:
        """True if the environment has not begun again since."""
        return not self.beginnings or self.beginnings[-1] is beginning

    def start(self, request_id: str, at: int) -> None:
        """Note that an invocation began at `at`."""
        self.saw_start = True
        self.current, self.current_at = request_id, at
        if self.first is None:
            self.first, self.first_at = request_id, at

    def first_since(self, at: int) -> str | None:
        """Return the first invocation that began at `at` or later, of those that are known."""
        if (self.first is None or self.first_at < at) and self.current_at >= at:
            self.first, self.first_at = self.current, self.current_at
        return self.first if self.first_at >= at else None

    def forget_first(self) -> None:
        """Take the next invocation for the first: the environment begins again."""
        self.first, self.first_at = None, 0

    def _remember(self, made: Beginning) -> Beginning | None:
        self.beginnings.append(made)
        self.beginnings.sort(key=_time)
        if len(self.beginnings) > MAX_BEGINNINGS:
            oldest = self.beginnings.pop(0)
            return None if oldest is made else made
        return made


def is_same_failure(counted: str | None, kind: str | None) -> bool:
    """True if a failure for the reason `kind` is the one `counted`, as far as can be told."""
    return counted is not None and (not counted or not kind or counted == kind)


def _time(beginning: Beginning) -> int:
    return beginning.at

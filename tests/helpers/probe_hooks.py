"""Hooks for tests, in a package of their own; each writes what it was called with to a file."""

# ruff: noqa: D102 - `Hook` says what each method is for
from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from telemetryd.hook import Event, Hook, HookContext, NextEvent, Report, RuntimeDone


class Diary(Hook):
    """Writes down every call."""

    def __init__(self, context: HookContext) -> None:
        super().__init__(context)
        self.path = Path(context.settings["path"])

    def note(self, *words: object) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(" ".join(map(str, words)) + "\n")

    def on_init(self) -> None:
        self.note("init", self.context.name, self.context.function, self.context.in_lambda)

    def on_invoke(self, event: NextEvent) -> None:
        self.note("invoke", event.request_id)

    def on_runtime_done(self, done: RuntimeDone) -> None:
        self.note("runtime_done", done.request_id, done.status)

    def on_report(self, report: Report) -> None:
        self.note("report", report.request_id)

    def on_events(self, events: Sequence[Event]) -> None:
        self.note("events", *(event.type for event in events))

    def on_shutdown(self, reason: str) -> None:
        self.note("shutdown", reason)


class Printing(Hook):
    """Prints a line for each invocation."""

    def on_runtime_done(self, done: RuntimeDone) -> None:
        print(f"the hook saw {done.request_id}")


class Reporter:
    """Inherits from nothing, and has one method."""

    def __init__(self, context: HookContext) -> None:
        self.path = Path(context.settings["path"])

    def on_report(self, report: Report) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{report.request_id}\n")


class Contextless:
    """Takes no context."""

    def __init__(self) -> None: ...


class Unwilling(Hook):
    """Can't be started."""

    def on_init(self) -> None:
        raise OSError("no such secret store")


class Raising(Diary):
    """Raises for every event."""

    def on_events(self, events: Sequence[Event]) -> None:
        super().on_events(events)
        raise ValueError("cannot make sense of it")


class Moody:
    """Raises for every event. It likes invocations, and all else it leaves out."""

    def __init__(self, context: HookContext) -> None:
        self.path = Path(context.settings["path"])

    def on_invoke(self, event: NextEvent) -> None:
        """Do nothing."""

    def on_events(self, events: Sequence[Event]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write("events\n")
        raise ValueError("cannot make sense of it")


class Asynchronous(Hook):
    """Has a method that no thread runs."""

    async def on_events(self, events: Sequence[Event]) -> None:  # type: ignore[override]
        """Do nothing, later."""


class Leaving(Diary):
    """Ends the process, or tries to."""

    def on_events(self, events: Sequence[Event]) -> None:
        self.note("leaves")
        sys.exit(3)


class Sleeping(Diary):
    """Never comes back."""

    def on_events(self, events: Sequence[Event]) -> None:
        self.note("sleeps")
        time.sleep(3600)


class Forking(Diary):
    """Makes a copy of the process, which returns as well."""

    def on_events(self, events: Sequence[Event]) -> None:
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            self.note("forked")


class Slow(Diary):
    """Takes longer for each read than the reads take."""

    def on_events(self, events: Sequence[Event]) -> None:
        time.sleep(0.05)

"""The signals of `telemetryd listen`; docs/signals.md describes them to users.

SIGHUP                               reopen files, reread the configuration
SIGHUP when the terminal is closed   as the next line, unless started by `nohup`
every other that ends a process      drain, print the ledger, exit; twice: hurry
faults of the program, job control   the default effect
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Final

_FAULTS: Final = ("SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGSEGV", "SIGSYS")
_HARMLESS: Final = ("SIGPIPE", "SIGXFSZ", "SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH")
"""Those the system ignores by itself, and two that the interpreter has made errors of calls."""
_STOPPING: Final = ("SIGKILL", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU")
_OTHERS: Final = {*_FAULTS, *_HARMLESS, *_STOPPING, "SIGHUP"}


def ending_signals() -> list[int]:
    """Return every signal that would end the process by default, at somebody's wish (signal(7))."""
    return sorted(number for number in signal.valid_signals() if name_of(number) not in _OTHERS)


def name_of(number: int) -> str:
    """Return the name of a signal: `SIGTERM`, or `SIGRTMIN+3`."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


class Wishes:
    """Requests by signal: those that end from the start on, SIGHUP from `follow_hangups` on."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.stopping: asyncio.Future[str] = loop.create_future()
        """The name of the signal that drains, or the reason why telemetryd can't continue."""
        self.hurrying: asyncio.Future[str] = loop.create_future()
        """The name of the second signal, which shortens the drain."""
        for number in ending_signals():
            loop.add_signal_handler(number, self._end, name_of(number))

    def follow_hangups(self, reload: Callable[[], None]) -> None:
        """Call `reload` for each SIGHUP, one that the command line has held back included."""
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # by `nohup`
        had_terminal = not ignored and _has_terminal()

        def hang_up() -> None:
            if had_terminal and not _has_terminal():
                self._end("SIGHUP")
            else:
                reload()

        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hang_up)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGHUP,))

    def fail(self, bug: Exception) -> None:
        """Note that telemetryd can't continue."""
        if not self.stopping.done():
            self.stopping.set_exception(bug)

    def _end(self, name: str) -> None:
        for wish in (self.stopping, self.hurrying):
            if not wish.done():
                wish.set_result(name)
                return


def _has_terminal() -> bool:
    """True if the process has a controlling terminal that still exists (tty(4))."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True

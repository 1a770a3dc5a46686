"""Writes lines to a descriptor that may block; its user never waits.

The descriptor may be a full pipe, a stopped terminal or a slow disk. A line is written at once if
the kernel supports writing without blocking. Lines without room go to a thread, up to
`BACKLOG_BYTES`. Lines beyond that are skipped and counted.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Final

BACKLOG_BYTES: Final = 64 * 1024
"""The capacity of a pipe in Linux."""
_GONE: Final = (errno.EPIPE, errno.EBADF, errno.ECONNRESET, errno.ENOTCONN)
"""Errors after which no later line can fare better."""
_AGAIN: Final = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_all: weakref.WeakSet[LogStream] = weakref.WeakSet()


class LogStream:
    """Lines for the file descriptor `fd`, which stays its owner's and keeps its flags."""

    def __init__(self, fd: int) -> None:
        self.skipped = 0
        """Lines that their user could not put here, or whose write failed."""
        self._fd = fd
        self._at_once: Callable[[bytes], int] | None = None
        self._is_known = False
        self._is_gone = False
        self._is_cut = False
        """True if the last write ended within a line that will not be completed."""
        self._changed = threading.Condition()
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._busy = False
        """True if the thread is writing, possibly forever."""
        self._is_stuck = False
        """True if a wait for it timed out, and nothing was written since."""
        self._thread: threading.Thread | None = None
        _all.add(self)

    def put(self, line: bytes, *, force: bool = False) -> bool:
        """Write `line`, now or later. False if that is impossible.

        The caller counts it then. `force`: it is kept even where there is no room.
        """
        with self._changed:
            rest = line
            if self._is_gone:
                return False
            if not (self._backlog or self._busy):
                rest = line[self._written_at_once(line) :]
            elif self._backlog_bytes + len(line) > BACKLOG_BYTES and not force:
                return False
            if rest and not self._is_gone:
                self._backlog.append(rest)
                self._backlog_bytes += len(rest)
                self._call_thread()
            return not self._is_gone

    def flush(self, seconds: float) -> bool:
        """Wait until everything is written, `seconds` at most; whether it is."""
        with self._changed:
            self._is_stuck = not self._changed.wait_for(self._is_idle, seconds)
            return not self._is_stuck

    @property
    def is_idle(self) -> bool:
        """True if nothing waits to be written."""
        return self._is_idle()

    def _is_idle(self) -> bool:
        return self._is_gone or not (self._backlog or self._busy)

    # -- at once -----------------------------------------------------------------------------

    def _written_at_once(self, line: bytes) -> int:
        """Write as much of `line` as possible without waiting. Return the number of bytes."""
        if not self._is_known:
            self._is_known = True
            self._at_once = self._without_blocking()
        if self._at_once is None or self._is_cut:
            return 0
        at = 0
        try:
            while at < len(line):
                at += self._at_once(line[at:])
        except BlockingIOError:
            return at
        except OSError as error:
            if error.errno in _GONE:
                self._give_up()
            return at  # the thread meets the same error, and deals with it
        return at

    def _without_blocking(self) -> Callable[[bytes], int] | None:
        """Return a function that writes to the descriptor's file without ever waiting, if any.

        The flag O_NONBLOCK belongs to what is open, and so to everybody who shares it, such as the
        terminal's shell: a pipe or terminal is opened a second time, a socket is asked each time.
        """
        try:
            mode = os.fstat(self._fd).st_mode
            if stat.S_ISSOCK(mode):
                sock = socket.socket(fileno=os.dup(self._fd))
                flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
                return lambda data: sock.send(data, flags)
            if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
                again = os.open(f"/proc/self/fd/{self._fd}", _AGAIN)
                weakref.finalize(self, os.close, again).atexit = False
                return lambda data: os.write(again, data)
        except OSError:  # no /proc, another user's pipe, no descriptor at all
            return None
        return None  # a file: whether its disk is slow can't be asked

    # -- in the thread -----------------------------------------------------------------------

    def _call_thread(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="log", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # as many threads as there may be: the next line asks again
                return
            self._thread = thread
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                while not self._backlog:
                    self._changed.wait()
                line = self._backlog.popleft()
                self._backlog_bytes -= len(line)
                self._busy = True
            self._write(line)
            self._is_stuck = False

    def _write(self, line: bytes) -> None:
        """Write `line`, for as long as it takes."""
        if self._is_cut:
            line = b"\n" + line
        at = 0
        while at < len(line):
            try:
                at += os.write(self._fd, line[at:])
                self._is_cut = at < len(line)
            except BlockingIOError:  # somebody made the descriptor non-blocking
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll()
            except OSError as error:
                with self._changed:
                    self.skipped += 1
                    if error.errno in _GONE:
                        self._give_up()
                return

    def _give_up(self) -> None:
        """Give up: the other side is gone, so no later line can be written."""
        self._is_gone = True
        self._backlog.clear()
        self._backlog_bytes = 0
        self._changed.notify_all()


def flush_all(seconds: float) -> None:
    """Wait until every stream has written everything, `seconds` at most: before `_exit`."""
    until = time.monotonic() + seconds
    for stream in list(_all):
        if not stream._is_stuck:  # noqa: SLF001 - the function is the class's own
            stream.flush(max(until - time.monotonic(), 0.0))

"""Writes lines to standard output, for the sinks that print."""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Sequence
from typing import Final

from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.sinks._thread import SinkThread, write_all
from telemetryd.sinks.base import DELIVERED, Failure, WriteResult

_STDOUT: Final = 1
_PIPE_BUF: Final = select.PIPE_BUF
_AGAIN: Final = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
_STALL_SECONDS: Final = 5.0


class StandardOutput:
    """File descriptor 1, written by a thread of its own, which is called `name`.

    A reader that goes away is permanent (`stdout_closed`); one that stalls delays only this sink.
    """

    def __init__(self, name: str) -> None:
        self._thread = SinkThread(name)
        self._owed = b""
        self._again: int | None = None
        """Standard output, opened a second time; -1 where that can't be."""

    async def write(self, payloads: Sequence[bytes]) -> WriteResult:
        """Write every payload; those that found no room are refused, to be tried again.

        Raises SinkError if none was written.
        """
        accepted, error = await self._thread.run(self._write, payloads)
        if error is None:
            return DELIVERED
        if not accepted:
            raise error
        retryable = not isinstance(error, PermanentSinkError)
        return WriteResult(
            tuple(Failure(index, error.code, retryable) for index in range(accepted, len(payloads)))
        )

    def write_direct(self, data: bytes) -> bool:
        """Write `data` at once, if standard output is a pipe with room for all of it.

        What fits into `PIPE_BUF` is written whole or not at all (pipe(7)).
        """
        if len(data) > _PIPE_BUF or self._owed or self._thread.is_busy:
            return False
        if self._again is None:
            self._again = _open_again()
        if self._again < 0:
            return False
        try:
            return os.write(self._again, data) == len(data)
        except OSError:  # no room, no reader: the thread meets it too, and reports it
            return False

    def close(self) -> None:
        """End the thread; standard output stays open."""
        self._thread.close()
        again, self._again = self._again, None
        if again is not None and again >= 0:
            os.close(again)

    # -- in the thread -----------------------------------------------------------------------

    def _write(self, payloads: Sequence[bytes]) -> tuple[int, SinkError | None]:
        """Return the number of `payloads` that were written, and the error that stopped the others.

        A line that was cut short is completed first, whatever becomes of its item: what follows
        must not be glued to it.
        """
        left = [self._owed, *payloads]
        error = None
        while left:
            progress: list[int] = []
            try:
                write_all(_STDOUT, left, progress)
            except OSError as problem:
                left = _rest(left, sum(progress))
                error = _refusal(problem)
                if error is not None:
                    break
            else:
                left = []
        accepted = len(payloads) - len(left)
        if accepted < 0:  # not even what was owed could be written
            self._owed = left[0]
            return 0, error
        self._owed = _rest_of_line(payloads[accepted], left[0]) if left else b""
        return accepted, error


def _open_again() -> int:
    """Standard output as a descriptor that never blocks; -1 if it is no pipe, or not ours to open.

    The flag O_NONBLOCK belongs to what is open, and so to everybody who shares it.
    """
    try:
        if not stat.S_ISFIFO(os.fstat(_STDOUT).st_mode):
            return -1
        return os.open(f"/proc/self/fd/{_STDOUT}", _AGAIN)
    except OSError:
        return -1


def _rest(payloads: Sequence[bytes], written: int) -> list[bytes]:
    """Return the rest of `payloads`, in as many parts, after the first `written` bytes."""
    done = 0
    while done < len(payloads) and written >= len(payloads[done]):
        written -= len(payloads[done])
        done += 1
    left = list(payloads[done:])
    if written:
        left[0] = left[0][written:]
    return left


def _rest_of_line(payload: bytes, left: bytes) -> bytes:
    """Return the rest of the line that was cut when only `left` remained of `payload`."""
    cut = len(payload) - len(left)
    if cut == 0 or payload.endswith(b"\n", 0, cut):
        return b""
    return left[: left.find(b"\n") + 1] or left


def _refusal(error: OSError) -> SinkError | None:
    """Return the error in the terms of the Sink contract; None when it is time to continue."""
    if isinstance(error, BlockingIOError):  # somebody made the descriptor we share non-blocking
        poll = select.poll()
        poll.register(_STDOUT, select.POLLOUT)
        if poll.poll(_STALL_SECONDS * 1000):
            return None
        return TransientSinkError("stdout_stalled", "the reader takes nothing")
    if error.errno in (errno.EPIPE, errno.EBADF):
        return PermanentSinkError("stdout_closed", "the reader has closed it", stops_sink=True)
    return TransientSinkError("io_error", error.strerror or str(error))

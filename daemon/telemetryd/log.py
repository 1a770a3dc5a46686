"""telemetryd's own log: one JSON object a line on stderr, never a payload, never a secret.

In Lambda these lines come back as `extension` events to whoever subscribed to that type, so each
carries `"logger":"telemetryd"` and repeated warnings are limited to one per event, sink and cause
in ten seconds, the rest being counted in `suppressed`.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import msgspec

from telemetryd.errors import TelemetrydError

LEVELS: Final = ("debug", "info", "warning", "error")
LOGGER: Final = "telemetryd"
QUIET_SECONDS: Final = 10.0
_MAX_REMEMBERED: Final = 256
_MAX_CAUSE: Final = 64
_MAX_TEXT: Final = 500
_PATIENCE_SECONDS: Final = 1.0
"""How long the ledger waits for a reader; other lines are skipped when there is no room."""


def utc_timestamp(now: float | None = None) -> str:
    """`now` (epoch seconds, default: the clock) as `2026-03-14T10:15:30.123Z`."""
    at = time.time() if now is None else now
    seconds, millis = divmod(int(at * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{millis:03d}Z"


def describe(error: BaseException) -> str:
    """An exception that should not have been: its type and where it came from.

    Its text only if it is ours or the system's: other code's may quote what was being processed.
    """
    text = type(error).__name__
    if isinstance(error, TelemetrydError):
        text += f": {str(error)[:_MAX_TEXT]}"
    elif isinstance(error, OSError) and error.strerror:
        text += f": {error.strerror}"
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is not None:
        file = traceback.tb_frame.f_code.co_filename.rpartition("/")[2]
        text += f" in {traceback.tb_frame.f_code.co_name} ({file}:{traceback.tb_lineno})"
    return text


class Log:
    """Writes lines of at least `level` to the file descriptor `fd`."""

    def __init__(
        self, level: str = "info", *, fd: int = 2, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._threshold = LEVELS.index(level)
        self._fd = fd
        self._monotonic = monotonic
        self._recent: dict[tuple[str, str, str], tuple[float, int]] = {}
        self._cut = False

    def __call__(self, level: str, event: str, **facts: Any) -> None:
        """Write `event` (constant, past tense) with its facts, if the level is enabled."""
        rank = LEVELS.index(level)
        if rank < self._threshold:
            return
        if rank >= LEVELS.index("warning"):
            cause = str(facts.get("reason") or facts.get("code") or "")
            suppressed = self._admit((event, str(facts.get("sink", "")), cause[:_MAX_CAUSE]))
            if suppressed is None:
                return
            if suppressed:
                facts["suppressed"] = suppressed
        self._write(
            {"ts": utc_timestamp(), "level": level, "event": event, "logger": LOGGER} | facts
        )

    def statement(self, event: str, facts: dict[str, Any]) -> None:
        """Write a line that no level hides: the ledger."""
        self._write({"event": event, **facts, "ts": utc_timestamp(), "logger": LOGGER}, wait=True)

    def _admit(self, kind: tuple[str, str, str]) -> int | None:
        """How many equal warnings were suppressed since the last one; None to suppress this."""
        now = self._monotonic()
        at, suppressed = self._recent.get(kind, (None, 0))
        if at is not None and now - at < QUIET_SECONDS:
            self._recent[kind] = (at, suppressed + 1)
            return None
        if len(self._recent) >= _MAX_REMEMBERED:
            self._recent.clear()
        self._recent[kind] = (now, 0)
        return suppressed

    def _write(self, record: dict[str, Any], *, wait: bool = False) -> None:
        try:
            line = msgspec.json.encode(record, enc_hook=repr) + b"\n"
        except UnicodeEncodeError:  # such as a path that is not UTF-8
            line = msgspec.json.encode({k: _plain(v) for k, v in record.items()}) + b"\n"
        if self._cut:
            line = b"\n" + line
        with suppress(BlockingIOError):  # a full pipe that somebody made non-blocking
            self._put(line, wait=wait)

    def _put(self, line: bytes, *, wait: bool) -> None:
        at = 0
        while at < len(line):
            try:
                at += os.write(self._fd, line[at:])
            except BlockingIOError:
                if not (wait and _writable(self._fd)):
                    raise
            except OSError:  # stderr is gone: nobody is left to tell
                self._fd = os.open(os.devnull, os.O_WRONLY)
            finally:
                self._cut = 0 < at < len(line) or (self._cut and at == 0)


def _plain(value: object) -> str:
    return str(value).encode("ascii", "backslashreplace").decode()


def _writable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(_PATIENCE_SECONDS * 1000))


class LoggingBridge(logging.Handler):
    """Sends what libraries log through `logging` (asyncio, above all) the same way."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line for `record`."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a library's wrong format string must not fail its caller
            message = str(record.msg)
        facts = {"library": record.name, "message": message[:2000]}
        if record.exc_info and record.exc_info[1] is not None:
            facts["error"] = repr(record.exc_info[1])[:500]
        level = "error" if record.levelno >= logging.ERROR else "warning"
        self._log(level, "library_message", **facts)

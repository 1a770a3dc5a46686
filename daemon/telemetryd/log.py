"""telemetryd's own log: one JSON object per line on stderr, never a payload, never a secret.

In Lambda these lines return as `extension` events to all that subscribed to that type. So each has
`"logger":"telemetryd"`. Lines of one event, sink (or hook) and cause are limited by their level
(`ALLOWED`); `suppressed` counts the others. If standard error is blocked, lines are skipped and
counted, without a wait; see `log_stream`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeAlias, TypeVar, get_args

import msgspec

from telemetryd import log_stream
from telemetryd.clock import SYSTEM, Clock
from telemetryd.errors import TelemetrydError

if TYPE_CHECKING:
    from telemetryd.log_events import EventName

E_contra = TypeVar("E_contra", bound=str, contravariant=True)

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
LEVELS: Final[tuple[Level, ...]] = get_args(Level)
LOGGER: Final = "telemetryd"
QUIET_SECONDS: Final = 10.0
ALLOWED: Final = {"debug": 1000, "info": 20, "warning": 1, "error": 1}
"""Lines of one event, sink (or hook) and cause in QUIET_SECONDS."""
_MAX_REMEMBERED: Final = 256
_OTHERS: Final = ("", "", "")
"""Stands for all kinds of lines beyond those remembered."""
_MAX_CAUSE: Final = 64
_MAX_TEXT: Final = 500
_PATIENCE_SECONDS: Final = 0.5
"""Seconds that the ledger, and the end of the process, wait for a reader."""


def utc_timestamp(at: float) -> str:
    """Return `at` (epoch seconds) as `2026-03-14T10:15:30.123Z`."""
    seconds, millis = divmod(int(at * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{millis:03d}Z"


def describe(error: BaseException) -> str:
    """Return an exception that should not have been: its type and where it came from.

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


class EventLog(Generic[E_contra]):
    """A log of events. This one discards them; subclasses override `write`.

    An event is a constant in the past tense: its name is what people alert on, so it stays. Facts
    are what was so this time.
    """

    def debug(self, event: E_contra, /, **facts: Any) -> None:
        """Tell what is of use to who looks for a fault."""
        self.write("debug", event, facts)

    def info(self, event: E_contra, /, **facts: Any) -> None:
        """Tell what is worth knowing, and needs nothing to be done."""
        self.write("info", event, facts)

    def warning(self, event: E_contra, /, **facts: Any) -> None:
        """Tell what may need something to be done."""
        self.write("warning", event, facts)

    def error(self, event: E_contra, /, **facts: Any) -> None:
        """Tell what needs something to be done."""
        self.write("error", event, facts)

    def __call__(self, level: Level, event: E_contra, /, **facts: Any) -> None:
        """Tell at a level that only the run decides."""
        self.write(level, event, facts)

    def write(self, level: Level, event: str, facts: dict[str, Any]) -> None:
        """Keep one event. It owns `facts`."""


DaemonLog: TypeAlias = "EventLog[EventName]"
"""The log of telemetryd's own code: events of the catalogue (`log_events`), and no other."""


class Log(EventLog[str]):
    """Writes lines of at least `level` to the file descriptor `fd`."""

    def __init__(self, level: Level = "info", *, fd: int = 2, clock: Clock = SYSTEM) -> None:
        self._threshold = LEVELS.index(level)
        self._stream = log_stream.LogStream(fd)
        self._clock = clock
        self._recent: dict[tuple[str, str, str], tuple[float, int]] = {}
        """For each kind of line, the time of the first one and the number of lines since then."""
        self._skips_told = 0
        self._secrets: list[bytes] = []
        """Texts that no line may hold, as JSON has them."""
        self._find_secrets: list[Callable[[], Iterable[str]]] = []
        """Functions that return more of them, called once a line may hold one."""

    def conceal(self, find: Callable[[], Iterable[str]]) -> None:
        """Mask the secrets that `find` returns in all lines from now on.

        It is called with the first line that may quote somebody, which most processes never write.
        """
        self._find_secrets.append(find)

    @property
    def skipped_lines(self) -> int:
        """Lines that standard error did not take."""
        return self._stream.skipped

    def set_level(self, level: Level) -> None:
        """Write lines of at least `level` from now on."""
        self._threshold = LEVELS.index(level)

    def write(self, level: Level, event: str, facts: dict[str, Any]) -> None:
        """Write one line, if the level is enabled and it is not one too many of its kind."""
        rank = LEVELS.index(level)
        if rank < self._threshold:
            return
        cause = str(facts.get("reason") or facts.get("code") or facts.get("reload") or "")
        whose = str(facts.get("sink") or facts.get("hook") or "")
        kind = (event, whose, cause[:_MAX_CAUSE])
        suppressed = self._admit(kind, ALLOWED[level])
        if suppressed is None:
            return
        if suppressed:
            facts["suppressed"] = suppressed
        self._write(
            {
                "ts": self._timestamp(),
                "level": level,
                "event": event,
                "logger": LOGGER,
            }
            | facts,
            may_quote=level != "info" or "detail" in facts,
        )

    def statement(self, event: EventName, facts: dict[str, Any]) -> None:
        """Write a line that no level hides: the ledger. Waits for a reader that is slow."""
        self._write(
            {"event": event, **facts, "ts": self._timestamp(), "logger": LOGGER},
            force=True,
        )
        self._stream.flush(_PATIENCE_SECONDS)

    def _timestamp(self) -> str:
        return utc_timestamp(self._clock.wall())

    def _admit(self, kind: tuple[str, str, str], allowed: int) -> int | None:
        """Return the number of lines suppressed since the last of the kind; None: suppress this."""
        now = self._clock.monotonic()
        if kind not in self._recent and len(self._recent) >= _MAX_REMEMBERED:
            recent = {k: v for k, v in self._recent.items() if now - v[0] < QUIET_SECONDS}
            self._recent = recent
            if len(recent) >= _MAX_REMEMBERED:
                kind, allowed = _OTHERS, 1
        at, count = self._recent.get(kind, (None, 0))
        if at is not None and now - at < QUIET_SECONDS:
            self._recent[kind] = (at, count + 1)
            return 0 if count < allowed else None
        self._recent[kind] = (now, 1)
        return max(count - allowed, 0)

    def _write(
        self, record: dict[str, Any], *, force: bool = False, may_quote: bool = False
    ) -> None:
        skipped = self._stream.skipped - self._skips_told
        if skipped and (force or self._stream.is_idle):
            self._skips_told += skipped
            reason = "standard error did not take them"
            self._say("warning", "log_lines_skipped", force, lines=skipped, reason=reason)
        line = _encode(record)
        if may_quote and (self._secrets or self._find_secrets):
            line = self._without_secrets(line)
        if not self._stream.put(line, force=force):
            self._stream.skipped += 1

    def _without_secrets(self, line: bytes) -> bytes:
        while self._find_secrets:
            found = {msgspec.json.encode(each)[1:-1] for each in self._find_secrets.pop()()}
            self._secrets = sorted(found.union(self._secrets), key=len, reverse=True)
        for secret in self._secrets:
            line = line.replace(secret, b"***")
        return line

    def _say(self, level: Level, event: EventName, force: bool, /, **facts: Any) -> None:
        record = {
            "ts": self._timestamp(),
            "level": level,
            "event": event,
            "logger": LOGGER,
        }
        self._stream.put(_encode(record | facts), force=force)


def _encode(record: dict[str, Any]) -> bytes:
    try:
        line = msgspec.json.encode(record, enc_hook=repr)
    except UnicodeEncodeError:  # such as a path that is not UTF-8
        line = msgspec.json.encode({k: _plain(v) for k, v in record.items()})
    if b"://" in line or b"earer" in line or b"=" in line or b"@" in line:
        from telemetryd.masking import without_secrets  # noqa: PLC0415 - seldom needed

        line = without_secrets(line.decode()).encode()
    return line + b"\n"


def _plain(value: object) -> str:
    return str(value).encode("ascii", "backslashreplace").decode()


def flush() -> None:
    """Wait, for a bounded time, until what was logged is written: before `_exit`."""
    log_stream.flush_all(_PATIENCE_SECONDS)

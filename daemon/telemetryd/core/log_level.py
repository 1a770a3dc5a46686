"""The level of a log line, where it can be told: one table of names, numbers and members.

A level is a rank, the place of a name in `LEVELS`; names between two of them count as the lower.
If a record has a level in several forms, a name in a member comes before a number, for
scales of numbers contradict each other, and what a member means comes from its name.

Sources of the rows, by the words of those who write them:

* Lambda, "Log level filtering" (TRACE to FATAL); awslambdaric `JsonFormatter`; Java's `LogLevel`
* Python `logging`: names and `levelno` 10 to 50; structlog `add_log_level_number`; loguru `record`
* pino and bunyan: `level` 10 to 60; winston: `config.npm`, `config.syslog`; log4js: `level` objects
* .NET: `Microsoft.Extensions.Logging.LogLevel`, its console's abbreviations, JSON console
  (`LogLevel`); Serilog: `LogEventLevel`, its three letters, compact JSON (`@l`, none: Information)
* Java: log4j2, logback, `java.util.logging.Level`; logstash-logback-encoder (`level_value`)
* Go: `log/slog` (`INFO+2`), zap (`dpanic`, `L`), logrus, zerolog, hclog (`@level`), glog (letters)
* syslog, RFC 5424, 6.2.1 and its abbreviations (`syslog(3)`); GELF 1.1 (`level` 0 to 7); journald
* Ruby `Logger` (`severity`, `ANY`); Monolog (`level_name`, 100 to 600); Google Cloud `severity`
* OpenTelemetry, "Logs Data Model" (`severityNumber` 1 to 24); Elastic Common Schema (`log.level`)
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Final

import msgspec

from telemetryd.core.loose import decode_loosely

LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_TRACE, _DEBUG, _INFO, _WARN, _ERROR, _FATAL = range(6)

_NAMES: Final = {
    _TRACE: "trace trce trc vrb finest finer silly t",
    _DEBUG: "debug dbug dbg fine config verbose http d v",
    _INFO: "info information informational inf notice success any i n",
    _WARN: "warn warning wrn w",
    _ERROR: "error err eror fail failure severe e",
    _FATAL: "fatal ftl critical crit emerg emergency alert panic pnc dpanic f c",
}
_RANKS: Final = {
    **{name: rank for rank, names in _NAMES.items() for name in names.split()},
    "Verbose": _TRACE,  # Serilog's lowest; winston's `verbose` is above debug
}
_OFFSET: Final = re.compile(r"([A-Z]+)([+-]\d{1,4})")
_SLOG_STEP: Final = 4
_LONGEST_NAME: Final = 32
_LONGEST_NUMBER: Final = 6
_MARGIN: Final = 8
"""Bytes of a text's JSON in which an object may begin: after a quote and blanks."""


def rank_of(name: str) -> int | None:
    """Return the rank of a level by its name in any case; None for an unknown one."""
    rank = _RANKS.get(name)
    if rank is None and len(name) <= _LONGEST_NAME:
        rank = _RANKS.get(name.strip().lower())
        if rank is None and (found := _OFFSET.fullmatch(name)):
            rank = _rank_of_offset(found[1], int(found[2]))
    return rank


def syslog_rank(severity: float) -> int | None:
    """Return the rank of a syslog severity; None if it is none."""
    if severity not in _SYSLOG:
        return None
    return _SYSLOG[int(severity)]


def _rank_of_offset(name: str, offset: int) -> int | None:
    """Return the rank of a level such as `DEBUG-4`, as Go's `slog.Level` is printed."""
    rank = _RANKS.get(name.lower())
    return None if rank is None else min(max(rank + offset // _SLOG_STEP, _TRACE), _FATAL)


# -- numbers -----------------------------------------------------------------------------------

_SYSLOG: Final = {0: _FATAL, 1: _FATAL, 2: _FATAL, 3: _ERROR, 4: _WARN, 5: _INFO, 6: _INFO,
                  7: _DEBUG}  # fmt: skip


def _steps(*first: float) -> Callable[[float], int | None]:
    """Return a scale: where debug, info, ... begin. What is between two counts as the lower."""
    return lambda number: bisect_right(first, number)


_pino = _steps(20, 30, 40, 50, 60)
_monolog = _steps(100, 200, 300, 400, 550)
_log4js = _steps(10_000, 20_000, 30_000, 40_000, 50_000)  # and logback's `Level.toInt`
_python = _steps(10, 20, 30, 40, 50)
_otel = _steps(5, 9, 13, 17, 21)
_dotnet = _steps(1, 2, 3, 4, 5)
_google = _steps(100, 200, 400, 500, 600)


def _rank_of_level(number: float) -> int | None:
    """Return the rank of a bare `level`: the ranges of those who write numbers do not overlap.

    Numbers below 10 are syslog's to some, and to others the opposite, or no level of a log at all.
    """
    if number < 10:  # noqa: PLR2004
        return None
    if number < 100:  # noqa: PLR2004
        return _pino(number)
    return _monolog(number) if number < 5000 else _log4js(number)  # noqa: PLR2004


def _rank_of_severity(number: float) -> int | None:
    return syslog_rank(number) if number < 8 else _google(number)  # noqa: PLR2004


# -- members -----------------------------------------------------------------------------------

_MEMBERS: Final[dict[str, Callable[[float], int | None]]] = {
    "level": _rank_of_level,
    "log_level": _rank_of_level,
    "levelname": _python,
    "levelno": _python,
    "level_number": _python,
    "level_name": _monolog,
    "level_value": _log4js,
    "severity": _rank_of_severity,
    "severity_text": _otel,
    "severityText": _otel,
    "SeverityText": _otel,
    "severityNumber": _otel,
    "severity_number": _otel,
    "SeverityNumber": _otel,
    "@l": _dotnet,
    "@level": _rank_of_level,
    "Level": _dotnet,
    "LogLevel": _dotnet,
    "logLevel": _rank_of_level,
    "loglevel": _rank_of_level,
    "log.level": _rank_of_level,
    "lvl": _rank_of_level,
    "levelName": _rank_of_level,
    "LEVEL": _rank_of_level,
    "L": _rank_of_level,
    "Severity": _rank_of_severity,
    "PRIORITY": syslog_rank,
    "priority": syslog_rank,
}
"""Members that hold a level, the likeliest first, and the scale of their numbers."""
_ORDER: Final = [*_MEMBERS]
_SIGNS: Final = {ord(sign): None for sign in "_-."}
_INNER: Final = ("name", "levelStr", "label", "level", "text", "value", "no", "standardLevel")
"""Members of a level that is an object (log4js, loguru, log4j2)."""
_FOLDED: Final = {
    name.translate(_SIGNS).lower(): scale for name, scale in reversed(_MEMBERS.items())
}
"""The same members, for loggers that spell them in another way: `LOG_LEVEL`, `log-level`."""
_INITIALS: Final = frozenset("lLsSpP@")
"""First letters of these names, because checking one letter is cheap."""
_NESTED: Final = ("log", "record")
"""Objects that hold the level where the record itself does not (Elastic Common Schema, loguru)."""
_DEPTH: Final = 2
"""Levels of such objects that are searched. A line may nest more than Python's stack can hold."""
_COMPACT: Final = ("@m", "@mt")
"""With `@t`, marks of Serilog's compact format, which leaves out `@l` for Information."""


_PINO: Final = (frozenset({"time", "msg"}), frozenset({"pid", "hostname"}))
"""Marks of pino's and bunyan's records, beside a number called `level`."""


class _Plain(msgspec.Struct, gc=False):
    """The members that most records have: a level by its name, and a message that is text."""

    level: Any = None
    message: msgspec.Raw = msgspec.Raw()


_decode_plain: Final = msgspec.json.Decoder(_Plain).decode
_decode_all: Final = msgspec.json.Decoder(dict[str, Any]).decode
_LARGE: Final = 4096
"""Bytes of a record whose names are looked for before it is decoded: for a small one, that costs
more than it saves."""
_LOWER: Final = bytes(range(256)).lower()
_HINTS: Final = (b"level", b"lvl", b"severity", b"priority", b'"@', b'"l"', rb'"l\"',
                 b"shortmessage", b'"log', b'"record', rb"\u")  # fmt: skip
"""A record with a level holds one of these, without signs and in lower case; or escapes,
which may spell it. The record within a message, which is text, has the same names."""


def rank_of_object(data: bytes) -> int | None:
    """Return the rank of the level in a record, an object in JSON; None without one.

    Its message may be an object with a level of its own: see `rank_with_inner`.
    """
    plain = decode_loosely(_decode_plain, data)
    if plain is None:
        return None
    if isinstance(plain.level, str) and not _is_object(bytes(plain.message)[:_MARGIN]):
        rank = rank_of(plain.level)
        if rank is not None:
            return rank
    if len(data) > _LARGE and not _may_tell(data):
        return None
    record = decode_loosely(_decode_all, data)
    return None if record is None else rank_of_record(record)


def _may_tell(data: bytes) -> bool:
    """False if no member of a record can hold a level, however many there are."""
    folded = data.translate(_LOWER, b"_-.")
    return any(hint in folded for hint in _HINTS)


def rank_with_inner(outer: int | None, data: bytes) -> int | None:
    """Return the rank of what a runtime printed at level `outer`: a record of its own, `data`.

    `console.log(record)` prints at INFO, whatever the record is: there the record's level counts,
    if it is a name or pino's and not any number called `level`. Otherwise the higher one does.
    """
    record = decode_loosely(_decode_all, data)
    return outer if record is None else _with_inner(outer, record)


def _with_inner(outer: int | None, record: dict[str, Any]) -> int | None:
    inner = _rank_by_names(record)
    if inner is None and any(marks <= record.keys() for marks in _PINO):
        inner = _rank_of_members(record)
    if inner is not None and outer in (None, _INFO):
        return inner
    told = (outer, inner if inner is not None else _rank_of_members(record))
    return max((rank for rank in told if rank is not None), default=None)


def _is_object(opening: bytes) -> bool:
    """True if a value that begins so is an object, or may be a text that holds one."""
    return opening[:1] == b"{" or (opening[:1] == b'"' and b"{" in opening)


def rank_of_record(record: dict[str, Any]) -> int | None:
    """Return what `rank_of_object` returns, of a record that is decoded."""
    rank, message = _rank_of_members(record), record.get("message")
    if isinstance(message, str) and message.lstrip()[:1] == "{":
        message = decode_loosely(_decode_all, message.encode())
    return _with_inner(rank, message) if isinstance(message, dict) else rank


def _members_of(record: dict[str, Any]) -> list[str]:
    """Return those of `_MEMBERS` that a record has, the likeliest first."""
    found = [name for name in record if name in _MEMBERS]
    if len(found) > 1:
        found.sort(key=_ORDER.index)
    return found


def _rank_by_names(record: dict[str, Any]) -> int | None:
    for member in _members_of(record):
        if (rank := _rank_by_name(record[member])) is not None:
            return rank
    return None


def _rank_of_members(record: dict[str, Any], depth: int = _DEPTH) -> int | None:
    """Return the rank by the members of a record, names before numbers."""
    if not record.keys().isdisjoint(_MEMBERS):
        for told in (_rank_by_names, _rank_by_numbers):
            if (rank := told(record)) is not None:
                return rank
    if (rank := _rank_by_spelling(record)) is not None:
        return rank
    if "short_message" in record:  # GELF
        return _rank_by_number(record.get("level"), syslog_rank)
    if "@t" in record and not record.keys().isdisjoint(_COMPACT):
        return _INFO if "@l" not in record else None
    for name in _NESTED if depth else ():
        nested = record.get(name)
        if isinstance(nested, dict) and (rank := _rank_of_members(nested, depth - 1)) is not None:
            return rank
    return None


def _rank_by_numbers(record: dict[str, Any]) -> int | None:
    for member in _members_of(record):
        if (rank := _rank_by_number(record[member], _MEMBERS[member])) is not None:
            return rank
    return None


def _rank_by_spelling(record: dict[str, Any]) -> int | None:
    """Return the rank by members that are spelled in another way than `_MEMBERS` has them."""
    for name, value in record.items():
        if name[:1] not in _INITIALS or len(name) > _LONGEST_NAME or name in _MEMBERS:
            continue
        scale = _FOLDED.get(name.translate(_SIGNS).lower())
        if scale is not None:
            rank = _rank_by_name(value)
            rank = _rank_by_number(value, scale) if rank is None else rank
            if rank is not None:
                return rank
    return None


def _rank_by_name(value: Any) -> int | None:
    if isinstance(value, str):
        return rank_of(value)
    if isinstance(value, dict):
        named = (value.get(name) for name in _INNER)
        return next(
            (r for v in named if isinstance(v, str) and (r := rank_of(v)) is not None), None
        )
    return None


def _rank_by_number(value: Any, scale: Callable[[float], int | None]) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) <= _LONGEST_NUMBER:
        return scale(int(value))
    if isinstance(value, dict):
        value = next((n for name in _INNER if isinstance(n := value.get(name), int)), None)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return scale(value)
    return None

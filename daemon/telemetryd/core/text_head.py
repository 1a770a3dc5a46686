"""The head of a log line that is text, before its message: level, and ids of a request.

Two layouts are Lambda's own, and are tried first:

    [LEVEL]<tab>time<tab>request id<tab>message   Python: awslambdaric, `bootstrap.py`
    time<tab>request id<tab>LEVEL<tab>message     Node.js: aws-lambda-ric, `logging/formatter.ts`;
                                                  .NET: `DefaultLogMessageFormatter`

All others are read word by word, as long as the words are what stands before a message: times,
numbers, ids, names in brackets, `key=value`. The first that names a level is the level, if its
form is that of a level and not of a word in a sentence:

    [INFO] message                            Java (`TextLogFormatter`), Java's and Rust's loggers
    INFO message; 12:00:00 INFO [main] ...    log4j2, logback, Spring Boot, tracing, zap, loguru
    2026-11-30 12:00:00,123 - name - INFO - message                          Python, as taught
    INFO:name:message                         Python, `logging.BASIC_FORMAT`
    info: message                             winston `simple`, Microsoft's console
    Nov 30, 2026 12:00:00 PM class method<newline>SEVERE: message            java.util.logging
    [12:00:00 INF] message                    Serilog; zerolog and zap abbreviate so as well
    I, [2026-11-30T12:00:00 #1]  INFO <request id> -- : message              Ruby's runtime
    I1130 12:00:00.000000       1 file.go:1] message                         glog, klog
    [2026-11-30T12:00:00] name.INFO: message  Monolog
    time=... level=info msg=...               logfmt: logrus, Go's slog
    <6>message                                sd-daemon(3), Microsoft's systemd console
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import msgspec

from telemetryd.core.log_level import rank_of, syslog_rank

_COLOURS: Final = re.compile(r"\x1b\[[\d;]*m")
_TABBED: Final = re.compile(
    r"\[([A-Za-z]{3,11})\]\t[^\t]{1,40}\t([^\t]{0,128})\t"
    r"|[^\t]{1,40}\t([^\t]{0,128})\t([A-Za-z]{3,11})\t"
)
_UUID: Final = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
UUID: Final = re.compile(_UUID)
_WORD: Final = re.compile(r"[\s|]*(?:\[([^\]]{0,80})\]:?|([^\s|]+))")
_PRIORITY: Final = re.compile(r"<(\d{1,3})>")
_PAIR: Final = re.compile(r'([A-Za-z_@.]{1,32})="?([^\s"]*)')
_LEVEL_KEYS: Final = frozenset({"level", "lvl", "severity", "loglevel", "log_level"})
_GLOG: Final = re.compile(r"([IWEF])\d{4}$")
_MARKED_ID: Final = re.compile(
    r"""(?xi) \b (?:aws|lambda|function)? [ _.-]? request [ _.-]? id ["']?
        \s{0,2} [:=] \s{0,2} ["']? ([0-9A-Za-z-]{1,128})"""
)
_ID_LABEL: Final = re.compile(r"(?i)(?:aws|lambda|function)?[_.-]?request[_.-]?id[:=]")
_JUL: Final = re.compile(
    r"[A-Z][a-z]{2} \d{1,2}, \d{4},? \d{1,2}:\d\d:\d\d\s[AP]M [^\n]*\n([A-Z]{3,7}): "
)
_BEFORE_MORE: Final = re.compile(r"\s+[-|]\s")
_MOST_WORDS: Final = 10
_LEAST_UPPER: Final = 3
"""Letters that a level in capitals has at least: shorter ones are words."""
_LEAST_TIME: Final = 8
_SHY: Final = frozenset({"http", "verbose", "silly", "config", "fine", "finer", "finest"})
"""Levels whose names begin other things: `Fine: ...`, and `http: TLS handshake error` in Go."""


class Head(msgspec.Struct, frozen=True, gc=False):
    """The facts in a text before its message."""

    rank: int | None
    """The rank of the level, as in `log_level.rank_of`."""
    ids: tuple[str, ...]
    """Possible request ids, the likeliest first."""
    is_all: bool = False
    """True if the text has nothing else."""


@lru_cache(1)  # a line is asked for its invocation, and at once for its level
def head_of(text: str) -> Head:
    """Return what stands before the message of `text`."""
    if "\x1b" in text:
        text = _COLOURS.sub("", text)
    if found := _TABBED.match(text):
        rank = rank_of(found[1] or found[4])
        if rank is not None:
            return Head(rank, (found[2] or found[3] or "",), found.end() == len(text))
    ids: list[str] = []
    rank, is_all = _read_words(text, ids)
    if "equest" in text:
        ids += (found[1] for found in _MARKED_ID.finditer(text))
    return Head(rank, tuple(ids), is_all)


def _read_words(text: str, ids: list[str]) -> tuple[int | None, bool]:
    """Return the rank of the level before the message, and whether no message follows.

    Adds ids to `ids`, those behind the level as well.
    """
    if found := _PRIORITY.match(text):
        return syslog_rank(int(found[1]) % 8), False
    if found := _JUL.match(text):
        return rank_of(found[1]), False
    rank, timed, at = None, False, 0
    for _ in range(_MOST_WORDS):
        match = _WORD.match(text, at)
        if match is None:
            return rank, True
        at = match.end()
        inside, word = match[1], (match[2] or "").rstrip(",;")
        if inside is not None:
            found_rank = _rank_in_brackets(inside, ids)
            rank = found_rank if rank is None else rank
        elif rank is None:
            rank = _rank_of_word(word, timed=timed)
            if rank is not None:
                continue
        named = timed and _BEFORE_MORE.match(text, at)
        if word and not named and not _is_preamble(word, ids):
            break  # the message, or a layout of its own
        timed = timed or _is_time(inside or word)
    return rank, False


def _is_preamble(word: str, ids: list[str]) -> bool:
    """True if a word is none of the message: an id (added to `ids`), a number, a pair, a sign."""
    bare = word.strip("<>(){}:")
    if UUID.fullmatch(bare):
        ids.append(bare)
        return True
    if word.lstrip("+-")[:1].isdigit() or _PAIR.match(word) or _ID_LABEL.fullmatch(word):
        return True
    return len(word) == 1 or not any(map(str.isalnum, word))


def _is_time(word: str) -> bool:
    return any(map(str.isdigit, word)) and (":" in word or len(word) >= _LEAST_TIME)


def _rank_in_brackets(inside: str, ids: list[str]) -> int | None:
    """Return the rank that brackets hold: `[info]`, `[core:error]`, `[12:00:00 INF]`."""
    words = inside.split()
    last = words[-1].rpartition(":")[2] if words else ""
    first, _, process = last.partition("/")  # Celery: `INFO/MainProcess`
    ids += filter(UUID.fullmatch, words)
    for word in (first if process and first.isupper() else last, *words):
        if word.isupper() or (len(words) == 1 and word.lower() not in _SHY):
            rank = rank_of(word) if len(word) >= _LEAST_UPPER else None
            if rank is not None:
                return rank
    return None


def _rank_of_word(word: str, *, timed: bool) -> int | None:
    """Return the rank that a word names in the form of a level: `INFO`, `info:`, `INFO:name:`."""
    if found := _GLOG.match(word):
        return rank_of(found[1])
    if (pair := _PAIR.match(word)) and pair[1].lower() in _LEVEL_KEYS:
        return rank_of(pair[2])
    name, colon, rest = word.strip("<>()").partition(":")
    channel, dot, name = name.rpartition(".")  # Monolog: `channel.INFO:`
    if name.isupper():
        return rank_of(name) if len(name) >= _LEAST_UPPER else None
    if dot or channel or rest or not (colon or (timed and name.islower())):
        return None
    if name.lower() in _SHY and (timed or not name.islower()):
        return None
    return rank_of(name)

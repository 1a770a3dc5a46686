"""Patterns of `include` and `exclude`: the users' expressions, on text that others write.

Python's `re` backtracks. A harmless pattern can take seconds on an unlucky line, and nothing can
interrupt it. So a pattern runs on the first of these that supports it:

1. Text, also with `|` and `.*` between parts, is searched for as text: linear, and faster than any
   engine.
2. google-re2: linear, imported if a pattern needs it.
3. `re`, on the first 4 KiB of a line: for patterns that re2 can't compile (look-around,
   back-references). If re2 is not installed, as in the Lambda layer: for all that is not text.
   `risk_of` says so.

A pattern has the meaning of `re` on bytes, on each of them. `$` is the end of the line.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

Matcher: TypeAlias = Callable[[bytes], object]
"""True, or something that counts as true, if the pattern is found in a line."""

RE_BYTES: Final = 4096
"""Bytes of a line that a pattern on `re` sees."""
_LITERAL: Final = re.compile(r"""(?:[\w "'/:,;<>=!@%&~`-]|\\[^\w\s])*""")
"""Text that means itself, special characters escaped."""
_ENDS: Final = b"\r\n"
_DIFFERENT: Final = ("{,", "[:", "[[")
"""Constructs that re2 compiles but interprets differently."""
HEAD_ONLY: Final = f", and sees only the first {RE_BYTES // 1024} KiB of a line"
"""Ends a risk of `re` here. It is not so where a pattern masks: `redaction.search`."""
_BLOCKS: Final = f"it runs on Python's re, which can block telemetryd on an unlucky line{HEAD_ONLY}"
_COSTLY_SIZE: Final = 250
_COSTLY: Final = (
    "its counted repetitions can cost microseconds for each byte of a line; smaller counts, or + "
    "and * instead, cost almost nothing"
)
"""re2 follows so many states at once where the text keeps them all alive."""


def compile_pattern(pattern: str) -> Matcher:
    """Return a matcher of lines for `pattern`. Raises re.error if it does not compile."""
    fallback = _on_re(pattern)
    if (parts := _text_of(pattern)) is not None:
        return _text_matcher(parts)
    if (found := _re2(pattern)) is None:
        return fallback
    search: Matcher = found.search
    return lambda line: search(line.rstrip(_ENDS))


def validate(pattern: str) -> None:
    """Raise re.error for a pattern that does not compile."""
    _on_re(pattern)


def needs_re2(pattern: str) -> bool:
    """True if `pattern`, which compiles, is more than text."""
    return _text_of(pattern) is None


def risk_of(pattern: str) -> str:
    """Return the risk of using `pattern` here, which compiles; empty if there is none."""
    if not needs_re2(pattern):
        return ""
    if (found := _re2(pattern)) is not None:
        return _COSTLY if found.programsize > _COSTLY_SIZE else ""
    if has_re2():
        return (
            f"google-re2 can't compile it (look-around, back-references and the like), so {_BLOCKS}"
        )
    return f"google-re2 is not installed, so {_BLOCKS}"


def risk_in_the_layer(pattern: str) -> str:
    """Return the risk of using `pattern` in the layer, which compiles; empty if there is none."""
    if not needs_re2(pattern):
        return ""
    return f"the layer has no google-re2: there {_BLOCKS}"


def texts_of(pattern: str) -> list[bytes] | None:
    """Return the texts that `pattern` matches, if it matches no others; None otherwise."""
    alternatives = _text_of(pattern)
    if alternatives is None or any(len(parts) > 1 for parts in alternatives):
        return None
    return [parts[0] for parts in alternatives]


def _text_of(pattern: str) -> list[list[bytes]] | None:
    """Return the alternatives of a pattern that is text, each as texts that follow each other."""
    if pattern in ("^", "$"):
        return [[b""]]
    alternatives = [branch.split(".*") for branch in pattern.split("|")]
    if not all(_LITERAL.fullmatch(text) for texts in alternatives for text in texts):
        return None
    return [[re.sub(r"\\(.)", r"\1", text).encode() for text in texts] for texts in alternatives]


def _text_matcher(alternatives: list[list[bytes]]) -> Matcher:
    if len(alternatives) == 1 and len(alternatives[0]) == 1:
        return partial(_contains, alternatives[0][0])
    return partial(_contains_any, alternatives)


def _contains(text: bytes, line: bytes) -> bool:
    return text in line


def _contains_any(alternatives: list[list[bytes]], line: bytes) -> bool:
    """True if the texts of an alternative follow each other: the first place of each will do."""
    for texts in alternatives:
        at = 0
        for text in texts:
            found = line.find(text, at)
            if found < 0:
                break
            at = found + len(text)
        else:
            return True
    return False


def _on_re(pattern: str) -> Matcher:
    """Return a matcher on `re`. A FutureWarning concerns later versions of Python: ignored."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            search = re.compile(pattern.encode()).search
    except (RecursionError, OverflowError) as error:
        raise re.error(f"too large: {error}") from error
    return lambda line: search(line[:RE_BYTES].rstrip(_ENDS))


def has_re2() -> bool:
    """True if google-re2 is installed."""
    try:
        import re2  # noqa: F401, PLC0415 - where a pattern needs it
    except ImportError:
        return False
    return True


def _re2(pattern: str) -> Any:
    """Compile for re2; None where it is missing, can't, or understands `pattern` in another way."""
    if not has_re2() or any(mark in pattern for mark in _DIFFERENT):
        return None
    import re2  # noqa: PLC0415

    options = re2.Options()
    options.log_errors = False  # it would write to stderr by itself
    options.never_capture = True  # whether, not where
    if pattern.isascii():  # bytes, as to `re`; else characters, where `re` would take each byte
        options.encoding = re2.Options.Encoding.LATIN1
    try:
        return re2.compile(pattern.encode(), options)
    except re2.error:
        return None

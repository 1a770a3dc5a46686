"""Patterns that mask: where in a text they match, on re2 or on Python's `re`.

`core.patterns` asks whether a line has a match, this module where. With google-re2 every pattern is
linear. Without it, as in the Lambda layer, the built-in patterns run on `re`, where they are linear
as well. A user's pattern that is more than text is then tried on windows of a line, so that what it
can cost is bounded. What re2 can't compile is refused everywhere, so that one configuration means
the same in both places.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from telemetryd.core.patterns import has_re2, texts_of, validate
from telemetryd.core.redaction.rules import Span

Finder: TypeAlias = Callable[[bytes], Iterator[Span]]
"""Yields where a view matches: the first group that took part, or all of it. Never empty."""
Hint: TypeAlias = Callable[[bytes, int], int]
"""Returns where, at or after a position, a flat view matches; -1 if it does not."""

_WINDOW: Final = 4096
_OVERLAP: Final = 512
"""Bytes of a match that is certainly found in one of two windows."""
_NOT_LINEAR: Final = re.compile(r"\(\?(?:[=!>(]|<[=!]|P=)|\\[1-9]|[+*?}]\+")
"""Look-around, back-references, conditions, atomic groups and possessive repetitions."""


_MEANS_ANOTHER: Final = re.compile(
    r"\[:\^?\w+:\]"  # a class of POSIX: to `re` a set of these letters
    r"|(?<!\\)\{,\d*\}"  # at most so many: to re2 just text
    r"|(?<!\\)\[(?:[^\]\\]|\\.)*[^\x00-\x7f]"  # letters in a set: to `re` their bytes
)
_IGNORES_CASE: Final = re.compile(r"\(\?[a-zA-Z]*i[a-zA-Z]*(?:-[a-zA-Z]+)?[:)]")
_REPEATED: Final = re.compile(r"(?<!\\)[^\x00-\x7f](?=[*+?{])")
"""A character beyond ASCII that is repeated, outside of sets."""


def fault_of(pattern: str) -> str:
    """Return why `pattern` can't be used to mask; empty if it can."""
    try:
        validate(pattern)
    except re.error as error:
        return f"is no valid pattern: {error}"
    if _NOT_LINEAR.search(pattern.replace("\\\\", "")):
        return (
            "uses look-around, a back-reference or the like, which google-re2 can't search for in "
            "linear time; a group masks less than the whole pattern matches"
        )
    if why := _ambiguity_of(pattern):
        return why
    if re.search(_by_bytes(pattern), b"") is not None:
        return "matches the empty text"
    if has_re2() and (why := _re2_fault(pattern)):
        return f"is refused by google-re2: {why}"
    return ""


def _ambiguity_of(pattern: str) -> str:
    """Return why `pattern` is not the same to google-re2 and to `re`; empty if it is."""
    if found := _MEANS_ANOTHER.search(pattern.replace("\\\\", "")):
        return (
            f"has {found[0]!a}, which means something else to google-re2 than to Python's `re`, "
            "which searches in the layer; write it out"
        )
    if _IGNORES_CASE.search(pattern) and (letters := _cased(pattern)):
        return (
            f"ignores the case of {letters!a}, which Python's `re`, which searches in the layer, "
            "does only for letters of ASCII; write both out"
        )
    return ""


def _cased(pattern: str) -> str:
    """Return the letters beyond ASCII that have upper and lower case."""
    return "".join(each for each in pattern if not each.isascii() and each.lower() != each.upper())


def _by_bytes(pattern: str) -> bytes:
    """Return a pattern of bytes, where what is repeated is a character, and not its last byte."""
    return _REPEATED.sub(r"(?:\g<0>)", pattern).encode()


def finder(pattern: str) -> Finder:
    """Return the finder of a user's pattern without a fault."""
    if has_re2():
        return spans_of(_re2(_by_bytes(pattern)).finditer)
    find = spans_of(re.compile(_by_bytes(pattern)).finditer)
    return find if texts_of(pattern) is not None else lambda text: _by_windows(find, text)


def hints_of(built_in: Sequence[bytes], patterns: Sequence[str]) -> list[Hint] | None:
    """Return what together finds a place in each line that a pattern matches; None: nothing can."""
    each = [*built_in, *map(_by_bytes, patterns)]
    if each and has_re2():
        return [_hint(_re2(b"|".join(b"(?:%b)" % pattern for pattern in each)).search)]
    if any(texts_of(pattern) is None for pattern in patterns):
        return None
    return [_hint(re.compile(pattern, re.MULTILINE).search) for pattern in each]


def spans_of(finditer: Callable[[bytes], Iterator[Any]]) -> Finder:
    """Return a finder for an engine's `finditer`."""

    def find(text: bytes) -> Iterator[Span]:
        for match in finditer(text):
            start, end = match.span(_group_of(match))
            if start < end:
                yield start, end

    return find


def _group_of(match: Any) -> int:
    """Return the first group that took part; 0, which is all of the match, if none did."""
    last: int = match.lastindex or 0
    if last <= 1:
        return last
    return next(each for each in range(1, last + 1) if match.start(each) >= 0)


def _hint(search: Callable[[bytes, int], Any]) -> Hint:
    def find(flat: bytes, at: int) -> int:
        found = search(flat, at)
        return -1 if found is None else int(found.start())

    return find


def _by_windows(find: Finder, text: bytes) -> Iterator[Span]:
    for at in range(0, max(len(text) - _OVERLAP, 1), _WINDOW - _OVERLAP):
        for start, end in find(text[at : at + _WINDOW]):
            yield at + start, at + end


def _re2(pattern: bytes) -> Any:
    import re2  # noqa: PLC0415 - only where a rule needs it

    options = re2.Options()
    options.log_errors = False  # it would write to stderr by itself
    options.encoding = re2.Options.Encoding.LATIN1  # bytes, as to `re`
    return re2.compile(b"(?m:%b)" % pattern, options)


def _re2_fault(pattern: str) -> str:
    import re2  # noqa: PLC0415 - as above

    try:
        _re2(_by_bytes(pattern))
    except re2.error as error:
        told = error.args[0] if error.args else ""
        return told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)
    return ""

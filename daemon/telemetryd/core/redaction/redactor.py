r"""Replaces secrets in whole blocks, before they reach a queue, a spool or a dead letter.

    block -> flat view -> lines with a hint of a secret -> each of these: view, matches, line

Most lines hold no secret, so a block is searched as a whole, by one pattern with google-re2. Only
lines with a hint are looked at one by one. A match never leaves its line, nor the string of JSON in
which it begins. What JSON has outside strings, such as a number, becomes `null`, keys and strings
keep their quotes. So a line that was JSON stays JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import msgspec

from telemetryd.core.redaction.replacement import Replace, With, replacement
from telemetryd.core.redaction.rules import BUILT_IN, BuiltIn, Check, Span
from telemetryd.core.redaction.search import Finder, Hint, finder, hints_of, spans_of
from telemetryd.core.redaction.view import View, flatten
from telemetryd_proto.errors import DECODE_FAILURES

if TYPE_CHECKING:
    from telemetryd_proto.framing import Block

_TOKEN: Final = re.compile(rb"""("(?:[^"\\]|\\.)*+"?+)|[^\s"{}\[\],:]+""")
"""A string, or what else JSON has values of."""
_NUMBER: Final = re.compile(rb"[0-9.eE+-]+")
_BEFORE: Final = frozenset((b":", b"[", b","))
_AFTER: Final = frozenset((b"}", b"]", b","))
_ENCLOSED: Final = frozenset((b"{}", b"[]"))
_NEAR: Final = 8
"""Bytes around a number in which a comma or the like makes it a value of JSON."""
_CUT: Final = 256
"""Bytes at the end of a line that is cut off: the half of a secret may be there."""
_CONTINUED: Final = 0x80
"""The first two bits of a byte that continues a character of UTF-8."""


class Masker(NamedTuple):
    """One rule, ready for use."""

    name: str
    may_find: Callable[[bytes], object]
    """False if `find` finds nothing, at less cost."""
    find: Finder
    check: Check | None
    """None: what is found is to be masked, as it is."""
    replace: Replace


class Match(NamedTuple):
    """A part of a view that is to be replaced."""

    start: int
    end: int
    masker: Masker


class Edit(NamedTuple):
    """A part of a line, and what to put there."""

    start: int
    end: int
    text: bytes


class Redactor:
    """Masks what its rules find. It counts the matches of each rule in `counts`."""

    def __init__(self, maskers: Sequence[Masker], hints: Sequence[Hint] | None) -> None:
        """Make one. `hints` find a place in each line in which a rule does; None: none can."""
        self._maskers = maskers
        self._hints = hints
        self.counts = {masker.name: 0 for masker in maskers}

    def mask(self, data: bytes) -> bytes:
        """Return whole lines with their secrets masked: the same object where there are none."""
        suspects = self._suspects(data)
        if not suspects:
            return data
        lines = data.split(b"\n")
        changed = False
        for at in suspects:
            masked = self._mask_line(lines[at])
            changed = changed or masked is not lines[at]
            lines[at] = masked
        return b"\n".join(lines) if changed else data

    def mask_block(self, block: Block) -> Block:
        """Return the block with its secrets masked, at the same place and of the same size."""
        data = self.mask(block.data)
        if data is block.data:
            return block
        return block.with_lines(data, block.lines, len(data) - block.size)

    def mask_head(self, head: bytes, *, whole: bool) -> bytes:
        """Return the first bytes of a refused line, with their secrets masked.

        Unless the line is `whole`, its end may be the half of a secret, and is left out.
        """
        line = head.removesuffix(b"\n")
        masked = self._mask_line(line)
        if whole:
            return head if masked is line else masked
        return masked[: -min(_CUT, len(masked))] if masked else masked

    def _suspects(self, data: bytes) -> Iterable[int]:
        """Return the numbers of the lines that may hold a secret."""
        if self._hints is None:
            return range(data.count(b"\n"))
        flat = flatten(data)
        found: set[int] = set()
        for hint in self._hints:
            line = start = 0
            while (at := hint(flat, start)) >= 0:
                line += flat.count(b"\n", start, at)
                found.add(line)
                start = flat.find(b"\n", at) + 1
                if not start:
                    break
                line += 1
        return found

    def _mask_line(self, line: bytes) -> bytes:
        """Return `line`, which has no newline, with its secrets masked; itself if it has none."""
        view = View(line)
        matches = self._matches(view.text)
        if not matches:
            return line
        parts: list[bytes] = []
        at = 0
        for start, end, text in _edits(line, view, matches):
            parts += (line[at:start], text)
            at = end
        parts.append(line[at:])
        return b"".join(parts)

    def _matches(self, text: bytes) -> list[Match]:
        """Return what is to be masked, in order and apart: what two rules find is the first's."""
        taken: list[Match] = []
        for masker in self._maskers:
            if not masker.may_find(text):
                continue
            spans = _spans(masker, text)
            self.counts[masker.name] += len(spans)
            if taken:
                spans = list(_free(spans, taken))
            taken = sorted([*taken, *(Match(*span, masker) for span in spans)], key=itemgetter(0))
        return taken


def _spans(masker: Masker, text: bytes) -> list[Span]:
    """Return what `masker` finds, in order and apart."""
    found: Iterable[Span] = masker.find(text)
    if masker.check is not None:
        check = masker.check
        found = (span for each in found for span in check(text, *each))
    spans: list[Span] = []
    for start, end in sorted(_whole_characters(text, *span) for span in found):
        if spans and start < spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return spans


def _whole_characters(text: bytes, start: int, end: int) -> Span:
    """Return the span that has no part of a character in UTF-8: a pattern may match bytes."""
    while start and text[start] & 0xC0 == _CONTINUED:
        start -= 1
    while end < len(text) and text[end] & 0xC0 == _CONTINUED:
        end += 1
    return start, end


def _free(spans: Iterable[Span], taken: Sequence[Match]) -> Iterator[Span]:
    """Yield the parts of `spans` that no match has taken. Both are in order, and apart."""
    at = 0
    for start, end in spans:
        while at < len(taken) and taken[at].end <= start:
            at += 1
        free, after = start, at
        while after < len(taken) and taken[after].start < end:
            if free < taken[after].start:
                yield free, taken[after].start
            free = taken[after].end
            after += 1
        if free < end:
            yield free, end


def _edits(line: bytes, view: View, matches: Sequence[Match]) -> Iterator[Edit]:
    """Yield what to replace in `line`, in order and apart."""
    if not _is_json(line):
        for match in matches:
            secret = view.text[match.start : match.end]
            yield Edit(*view.place(match.start, match.end), match.masker.replace(secret))
        return
    tokens = _TOKEN.finditer(line)  # not all at once: a line of numbers has one for two bytes
    token = next(tokens, None)
    value = None
    done = 0
    for match in matches:
        start, end = view.place(match.start, match.end)
        start = max(start, done)
        while token is not None and token.end() <= start:
            token = next(tokens, None)
        while token is not None and token.start() < end:
            if value is None or value.start != token.start():
                value = _Value(line, token)
            first, last = value.part(start, end)
            if first < last:
                yield Edit(first, last, _text_for(match, view.text, value))
                done = last
            if value.is_text and token.start() < start:
                break  # a match ends with the string in which it begins
            if token.end() >= end:
                break  # another match may begin in the rest of it
            token = next(tokens, None)


class _Value:
    """A value of JSON in a line: a string, or a bare one. It is never copied for a match in it."""

    __slots__ = ("_holds_json", "_line", "end", "is_text", "start")

    def __init__(self, line: bytes, token: re.Match[bytes]) -> None:
        self._line = line
        self.start, self.end = token.span()
        self.is_text = token.start(1) >= 0
        self._holds_json: bool | None = None

    @property
    def holds_json(self) -> bool:
        """True if a string may hold JSON."""
        if self._holds_json is None:
            marks = (b"{", b"[")
            self._holds_json = any(self._line.find(m, self.start, self.end) >= 0 for m in marks)
        return self._holds_json

    def part(self, start: int, end: int) -> Span:
        """Return the part to replace for a match: all of a number, no quotes."""
        if not self.is_text:
            return self.start, self.end
        is_closed = self._line.endswith(b'"', self.start + 1, self.end)
        return max(start, self.start + 1), min(end, self.end - is_closed)


def _text_for(match: Match, text: bytes, value: _Value) -> bytes:
    """Return what stands for a match in `value`.

    It is `null` where JSON has a bare value, also where a string holds JSON.
    """
    if not value.is_text:
        return b"null"
    secret = text[match.start : match.end]
    if _NUMBER.fullmatch(secret) and value.holds_json:
        before = text[max(match.start - _NEAR, 0) : match.start].rstrip()[-1:]
        after = text[match.end : match.end + _NEAR].lstrip()[:1]
        if before in _BEFORE and after in _AFTER:
            return b"null"
    return match.masker.replace(secret)


def _is_json(line: bytes) -> bool:
    """True if the line is JSON, or looks like it."""
    line = line.strip()
    if line[:1] + line[-1:] in _ENCLOSED:
        return True
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except DECODE_FAILURES:
        return False
    return True


def redactor(rules: Sequence[tuple[str, str, With]], salt: bytes) -> Redactor:
    """Return the redactor for `rules`: name, pattern (empty: the built-in of that name), kind."""
    key = blake2b(salt).digest()
    maskers: list[Masker] = []
    for name, pattern, kind in rules:
        replace = replacement(name, kind, key)
        if pattern:
            maskers.append(Masker(name, bool, finder(pattern), None, replace))
        else:
            rule = BUILT_IN[cast("BuiltIn", name)]
            may_find = re.compile(rule.hint).search
            find = spans_of(re.compile(rule.pattern).finditer)
            maskers.append(Masker(name, may_find, find, rule.check, replace))
    built_in = [BUILT_IN[cast("BuiltIn", name)].hint for name, pattern, _ in rules if not pattern]
    return Redactor(maskers, hints_of(built_in, [pattern for _, pattern, _ in rules if pattern]))

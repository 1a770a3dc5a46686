"""Checks what docs/style.md forbids: words in pages and strings, half sentences in docstrings."""

from __future__ import annotations

import ast
import itertools
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md", "CHANGELOG.md", "changelog.d/*.md", "CONTRIBUTING.md", "SECURITY.md",
    "docs/**/*.md", "proto/README.md", "examples/**/README.md", "bench/**/*.md",
)  # fmt: skip
CODE = ("daemon/**/*.py", "proto/**/*.py", "layer/**/*.py", "bench/**/*.py", "examples/**/*.py")
STYLE = "docs/style.md"
_HALF_SENTENCE = re.compile(r"(What|Whether)\b")
_HEADER = "| Not | But |\n|---|---|\n"


def forbidden(page: str) -> dict[str, str]:
    """Return the words of the table in docs/style.md, each with its suggestion.

    Raises ValueError without the table.
    """
    before, header, rest = page.partition(_HEADER)
    if not header:
        raise ValueError(f"{STYLE}: no table begins with {_HEADER!r} after {before[-40:]!r}")
    rows = itertools.takewhile(lambda line: line.startswith("|"), rest.splitlines())
    cells = ([cell.strip() for cell in row.strip("|").split("|")] for row in rows)
    return {row[0]: row[1] for row in cells}


def pattern(words: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern of any of the words, a line's end between two of them included."""
    either = "|".join(words).replace(" ", r"\s+")
    return re.compile(rf"\b(?:{either})\b", re.IGNORECASE)


def in_page(text: str, words: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """Yield the line and the word of each use outside the table itself."""
    before, header, rest = text.partition(_HEADER)
    if header:  # as many lines, without words
        table = "".join(itertools.takewhile(lambda row: row.startswith("|"), rest.splitlines(True)))
        blank = "\n" * (header + table).count("\n")
        text = before + blank + rest[len(table) :]
    for found in words.finditer(text):
        yield text.count("\n", 0, found.start()) + 1, found[0]


def in_code(text: str, words: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """Yield the same for each string, docstrings and parts of f-strings included."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for found in words.finditer(node.value):
                yield node.lineno + node.value.count("\n", 0, found.start()), found[0]


def half_sentences(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the first word of each docstring that is half a sentence.

    A string below an attribute counts as a docstring.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            said = node.value.value
            if isinstance(said, str) and (found := _HALF_SENTENCE.match(said)):
                yield node.lineno, found[0]


def faults(root: Path) -> list[str]:
    """Return a line for each forbidden word and each half sentence below `root`."""
    suggestions = forbidden((root / STYLE).read_text(encoding="utf-8"))
    words = pattern(suggestions)
    found = []
    for globs, look in ((PAGES, in_page), (CODE, in_code)):
        for path in sorted({path for one in globs for path in root.glob(one)}):
            text = path.read_text(encoding="utf-8")
            name = path.relative_to(root)
            for line, word in look(text, words):
                better = suggestions[" ".join(word.lower().split())]
                found.append(f"{name}:{line}: avoid {word!r}; write {better}")
            if look is in_code:
                found += (
                    f"{name}:{line}: a docstring begins with {word!r}; write 'Return ...', "
                    "'True if ...' or what the value is"
                    for line, word in half_sentences(text)
                )
    return found


if __name__ == "__main__":
    problems = faults(ROOT)
    sys.exit("\n".join([*problems, f"{STYLE} says why"]) if problems else 0)

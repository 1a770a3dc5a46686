"""The words that docs/style.md forbids, in pages and in what the code says: `make lint`."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md", "CHANGELOG.md", "changelog.d/*.md", "CONTRIBUTING.md", "SECURITY.md",
    "docs/**/*.md", "proto/README.md", "examples/**/README.md", "bench/README.md",
    "bench/results/*.md",
)  # fmt: skip
CODE = ("daemon/**/*.py", "proto/**/*.py", "layer/**/*.py")
STYLE = "docs/style.md"
_RULE = "These words are not used:"


def forbidden(page: str) -> list[str]:
    """Return the words that the rule of docs/style.md lists. Raises ValueError without it."""
    (line,) = (line for line in page.splitlines() if _RULE in line)
    return re.findall(r"[a-z]+(?: [a-z]+)*", line.partition(_RULE)[2])


def pattern(words: list[str]) -> re.Pattern[str]:
    """Return a pattern of any of the words, a line's end between two of them included."""
    either = "|".join(words).replace(" ", r"\s+")
    return re.compile(rf"\b(?:{either})\b", re.IGNORECASE)


def in_page(text: str, words: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """Yield the line and the word of each use outside the rule itself."""
    for found in words.finditer(text):
        start = text.rfind("\n", 0, found.start()) + 1
        if _RULE not in text[start : found.start()]:
            yield text.count("\n", 0, found.start()) + 1, found[0]


def in_code(text: str, words: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """Yield the same for each string, docstrings and parts of f-strings included."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for found in words.finditer(node.value):
                yield node.lineno + node.value.count("\n", 0, found.start()), found[0]


def faults(root: Path) -> list[str]:
    """Return a line for each use of a forbidden word below `root`."""
    words = pattern(forbidden((root / STYLE).read_text(encoding="utf-8")))
    found = []
    for globs, look in ((PAGES, in_page), (CODE, in_code)):
        for path in sorted({path for one in globs for path in root.glob(one)}):
            text = path.read_text(encoding="utf-8")
            name = path.relative_to(root)
            found += [f"{name}:{line}: avoid {word!r}" for line, word in look(text, words)]
    return found


if __name__ == "__main__":
    problems = faults(ROOT)
    sys.exit("\n".join([*problems, f"{STYLE} says why"]) if problems else 0)

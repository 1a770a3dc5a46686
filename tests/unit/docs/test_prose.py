"""`tests/prose.py`, which `make lint` runs: it finds what docs/style.md forbids."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import prose

RULE = "| Not | But |\n|---|---|\n| nobody | no one |\n| told of | reported |\n\nMore.\n"


def test_the_words_are_those_of_the_page() -> None:
    words = prose.forbidden((prose.ROOT / prose.STYLE).read_text(encoding="utf-8"))
    assert {"nobody", "whoever", "told of", "anew", "meanwhile", "likewise"} < words.keys()
    assert all(words.values())


def test_a_page_without_the_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="no table"):
        prose.forbidden("# Style\n")


def test_no_suggestion_is_forbidden_itself() -> None:
    words = prose.forbidden((prose.ROOT / prose.STYLE).read_text(encoding="utf-8"))
    assert not [each for each in words.values() if prose.pattern(words).search(each)]


@pytest.mark.parametrize(
    ("path", "text", "where"),
    [
        ("README.md", "one\nNobody waits\n", "README.md:2: avoid 'Nobody'; write no one"),
        (
            "docs/more/a.md",
            "It was told\nof it\n",
            "docs/more/a.md:1: avoid 'told\\nof'; write reported",
        ),
        (
            "examples/a/README.md",
            "(nobody)\n",
            "examples/a/README.md:1: avoid 'nobody'; write no one",
        ),
        ("docs/style.md", RULE + "Nobody.\n", "docs/style.md:7: avoid 'Nobody'; write no one"),
        ("daemon/a.py", 'X = f"{1} nobody"\n', "daemon/a.py:1: avoid 'nobody'; write no one"),
        (
            "proto/b/a.py",
            '"""One.\n\nTold of two."""\n',
            "proto/b/a.py:3: avoid 'Told of'; write reported",
        ),
    ],
)
def test_each_use_is_found(tmp_path: Path, path: str, text: str, where: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / prose.STYLE).write_text(RULE)
    assert prose.faults(tmp_path) == []
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(text)
    assert prose.faults(tmp_path) == [where]


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ('"""What this is."""\n', 1, "What"),
        ('def f():\n    """Whether it is.\n\n    More.\n    """\n', 2, "Whether"),
        ('X = 1\n"""What it is for."""\n', 2, "What"),
    ],
)
def test_a_docstring_that_is_half_a_sentence_is_found(
    tmp_path: Path, text: str, line: int, word: str
) -> None:
    """Of modules, functions and attributes."""
    (tmp_path / "docs").mkdir()
    (tmp_path / prose.STYLE).write_text(RULE)
    (tmp_path / "proto").mkdir()
    (tmp_path / "proto" / "a.py").write_text(text)
    (fault,) = prose.faults(tmp_path)
    assert fault.startswith(f"proto/a.py:{line}: a docstring begins with {word!r}; write ")


def test_other_strings_and_words_may_begin_like_one(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / prose.STYLE).write_text(RULE)
    (tmp_path / "daemon").mkdir()
    text = '"""Whatever it is."""\nX = "What"\n\n\ndef f():\n    """Return what it is."""\n'
    (tmp_path / "daemon" / "a.py").write_text(text)
    assert prose.faults(tmp_path) == []


def test_names_and_longer_words_are_none(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    shutil.copyfile(prose.ROOT / prose.STYLE, tmp_path / prose.STYLE)
    (tmp_path / "README.md").write_text("Renewed, untold offers, somebody\n")
    (tmp_path / "daemon").mkdir()
    (tmp_path / "daemon" / "a.py").write_text("anew = 1\n")
    assert prose.faults(tmp_path) == []


def test_the_repository_uses_none() -> None:
    assert prose.faults(prose.ROOT) == []

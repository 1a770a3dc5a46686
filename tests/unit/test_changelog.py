"""The files of changelog.d end up in CHANGELOG.md, by the tool and the settings of this project."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TITLE = "## Unreleased\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the tool looks at, with files of each kind."""
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    fragments = tmp_path / "changelog.d"
    fragments.mkdir()
    for name in ("README.md", "template.md.jinja"):
        shutil.copy(ROOT / "changelog.d" / name, fragments)
    (fragments / "reads-more.added.md").write_text("It reads more.\n")
    (fragments / "long-words.added.md").write_text("It says so in words that\ngo on.\n")
    (fragments / "no-loss.fixed.md").write_text("It lost a line.\n")
    (fragments / "renamed.internal.md").write_text("A module has another name.\n")
    return tmp_path


def collect(project: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "towncrier", "build", "--version", "Unreleased", *options]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def test_what_users_notice_is_put_under_its_title_and_the_files_are_gone(project: Path) -> None:
    before = (project / "CHANGELOG.md").read_text()
    done = collect(project, "--yes")
    assert done.returncode == 0, done.stderr
    head, title, rest = before.partition(TITLE)
    mark, _, entries = rest.lstrip("\n").partition("\n")
    expected = (
        "### Added\n- It says so in words that\n  go on.\n- It reads more.\n\n"
        "### Fixed\n- It lost a line.\n"
    )
    after = (project / "CHANGELOG.md").read_text()
    assert after == f"{head}{title}\n{mark}\n\n{expected}\n{entries.lstrip()}"
    assert sorted(path.name for path in (project / "changelog.d").iterdir()) == [
        "README.md",
        "template.md.jinja",
    ]


def test_collected_twice_nothing_is_lost(project: Path) -> None:
    collect(project, "--yes")
    (project / "changelog.d" / "later.changed.md").write_text("It came later.\n")
    assert collect(project, "--yes").returncode == 0
    text = (project / "CHANGELOG.md").read_text()
    assert text.index(TITLE) < text.index("It came later.") < text.index("It reads more.")


def test_a_file_of_no_kind_is_refused(project: Path) -> None:
    (project / "changelog.d" / "typo.fixde.md").write_text("It is lost.\n")
    done = collect(project, "--draft")
    assert done.returncode != 0
    assert "typo.fixde.md" in done.stderr + done.stdout

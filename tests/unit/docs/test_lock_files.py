"""The lock files hold what `make lock` writes of pyproject.toml, and no address."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
COMMANDS = {
    line.partition(" -o requirements/")[2].split()[0]: line
    for line in (ROOT / "Makefile").read_text().splitlines()
    if "uv pip compile" in line
}


def test_every_lock_file_has_its_command() -> None:
    assert sorted(COMMANDS) == [lock.name for lock in LOCKS]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_file_holds_our_own_dependencies_only_where_its_command_reads_them(
    lock: Path,
) -> None:
    names_project = " pyproject.toml " in COMMANDS[lock.name]
    assert ("telemetryd (pyproject.toml)\n" in lock.read_text()) == names_project


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_no_lock_file_names_an_address(lock: Path) -> None:
    found = [
        line
        for line in lock.read_text().splitlines()
        if re.search(r"://|--(extra-)?index|--find-links", line)
    ]
    assert found == []

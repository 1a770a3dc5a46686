"""The ranges that the launcher has read early are found by the names of sections and symbols."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from layer import early, elf
from layer.problem import BuildError

PROGRAM = Path("/bin/sh").resolve().read_bytes()


def ranges(*reads: tuple[str, str]) -> list[tuple[int, int]]:
    """Offset and length of each line of the header."""
    found = re.findall(r"\{(\d+), (\d+)\}", early.header(PROGRAM, reads))
    return [(int(offset), int(length)) for offset, length in found]


def test_from_one_name_up_to_the_end_of_another() -> None:
    """Beginning at a page."""
    ((text, size),) = elf.places(PROGRAM)[".text"]
    (whole, part) = ranges(("", ".text"), (".text", ".text"))
    assert whole == (0, text + size)
    assert part == (text - text % 4096, size + text % 4096)


@pytest.mark.parametrize(
    ("first", "last", "told"),
    [
        ("", "no_such_symbol", "there is no no_such_symbol"),
        (".text", ".interp", ".interp does not lie behind .text"),
    ],
)
def test_a_name_that_no_longer_fits_ends_the_build(first: str, last: str, told: str) -> None:
    """A changed version fails the test, which names the line to change."""
    with pytest.raises(BuildError, match=told):
        ranges((first, last))

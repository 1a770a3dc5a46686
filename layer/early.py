"""The parts that the launcher asks the kernel to read early, as a C header for it."""

from __future__ import annotations

from collections.abc import Sequence

from layer import elf
from layer.problem import BuildError

HEADER = "early.h"
_PAGE = 4096


def header(executable: bytes, reads: Sequence[Sequence[str]]) -> str:
    """`early.h` for an executable that still has its symbols. Raises BuildError.

    `reads` are pairs of names as `contents.toml` has them.
    """
    places = elf.places(executable)
    lines = []
    for first, last in reads:
        start = _place(places, first)[0] if first else 0
        end = sum(_place(places, last))
        if end <= start:
            raise BuildError(f"contents.toml, [early]: {last} does not lie behind {first}")
        start -= start % _PAGE
        lines.append(f"    {{{start}, {end - start}}},\n")
    return (
        "static const struct {\n    unsigned offset, length;\n} early_reads[] = {\n"
        + "".join(lines)
        + "};\n"
    )


def _place(places: dict[str, list[tuple[int, int]]], name: str) -> tuple[int, int]:
    found = places.get(name, [])
    if len(found) != 1:
        what = f"{len(found)} symbols are named" if found else "there is no"
        raise BuildError(f"contents.toml, [early]: {what} {name}")
    return found[0]

"""The rows of a block, in parts, so that they are copied only once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

PARTS: Final = 8
"""Parts of a row: time, type and level, message, middle, attributes, id (two), end."""


class Rows(NamedTuple):
    """The rows of a block, each in `PARTS` parts, of which the last one is to be set."""

    parts: list[bytes]

    def join(self, indices: Sequence[int], ends: Sequence[bytes]) -> bytes:
        """Return the rows at `indices`, which increase, with these ends."""
        parts = self.parts
        if len(indices) * PARTS < len(parts):
            starts = [index * PARTS for index in indices]
            parts = [part for start in starts for part in parts[start : start + PARTS]]
        parts[PARTS - 1 :: PARTS] = ends
        return b"".join(parts)

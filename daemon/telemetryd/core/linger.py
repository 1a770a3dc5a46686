"""Decides the time that a batch waits to fill.

It is short under light load, so that a lone line is delivered soon. It is longer under load, so
that there are fewer and larger batches.
"""

from __future__ import annotations

from typing import Final

SHORTEST_PART: Final = 8
"""The shortest wait is this part of the longest."""
_WORTH_IT: Final = 4
"""Blocks in one batch that show that waiting was worth it."""
_HALF: Final = 0.5
"""Part of a full batch that shows the same."""


class Linger:
    """The wait of one sink, between `longest` seconds and an eighth of that."""

    __slots__ = ("_longest", "_shortest", "seconds")

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._shortest = longest / SHORTEST_PART
        self.seconds = self._shortest
        """Seconds that the next batch waits."""

    def limit(self, longest: float) -> None:
        """Set other limits of the wait."""
        if longest != self._longest:
            self._longest, self._shortest = longest, longest / SHORTEST_PART
            self.seconds = self._shortest

    def on_batch(self, blocks: int, filled: float) -> None:
        """Note that a batch of `blocks` was taken. `filled`: the part of its size that it used."""
        if blocks >= _WORTH_IT or filled >= _HALF:
            self.seconds = min(self._longest, self.seconds * 2)
        elif blocks <= 1:
            self.seconds = max(self._shortest, self.seconds / 2)

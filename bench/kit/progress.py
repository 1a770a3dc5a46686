"""The progress of a measurement, on standard error."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Final

_BAR: Final = 30


class Progress:
    """A bar for so many steps, alike enough to tell how long the rest will take."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._began = time.monotonic()

    def show(self, done: int, total: int, what: str) -> None:
        """`done` steps of `total` are over; `what` the last, or the next, one is."""
        left = ""
        if done:
            left = f", {(time.monotonic() - self._began) / done * (total - done):.0f} s left"
        filled = round(_BAR * done / total)
        bar = "#" * filled + "." * (_BAR - filled)
        say(f"[{bar}] {done}/{total} {self._name}: {what}{left}")

    def end(self) -> None:
        """Take the bar away."""
        say("")


def say(text: str) -> None:
    """Show `text` in place of the last one on a terminal, on a line of its own elsewhere."""
    if sys.stderr.isatty():
        text = text[: shutil.get_terminal_size().columns - 1]  # a second row would stay
        print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)

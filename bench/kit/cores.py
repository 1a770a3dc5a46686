"""Assigns cores: the measured program has the first, everything else has the others."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

ALLOWED: Final = sorted(os.sched_getaffinity(0))
"""As this process was started, whatever it was bound to since."""
SEVERAL: Final = len(ALLOWED) > 1


def on_core(number: int) -> list[str]:
    """Return the prefix that binds a command to an allowed core, from 0; empty with one core."""
    return ["taskset", "-c", str(ALLOWED[number])] if SEVERAL else []


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Leave the first core to what is measured, where there are several."""
    before = os.sched_getaffinity(0)
    if SEVERAL:
        os.sched_setaffinity(0, ALLOWED[1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)

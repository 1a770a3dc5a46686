"""Stands in for `asyncio.base_events`: uvloop imports it, and has a loop of its own."""

from typing import Any

import _become


def __getattr__(name: str) -> Any:
    return _become.attribute(globals(), name)

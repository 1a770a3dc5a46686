"""Stands in for `msgspec.inspect`: msgspec imports it, and its JSON schemas need it."""

from typing import Any

import _become


def __getattr__(name: str) -> Any:
    return _become.attribute(globals(), name)

"""Stands in for `selectors`: `socket` imports it, for `sendfile`."""

from typing import Any

import _become


def __getattr__(name: str) -> Any:
    return _become.attribute(globals(), name)

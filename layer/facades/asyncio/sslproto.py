"""Stands in for `asyncio.sslproto`: uvloop imports it, and has TLS of its own."""

from typing import Any

import _become


def __getattr__(name: str) -> Any:
    return _become.attribute(globals(), name)

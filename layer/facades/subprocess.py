"""Stands in for `subprocess`: asyncio and uvloop take its constants, uvloop an exception."""

from typing import Any

import _become

PIPE = -1
STDOUT = -2
DEVNULL = -3


def _error(text: str) -> Any:
    return _become.attribute(globals(), "SubprocessError")(text)


_FOR_UVLOOP = {"SubprocessError": _error}


def __getattr__(name: str) -> Any:
    return _become.attribute(globals(), name)

"""Stands in for `logging`: at the start loggers are only taken, for errors that seldom come."""

from collections.abc import Callable
from typing import Any

import _become

CRITICAL = 50
ERROR = 40
WARNING = 30
INFO = 20
DEBUG = 10
NOTSET = 0

_callbacks: list[Callable[[], None]] = []


class _Logger:
    """A logger that is made when something of it is needed."""

    __slots__ = ("_named",)

    def __init__(self, name: str | None) -> None:
        object.__setattr__(self, "_named", name)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(_real(self), attribute)

    def __setattr__(self, attribute: str, value: Any) -> None:
        setattr(_real(self), attribute, value)


def _real(logger: _Logger) -> Any:
    return _become.attribute(globals(), "getLogger")(object.__getattribute__(logger, "_named"))


def getLogger(name: str | None = None) -> Any:  # noqa: N802 - its name
    """As `logging.getLogger`."""
    return _Logger(name)


def when_loaded(callback: Callable[[], None]) -> None:
    """Call `callback` once the real module is there, before anything is logged."""
    if "__getattr__" in globals():
        _callbacks.append(callback)
    else:
        callback()


def _after() -> None:
    while _callbacks:
        _callbacks.pop(0)()


def __getattr__(name: str) -> Any:
    return _become.attribute(globals(), name)

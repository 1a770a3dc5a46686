"""Stands in for `traceback`: asyncio and uvloop take names of it, for the debug mode of a loop."""

import sys
from typing import Any

import _become


def extract_stack(frame: Any = None, limit: int | None = None) -> Any:
    """As `traceback.extract_stack`."""
    frame = frame or sys._getframe().f_back  # noqa: SLF001 - as there
    return _become.attribute(globals(), "extract_stack")(frame, limit)


class _StackSummary:
    @staticmethod
    def extract(*arguments: Any, **named: Any) -> Any:
        return _become.attribute(globals(), "StackSummary").extract(*arguments, **named)


def _walk_stack(frame: Any) -> Any:
    return _become.attribute(globals(), "walk_stack")(frame)


def _format_list(extracted: Any) -> Any:
    return _become.attribute(globals(), "format_list")(extracted)


_FOR_UVLOOP = {
    "StackSummary": _StackSummary,
    "walk_stack": _walk_stack,
    "format_list": _format_list,
}


def __getattr__(name: str) -> Any:
    return _become.attribute(globals(), name)

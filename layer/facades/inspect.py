"""Stands in for `inspect`: asyncio and uvloop need two functions of it at the start."""

from types import FunctionType, GeneratorType, MethodType
from typing import Any

import _become

_CO_COROUTINE = 0x80


def isgenerator(obj: object) -> bool:
    """As `inspect.isgenerator`."""
    return isinstance(obj, GeneratorType)


def iscoroutinefunction(obj: object) -> bool:
    """As `inspect.iscoroutinefunction`; decides itself only where nothing but a flag decides."""
    function = obj.__func__ if isinstance(obj, MethodType) else obj
    if type(function) is FunctionType and not function.__dict__:
        return bool(function.__code__.co_flags & _CO_COROUTINE)
    found: bool = _become.attribute(globals(), "iscoroutinefunction")(obj)
    return found


def __getattr__(name: str) -> Any:
    return _become.attribute(globals(), name)

"""Stands in for `inspect` in the layer: asyncio and uvloop need two functions of it at the start.

Every other name loads the real module, frozen as `_full_inspect`, which costs 9 ms.
"""

import importlib
from types import FunctionType, GeneratorType, MethodType
from typing import Any

_CO_COROUTINE = 0x80


def isgenerator(obj: object) -> bool:
    """As `inspect.isgenerator`."""
    return isinstance(obj, GeneratorType)


def iscoroutinefunction(obj: object) -> bool:
    """As `inspect.iscoroutinefunction`; decides itself only where nothing but a flag decides."""
    function = obj.__func__ if isinstance(obj, MethodType) else obj
    if type(function) is FunctionType and not function.__dict__:
        return bool(function.__code__.co_flags & _CO_COROUTINE)
    found: bool = __getattr__("iscoroutinefunction")(obj)
    return found


def __getattr__(name: str) -> Any:
    return getattr(importlib.import_module("_full_inspect"), name)

"""How a facade becomes the module that it stands in for, when more of it is needed.

The real module's code runs in the facade's own namespace. Code that has imported the facade then
has the real module, under its own name. A facade's `__getattr__` calls `attribute`. If the facade
has `_FOR_UVLOOP`, uvloop gets these objects while it loads, and the real ones as soon as they are
there. If the facade has a function `_after`, that is called when it has become real.
"""

import sys
from _frozen_importlib import _ModuleLockManager  # type: ignore[attr-defined]
from typing import Any

_becoming: set[str] = set()


def attribute(facade: dict[str, Any], name: str) -> Any:
    """Return what the real module has under `name`; `facade` is the namespace of its facade.

    Raises AttributeError if it has nothing of that name.
    """
    if "__getattr__" in facade:
        if name in facade.get("_FOR_UVLOOP", ()) and _uvloop_loads():
            return facade["_FOR_UVLOOP"][name]
        if name != "__path__":  # which an import asks for, to know whether this is a package
            _become(facade)
    if name in facade:
        return facade[name]
    module = facade["__name__"]
    raise AttributeError(f"module {module!r} has no attribute {name!r}", name=name)


def _uvloop_loads() -> bool:
    module = sys.modules.get("uvloop.loop")
    return module is not None and getattr(module.__spec__, "_initializing", False)


def _become(facade: dict[str, Any]) -> None:
    module = facade["__name__"]
    frozen = f"_full_{module.replace('.', '_')}"
    with _ModuleLockManager(frozen):  # as an import: another thread waits until it is complete
        if "__getattr__" not in facade or module in _becoming:
            return
        _becoming.add(module)
        try:
            exec(code_of(frozen), facade)  # noqa: S102 - as an import does
        finally:
            _becoming.discard(module)
        del facade["__getattr__"]
        if "_FOR_UVLOOP" in facade and "uvloop.loop" in sys.modules:
            tell_uvloop(module)
        if "_after" in facade:
            facade["_after"]()


def code_of(frozen: str) -> Any:
    """Return the code of a frozen module."""
    import _imp  # noqa: PLC0415 - tests have other means

    return _imp.get_frozen_object(frozen)


def tell_uvloop(module: str) -> None:
    """Have uvloop hold the real module's objects."""
    import _uvloop_names  # noqa: PLC0415 - layer/c/uvloop.c

    _uvloop_names.renew(module)

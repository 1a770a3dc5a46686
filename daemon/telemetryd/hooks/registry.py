"""Finds the class of a hook by its entry point.

[project.entry-points."telemetryd.hooks"]
secrets = "my_package:SecretsCache"
"""

from __future__ import annotations

from typing import Any, Final

GROUP: Final = "telemetryd.hooks"


class HookUnavailable(Exception):  # noqa: N818 - a reason, as `SinkUnavailable`
    """No hook has this type, or its package can't be loaded. The text says which and why."""


def hook_class(name: str) -> Any:
    """Return what the entry point `name` stands for. Raises HookUnavailable."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - 20 ms, in the hook's thread

    entries = entry_points(group=GROUP, name=name)
    if not entries:
        others = sorted({entry.name for entry in entry_points(group=GROUP)})
        known = ", ".join(others) or "none is installed"
        raise HookUnavailable(f"no hook has this type; known types: {known}")
    entry = next(iter(entries))
    try:
        found = entry.load()
    except (Exception, SystemExit) as error:  # a foreign package may fail in any way
        raise HookUnavailable(f"entry point {entry.value} can't be loaded: {error!r}") from error
    if not callable(found):
        raise HookUnavailable(f"entry point {entry.value} is no class")
    return found

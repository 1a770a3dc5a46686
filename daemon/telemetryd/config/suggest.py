"""Messages about keys that do not exist, with the key that was probably meant.

This module is imported only if there is such a key.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

from telemetryd.config.sources import PREFIX


def variable(key: str) -> str:
    """Return the variable of a dotted key: TELEMETRYD_TELEMETRY__PORT for `telemetry.port`."""
    return PREFIX + key.replace(".", "__").upper()


def did_you_mean(key: str, keys: Collection[str]) -> str:
    """Return the words "; did you mean ...?" for the nearest of `keys`, "" if none is near."""
    near = closest(key, keys)
    return f"; did you mean {near}?" if near else ""


def unknown_variable(
    path: Sequence[str], keys: Collection[str], sections: Collection[str], common: Collection[str]
) -> str:
    """Return a message about a variable that names no key.

    `keys` and `sections` exist in this configuration; `common` are the keys every sink has.
    """
    key = ".".join(path)
    if key == "sinks":
        return f"sinks is a section; set its keys as {variable(key)}__<NAME>__TYPE and so on"
    if path[0] == "sinks" and len(path) == len(("sinks", "name")) and path[1]:
        return f"{key} is a section; set its keys as {variable(key)}__TYPE and so on"
    if key in sections:
        return f"{key} is a section; set its keys as {variable(key)}__<KEY>"
    regrouped = _regroup(path, keys, common)
    if not all(path):
        hint = f"; did you mean {regrouped}?" if regrouped else ""
        return f"names no key; the form is {PREFIX}<SECTION>__<KEY>{hint}"
    hint = f"; did you mean {regrouped}?" if regrouped else did_you_mean(key, keys)
    return f"unknown key {key}{hint}"


def closest(key: str, keys: Collection[str]) -> str:
    """Return the one of `keys` (dotted) that was probably meant by `key`, "" if none is near."""
    if key.lower() in keys:
        return key.lower()
    section, _, last = key.lower().rpartition(".")
    same_name = [known for known in keys if known.rpartition(".")[2] == last]
    if len(same_name) == 1:
        return same_name[0]
    # A key in the same section is nearer than one with a similar name elsewhere.
    siblings = {k.rpartition(".")[2]: k for k in keys if k.rpartition(".")[0] == section}
    for near in difflib.get_close_matches(last, sorted(siblings), n=1, cutoff=0.6):
        return siblings[near]
    return next(iter(difflib.get_close_matches(key.lower(), sorted(keys), n=1, cutoff=0.75)), "")


def _regroup(path: Sequence[str], keys: Collection[str], common: Collection[str]) -> str:
    """Return the variable of `path` with its underscores doubled in the right places, or "".

    TELEMETRYD_TELEMETRY_PORT reads as the key `telemetry_port`.
    """
    flat = _flat("_".join(path))
    for key in sorted(keys):
        if _flat(key) == flat:
            return variable(key)
    for key in sorted(common, key=len, reverse=True):
        name = flat.removeprefix("sinks_").removesuffix(f"_{key}")
        if name and flat == f"sinks_{name}_{key}":
            return variable(f"sinks.{name}.{key}")
    return ""


def _flat(text: str) -> str:
    return "_".join(part for part in text.replace(".", "_").split("_") if part)

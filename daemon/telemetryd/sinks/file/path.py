"""The `path` template of the file sink: placeholders, and values made safe for a path."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from telemetryd.sinks.base import SinkContext

PLACEHOLDERS: Final = ("function", "version", "instance", "date")
_FIELD: Final = re.compile(r"\{([^{}]*)\}")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")
_MAX_VALUE: Final = 128
_DAY_SECONDS: Final = 86_400


def template_problems(template: str) -> Iterator[str]:
    """Yield the faults of a path template, one sentence each."""
    if not template:
        yield "must name a file, such as /tmp/telemetry/{function}.ndjson"
    if template.endswith("/"):
        yield "must name a file, not a directory"
    if "\0" in template:
        yield "must not hold a NUL character"
    for name in _FIELD.findall(template):
        if name not in PLACEHOLDERS:
            known = ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
            yield f"unknown placeholder {{{name}}}; known: {known}"


def safe(value: str) -> str:
    """Return `value` as one component of a path: not hidden, empty or too long."""
    cleaned = _UNSAFE.sub("_", value)[:_MAX_VALUE].lstrip(".")
    return cleaned or "_"


def expand(template: str, context: SinkContext, now: float) -> str:
    """Return the path for the epoch second `now`; `{date}` is the UTC day, as 2026-03-14."""
    day = int(now // _DAY_SECONDS)
    return _fill(template, context.function, context.version, context.instance, day)


def bases(template: str, context: SinkContext) -> set[str]:
    """Return the paths of `template` on other days, and for other processes of this function.

    Those for which something is there: the file itself, or one named after it (`<path>.` and more).
    Blocking; raises OSError only where a directory can't be read that is there.
    """
    fixed = {"function": re.escape(safe(context.function)), "version": safe(context.version)}
    fixed["version"] = re.escape(fixed["version"])
    shapes = {**fixed, "instance": "[0-9a-f]{32}", "date": r"\d{4}-\d\d-\d\d"}
    found = {"/" if template.startswith("/") else ""}
    *parts, name = [part for part in template.split("/") if part]
    for part in parts:
        shape = _shape(part, shapes)
        found = {
            os.path.join(directory, each)  # noqa: PTH118 - pathlib takes 2 ms
            for directory in found
            for each in ([part] if shape is None else _names(directory, shape))
        }
    last = _shape(name, shapes) or re.compile(re.escape(name))
    return {
        os.path.join(directory, each)  # noqa: PTH118
        for directory in found
        for each in _names(directory, last)
    }


def _shape(part: str, shapes: dict[str, str]) -> re.Pattern[str] | None:
    """Return a pattern of the names that a template's part matches; None if only itself."""
    pieces = _FIELD.split(part)  # text and names in turn
    if len(pieces) == 1:
        return None
    return re.compile(
        "".join(shapes[p] if odd % 2 else re.escape(p) for odd, p in enumerate(pieces))
    )


def _names(directory: str, shape: re.Pattern[str]) -> set[str]:
    """Return the matches of `shape` in the names of `directory`, before a dot or as a whole."""
    try:
        with os.scandir(directory or ".") as entries:
            matches = [(entry.name, shape.match(entry.name)) for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return set()
    return {
        match[0]
        for name, match in matches
        if match is not None and (match.end() == len(name) or name[match.end()] == ".")
    }


@lru_cache(maxsize=64)  # asked for before every write
def _fill(template: str, function: str, version: str, instance: str, day: int) -> str:
    values = {
        "function": safe(function),
        "version": safe(version),
        "instance": instance,
        "date": time.strftime("%Y-%m-%d", time.gmtime(day * _DAY_SECONDS)),
    }
    return _FIELD.sub(lambda match: values[match[1]], template)

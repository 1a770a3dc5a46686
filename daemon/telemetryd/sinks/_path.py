"""The `path` template of the file sink: placeholders, and values made safe for a path."""

from __future__ import annotations

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
    """What is wrong with a path template, one sentence each."""
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
    """`value` as one component of a path: no separators, not hidden, not empty, not endless."""
    cleaned = _UNSAFE.sub("_", value)[:_MAX_VALUE].lstrip(".")
    return cleaned or "_"


def expand(template: str, context: SinkContext, now: float) -> str:
    """The path for the epoch second `now`; `{date}` is the UTC day, as 2026-03-14."""
    day = int(now // _DAY_SECONDS)
    return _filled(template, context.function, context.version, context.instance, day)


@lru_cache(maxsize=64)  # asked for before every write
def _filled(template: str, function: str, version: str, instance: str, day: int) -> str:
    values = {
        "function": safe(function),
        "version": safe(version),
        "instance": instance,
        "date": time.strftime("%Y-%m-%d", time.gmtime(day * _DAY_SECONDS)),
    }
    return _FIELD.sub(lambda match: values[match[1]], template)

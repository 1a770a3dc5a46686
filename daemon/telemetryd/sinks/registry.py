"""Finds a sink class by the `type` of its section: ours by name, others by entry point.

A third-party package registers a sink like this, and `type = "queue"` then finds it:

    [project.entry-points."telemetryd.sinks"]
    queue = "my_package:QueueSink"

Our sinks are imported only when used. Entry points are read only if a type is not ours, because
`importlib.metadata` costs more than the whole file sink.
"""

from __future__ import annotations

import importlib
from typing import Final

from telemetryd.sinks.base import Sink

GROUP: Final = "telemetryd.sinks"

BUILT_IN: Final = {
    "emf": ("telemetryd.sinks.emf.sink", "EmfSink"),
    "file": ("telemetryd.sinks.file.sink", "FileSink"),
    "http": ("telemetryd.sinks.http.sink", "HttpSink"),
    "kinesis": ("telemetryd.sinks.kinesis.sink", "KinesisSink"),
    "null": ("telemetryd.sinks.null", "NullSink"),
    "otlp": ("telemetryd.sinks.otlp.sink", "OtlpSink"),
    "stdout": ("telemetryd.sinks.stdout", "StdoutSink"),
}


class UnknownSinkType(Exception):  # noqa: N818 - becomes a problem line of ConfigError
    """No sink has this type, or its package can't be loaded. The text says which and why."""


def sink_class(sink_type: str) -> type[Sink]:
    """Return the class for `type = sink_type`. Raises UnknownSinkType."""
    if sink_type in BUILT_IN:
        module, name = BUILT_IN[sink_type]
        found: type[Sink] = getattr(importlib.import_module(module), name)
        return found
    for entry in _entry_points():
        if entry.name == sink_type:
            return _load(entry)
    raise UnknownSinkType(f"no sink has this type; known types: {', '.join(known_types())}")


def known_types() -> list[str]:
    """Return every type that `sink_class` would find, sorted."""
    return sorted({*BUILT_IN, *(entry.name for entry in _entry_points())})


def _entry_points() -> importlib.metadata.EntryPoints:
    import importlib.metadata  # noqa: PLC0415 - 20 ms that only third-party sinks pay

    return importlib.metadata.entry_points(group=GROUP)


def _load(entry: importlib.metadata.EntryPoint) -> type[Sink]:
    try:
        found = entry.load()
    except (Exception, SystemExit) as error:  # a foreign package may fail in any way
        raise UnknownSinkType(f"entry point {entry.value} can't be loaded: {error!r}") from error
    if not (isinstance(found, type) and issubclass(found, Sink)):
        raise UnknownSinkType(f"entry point {entry.value} is not a telemetryd Sink class")
    return found

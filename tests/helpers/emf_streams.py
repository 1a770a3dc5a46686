"""What tests of the EMF sink share: a sink that needs no server, its documents, and their sums."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from telemetryd.clock import Clock
from telemetryd.sinks.base import Item
from telemetryd.sinks.emf.config import EmfConfig
from telemetryd.sinks.emf.sink import EmfSink
from telemetryd.testing import LogBook, context
from telemetryd_proto.framing import Block

STREAMS = Path(__file__).parents[2] / "examples" / "streams"
NOW = 1_778_000_000.0
"""What time the sink believes it is."""
LEVELS = ("memory_size",)
"""Metrics of which a document keeps distinct values: their sums depend on the batches."""

Document = dict[str, Any]


def config(**keys: object) -> EmfConfig:
    """A configuration as the loader would make it, with all metrics unless `metrics` says which."""
    every = {"type": "emf", "metrics": ["*"], "count_log_errors": False}
    made = msgspec.convert({**every, **keys}, EmfConfig)
    assert list(made.problems()) == []
    return made


def sink(
    *, function: str = "local", version: str = "$LATEST", log: LogBook | None = None, **keys: object
) -> EmfSink:
    """A sink; outside Lambda unless it has a `function`."""
    clock = Clock(wall=lambda: NOW)
    return EmfSink(config(**keys), context(log, function=function, version=version, clock=clock))


def stream(name: str) -> list[bytes]:
    """The lines of a sample stream, with their newlines."""
    return (STREAMS / f"{name}.ndjson").read_bytes().splitlines(keepends=True)


def event(kind: str, record: object, time: str = "2026-03-14T10:15:30.000Z") -> bytes:
    """One line of the stream."""
    return json.dumps({"time": time, "type": kind, "record": record}).encode() + b"\n"


def start(request: str, time: str = "2026-03-14T10:15:30.000Z", **more: object) -> bytes:
    return event("platform.start", {"requestId": request, **more}, time)


def done(request: str, time: str = "2026-03-14T10:15:31.000Z", **more: object) -> bytes:
    record = {"requestId": request, "status": "success", "metrics": {"durationMs": 10.5}, **more}
    return event("platform.runtimeDone", record, time)


def report(request: str, time: str = "2026-03-14T10:15:32.000Z", **more: object) -> bytes:
    metrics = {
        "durationMs": 12.5, "billedDurationMs": 13, "memorySizeMB": 256, "maxMemoryUsedMB": 64,
    }  # fmt: skip
    record = {"requestId": request, "status": "success", "metrics": metrics, **more}
    return event("platform.report", record, time)


def block(lines: Sequence[bytes], source: int = 1) -> Block:
    return Block(b"".join(lines), len(lines), source)


def documents(items: Iterable[Item]) -> list[Document]:
    """What the items carry to CloudWatch, decoded."""
    return [json.loads(item.payload) for item in items if item.payload]


def packed(subject: EmfSink, *batches: Sequence[bytes]) -> list[Document]:
    """The documents of `batches`, each a batch of one block."""
    return [doc for lines in batches if lines for doc in documents(subject.pack([block(lines)]))]


def metrics(document: Document) -> dict[str, list[float]]:
    """Every metric of a document and its values."""
    found = {}
    for directive in document["_aws"]["CloudWatchMetrics"]:
        for definition in directive["Metrics"]:
            value = document[definition["Name"]]
            found[definition["Name"]] = value if isinstance(value, list) else [value]
    return found


def totals(found: Iterable[Document]) -> dict[tuple[str, str, int], dict[str, list[float]]]:
    """What CloudWatch would make of documents.

    By function, version and minute: sums for counts, for the rest the values in order of size.
    """
    result: dict[tuple[str, str, int], dict[str, list[float]]] = defaultdict(dict)
    sums = ("Count", "None")
    for document in found:
        minute = document["_aws"]["Timestamp"] // 60_000
        into = result[document["function_name"], document["function_version"], minute]
        units = {
            definition["Name"]: definition["Unit"]
            for directive in document["_aws"]["CloudWatchMetrics"]
            for definition in directive["Metrics"]
        }
        for name, values in metrics(document).items():
            held = [*into.get(name, []), *values]
            if units[name] in sums:
                held = [sum(held)]
            elif name in LEVELS:
                held = list(set(held))
            into[name] = sorted(held)
    for into in result.values():
        for name, values in into.items():
            into[name] = [round(value, 9) for value in values]  # adding up makes noise
    return dict(result)

"""Telemetry lines of a given mean size: text and JSON function logs, 6 % platform events."""

from __future__ import annotations

import json
import random

_WORDS = ("order", "customer", "total=12.50", "sku-4711", "shipped", "the", "latency", "retry")


def block_of_lines(mean_bytes: int, block_bytes: int = 1024 * 1024, seed: int = 1) -> bytes:
    """About `block_bytes` of whole lines whose mean length, newline included, is `mean_bytes`."""
    rng = random.Random(seed)
    lines: list[bytes] = []
    size = 0
    while size < block_bytes:
        wanted = mean_bytes * (len(lines) + 1) - size  # steer the mean
        line = _line(rng, len(lines), max(120, min(2 * mean_bytes, wanted)))
        lines.append(line)
        size += len(line)
    return b"".join(lines)


def _line(rng: random.Random, number: int, size: int) -> bytes:
    stamp = (
        f"2026-03-14T10:{number // 60000 % 60:02d}:{number // 1000 % 60:02d}.{number % 1000:03d}Z"
    )
    request = f"{rng.getrandbits(32):08x}-d9cb-469f-a165-{rng.getrandbits(48):012x}"
    kind = rng.random()
    event: dict[str, object] = {"time": stamp, "type": "function"}
    trace = {"type": "X-Amzn-Trace-Id", "value": ""}
    if kind < 0.02:
        start = {"requestId": request, "version": "$LATEST", "tracing": trace}
        event |= {"type": "platform.start", "record": start}
    elif kind < 0.04:
        metrics = {"durationMs": round(rng.random() * 900, 3), "producedBytes": 348}
        done = {"requestId": request, "status": "success", "metrics": metrics, "tracing": trace}
        event |= {"type": "platform.runtimeDone", "record": done}
    elif kind < 0.06:
        metrics = {"durationMs": 278.928, "billedDurationMs": 279, "memorySizeMB": 512}
        metrics["maxMemoryUsedMB"] = 87
        report = {"requestId": request, "status": "success", "metrics": metrics, "tracing": trace}
        event |= {"type": "platform.report", "record": report}
    elif kind < 0.5:
        event["record"] = f"[INFO]\t{stamp}\t{request}\t\n"
    else:
        event["record"] = {"timestamp": stamp, "level": "INFO", "requestId": request, "message": ""}
    text = json.dumps(event, separators=(",", ":"))
    words: list[str] = []
    while (missing := size - len(text) - 1 - sum(len(word) + 1 for word in words)) > 0:
        words.append(rng.choice(_WORDS)[:missing])
    record = event["record"]
    padding = " ".join(words)
    if isinstance(record, str):
        event["record"] = record[:-1] + padding + "\n"
    elif isinstance(record, dict) and "message" in record:
        record["message"] = padding
    else:
        trace["value"] = padding
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"

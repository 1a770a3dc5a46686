"""Telemetry lines of given mean sizes: text and JSON function logs, and platform events.

The lines of a block report invocations, one after the other: `start`, what the function logs,
`runtimeDone`, `report`, under one request id.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Final

BLOCK_BYTES: Final = 1024 * 1024
_LIFE: Final = ("platform.start", "platform.runtimeDone", "platform.report")
_WORDS: Final = (
    "order",
    "customer",
    "total=12.50",
    "sku-4711",
    "shipped",
    "the",
    "latency",
    "retry",
)
_FAMILY: Final = b"-d9cb-469f-a165-"
"""The middle of every request id, which nothing else holds."""
_LEAST_BYTES: Final = 120
"""Of a line: what a platform event needs."""


def block_of_lines(mean_bytes: int, block_bytes: int = BLOCK_BYTES, seed: int = 1) -> bytes:
    """About `block_bytes` of whole lines whose mean length, newline included, is `mean_bytes`."""
    return mixed_block([(mean_bytes, 1.0)], block_bytes=block_bytes, seed=seed)


def of_other_invocations(block: bytes, number: int) -> bytes:
    """`block` with all request ids replaced by others, the same ones for the same `number`."""
    return block.replace(_FAMILY, b"-%04x-469f-a165-" % number)


def mixed_block(
    sizes: Sequence[tuple[int, float]],
    *,
    platform_events: float = 0.06,
    json_logs: float = 0.53,
    block_bytes: int = BLOCK_BYTES,
    seed: int = 1,
) -> bytes:
    """About `block_bytes` of whole lines of several mean sizes, each with its share of the lines.

    `platform_events` is their share of the lines, `json_logs` that of the function's lines.
    """
    rng = random.Random(seed)
    written = [(0, 0)] * len(sizes)  # lines and bytes of each size so far
    weights = [share for _, share in sizes]
    lines: list[bytes] = []
    request, told = _request(rng), 0
    total = 0
    while total < block_bytes:
        at = rng.choices(range(len(sizes)), weights)[0] if len(sizes) > 1 else 0
        mean, (count, size) = sizes[at][0], written[at]
        wanted = mean * (count + 1) - size  # steer the mean
        bounded = max(_LEAST_BYTES, min(2 * mean, wanted))
        kind = "function"
        if rng.random() < platform_events:
            kind, told = _LIFE[told % len(_LIFE)], told + 1
            request = _request(rng) if kind == _LIFE[0] else request
        line = _line(rng, len(lines), bounded, kind, request, json_logs)
        written[at] = (count + 1, size + len(line))
        lines.append(line)
        total += len(line)
    return b"".join(lines)


def _request(rng: random.Random) -> str:
    return f"{rng.getrandbits(32):08x}{_FAMILY.decode()}{rng.getrandbits(48):012x}"


def _line(
    rng: random.Random, number: int, size: int, kind: str, request: str, json_logs: float
) -> bytes:
    stamp = (
        f"2026-03-14T10:{number // 60000 % 60:02d}:{number // 1000 % 60:02d}.{number % 1000:03d}Z"
    )
    event: dict[str, object] = {"time": stamp, "type": kind}
    trace = {"type": "X-Amzn-Trace-Id", "value": ""}
    if kind == "platform.start":
        start = {"requestId": request, "version": "$LATEST", "tracing": trace}
        event["record"] = start
    elif kind == "platform.runtimeDone":
        metrics = {"durationMs": round(rng.random() * 900, 3), "producedBytes": 348}
        done = {"requestId": request, "status": "success", "metrics": metrics, "tracing": trace}
        event["record"] = done
    elif kind == "platform.report":
        metrics = {"durationMs": 278.928, "billedDurationMs": 279, "memorySizeMB": 512}
        metrics["maxMemoryUsedMB"] = 87
        report = {"requestId": request, "status": "success", "metrics": metrics, "tracing": trace}
        event["record"] = report
    elif rng.random() >= json_logs:
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

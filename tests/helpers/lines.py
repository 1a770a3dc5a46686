"""The lines tests send: telemetry events that can be told apart, and the sample streams."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from helpers.daemon import MARK

STREAMS: Final = Path(__file__).parents[2] / "examples" / "streams"


def sample_streams() -> dict[str, bytes]:
    """The sample streams by name; whole lines all of them."""
    streams = {path.stem: path.read_bytes() for path in sorted(STREAMS.glob("*.ndjson"))}
    assert streams, f"no streams in {STREAMS}"
    return streams


def event(number: int, *, kind: str = "function", origin: str = "", size: int = 0) -> bytes:
    """One line, its newline included; `size` pads it to so many bytes."""
    body = {
        "time": "2026-03-14T10:15:30.123Z",
        "type": kind,
        "record": f"{MARK} {origin} {number} ",
    }
    line = json.dumps(body, separators=(",", ":")).encode() + b"\n"
    return line[:-3] + b"." * (size - len(line)) + line[-3:]


def events(count: int, *, first: int = 0, origin: str = "", size: int = 0) -> bytes:
    """`count` lines in a row."""
    return b"".join(event(first + n, origin=origin, size=size) for n in range(count))


def logs_dropped(records: object, size: object, reason: str = "the consumer was slow") -> bytes:
    """The platform's word that it lost records before they reached the extension."""
    body = {
        "time": "2026-03-14T10:15:31.000Z",
        "type": "platform.logsDropped",
        "record": {"droppedRecords": records, "droppedBytes": size, "reason": reason},
    }
    return json.dumps(body).encode() + b"\n"


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """`data` in pieces of `size` bytes."""
    for at in range(0, len(data), size):
        yield data[at : at + size]

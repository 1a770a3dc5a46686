"""CPU of reading an HTTP request, by our reader and by h11, and of loading each.

    python -m bench.http_reader

A request is what the platform sends: a head and 900 records of 290 bytes, in reads of 64 KiB. The
figures are the least of several turns.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

import h11

from bench.kit.lines import mixed_block
from telemetryd_proto import scan
from telemetryd_proto.framing import TailBudget
from telemetryd_proto.http_requests import Request, RequestReader
from telemetryd_proto.record_bodies import to_lines

_RECORDS: Final = 900
_READ_BYTES: Final = 64 * 1024
_REQUESTS: Final = 200
_TURNS: Final = 7
_MOST: Final = 1 << 24


def _reads() -> tuple[list[bytes], bytes]:
    """Return a request in reads, and its body."""
    lines = mixed_block([(290, 1.0)], platform_events=0.06, json_logs=0.53, seed=1).splitlines()
    body = b"[" + b",".join(lines[:_RECORDS]) + b"]"
    head = (
        b"POST / HTTP/1.1\r\nHost: sandbox.localdomain:28353\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    return [head, *(body[at : at + _READ_BYTES] for at in range(0, len(body), _READ_BYTES))], body


def _ours(reads: list[bytes], body: bytes) -> None:
    reader = RequestReader(TailBudget(_MOST), max_body_bytes=_MOST)
    for read in reads:
        reader.feed(read)
    event = reader.next_event()
    if not isinstance(event, Request) or event.body != body:
        raise AssertionError("our reader did not find the body")


def _theirs(reads: list[bytes], body: bytes) -> None:
    connection, found = h11.Connection(h11.SERVER), []
    for read in reads:
        connection.receive_data(read)
        while isinstance(event := connection.next_event(), h11.Request | h11.Data):
            if isinstance(event, h11.Data):
                found.append(event.data)
    if b"".join(found) != body:
        raise AssertionError("h11 did not find the body")


def _microseconds(call: Callable[[], object]) -> float:
    """Return the CPU of one call, the least of several turns."""
    least = float("inf")
    for _ in range(_TURNS):
        began = time.process_time()
        for _ in range(_REQUESTS):
            call()
        least = min(least, time.process_time() - began)
    return least / _REQUESTS * 1e6


def _import_ms(module: str) -> float:
    """Return what loading `module` takes where msgspec and `re` are loaded, in milliseconds."""
    code = (
        "import msgspec, re, time, telemetryd_proto.framing; began = time.process_time(); "
        f"import {module}; print(time.process_time() - began)"
    )
    command = [sys.executable, "-c", code]
    runs = [
        float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        for _ in range(_TURNS)
    ]
    return min(runs) * 1e3


def main() -> None:
    """Print the table."""
    reads, body = _reads()
    print("| | a request µs | load ms |")
    print("|---|---|---|")
    ours = _import_ms("telemetryd_proto.http_requests")
    print(f"| our reader | {_microseconds(lambda: _ours(reads, body)):.0f} | {ours:.1f} |")
    theirs = _import_ms("h11")
    print(f"| h11 | {_microseconds(lambda: _theirs(reads, body)):.0f} | {theirs:.1f} |")
    lines = _import_ms("telemetryd_proto.record_bodies")
    ways = ["in Python"] if scan.compiled is None else ["compiled", "in Python"]
    for way in ways:
        if way == "in Python":
            scan.compiled = None
        least = _microseconds(lambda: to_lines(body))
        print(f"| its body to lines, {way} | {least:.0f} | {lines:.1f} |")


if __name__ == "__main__":
    main()

"""Sends telemetry to a peer: lines over TCP, or what the platform would POST.

    python -m bench.peers.send PROTOCOL PORT LINES MEAN_BYTES

Everything is encoded before the first byte goes out. Waits for a line on standard input; prints the
lines and bytes of the lines sent, as JSON.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Final

from bench.lines import block_of_lines

# The platform's own defaults (`buffering` of the Telemetry API).
BATCH_EVENTS: Final = 10_000
BATCH_BYTES: Final = 262_144
ANSWER_SECONDS: Final = 60


def batches(lines: Sequence[bytes]) -> list[bytes]:
    """JSON arrays of events, each closed when it reaches a limit, as the platform does."""
    bodies: list[bytes] = []
    batch: list[bytes] = []
    size = 0
    for line in lines:
        batch.append(line.rstrip(b"\n"))
        size += len(batch[-1])
        if len(batch) == BATCH_EVENTS or size >= BATCH_BYTES:
            bodies.append(b"[" + b",".join(batch) + b"]")
            batch, size = [], 0
    if batch:
        bodies.append(b"[" + b",".join(batch) + b"]")
    return bodies


def post(port: int, bodies: Sequence[bytes]) -> None:
    """One POST after the other over one connection, each answered before the next."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    for body in bodies:
        connection.request("POST", "/", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"a batch was answered {answer.status}: {said!r}")
    connection.close()


def tcp_sender(port: int, block: bytes, rounds: int) -> Callable[[], None]:
    """A call that sends `block` so often over a connection made now."""
    sock = socket.create_connection(("127.0.0.1", port))

    def send() -> None:
        for _ in range(rounds):
            sock.sendall(block)
        sock.close()

    return send


def main(protocol: str, port: int, lines: int, mean_bytes: int) -> None:
    """Send at least `lines` lines of `mean_bytes`."""
    block = block_of_lines(mean_bytes)
    rounds = max(1, round(lines / block.count(b"\n")))
    if protocol == "tcp":
        send = tcp_sender(port, block, rounds)
    else:
        bodies = batches(block.splitlines()) * rounds

        def send() -> None:
            post(port, bodies)

    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.readline()  # the starting signal
    send()
    print(json.dumps({"lines": block.count(b"\n") * rounds, "bytes": len(block) * rounds}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))

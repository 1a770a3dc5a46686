"""Sends a scenario's lines: over TCP as fast as they are taken, or what the platform would POST.

    python -m bench.load.send PROTOCOL PORT SOURCE [PID]

SOURCE is a scenario's `[source]` as JSON; PID is frozen in the pauses between bursts, where the
source says so. Everything is encoded before the first byte goes out: a send is a system call and
nothing else. Says when that is done, waits for a line on standard input, and prints the lines and
bytes it has sent, as JSON.
"""

from __future__ import annotations

import functools
import http.client
import itertools
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Final

import msgspec

from bench.kit.lines import mixed_block, of_other_invocations
from bench.load.scenario import Size, Source

# The platform's own defaults (`buffering` of the Telemetry API).
BATCH_EVENTS: Final = 10_000
BATCH_BYTES: Final = 262_144
ANSWER_SECONDS: Final = 60


DISTINCT_BLOCKS: Final = 64
"""Blocks of different invocations that are sent in turn: a receiver that remembers invocations, to
count each once, has forgotten them when they come again."""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of what was sent."""

    lines: int
    bytes: int


def block_of(source: Source) -> bytes:
    """The lines that are sent: about 1 MiB of them."""
    return _block(source.sizes, source.platform_events, source.json_logs, source.seed)


@functools.lru_cache(maxsize=4)
def _block(sizes: tuple[Size, ...], platform_events: float, json_logs: float, seed: int) -> bytes:
    return mixed_block(
        [(size.bytes, size.share) for size in sizes],
        platform_events=platform_events,
        json_logs=json_logs,
        seed=seed,
    )


class Traffic:
    """The lines of a source at full speed: a connection sends `blocks` in turn, and a last part."""

    def __init__(self, source: Source) -> None:
        block = block_of(source)
        self.connections = source.connections
        self._each = source.lines_each
        self._whole, self._rest = divmod(self._each, block.count(b"\n"))
        numbers = range(min(self._whole + bool(self._rest), DISTINCT_BLOCKS))
        self.blocks = [of_other_invocations(block, number) for number in numbers]

    @property
    def sent(self) -> Sent:
        """The counts of all lines."""
        size = len(self.blocks[0]) * self._whole + len(self._last())
        return Sent(lines=self._each * self.connections, bytes=size * self.connections)

    def in_turn(self) -> Iterator[bytes]:
        """Yield the data of one connection: whole blocks, and a part of the next one."""
        yield from itertools.islice(itertools.cycle(self.blocks), self._whole)
        if last := self._last():
            yield last

    def _last(self) -> bytes:
        block = self.blocks[self._whole % len(self.blocks)]
        return b"".join(itertools.islice(BytesIO(block), self._rest))

    def bursts(self, lines: int) -> Iterator[bytes]:
        """Yield the data of one connection in pieces of `lines` lines; 0: as `in_turn`."""
        if not lines:
            yield from self.in_turn()
            return
        waiting = (line for block in self.in_turn() for line in BytesIO(block))
        while burst := b"".join(itertools.islice(waiting, lines)):
            yield burst

    def lines(self) -> list[bytes]:
        """The lines that one connection sends."""
        split = [BytesIO(block).readlines() for block in self.blocks]
        turns = itertools.chain.from_iterable(itertools.cycle(split))
        return list(itertools.islice(turns, self._each))

    def first(self) -> bytes:
        """A line to send ahead: the first that is no platform event, which would count twice."""
        lines = self.blocks[0].splitlines(keepends=True)
        return next((line for line in lines if b'"type":"function"' in line), lines[0])


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


def tcp_sender(port: int, traffic: Traffic, source: Source, pid: int) -> Callable[[], None]:
    """A call that sends `traffic` over each of the source's connections, which are made now."""
    socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(source.connections)]

    def send(sock: socket.socket) -> None:
        for number, burst in enumerate(traffic.bursts(source.burst_lines)):
            if number and source.burst_lines:
                _pause(source, pid)
            sock.sendall(burst)
        sock.close()

    def send_all() -> None:
        if len(socks) == 1:
            send(socks[0])
        else:
            threads = [threading.Thread(target=send, args=(sock,)) for sock in socks]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    return send_all


def _pause(source: Source, pid: int) -> None:
    if source.freeze:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(source.pause_ms / 1000)
    if source.freeze:
        os.kill(pid, signal.SIGCONT)


def main(protocol: str, port: int, source: Source, pid: int) -> None:
    """Send about `source.lines` lines."""
    traffic = Traffic(source)
    if protocol == "tcp":
        send: Callable[[], None] = tcp_sender(port, traffic, source, pid)
    else:
        encode = functools.lru_cache(len(traffic.blocks))(lambda part: batches(part.splitlines()))
        bodies = [body for part in traffic.in_turn() for body in encode(part)] * source.connections

        def send() -> None:
            post(port, bodies)

    print(json.dumps({"ready": True}), flush=True)
    if not sys.stdin.readline():  # the starting signal
        return
    send()
    print(msgspec.json.encode(traffic.sent).decode())


if __name__ == "__main__":
    main(
        sys.argv[1],
        int(sys.argv[2]),
        msgspec.json.decode(sys.argv[3], type=Source),
        int(sys.argv[4]) if len(sys.argv) > 4 else 0,
    )

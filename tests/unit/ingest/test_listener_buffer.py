"""The buffer that all connections read into is small until a read fills it."""

# ruff: noqa: D102 - the protocol describes them
from __future__ import annotations

import asyncio
import socket

import msgspec

from telemetryd.clock import Clock
from telemetryd.core.direct import MAX_BYTES
from telemetryd.core.stats import DaemonStats
from telemetryd.ingest.listener import (
    FIRST_READ_BYTES,
    LEAST_READ_BYTES,
    MOST_READ_BYTES,
    TelemetryListener,
    bind,
)
from telemetryd.sinks.base import SinkConfig
from telemetryd.testing import LogBook
from telemetryd_proto.framing import Block, Framed, LineFramer, TailBudget


class Reads:
    """Keeps the size of each read, and what was framed."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.data = b""

    def on_received(self, size: int) -> None:
        self.sizes.append(size)

    def on_framed(self, parts: list[Framed]) -> None:
        self.data += b"".join(part.data for part in parts if isinstance(part, Block))


def test_the_whole_buffer_is_there_when_a_read_has_filled_the_first_one() -> None:
    """Then for every connection, also for one that was there before; no byte is lost or twice."""
    reads = Reads()
    text = b"".join(b"%099d\n" % number for number in range(2_000))

    async def scenario() -> None:
        listener = TelemetryListener(
            bind("127.0.0.1", 0), reads, max_line_bytes=1024, tail_budget_bytes=4096,
            max_connections=2, keep_bytes=0, read_bytes=LEAST_READ_BYTES,
            stats=DaemonStats(()), log=LogBook(), on_bug=lambda _: None, clock=Clock(),
        )  # fmt: skip
        await listener.start()
        place = (listener.address, listener.port)
        with socket.create_connection(place) as first, socket.create_connection(place) as second:
            await sent(first, text)
            await sent(second, text)
        await listener.close()

    async def sent(peer: socket.socket, data: bytes) -> None:
        goal = sum(reads.sizes) + len(data)
        peer.sendall(data)  # the kernel holds all of it before the first read
        while sum(reads.sizes) < goal:  # noqa: ASYNC110 - the subject has no event for it
            await asyncio.sleep(0)

    asyncio.run(scenario())
    assert reads.data == text * 2
    rest = len(text) - FIRST_READ_BYTES
    assert reads.sizes == [FIRST_READ_BYTES, rest, len(text)]


def test_a_full_read_and_the_line_begun_before_it_are_one_batch_that_is_written_at_once() -> None:
    """A larger block goes to the sink's thread, and at full speed all behind it do, too."""
    fields = {field.name: field for field in msgspec.structs.fields(SinkConfig)}
    framer = LineFramer(TailBudget(MAX_BYTES))
    line = b"x" * (60 * 1024) + b"\n"
    stream = line * (8 * MOST_READ_BYTES // len(line))
    reads = [stream[at : at + MOST_READ_BYTES] for at in range(0, len(stream), MOST_READ_BYTES)]
    parts = [part for read in reads for part in framer.feed(read, len(read))]
    sizes = [len(part.data) for part in parts if isinstance(part, Block)]
    assert max(sizes) > MOST_READ_BYTES
    assert max(sizes) <= min(MAX_BYTES, fields["batch_max_bytes"].default)

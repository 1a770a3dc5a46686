"""When reading ends: silence is a sign that all has arrived, but not in the middle of a line."""

# ruff: noqa: D102 - the protocol describes them
from __future__ import annotations

import asyncio
import socket

import pytest

from telemetryd.clock import Clock
from telemetryd.core.stats import DaemonStats
from telemetryd.ingest.listener import TelemetryListener, bind
from telemetryd.testing import LogBook, run
from telemetryd.testing.loops import JumpingLoop
from telemetryd_proto.framing import Block, Framed

QUIET = 0.05


class Lines:
    """Keeps what was framed."""

    def __init__(self) -> None:
        self.size = 0
        self.data = b""

    def on_received(self, size: int) -> None:
        self.size += size

    def on_framed(self, parts: list[Framed]) -> None:
        self.data += b"".join(part.data for part in parts if isinstance(part, Block))


@pytest.mark.parametrize(
    ("first", "arrived"),
    [(b"1\n2", b"1\n22\n"), (b"1\n", b"1\n")],
    ids=["half a line", "a whole line"],
)
def test_what_comes_after_a_pause_in_the_midst_of_a_line_is_read(
    first: bytes, arrived: bytes
) -> None:
    """As where the kernel had to send it again; by the clock of a loop that waits for nothing."""
    lines = Lines()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        listener = TelemetryListener(
            bind("127.0.0.1", 0), lines, max_line_bytes=1024, tail_budget_bytes=1024,
            max_connections=1, keep_bytes=0, read_bytes=1024, stats=DaemonStats(()),
            log=LogBook(), on_bug=lambda _: None, clock=Clock(monotonic=loop.time),
        )  # fmt: skip
        await listener.start()
        with socket.create_connection((listener.address, listener.port)) as peer:
            peer.sendall(first)
            while lines.size < len(first):  # noqa: ASYNC110 - the subject has no event for it
                await asyncio.sleep(0)
            loop.call_later(8 * QUIET, peer.sendall, b"2\n")
            await listener.drain(quiet=QUIET, deadline=loop.time() + 100.0)
            await listener.close()

    run(JumpingLoop, scenario())
    assert lines.data == arrived

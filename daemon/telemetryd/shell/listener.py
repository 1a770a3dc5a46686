"""The telemetry listener: TCP connections in, framed blocks to the pipeline.

All connections read into one buffer: a read is framed and copied out before the next one begins, so
200 connections cost 200 tails, not 200 buffers. Nothing a connection does (garbage, reset, silence)
reaches another one, and none is closed for what it sent.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol, cast

from telemetryd.core.stats import DaemonStats
from telemetryd.errors import ListenError
from telemetryd_proto.framing import Framed, LineFramer, TailBudget

LEAST_READ_BYTES: Final = 256 * 1024
"""Below this, what a read costs by itself begins to show (docs/performance.md)."""
RECEIVE_BUFFER_BYTES: Final = 1024 * 1024
"""SO_RCVBUF: bursts during a thaw or a stall wait in the kernel ("Design rules", Telemetry API)."""
BACKLOG: Final = 512
_POLL_SECONDS: Final = 0.005
_UNFINISHED_SECONDS: Final = 0.5
"""Silence in the midst of a line: where the receive buffer ran full the kernel has thrown something
away, and the peer's kernel sends it again, after 200 ms or twice that (Linux, TCP_RTO_MIN)."""
_TURNS: Final = 3
"""Of the loop: to accept a connection, to begin to read it, to read."""


class Door(Protocol):
    """Who admits connections, where not everybody is the same (`shell.gate`)."""

    def on_open(self, source: int, local: str, peer: str, *, early: bool) -> TailBudget | None:
        """A connection was made: its budget; None to close it."""

    def on_close(self, source: int) -> None:
        """It has ended."""


class Receiver(Protocol):
    """What the listener feeds."""

    def received(self, size: int) -> None:
        """`size` bytes were read."""

    def framed(self, parts: list[Framed]) -> None:
        """They were framed, in order."""


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens on `host`:`port` (0: any free port). Raises ListenError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        sock.setblocking(False)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(
            f"can't listen on {host}:{port}: {error.strerror or error}; "
            "set telemetry.host and telemetry.port (0 takes any free port)"
        ) from error
    return sock


class TelemetryListener:
    """Accepts connections on a bound socket and feeds `receiver`.

    One read brings up to `read_bytes`; a connection that has more rests for a turn of the loop.
    """

    def __init__(
        self,
        sock: socket.socket,
        receiver: Receiver,
        *,
        max_line_bytes: int,
        tail_budget_bytes: int,
        max_connections: int,
        keep_bytes: int,
        read_bytes: int,
        stats: DaemonStats,
        log: Callable[..., None],
        on_bug: Callable[[Exception], None],
        door: Door | None = None,
    ) -> None:
        self.address: str
        self.port: int
        self.address, self.port = sock.getsockname()[:2]
        self._sock = sock
        self._receiver = receiver
        self._max_line_bytes = max_line_bytes
        self._budget = TailBudget(tail_budget_bytes)
        self._max_connections = max_connections
        self._keep_bytes = keep_bytes
        self._stats = stats
        self._log = log
        self._on_bug = on_bug
        self._door = door
        self._buffer = bytearray(max(read_bytes, LEAST_READ_BYTES))
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._none_open = asyncio.Event()
        self._accepted = 0
        self._held = False
        self._last_activity = 0.0
        self._last_read = 0.0

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._connections)

    @property
    def unfinished_bytes(self) -> int:
        """Bytes read that belong to lines whose newline has not come."""
        return sum(c.framer.unfinished_bytes for c in self._connections)

    def unfinished_since(self) -> float | None:
        """When the oldest line in the making was begun (monotonic); None: there is none."""
        began = (c.unfinished_since for c in self._connections)
        return min((at for at in began if at is not None), default=None)

    def charge(self, source: int, budget: TailBudget) -> None:
        """Give connection `source` another budget for its unfinished lines."""
        for connection in self._connections:
            if connection.source == source:
                connection.framer.use(budget)

    async def start(self, early: Sequence[socket.socket] = ()) -> None:
        """Begin to read from the connections in `early`, and to accept others."""
        loop = asyncio.get_running_loop()
        for sock in early:
            await loop.connect_accepted_socket(lambda: _Connection(self, early=True), sock)
        self._server = await loop.create_server(lambda: _Connection(self), sock=self._sock)

    def hold_reading(self, held: bool) -> None:
        """Stop (True) or resume (False) reading from every connection."""
        self._held = held
        self._stats.pauses.change(time.monotonic(), paused=held)
        for connection in self._connections:
            connection.hold(held)

    async def drain(self, *, quiet: float, deadline: float) -> None:
        """Return when nothing came for `quiet` seconds from now on, or at loop time `deadline`.

        The peer sends no EOF, so quiet is the only sign that all has come, and it is none in the
        midst of a line; what waits in the backlog is still accepted and read.
        """
        loop = asyncio.get_running_loop()
        self._last_activity = time.monotonic()
        while (now := loop.time()) < deadline:
            until = self._last_activity + quiet
            if self.unfinished_bytes:
                until = max(until, self._last_read + _UNFINISHED_SECONDS)
            left = until - time.monotonic()
            if left <= 0 and not self._held and not await self._is_behind():
                return
            await asyncio.sleep(min(max(left, _POLL_SECONDS), deadline - now))

    async def _is_behind(self) -> bool:
        """Whether something has come since the loop last looked at its sockets.

        It looks at its timers first: after a time in which this process got no turn, what came
        meanwhile has not been seen when the time is up.
        """
        before = self._last_activity
        await self.catch_up()
        return self._last_activity != before

    async def catch_up(self) -> None:
        """Return when what had come before has been read, but for more than a read takes."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Close every connection; unfinished lines are rejected as truncated."""
        self._stop_accepting()
        for connection in list(self._connections):
            connection.abort()
        if self._connections:
            await self._none_open.wait()

    def cut_off(self) -> None:
        """Reject what is unfinished, as if every connection ended here."""
        for connection in self._connections:
            self._receiver.framed(connection.framer.eof())

    def _stop_accepting(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    # -- what connections call -----------------------------------------------------------------

    def _admit(self, connection: _Connection) -> LineFramer | None:
        if len(self._connections) >= self._max_connections:
            self._stats.connections_refused += 1
            self._log(
                "warning", "connection_refused", open=len(self._connections),
                fix="raise telemetry.max_connections",
            )  # fmt: skip
            return None
        self._accepted += 1
        budget = self._budget
        if self._door is not None:
            early = connection.early
            own = self._door.on_open(self._accepted, *connection.ends(), early=early)
            if own is None:
                return None
            budget = own
        connection.source = self._accepted
        self._connections.add(connection)
        self._none_open.clear()
        self._stats.connections_accepted += 1
        self._last_activity = time.monotonic()
        if self._held:  # not at once: the loop starts to read after `connection_made`
            asyncio.get_running_loop().call_soon(lambda: connection.hold(self._held))
        self._log("debug", "connection_opened", source=self._accepted)
        return LineFramer(
            budget,
            max_line_bytes=self._max_line_bytes,
            source=self._accepted,
            keep_bytes=self._keep_bytes,
        )

    def _read(self, connection: _Connection, size: int) -> None:
        now = self._last_activity = self._last_read = time.monotonic()
        try:
            self._receiver.received(size)
            parts = connection.framer.feed(self._buffer, size, now)
            if not connection.framer.unfinished_bytes:
                connection.unfinished_since = None
            elif parts or connection.unfinished_since is None:
                connection.unfinished_since = now
            self._receiver.framed(parts)
        except Exception as error:  # noqa: BLE001 - our own bug: the owner decides, reading goes on
            self._on_bug(error)

    def _closed(self, connection: _Connection, error: Exception | None) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._none_open.set()
        self._log("debug", "connection_closed", error=repr(error) if error else None)
        try:
            self._receiver.framed(connection.framer.eof())
        except Exception as bug:  # noqa: BLE001 - as above
            self._on_bug(bug)
        if self._door is not None:
            self._door.on_close(connection.source)


class _Connection(asyncio.BufferedProtocol):
    """One connection; all state but the framer is the listener's."""

    framer: LineFramer
    source = 0
    unfinished_since: float | None = None

    def __init__(self, listener: TelemetryListener, *, early: bool = False) -> None:
        self.early = early
        self._listener = listener
        self._view = memoryview(listener._buffer)  # noqa: SLF001 - one unit in two classes
        self._transport: asyncio.Transport | None = None
        self._held = False
        self._resting = False
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface but not the base class
        self._transport = cast("asyncio.Transport", transport)
        framer = self._listener._admit(self)  # noqa: SLF001
        if framer is None:
            self._transport.abort()
        else:
            self.framer = framer

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        self._listener._read(self, nbytes)  # noqa: SLF001
        if nbytes == len(self._view):
            # More waits in the kernel, and uvloop would read on, up to 32 times without a pause: a
            # queue could overflow though its sink is fast. The workers get their turn first.
            self._resting = True
            self._update()
            asyncio.get_running_loop().call_soon(self._go_on)

    def connection_lost(self, exc: Exception | None) -> None:
        if hasattr(self, "framer"):
            self._listener._closed(self, exc)  # noqa: SLF001

    def ends(self) -> tuple[str, str]:
        """The addresses at this end and at the other."""
        assert self._transport is not None  # noqa: S101 - `connection_made` has set it
        names = (self._transport.get_extra_info(name) for name in ("sockname", "peername"))
        local, peer = (name[0] if name else "" for name in names)
        return local, peer

    def hold(self, held: bool) -> None:
        """Pause or resume reading."""
        self._held = held
        self._update()

    def _go_on(self) -> None:
        self._resting = False
        self._update()

    def _update(self) -> None:
        paused = self._held or self._resting
        if self._transport is None or self._transport.is_closing() or paused == self._paused:
            return
        self._paused = paused
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

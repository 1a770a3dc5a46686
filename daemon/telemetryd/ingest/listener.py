"""The telemetry listener: TCP connections in, framed blocks to the pipeline.

All connections read into one buffer. A read is framed and copied out before the next one begins, so
200 connections cost 200 tails, not 200 buffers. Nothing that a connection does (garbage, reset,
silence) affects another one. None is closed for its data.

Connections and descriptors are limited, and a peer may vanish without a sign. Sockets from `bind`
ask the kernel to detect that. With `idle_seconds`, silence ends a connection. Neither is used in
Lambda, whose platform connects only once.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Callable, Sequence
from typing import Final, Protocol, cast

from telemetryd.clock import SYSTEM, Clock
from telemetryd.core.direct import MAX_BYTES
from telemetryd.core.stats import DaemonStats
from telemetryd.errors import ListenError
from telemetryd.log import DaemonLog
from telemetryd_proto.framing import Framed, LineFramer, TailBudget

LEAST_READ_BYTES: Final = 256 * 1024
"""Below this, what a read costs by itself begins to show (docs/performance.md)."""
MOST_READ_BYTES: Final = MAX_BYTES - 64 * 1024
"""The rest is for the line that the read before has begun: both together are still one batch, and
may be written at once (`core.direct`). What is larger waits for a thread, and all behind it too."""
FIRST_READ_BYTES: Final = 64 * 1024
"""The size of the buffer until a read fills it: most environments never print so much at once, and
the memory of a larger one would all be touched at the start."""
RECEIVE_BUFFER_BYTES: Final = 1024 * 1024
"""SO_RCVBUF: bursts during a thaw or a stall wait in the kernel ("Design rules", Telemetry API)."""
BACKLOG: Final = 512
_POLL_SECONDS: Final = 0.005
_UNFINISHED_SECONDS: Final = 0.5
"""Seconds of silence within a line. If the receive buffer was full, the kernel has discarded data,
and the peer's kernel sends it again after 200 ms or twice that (Linux, TCP_RTO_MIN)."""
KEEPALIVE_SECONDS: Final = 60
"""Seconds of silence after which the kernel probes a peer (TCP keepalive)."""
KEEPALIVE_PROBES: Final = (4, 15)
"""Unanswered probes before the kernel ends the connection, and seconds between them."""
_ACCEPTS: Final = 64
"""Connections accepted in one turn of the loop."""
_NO_DESCRIPTOR: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Errors of `accept` that are no fault of the connection: it stays in the backlog (accept(2))."""
SPARE_DESCRIPTORS: Final = 32
"""Descriptors that connections leave for files, sinks and `/healthz`: at most a part of all."""
_SPARE_PART: Final = 4
"""The divisor of that part."""
_ACCEPT_AGAIN_SECONDS: Final = 0.1
_IDLE_CHECKS: Final = 4
"""Checks for silence in the time that a connection may be silent."""
_TURNS: Final = 3
"""Turns of the loop: to accept a connection, to begin to read it, to read."""


_RAISE_LIMIT: Final = "raise the limit of open files (ulimit -n, LimitNOFILE=)"


class Door(Protocol):
    """Admits connections, where peers have different rights (`ingest.gate`)."""

    def on_open(self, source: int, local: str, peer: str, *, early: bool) -> TailBudget | None:
        """Return the budget of a new connection, None to close it."""

    def on_close(self, source: int) -> None:
        """Note that the connection has ended."""

    def is_anothers(self, source: int) -> bool:
        """True if the connection certainly is not the platform's."""

    def makes_way(self, source: int) -> bool:
        """True if the connection must not be read while the queues fill."""


class Receiver(Protocol):
    """The consumer of received blocks."""

    def on_received(self, size: int) -> None:
        """Note that `size` bytes were read."""

    def on_framed(self, parts: list[Framed]) -> None:
        """Take the framed bytes, in order."""


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host`:`port` (0: any free port). Raises ListenError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        _keep_alive(sock)
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


def _keep_alive(sock: socket.socket) -> None:
    """Have the kernel end connections whose peers have vanished; they inherit it (tcp(7))."""
    probes, seconds = KEEPALIVE_PROBES
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)


def _is_among_last(fd: int) -> bool:
    """True if few descriptors are left beyond `fd`: the kernel gives the lowest free one."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return fd >= limit - min(SPARE_DESCRIPTORS, limit // _SPARE_PART) and limit > 0


def _ends(sock: socket.socket) -> tuple[str, str]:
    """Return the local and the remote address of a connection, "" if it is closed already."""
    local: str = sock.getsockname()[0]
    try:
        peer: str = sock.getpeername()[0]
    except OSError:
        peer = ""
    return local, peer


class TelemetryListener:
    """Accepts connections on a bound socket and feeds `receiver`.

    One read brings up to `read_bytes`; a connection that has more rests for a turn of the loop.
    `idle_seconds`: how long a connection may be silent, 0: forever. `spares_descriptors`: whether
    connections leave some of the descriptors to others. `connect` makes a connection of another
    protocol than lines over TCP.
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
        log: DaemonLog,
        on_bug: Callable[[Exception], None],
        door: Door | None = None,
        idle_seconds: float = 0,
        spares_descriptors: bool = False,
        clock: Clock = SYSTEM,
        connect: Callable[[TelemetryListener], Connection] | None = None,
    ) -> None:
        self.address: str
        self.port: int
        self.address, self.port = sock.getsockname()[:2]
        self._sock = sock
        self._receiver = receiver
        self._monotonic = clock.monotonic
        self.max_line_bytes: int = max_line_bytes
        self._budget = TailBudget(tail_budget_bytes)
        self._max_connections = max_connections
        self.keep_bytes: int = keep_bytes
        self._connect = connect or LineConnection
        self._stats = stats
        self._log = log
        self._on_bug = on_bug
        self._door = door
        self._read_bytes = max(read_bytes, LEAST_READ_BYTES)
        self._use_buffer(FIRST_READ_BYTES)
        self._idle_seconds = idle_seconds
        self._spares_descriptors = spares_descriptors
        self._idle_task: asyncio.Task[None] | None = None
        self._accepting = False
        self._accept_later: asyncio.TimerHandle | None = None
        self._spare = -1
        """A descriptor to give up for a connection that has to be accepted to be refused."""
        self._is_starved = False
        """True if the last connection found no descriptor."""
        self._opening: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
        self._none_open = asyncio.Event()
        self._accepted = 0
        self._held = False
        self._crowded = False
        self._last_activity = 0.0
        self._last_read = 0.0
        self._resumed_at = 0.0

    @property
    def problem(self) -> str:
        """Return the reason why new connections are refused, "" if they are not."""
        if len(self._connections) >= self._max_connections:
            return (
                f"all {self._max_connections} connections are in use; raise "
                "telemetry.max_connections, or set telemetry.idle_seconds"
            )
        return f"no descriptor is left for a connection; {_RAISE_LIMIT}" if self._is_starved else ""

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._connections)

    @property
    def unfinished_bytes(self) -> int:
        """Return the bytes read of lines whose newline has not arrived."""
        return sum(c.unfinished_bytes for c in self._connections)

    @property
    def is_held(self) -> bool:
        """True if nothing is read, because the queue of a sink is full."""
        return self._held

    def unfinished_since(self) -> float | None:
        """Return when the oldest unfinished line began (monotonic), None without one.

        Those of other processes than the platform don't count.
        """
        began = (c.unfinished_since for c in self._connections if not self._is_anothers(c))
        return min((at for at in began if at is not None), default=None)

    def _is_anothers(self, connection: Connection) -> bool:
        return self._door is not None and self._door.is_anothers(connection.source)

    def charge(self, source: int, budget: TailBudget) -> None:
        """Give connection `source` another budget for its unfinished lines."""
        for connection in self._connections:
            if connection.source == source:
                connection.charge(budget)

    async def start(
        self, early: Sequence[socket.socket] = (), late: Sequence[socket.socket] = ()
    ) -> None:
        """Begin to read from connections that were accepted before, and to accept others.

        Those in `early` were there when the subscription was answered, those in `late` were not.
        """
        for number, sock in enumerate((*early, *late)):
            connection = self._take_in(sock, early=number < len(early))
            if connection is not None:
                await self._open(connection, sock)
        self._sock.setblocking(False)
        self._sock.listen(BACKLOG)
        self._keep_spare()
        self._accepting = True
        self._accept_when_asked()
        self._limit_idleness()

    def set_limits(self, *, max_connections: int, idle_seconds: float) -> None:
        """Apply other limits from now on. `max_connections` closes no open connection."""
        self._max_connections = max_connections
        if idle_seconds != self._idle_seconds:
            self._idle_seconds = idle_seconds
            self._limit_idleness()

    def hold_reading(self, held: bool) -> None:
        """Stop (True) or resume (False) reading from every connection."""
        self._held = held
        self._resumed_at = self._monotonic()
        self._stats.pauses.change(self._monotonic(), paused=held)
        for connection in self._connections:
            connection.hold(held)

    def crowd(self, crowded: bool) -> None:
        """Have those wait that are to make way (True) until the queues have drained (False)."""
        self._crowded = crowded
        self._make_way()

    def _make_way(self) -> None:
        if self._door is not None:
            for connection in self._connections:
                connection.wait(self._crowded and self._door.makes_way(connection.source))

    async def drain(self, *, quiet: float, deadline: float) -> None:
        """Return after `quiet` seconds without data, or at loop time `deadline`.

        The peer sends no EOF. Silence means that the stream is complete, unless a line is
        unfinished. Connections in the backlog are still accepted and read.
        """
        loop = asyncio.get_running_loop()
        self._last_activity = self._monotonic()
        while (now := loop.time()) < deadline:
            until = self._last_activity + quiet
            if any(connection.is_unfinished for connection in self._connections):
                until = max(until, self._last_read + _UNFINISHED_SECONDS)
            left = until - self._monotonic()
            if left <= 0 and not self._held and not await self._is_behind():
                return
            await asyncio.sleep(min(max(left, _POLL_SECONDS), deadline - now))

    async def _is_behind(self) -> bool:
        """True if data has arrived since the loop last looked at its sockets.

        It looks at its timers first: after a time in which this process got no turn, what came
        in between has not been seen when the time is up.
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
        self._idle_seconds = 0
        self._limit_idleness()
        for connection in list(self._connections):
            connection.abort()
        if self._connections:
            await self._none_open.wait()

    def reject_unfinished(self) -> None:
        """Reject unfinished lines, as if every connection ended here."""
        for connection in self._connections:
            self._receiver.on_framed(connection.end())

    # -- accepting -----------------------------------------------------------------------------

    def _accept_when_asked(self) -> None:
        self._accept_later = None
        asyncio.get_running_loop().add_reader(self._sock, self._accept)

    def _stop_accepting(self) -> None:
        if not self._accepting:
            return
        self._accepting = False
        asyncio.get_running_loop().remove_reader(self._sock)
        if self._accept_later is not None:
            self._accept_later.cancel()
        self._sock.close()
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1

    def _accept(self) -> None:
        """Take what waits in the backlog, some of it: others want their turn too."""
        for _ in range(_ACCEPTS):
            try:
                sock, _ = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _NO_DESCRIPTOR:
                    continue  # of the connection, which is gone (accept(2), "Error handling")
                if not self._turn_away(error):
                    return
            else:
                self._is_starved = self._spares_descriptors and _is_among_last(sock.fileno())
                connection = self._take_in(sock)
                if connection is not None:
                    self._open_soon(connection, sock)

    def _take_in(self, sock: socket.socket, *, early: bool = False) -> Connection | None:
        """Return the connection of an accepted socket, None if it was refused."""
        if len(self._connections) >= self._max_connections:
            sock.close()
            self._refuse(reason="max_connections", fix="raise telemetry.max_connections")
            return None
        if self._is_starved:
            sock.close()
            self._refuse(reason=os.strerror(errno.EMFILE), fix=_RAISE_LIMIT)
            return None
        self._accepted += 1
        budget = self._budget
        if self._door is not None:
            own = self._door.on_open(self._accepted, *_ends(sock), early=early)
            if own is None:
                sock.close()
                return None
            budget = own
        connection = self._connect(self)
        self._admit(connection, budget)
        if self._crowded:
            self._make_way()
        return connection

    def _open_soon(self, connection: Connection, sock: socket.socket) -> None:
        task = asyncio.create_task(self._open(connection, sock))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, connection: Connection, sock: socket.socket) -> None:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: connection, sock)
        except OSError as error:
            sock.close()
            connection.connection_lost(error)

    def _turn_away(self, error: OSError) -> bool:
        """Refuse one connection for want of descriptors; False if even that can't be done."""
        self._is_starved = True
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        try:
            sock, _ = self._sock.accept()
        except OSError:  # none of this process's making: the connections wait in the backlog
            asyncio.get_running_loop().remove_reader(self._sock)
            self._accept_later = asyncio.get_running_loop().call_later(
                _ACCEPT_AGAIN_SECONDS, self._accept_when_asked
            )
            return False
        else:
            sock.close()
            self._refuse(reason=error.strerror or str(error), fix=_RAISE_LIMIT)
            return True
        finally:
            self._keep_spare()

    def _keep_spare(self) -> None:
        if self._spare < 0:
            try:
                self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:  # then connections wait instead of being refused
                self._spare = -1

    def _refuse(self, *, reason: str, fix: str) -> None:
        self._stats.connections_refused += 1
        self._log.warning("connection_refused", reason=reason, open=len(self._connections), fix=fix)

    # -- silence -------------------------------------------------------------------------------

    def _limit_idleness(self) -> None:
        if self._idle_task is not None:
            self._idle_task.cancel()
            self._idle_task = None
        if self._idle_seconds:
            self._idle_task = asyncio.create_task(self._close_idle(), name="close-idle")

    async def _close_idle(self) -> None:
        """Close connections that are silent for too long, for as long as this task runs."""
        while True:
            await asyncio.sleep(self._idle_seconds / _IDLE_CHECKS)
            for _ in range(_TURNS):  # where the process stood still, what came has not been read
                await asyncio.sleep(0)
            now = self._monotonic()
            for connection in () if self._held else list(self._connections):
                seconds = now - max(connection.read_at, self._resumed_at)
                if seconds >= self._idle_seconds:
                    self._stats.connections_idle += 1
                    self._log.info(
                        "idle_connection_closed", seconds=round(seconds, 1),
                        unfinished_bytes=connection.unfinished_bytes,
                    )  # fmt: skip
                    connection.abort()

    # -- what connections call -----------------------------------------------------------------

    def _admit(self, connection: Connection, budget: TailBudget) -> None:
        connection.source = self._accepted
        self._connections.add(connection)
        self._none_open.clear()
        self._stats.connections_accepted += 1
        self._last_activity = self._monotonic()
        connection.read_at = self._last_activity
        self._log.debug("connection_opened", source=self._accepted)
        connection.begin(budget)

    def receive(self, size: int, parts: list[Framed]) -> None:
        """Take `size` bytes that were read, and what was made of them."""
        self._receiver.on_received(size)
        if parts:
            self._receiver.on_framed(parts)

    def receive_last(self, size: int, parts: list[Framed]) -> None:
        """Take the same of a connection that waits or ends: a bug is the owner's to judge."""
        try:
            self.receive(size, parts)
        except Exception as error:  # noqa: BLE001 - as in `_read`
            self._on_bug(error)

    def _use_buffer(self, size: int) -> None:
        self._buffer = bytearray(size)
        self._view = memoryview(self._buffer)

    def _grow(self) -> None:
        """Read with the whole buffer from now on: more came at once than the first one holds."""
        if len(self._buffer) < self._read_bytes:
            self._use_buffer(self._read_bytes)

    def _read(self, connection: Connection, size: int) -> None:
        now = self._last_activity = self._last_read = self._monotonic()
        try:
            is_progress = connection.take(self._buffer, size, now)
            if not connection.is_unfinished:
                connection.unfinished_since = None
            elif is_progress or connection.unfinished_since is None:
                connection.unfinished_since = now
        except Exception as error:  # noqa: BLE001 - our own bug: the owner decides, reading continues
            self._on_bug(error)

    def _on_closed(self, connection: Connection, error: Exception | None) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._none_open.set()
        self._log.debug("connection_closed", error=repr(error) if error else None)
        try:
            self._receiver.on_framed(connection.end())
        except Exception as bug:  # noqa: BLE001 - as above
            self._on_bug(bug)
        if self._door is not None:
            self._door.on_close(connection.source)
            if self._crowded:
                self._make_way()


class Connection(asyncio.BufferedProtocol):
    """One connection. What its bytes mean is decided in a subclass."""

    source = 0
    unfinished_since: float | None = None
    read_at: float
    """The time of the last read, or of its acceptance; monotonic seconds."""

    def __init__(self, listener: TelemetryListener) -> None:
        self.listener = listener
        self._transport: asyncio.Transport | None = None
        self._held = False
        self._busy = False
        """It is not read until what it sent has been answered."""
        self.makes_way = False
        """It is not read while the queues fill."""
        self._resting = False
        self._paused = False
        self._ended = False

    @property
    def unfinished_bytes(self) -> int:
        """Bytes received, and counted as such, of lines that have not ended."""
        return 0

    @property
    def is_unfinished(self) -> bool:
        """True if more must come to complete what was read."""
        return self.unfinished_bytes > 0

    def begin(self, budget: TailBudget) -> None:
        """Take what is unfinished out of `budget`. Called once, before all else."""
        raise NotImplementedError

    def charge(self, budget: TailBudget) -> None:
        """Take what is unfinished out of `budget` from now on."""
        raise NotImplementedError

    def take(self, buffer: bytearray, size: int, now: float) -> bool:
        """Take `buffer[:size]`, read at `now`, to the listener; True if it completed something."""
        raise NotImplementedError

    def end(self) -> list[Framed]:
        """Return what is left of the unfinished; its bytes are counted as received already."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless the connection was ended before."""
        # uvloop's transports have the interface but not the base class
        self._transport = cast("asyncio.Transport", transport)
        if self._ended:
            self._transport.abort()
        else:  # not at once: the loop starts to read after `connection_made`
            asyncio.get_running_loop().call_soon(self._hold_with_others)

    def _hold_with_others(self) -> None:
        self.hold(self.listener._held)  # noqa: SLF001

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer that all connections read into."""
        return self.listener._view  # noqa: SLF001 - one unit in two classes

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        is_full = nbytes == len(self.listener._view)  # noqa: SLF001
        self.listener._read(self, nbytes)  # noqa: SLF001
        self.read_at = self.listener._last_read  # noqa: SLF001
        if is_full:
            self.listener._grow()  # noqa: SLF001
            # More waits in the kernel, and uvloop would read on, up to 32 times without a pause: a
            # queue could overflow though its sink is fast. The workers get their turn first.
            self._resting = True
            self._update()
            asyncio.get_running_loop().call_soon(self._go_on)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take what is unfinished, and forget the connection."""
        self.listener._on_closed(self, exc)  # noqa: SLF001

    def hold(self, held: bool) -> None:
        """Pause or resume reading."""
        self._held = held
        self._update()

    def wait(self, makes_way: bool) -> None:
        """Pause or resume reading of this one alone."""
        self.makes_way = makes_way
        self._update()

    def _go_on(self) -> None:
        self._resting = False
        self._update()

    def _update(self) -> None:
        paused = self._held or self.makes_way or self._resting or self._busy
        if self._transport is None or self._transport.is_closing() or paused == self._paused:
            return
        self._paused = paused
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    @property
    def is_closing(self) -> bool:
        """True if nothing more can be sent."""
        return self._ended or self._transport is None or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send `data`, unless the connection is closing."""
        if not self.is_closing and self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """Close when everything is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._ended = True
        if self._transport is not None:
            self._transport.abort()


class LineConnection(Connection):
    """Lines, one after the other."""

    _framer: LineFramer

    @property
    def unfinished_bytes(self) -> int:
        """Bytes of a line whose newline has not arrived."""
        return self._framer.unfinished_bytes

    def begin(self, budget: TailBudget) -> None:
        """Frame lines, of which the unfinished one is taken out of `budget`."""
        self._framer = LineFramer(
            budget,
            max_line_bytes=self.listener.max_line_bytes,
            source=self.source,
            keep_bytes=self.listener.keep_bytes,
        )

    def charge(self, budget: TailBudget) -> None:
        """Take the unfinished line out of `budget` from now on."""
        self._framer.use(budget)

    def take(self, buffer: bytearray, size: int, now: float) -> bool:
        """Hand on the lines that `buffer[:size]` completes; True if there was one."""
        parts = self._framer.feed(buffer, size, now)
        self.listener.receive(size, parts)
        return bool(parts)

    def end(self) -> list[Framed]:
        """Return the unfinished line as truncated."""
        return self._framer.eof()

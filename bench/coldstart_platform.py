"""The Extensions and Telemetry API for one process, answering at once and stamping each call."""

from __future__ import annotations

import json
import socket
import threading
import time
from types import TracebackType
from typing import Final, Self

_IDENTIFIER: Final = "11111111-2222-4333-8444-555555555555"
_CALLS: Final = {"register": "register", "telemetry": "subscribe", "next": "next"}
_CPU_OF_PROCESS: Final = 2  # how Linux spells the CPU clock of a process in a clock's number
_LINE: Final = (
    b'{"time":"2026-03-14T10:15:30.123Z","type":"function","record":"order accepted order=1"}\n'
)


class Platform:
    """A context manager. `stamps`: when each call came first (monotonic ns), CPU ms till then."""

    def __init__(self) -> None:
        self.stamps: dict[str, tuple[int, float]] = {}
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._pid = threading.Event()
        self._process = 0
        self._waiting: socket.socket | None = None
        self._sockets: list[socket.socket] = []
        self._asked = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        for item in (self._server, *self._sockets):
            item.close()

    def watch(self, pid: int) -> None:
        """Whose CPU to note."""
        self._process = pid
        self._pid.set()

    def cpu(self) -> float:
        """CPU of the process so far, threads that have ended included, in milliseconds."""
        clock = ~self._process << 3 | _CPU_OF_PROCESS
        return time.clock_gettime_ns(clock) / 1e6

    def shut_down(self) -> None:
        """Answer `next` with SHUTDOWN."""
        self._asked.wait(60)
        assert self._waiting is not None
        event = {"eventType": "SHUTDOWN", "shutdownReason": "spindown"}
        event["deadlineMs"] = int((time.time() + 30) * 1000)  # type: ignore[assignment]
        _answer(self._waiting, json.dumps(event).encode())

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:  # closed
                return
            self._sockets.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = b""
        while True:
            try:
                data = connection.recv(65536)
            except OSError:
                return
            if not data:
                return
            buffer += data
            head, separator, body = buffer.partition(b"\r\n\r\n")
            length = next(
                (int(v) for k, _, v in _fields(head) if k.lower() == b"content-length"), 0
            )
            if separator and len(body) >= length:
                buffer = body[length:]
                self._handle(connection, head.split(b" ")[1].decode(), body[:length])

    def _handle(self, connection: socket.socket, path: str, body: bytes) -> None:
        at = time.monotonic_ns()
        call = _CALLS.get(path.rpartition("/")[2], path)
        if call not in self.stamps:
            self._pid.wait(60)
            self.stamps[call] = at, self.cpu()
        if call == "next":
            self._waiting = connection
            self._asked.set()
        elif call == "subscribe":
            _answer(connection, b'"OK"')
            telemetry = socket.create_connection(
                ("127.0.0.1", json.loads(body)["destination"]["port"])
            )
            telemetry.sendall(_LINE)
            self._sockets.append(telemetry)
        else:
            _answer(connection, b'{"functionName":"f"}')


def _fields(head: bytes) -> list[tuple[bytes, bytes, bytes]]:
    return [line.partition(b":") for line in head.split(b"\r\n")[1:]]


def _answer(connection: socket.socket, body: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\nLambda-Extension-Identifier: {_IDENTIFIER}\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

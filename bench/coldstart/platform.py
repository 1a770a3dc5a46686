"""The Extensions and Telemetry API for one process, answering at once and stamping each call."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import subprocess
import threading
import time
import urllib.parse
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

_IDENTIFIER: Final = "11111111-2222-4333-8444-555555555555"
_REGISTERED: Final = b'{"functionName":"f","functionVersion":"1","handler":"app.handler"}'
_CALLS: Final = {"register": "register", "telemetry": "subscribe", "next": "next"}
_CPU_OF_PROCESS: Final = 2  # how Linux spells the CPU clock of a process in a clock's number
_MAJOR_FAULTS: Final = 9  # of the fields of /proc/PID/stat behind the name
_LOOK_SECONDS: Final = 0.1
_EVENT: Final = (
    b'{"time":"2026-03-14T10:15:30.123Z","type":"function","record":"order accepted order=1"}'
)


class Stamp(NamedTuple):
    """When something happened, and what the process had used until then."""

    at: int
    """Monotonic, in nanoseconds."""
    cpu_ms: float
    read_mb: float
    """Fetched from the disk, read ahead included; 10**6 bytes."""
    faults: int
    """Page faults that had to wait for the disk."""


class Platform:
    """A context manager. `stamps`: when each call came first."""

    def __init__(self) -> None:
        self.stamps: dict[str, Stamp] = {}
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._pid = threading.Event()
        self._process = 0
        self._before = 0.0
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
        """Whose CPU to note, from now on."""
        self._process = pid
        self._before = self._used()
        self._pid.set()

    def stamp(self) -> Stamp:
        """What the process has used up to now."""
        at, cpu = time.monotonic_ns(), self.cpu()
        fetched = re.search(r"^read_bytes: (\d+)", self._proc("io"), re.MULTILINE)
        assert fetched is not None
        faults = int(self._proc("stat").rpartition(")")[2].split()[_MAJOR_FAULTS])
        return Stamp(at, cpu, int(fetched.group(1)) / 1e6, faults)

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self._process}/{name}").read_text()

    def cpu(self) -> float:
        """CPU of the process since `watch`, threads that have ended included, in milliseconds."""
        return self._used() - self._before

    def _used(self) -> float:
        clock = ~self._process << 3 | _CPU_OF_PROCESS
        return time.clock_gettime_ns(clock) / 1e6

    def wait_for_next(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether it asked for `next`; False if it ended before."""
        while not self._asked.wait(_LOOK_SECONDS):
            if process.poll() is not None:
                return self._asked.is_set()
        return True

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
        call = _CALLS.get(path.rpartition("/")[2], path)
        if call not in self.stamps:
            at = time.monotonic_ns()
            self._pid.wait(60)
            self.stamps[call] = self.stamp()._replace(at=at)
        if call == "next":
            self._waiting = connection
            self._asked.set()
        elif call == "subscribe":
            _answer(connection, b'"OK"')
            self._deliver(json.loads(body)["destination"])
        else:
            _answer(connection, _REGISTERED)

    def _deliver(self, destination: dict[str, Any]) -> None:
        """One event, over TCP or by a POST, which needs no answer here."""
        if destination["protocol"] == "TCP":
            telemetry = socket.create_connection(("127.0.0.1", destination["port"]))
            telemetry.sendall(_EVENT + b"\n")
            self._sockets.append(telemetry)
            return
        client = http.client.HTTPConnection("127.0.0.1", _port(destination["URI"]), timeout=60)
        with contextlib.suppress(OSError, http.client.HTTPException):  # it may end at any time
            client.request("POST", "/", b"[" + _EVENT + b"]", {"Content-Type": "application/json"})
            client.getresponse().read()
        client.close()


def _port(uri: str) -> int:
    port = urllib.parse.urlsplit(uri).port
    assert port is not None
    return port


def _fields(head: bytes) -> list[tuple[bytes, bytes, bytes]]:
    return [line.partition(b":") for line in head.split(b"\r\n")[1:]]


def _answer(connection: socket.socket, body: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\nLambda-Extension-Identifier: {_IDENTIFIER}\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

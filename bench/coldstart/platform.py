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

from telemetryd.local.api.server import (
    NEXT,
    REGISTER,
    TELEMETRY,
    Extension,
    ExtensionsServer,
    Function,
    Polling,
    Subscribing,
)
from telemetryd.local.api.wire import Request, RequestReader, encode

_IDENTIFIER: Final = "11111111-2222-4333-8444-555555555555"
_FUNCTION: Final = Function("f", "1", "app.handler")
_CALLS: Final = {REGISTER: "register", TELEMETRY: "subscribe", NEXT: "next"}
_CPU_OF_PROCESS: Final = 2  # how Linux spells the CPU clock of a process in a clock's number
_MAJOR_FAULTS: Final = 9  # of the fields of /proc/PID/stat behind the name
_LOOK_SECONDS: Final = 0.1
_EVENT: Final = (
    b'{"time":"2026-03-14T10:15:30.123Z","type":"function","record":"order accepted order=1"}'
)


class Stamp(NamedTuple):
    """The time of something, and the usage of the process until then."""

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
        self._api = ExtensionsServer(_FUNCTION, lambda: _IDENTIFIER)
        self._turn = threading.Lock()
        """Protects `_api`, because each connection has a thread."""
        self._waiting: tuple[socket.socket, Extension] | None = None
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
        """Return the usage of the process up to now."""
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
        """Return True when it has asked for `next`, False if it ended before."""
        while not self._asked.wait(_LOOK_SECONDS):
            if process.poll() is not None:
                return self._asked.is_set()
        return True

    def shut_down(self) -> None:
        """Answer `next` with SHUTDOWN."""
        self._asked.wait(60)
        assert self._waiting is not None
        connection, extension = self._waiting
        deadline_ms = int((time.time() + 30) * 1000)
        with self._turn:
            extension.send(
                {"eventType": "SHUTDOWN", "shutdownReason": "spindown", "deadlineMs": deadline_ms}
            )
            answer = self._api.take(extension)
        assert answer is not None
        connection.sendall(encode(answer))

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
        reader = RequestReader()
        while data := _receive(connection):
            for request in reader.feed(data):
                self._handle(connection, request)
        with self._turn:
            if self._waiting is not None and self._waiting[0] is connection:
                self._waiting[1].hang_up()

    def _handle(self, connection: socket.socket, request: Request) -> None:
        call = _CALLS.get(request.path, request.path)
        if call not in self.stamps:
            at = time.monotonic_ns()
            self._pid.wait(60)
            self.stamps[call] = self.stamp()._replace(at=at)
        with self._turn:
            outcome = self._api.receive(request)
            if isinstance(outcome, Polling):
                self._waiting = connection, outcome.extension
        if isinstance(outcome, Polling):
            self._asked.set()
            return
        connection.sendall(encode(outcome.answer))
        if isinstance(outcome, Subscribing):
            self._deliver(json.loads(request.body)["destination"])

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


def _receive(connection: socket.socket) -> bytes:
    """Return what has arrived; nothing at the end of the connection."""
    try:
        return connection.recv(65536)
    except OSError:
        return b""

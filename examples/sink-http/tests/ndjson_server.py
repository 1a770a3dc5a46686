"""A loopback HTTP server that keeps the lines it is sent, and fails when told to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class NdjsonServer:
    """A context manager; `url` is where to POST. Bodies over `max_bytes` are answered with 413.

    With `drop_duplicates` it keeps the body of an `Idempotency-Key` once, as a collector should.
    """

    def __init__(self, *, max_bytes: int = 4 * 1024 * 1024, drop_duplicates: bool = False) -> None:
        self.max_bytes = max_bytes
        self._seen: set[str] | None = set() if drop_duplicates else None
        self.script: list[tuple[int, dict[str, str]]] = []
        """Status and headers of the next answers; what is answered so is not kept."""
        self.is_down = False
        """True if every response is 503."""
        self.headers: list[dict[str, str]] = []
        """The headers of every request that was answered."""
        self.statuses: list[int] = []
        """The status of every answer."""
        self.decode: Callable[[bytes], bytes] = bytes
        """Makes the lines of a body."""
        self._lines = bytearray()
        self._lock = threading.Lock()
        self._answering = threading.Event()
        self._answering.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}/lines"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def lines(self) -> bytes:
        """The lines that arrived, in order."""
        with self._lock:
            return bytes(self._lines)

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Inside, no request is answered; afterwards, none of those that came inside."""
        self._answering.clear()
        try:
            yield
        finally:
            self._answering.set()

    def _answer(self, key: str, body: bytes, *, was_down: bool) -> tuple[int, dict[str, str]]:
        with self._lock:
            if was_down or self.is_down:
                return 503, {}
            if self.script:
                return self.script.pop(0)
            if len(body) > self.max_bytes:
                return 413, {}
            if self._seen is None or key not in self._seen:
                self._lines += self.decode(body)
            if self._seen is not None:
                self._seen.add(key)
            return 204, {}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        ours = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                body = self.rfile.read(size)
                was_stalled, was_down = not ours._answering.is_set(), ours.is_down
                ours._answering.wait()
                # after the above: a client that gave up in an outage has then hung up
                if was_stalled or len(body) < size or has_hung_up(self.connection):
                    self.close_connection = True
                    return
                key = self.headers["Idempotency-Key"]
                status, headers = ours._answer(key, body, was_down=was_down)
                ours.headers.append(dict(self.headers))
                ours.statuses.append(status)
                self.send_response(status)
                for name, value in {"Content-Length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:  # the client was cancelled
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler


def has_hung_up(connection: socket.socket) -> bool:
    """True if no client waits for an answer any more."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True

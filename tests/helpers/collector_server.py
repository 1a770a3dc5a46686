"""A strict loopback HTTP server that keeps the lines POSTed to it, and fails as a test says.

It answers with 4xx, and notes a violation, what a sink must never send.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
from types import TracebackType
from typing import Any, Self, TypeAlias

import msgspec
import zstandard

MIB = 1024 * 1024
ONLY_ONCE = ("host", "content-length", "content-type", "content-encoding", "idempotency-key")


class Request(msgspec.Struct):
    """A request as it came; `lines` is its decoded body, as lines."""

    line: str
    headers: dict[str, str]
    body: bytes
    lines: bytes = b""


class Say(msgspec.Struct):
    """Answer this, and keep no line unless `accept`."""

    status: int
    headers: dict[str, str] = {}
    body: bytes = b""
    accept: bool = False


class Raw(msgspec.Struct):
    """Send these bytes instead of an answer, and leave the connection open unless `ends`."""

    data: bytes
    ends: bool = True


class Hang(msgspec.Struct):
    """Never answer."""


class Reset(msgspec.Struct):
    """Send RST instead of an answer; `accept` keeps the lines before."""

    accept: bool = False


Step: TypeAlias = Say | Raw | Hang | Reset | None


class CollectorServer:
    """In a thread of its own; a context manager. `script` is used up, then `otherwise` applies.

    Bodies over `max_body` are answered with 413, and lines with `refused` in them with 400. A
    body with a known Idempotency-Key is not kept again.
    """

    def __init__(self, *, form: str = "ndjson", max_body: int = MIB) -> None:
        self.form = form
        self.max_body = max_body
        self.script: list[Step] = []
        self.otherwise: Step = None
        self.refused = b""
        self.refuses_with = 400
        self.token = ""
        """Required, unless it is empty."""
        self.requests: list[Request] = []
        self.statuses: list[int] = []
        self.violations: list[str] = []
        self.connections = 0
        self.port = 0
        self._lines = bytearray()
        self._keys: dict[str, bytes] = {}
        self._seen = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self._protocols: set[_Connection] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """Where to POST."""
        return f"http://127.0.0.1:{self.port}/v1/lines?to=x"

    @property
    def lines(self) -> bytes:
        """All lines that were accepted, in order."""
        return bytes(self._lines)

    def wait_for_requests(self, count: int, seconds: float = 60.0) -> None:
        """Return when so many requests have arrived."""
        with self._seen:
            assert self._seen.wait_for(lambda: len(self.requests) >= count, seconds)

    def catch_up(self) -> None:
        """Return when all that clients have sent has been read."""

        async def turns() -> None:
            for _ in range(3):  # each looks at every socket
                await asyncio.sleep(0)

        self._call(turns())

    def answer(self, request: Request) -> Say | Raw | Hang | Reset:
        """Return what to do about a request, and keep its lines if they are accepted."""
        with self._seen:
            step = self.script.pop(0) if self.script else self.otherwise
            self.requests.append(request)
            self._seen.notify_all()
        fault, lines = self._read(request)
        request.lines = lines
        if fault:
            self.violations.append(fault)
            return Say(400)
        if isinstance(step, Say | Reset) and step.accept:
            self._keep(request)
        if step is not None:
            return step
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return Say(401)
        if len(request.body) > self.max_body:
            return Say(413)
        if self.refused and self.refused in lines:
            return Say(self.refuses_with, body=b"these lines are refused: " + lines)
        self._keep(request)
        return Say(204)

    def _keep(self, request: Request) -> None:
        key = request.headers["idempotency-key"]
        if key not in self._keys:
            self._lines += request.lines
        elif self._keys[key] != request.lines:
            self.violations.append("one key for two bodies")
        self._keys[key] = request.lines

    def _read(self, request: Request) -> tuple[str, bytes]:
        """Return the fault of a request, empty if it has none, and its lines."""
        headers, body = request.headers, request.body
        if request.line != "POST /v1/lines?to=x HTTP/1.1":
            return f"the first line is {request.line}", b""
        if missing := {"host", "user-agent", "content-length", "idempotency-key"} - headers.keys():
            return f"without {missing}", b""
        coding = headers.get("content-encoding", "")
        if coding == "gzip":
            body = gzip.decompress(body)
        elif coding == "zstd":
            body = zstandard.decompress(body)
        elif coding:
            return f"the coding is {coding}", b""
        if self.form == "json":
            return self._read_array(headers, body)
        if headers.get("content-type") != "application/x-ndjson":
            return "no application/x-ndjson", b""
        ends = body.endswith(b"\n") or is_probe(headers)
        return ("" if ends else "the last line does not end"), body

    def _read_array(self, headers: dict[str, str], body: bytes) -> tuple[str, bytes]:
        if headers.get("content-type") != "application/json":
            return "no application/json", b""
        try:
            records = json.loads(body.decode())
        except ValueError as error:
            return f"no JSON: {error}", b""
        if not isinstance(records, list) or not (records or is_probe(headers)):
            return "no array of records", b""
        return "", b"".join(_line(record) for record in records)

    # -- the loop ----------------------------------------------------------------------------

    def _call(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._ready.set()
        self._loop.run_forever()

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        for _ in range(5):  # asyncio leaves a socket open that it accepts while it closes
            await asyncio.sleep(0)
        self._server.close()
        for protocol in list(self._protocols):
            protocol.transport.abort()
        while self._protocols:  # noqa: ASYNC110 - a few turns of the loop
            await asyncio.sleep(0)

    def remember(self, connection: _Connection) -> None:
        """A client has connected."""
        self.connections += 1
        self._protocols.add(connection)

    def forget(self, connection: _Connection) -> None:
        """A connection is gone."""
        self._protocols.discard(connection)


class _Connection(asyncio.Protocol):
    def __init__(self, server: CollectorServer) -> None:
        self._owner = server
        self._buffer = bytearray()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._owner.remember(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.forget(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        line, *rest = bytes(self._buffer[:end]).decode("ascii").split("\r\n")
        fields = [(k.lower(), v.strip()) for k, _, v in (each.partition(":") for each in rest)]
        names = [name for name, _ in fields]
        if any(names.count(name) > 1 for name in ONLY_ONCE):
            self._owner.violations.append("a header twice")
        headers = dict(fields)
        size = int(headers["content-length"])
        if len(self._buffer) < end + 4 + size:
            return
        body = bytes(self._buffer[end + 4 : end + 4 + size])
        del self._buffer[: end + 4 + size]
        self._respond(self._owner.answer(Request(line, headers, body)))

    def _respond(self, answer: Say | Raw | Hang | Reset) -> None:
        if isinstance(answer, Say):
            self._owner.statuses.append(answer.status)
            lines = {"Content-Length": str(len(answer.body)), **answer.headers}
            head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
            if answer.status == 204:
                head = ""
            self.transport.write(f"HTTP/1.1 {answer.status} x\r\n{head}\r\n".encode() + answer.body)
        elif isinstance(answer, Raw):
            self.transport.write(answer.data)
            if answer.ends:
                self.transport.close()
        elif isinstance(answer, Reset):
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.transport.abort()


def is_probe(headers: dict[str, str]) -> bool:
    """True if the request is one of `check --probe`, which has no lines."""
    return headers["idempotency-key"].startswith("probe-")


def _line(record: object) -> bytes:
    """The record as tests write lines."""
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def no_proxies(monkeypatch: Any) -> None:
    """Forget proxies and authorities that the machine's environment names."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

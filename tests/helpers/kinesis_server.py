"""A loopback HTTP server that speaks Kinesis PutRecords, as fast as memory and as badly as asked.

It accepts what keeps to the limits of the real service, notes what does not, and follows a script:
each step answers one request.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import msgspec

TYPE: Final = "application/x-amz-json-1.1"
MIB: Final = 1024 * 1024


class Put(msgspec.Struct, rename="pascal"):
    """One entry of a PutRecords call."""

    data: bytes
    partition_key: str
    explicit_hash_key: str | None = None


class PutRecords(msgspec.Struct, rename="pascal"):
    """The body of a request."""

    records: list[Put]
    stream_name: str | None = None
    stream_arn: str | None = msgspec.field(default=None, name="StreamARN")


class Request(msgspec.Struct):
    """A request as it came."""

    target: str
    headers: dict[str, str]
    put: PutRecords


class Refuse(msgspec.Struct):
    """Answer 200, and refuse these records by index; `count` overrides FailedRecordCount."""

    codes: dict[int, str]
    count: int | None = None


class Error(msgspec.Struct):
    """Answer with an error of the service."""

    status: int
    code: str
    message: str = "scripted"
    headers: dict[str, str] = {}
    accept: bool = False
    """Keep the records although the answer is an error."""


class Raw(msgspec.Struct):
    """Answer this body."""

    body: bytes
    status: int = 200


class Hang(msgspec.Struct):
    """Never answer."""


class Reset(msgspec.Struct):
    """Send RST instead of an answer; `accept` keeps the records before."""

    accept: bool = False


Step: TypeAlias = Refuse | Error | Raw | Hang | Reset | None
Answer: TypeAlias = tuple[int, dict[str, str], bytes]


class KinesisServer:
    """In a thread of its own; a context manager.

    `script` is used up, then `otherwise` applies, or what `choose` says of the request. Answers
    take `delay_seconds`.
    """

    def __init__(
        self,
        *,
        keep: bool = True,
        max_request: int = 5 * MIB,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.script: list[Step] = []
        self.otherwise: Step = None
        self.choose: Callable[[PutRecords], Step] | None = None
        self.delay_seconds = 0.0
        self.state = "ACTIVE"
        """Of the stream, or an error code: what DescribeStreamSummary answers."""
        self.descriptions = 0
        self.requests: list[Request] = []
        self.accepted: list[Put] = []
        self.violations: list[str] = []
        self.connections = 0
        self.seen = threading.Condition()
        self.counts = {"calls": 0, "records": 0, "data_bytes": 0, "body_bytes": 0}
        self.port = 0
        self._keep = keep
        self._max_request = max_request
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self._server: asyncio.Server | None = None
        self._protocols: set[_Connection] = set()
        self._all_gone = asyncio.Event()

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
        """Where it listens."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def wait_for_requests(self, count: int, seconds: float = 60.0) -> None:
        """Return when so many requests have arrived."""
        with self.seen:
            assert self.seen.wait_for(lambda: len(self.requests) >= count, seconds), self.requests

    def catch_up(self) -> None:
        """Return when all that clients have sent has been read."""

        async def turns() -> None:
            for _ in range(3):  # each looks at every socket
                await asyncio.sleep(0)

        self._call(turns())

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """No one listens on the port at the same time, and connections are cut."""
        self._call(self._close())
        try:
            yield
        finally:
            self._call(self._listen())

    def _call(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._ready.set()
        self._loop.run_forever()

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(
            lambda: _Connection(self), "127.0.0.1", self.port, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            for _ in range(5):  # asyncio leaves a socket open that it accepts while it closes
                await asyncio.sleep(0)
            self._server.close()
            self._server = None
        self._all_gone.clear()
        for protocol in list(self._protocols):
            protocol.transport.abort()
        if self._protocols:
            await self._all_gone.wait()

    def remember(self, connection: _Connection) -> None:
        """A client has connected."""
        self.connections += 1
        self._protocols.add(connection)

    def forget(self, connection: _Connection) -> None:
        """A connection is gone."""
        self._protocols.discard(connection)
        if not self._protocols:
            self._all_gone.set()

    # -- answers -----------------------------------------------------------------------------

    def answer(self, headers: dict[str, str], body: bytes) -> Answer | Hang | Reset:
        """Status, headers and body, or what to do instead of an answer."""
        put = msgspec.json.decode(body, type=PutRecords)
        self.counts["calls"] += 1
        self.counts["body_bytes"] += len(body)
        with self.seen:
            if self.script:
                step = self.script.pop(0)
            else:
                step = self.choose(put) if self.choose else self.otherwise
            if self._keep:
                self.requests.append(Request(headers.get("x-amz-target", ""), headers, put))
                self.seen.notify_all()
        if isinstance(step, Hang):
            return step
        if isinstance(step, Reset):
            if step.accept:
                self._accept(put, {})
            return step
        if isinstance(step, Raw):
            return step.status, {}, step.body
        if isinstance(step, Error):
            if step.accept:
                self._accept(put, {})
            error = {"__type": step.code, "message": step.message}
            return step.status, step.headers, json.dumps(error).encode()
        if violation := self._violation(put):
            self.violations.append(violation)
            error = {"__type": "InvalidArgumentException", "message": violation}
            return 400, {}, json.dumps(error).encode()
        codes = step.codes if step else {}
        results = self._accept(put, codes)
        count = len(codes) if step is None or step.count is None else step.count
        answer = {"FailedRecordCount": count, "Records": results}
        return 200, {}, msgspec.json.encode(answer)

    def describe(self) -> Answer:
        """Status, headers and body for DescribeStreamSummary."""
        self.descriptions += 1
        if self.state.endswith("Exception"):
            error = {"__type": self.state, "message": "scripted"}
            return 400, {}, json.dumps(error).encode()
        return (
            200,
            {},
            json.dumps({"StreamDescriptionSummary": {"StreamStatus": self.state}}).encode(),
        )

    def _accept(self, put: PutRecords, codes: dict[int, str]) -> list[dict[str, str]]:
        results = []
        for index, record in enumerate(put.records):
            if index in codes:
                results.append({"ErrorCode": codes[index], "ErrorMessage": "scripted"})
                continue
            self.counts["records"] += 1
            self.counts["data_bytes"] += len(record.data)
            if self._keep:
                self.accepted.append(record)
            results.append(
                {"SequenceNumber": str(self.counts["records"]), "ShardId": "shardId-000000000000"}
            )
        return results

    def _violation(self, put: PutRecords) -> str:
        sizes = [
            len(r.data) + len(r.partition_key.encode()) + len(r.explicit_hash_key or "")
            for r in put.records
        ]
        if not 1 <= len(sizes) <= 500:
            return f"{len(sizes)} records in a call"
        if max(sizes) > 10 * MIB:
            return f"a record of {max(sizes)} bytes"
        if sum(sizes) > self._max_request:
            return f"a call of {sum(sizes)} bytes"
        if any(not 1 <= len(r.partition_key) <= 256 for r in put.records):
            return "a partition key of an impossible length"
        if any(int(r.explicit_hash_key or "0") >= 1 << 128 for r in put.records):
            return "ExplicitHashKey must be in the range: [0, 2^128-1]"
        return ""


class _Connection(asyncio.Protocol):
    def __init__(self, server: KinesisServer) -> None:
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
        head = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")[1:]
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head)}
        size = int(headers["content-length"])
        if len(self._buffer) < end + 4 + size:
            return
        body = bytes(self._buffer[end + 4 : end + 4 + size])
        self._buffer.clear()
        self._respond(headers, body)

    def _respond(self, headers: dict[str, str], body: bytes) -> None:
        describes = headers.get("x-amz-target", "").endswith(".DescribeStreamSummary")
        answer = self._owner.describe() if describes else self._owner.answer(headers, body)
        if isinstance(answer, Hang):
            return
        if isinstance(answer, Reset):
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.transport.abort()
            return
        status, extra, content = answer
        lines = {"content-type": TYPE, "content-length": str(len(content)), **extra}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        whole = f"HTTP/1.1 {status} scripted\r\n{head}\r\n".encode() + content
        if self._owner.delay_seconds:
            loop = asyncio.get_running_loop()
            loop.call_later(self._owner.delay_seconds, self.transport.write, whole)
        else:
            self.transport.write(whole)


def environment(monkeypatch: Any, server: KinesisServer | None = None) -> None:
    """What an AWS tool finds in its environment; nothing of the machine's own."""
    for name in (
        "AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_REGION", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy",
        "NO_PROXY", "no_proxy",
        "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_ENDPOINT_URL_KINESIS",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    if server is not None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", server.url)

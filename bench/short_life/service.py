"""Kinesis, CloudWatch Logs and a server for POSTs, over TLS, strict: for `bench.short_life`.

    python -m bench.short_life.service CERTIFICATE DELAY_MS

prints its port, then answers each line of standard input, a name, with a line of JSON: what arrived
in the stream and in the log group of that name and was POSTed to `/lines/NAME` or as OTLP to
`/otlp/NAME`, and what had to be refused. It keeps to the limits of the services, as the servers of
the tests do, and checks each signature. A POST needs a token; one that comes again, by its key, is
dropped. What is sent takes DELAY_MS in each direction.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
import ssl
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec

from bench.load.collector import PROTOBUF
from bench.short_life.authority import HOST, Authority
from bench.short_life.signature import find_fault

if TYPE_CHECKING:
    from helpers.fake_logs import FakeLogs
    from helpers.kinesis_server import KinesisServer

TESTS: Final = Path(__file__).parents[2] / "tests"
KEYS: Final = {
    "AWS_ACCESS_KEY_ID": "AKIDBENCH",
    "AWS_SECRET_ACCESS_KEY": "secret-of-the-bench",
    "AWS_SESSION_TOKEN": "token-of-the-bench",
}
_TARGETS: Final = {"Kinesis_20131202": "kinesis", "Logs_20140328": "logs"}
"""The service that a target header names."""
TOKEN: Final = "bearer-of-the-bench"  # noqa: S105 - opens nothing
_TYPE: Final = "application/x-amz-json-1.1"
_POST: Final = re.compile(r"POST /(?:lines/([\w-]+)|otlp/([\w-]+)/v1/logs) HTTP/1\.1")
_MOST_BYTES: Final = 16 << 20
_GRACE_SECONDS: Final = 0.05
"""Seconds for a request to arrive after its sender has ended."""


class Arrived(msgspec.Struct, frozen=True, kw_only=True):
    """The requests that arrived for one name."""

    records: list[bytes]
    """Data of the stream's records, in their order."""
    messages: list[str]
    """Of the log group's events."""
    posted: list[bytes]
    """Bodies, each once."""
    refused: list[str]
    """Reasons of refused requests, for all names. A correct client sends none."""
    connections: int
    """That were made since the last question."""


class Service:
    """The running process."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, bundle: Path) -> None:
        self._process = process
        self.url = url = f"https://{HOST}:{port}"
        self.variables = {
            "AWS_ENDPOINT_URL_KINESIS": url,
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": url,
            "AWS_CA_BUNDLE": str(bundle),
            **KEYS,
        }
        """The variables that an extension needs to reach it."""

    def read(self, name: str) -> Arrived:
        """Return what has arrived for `name`, once."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(name.encode() + b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline(), type=Arrived)


@contextlib.contextmanager
def serving(
    authority: Authority, said: IO[bytes], prefix: list[str], delay_ms: float = 0.0
) -> Iterator[Service]:
    """Start it behind `prefix` (say `taskset -c 1`); `said` gets what it says."""
    arguments = ["-m", "bench.short_life.service", str(authority.server), str(delay_ms)]
    command = [*prefix, sys.executable, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
    ) as process:
        assert process.stdout is not None
        try:
            yield Service(process, int(process.stdout.readline()), authority.bundle)
        finally:
            process.kill()


# -- the process itself ---------------------------------------------------------------------------


class Strict:
    """Both services in memory."""

    def __init__(self, kinesis: KinesisServer, logs: FakeLogs, refusal: type[Exception]) -> None:
        self._kinesis = kinesis
        self._logs = logs
        self._refusal = refusal
        self._records: dict[str, list[bytes]] = defaultdict(list)
        self._posted: dict[str, dict[str, bytes]] = defaultdict(dict)
        """Bodies by name and key."""
        self.refused: list[str] = []
        self.connections = 0

    def take(self, name: str) -> Arrived:
        """Return what came for `name`, and forget it."""
        group: dict[str, list[dict[str, Any]]] = self._logs.groups.pop(name, {})
        found = Arrived(
            records=self._records.pop(name, []),
            posted=list(self._posted.pop(name, {}).values()),
            messages=[event["message"] for stream in group.values() for event in stream],
            refused=self.refused,
            connections=self.connections,
        )
        self.refused, self.connections = [], 0
        return found

    def answer(self, request: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Return status and body for a request; `headers` have lower-case names."""
        if found := _POST.fullmatch(request):
            return self._post(found[1], found[2], headers, body)
        target, _, operation = headers.get("x-amz-target", "").partition(".")
        service = _TARGETS.get(target, "")
        fault = find_fault(
            headers, body, key=KEYS["AWS_ACCESS_KEY_ID"], secret=KEYS["AWS_SECRET_ACCESS_KEY"],
            service=service,
        )  # fmt: skip
        if request != "POST / HTTP/1.1":
            fault = f"a request {request!r}"
        elif headers.get("x-amz-security-token") != KEYS["AWS_SESSION_TOKEN"]:
            fault = fault or "no session token"
        elif headers.get("content-type") != _TYPE:
            fault = fault or f"content-type {headers.get('content-type')!r}"
        if fault:
            return self._refuse("InvalidSignatureException", fault)
        if service == "kinesis" and operation == "PutRecords":
            return self._put_records(headers, body)
        if service == "logs" and operation in ("CreateLogGroup", "CreateLogStream", "PutLogEvents"):
            return self._log(operation, body)
        return self._refuse("UnknownOperationException", f"{target}.{operation}")

    def _post(
        self, of_lines: str | None, of_otlp: str | None, headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes]:
        """Keep a body, of OTLP even if it is the same again: there is no key."""
        fault = ""
        name = of_lines or of_otlp or ""
        if headers.get("authorization") != f"Bearer {TOKEN}":
            fault = "no token"
        elif of_otlp:
            if headers.get("content-type") == PROTOBUF:
                self._posted[name][str(len(self._posted[name]))] = body
                return 200, b""
            fault = "no OTLP"
        elif headers.get("content-type") != "application/x-ndjson" or not body.endswith(b"\n"):
            fault = "no lines"
        key = headers.get("idempotency-key", "")
        if not fault and self._posted[name].setdefault(key, body) != body:
            fault = "one key for two bodies"
        return self._refuse("InvalidRequest", fault) if fault else (200, b"")

    def _put_records(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        answer = self._kinesis.answer(headers, body)
        assert isinstance(answer, tuple)
        put = self._kinesis.requests.pop().put
        self._records[put.stream_name or ""] += [each.data for each in self._kinesis.accepted]
        self._kinesis.accepted.clear()
        self.refused += self._kinesis.violations
        self._kinesis.violations.clear()
        return answer[0], answer[2]

    def _log(self, operation: str, body: bytes) -> tuple[int, bytes]:
        try:
            return 200, json.dumps(getattr(self._logs, operation)(json.loads(body))).encode()
        except self._refusal as error:
            code = str(getattr(error, "code", ""))
            if code in ("ResourceNotFoundException", "ResourceAlreadyExistsException"):
                return _error(code, str(error))  # how a client finds out
            return self._refuse(code, str(error))

    def _refuse(self, code: str, why: str) -> tuple[int, bytes]:
        self.refused.append(why)
        return _error(code, why)


def _error(code: str, why: str) -> tuple[int, bytes]:
    return 400, json.dumps({"__type": code, "message": why}).encode()


async def _serve(
    strict: Strict, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Serve one connection, request after request."""
    strict.connections += 1
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = (line.partition(":") for line in head[1:] if line)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            size = headers.get("content-length", "")
            if not size.isdecimal() or int(size) > _MOST_BYTES:
                strict.refused.append(f"content-length {size!r}")
                break
            if headers.get("expect") == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            status, body = strict.answer(head[0], headers, await reader.readexactly(int(size)))
            writer.write(
                f"HTTP/1.1 {status} -\r\ncontent-type: {_TYPE}\r\n"
                f"content-length: {len(body)}\r\n\r\n".encode()
                + body
            )
            await writer.drain()
    writer.close()


async def _relay(
    port: int, delay: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Relay one connection, both directions late. Several pieces may be in flight."""
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
    loop = asyncio.get_running_loop()

    async def copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(1 << 16):
                loop.call_later(delay, to.write, data)
        loop.call_later(delay, to.close)

    await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))


async def _main(certificate: str, delay: float) -> None:
    """Serve and answer questions until standard input ends."""
    sys.path.insert(0, str(TESTS))
    from helpers.fake_logs import FakeLogs, RefusedError  # noqa: PLC0415 - a program's own import
    from helpers.kinesis_server import MIB, KinesisServer  # noqa: PLC0415 - the same

    strict = Strict(KinesisServer(max_request=10 * MIB), FakeLogs(), RefusedError)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _serve(strict, reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context, limit=1 << 20)
    port = server.sockets[0].getsockname()[1]
    if delay:
        late = functools.partial(_relay, port, delay)
        server = await asyncio.start_server(late, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
    else:
        with contextlib.suppress(OSError):  # no IPv6 here
            await asyncio.start_server(serve, "::1", port, ssl=context, limit=1 << 20)
    print(port, flush=True)
    loop = asyncio.get_running_loop()
    while name := await loop.run_in_executor(None, sys.stdin.readline):
        await asyncio.sleep(_GRACE_SECONDS + 4 * delay)
        print(msgspec.json.encode(strict.take(name.strip())).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], float(sys.argv[2]) / 1000))

"""The HTTP server of the scenarios, and the lines it holds in the end.

    python -m bench.load.collector FILE

accepts every POST, as fast as memory allows: prints its port, serves until standard input ends,
then writes what was POSTed to FILE. It reads no body before, so that it is not what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.kit.errors import LossError

_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_ANSWERS: Final = {
    "elastic_bulk": b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"errors":false}',
    "splunk_hec": b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"code":0}',
}
"""Of vendors that say more than a status."""
PROTOBUF: Final = "application/x-protobuf"
_END: Final = b"\r\n\r\n"
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])


class Post(msgspec.Struct, frozen=True, array_like=True):
    """A request as it came."""

    kind: str
    """Its Content-Type."""
    coding: str
    """Its Content-Encoding; empty if it has none."""
    body: bytes
    preset: str = ""
    """The last part of its path, if that is not `lines`: what of a vendor it is."""


class Collector:
    """A running server."""

    def __init__(self, url: str, process: subprocess.Popen[str], kept: Path) -> None:
        self.url = url
        self._process = process
        self._kept = kept

    def arrived(self) -> Iterator[Sequence[bytes]]:
        """Yield the lines of each request, without their newlines. The server ends with that.

        Raises LossError where a body can't be read.
        """
        said = self._process.communicate()[0]
        if json.loads(said) != "kept":
            raise LossError(f"the server failed: {said}")
        for post in msgspec.msgpack.decode(self._kept.read_bytes(), type=list[Post]):
            yield _lines(post)


@contextlib.contextmanager
def serving(scratch: Path, prefix: Sequence[str]) -> Iterator[Collector]:
    """Start it behind `prefix` (say `taskset -c 1`)."""
    kept = scratch / "posts.msgpack"
    command = [*prefix, sys.executable, "-m", "bench.load.collector", str(kept)]
    with (
        (scratch / "collector.log").open("wb") as said,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
        ) as process,
    ):
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            yield Collector(f"http://127.0.0.1:{port}/v1/lines", process, kept)
        finally:
            process.kill()


def _lines(post: Post) -> Sequence[bytes]:
    kinds = _PRESETS if post.preset else _KINDS
    read = kinds.get(post.preset or post.kind)
    if (decode := _CODINGS.get(post.coding)) is None or read is None:
        raise LossError(f"an unexpected body: {post.kind}, {post.coding or 'not compressed'}")
    return read(decode(post.body))


def _inflate_zstd(body: bytes) -> bytes:
    import zstandard  # noqa: PLC0415 - only where it is used

    return zstandard.ZstdDecompressor().stream_reader(body).read()


_CODINGS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "": bytes,
    "gzip": gzip.decompress,
    "zstd": _inflate_zstd,
}
_KINDS: Final[Mapping[str, Callable[[bytes], Sequence[bytes]]]] = {
    "application/x-ndjson": lambda body: body.splitlines(),
    PROTOBUF: lambda body: [b""] * len(records_of(body)),
    "application/json": lambda body: [bytes(record) for record in _ARRAY.decode(body)],
}


def records_of(body: bytes) -> list[Any]:
    """Return the log records of a request of OTLP."""
    # here, as only OTLP needs it, and it is a library for tests
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2  # noqa: PLC0415

    request = logs_service_pb2.ExportLogsServiceRequest.FromString(body)
    scopes = [scope for source in request.resource_logs for scope in source.scope_logs]
    return [record for scope in scopes for record in scope.log_records]


def _of_loki(body: bytes) -> Sequence[bytes]:
    streams = msgspec.json.decode(body)["streams"]
    return [line.encode() for stream in streams for _, line in stream["values"]]


def _of_splunk(body: bytes) -> Sequence[bytes]:
    events = _EVENTS.decode(b"[%b]" % body.replace(b'}{"source":', b'},{"source":'))
    return [bytes(event["event"]) for event in events]


def _of_elastic(body: bytes) -> Sequence[bytes]:
    documents = body.splitlines()[1::2]
    return [b"{" + document.partition(b",")[2] for document in documents]


_EVENTS: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_PRESETS: Final[Mapping[str, Callable[[bytes], Sequence[bytes]]]] = {
    "datadog": lambda body: [entry["message"].encode() for entry in msgspec.json.decode(body)],
    "elastic_bulk": _of_elastic,
    "loki": _of_loki,
    "splunk_hec": _of_splunk,
}


# -- the process itself ---------------------------------------------------------------------------


class _Connection(asyncio.Protocol):
    def __init__(self, posts: list[Post]) -> None:
        self._posts = posts
        self._buffer = bytearray()
        self._end = -1
        """Where the request ends; -1 before its head is complete."""
        self._head = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._take():
            pass

    def _take(self) -> bool:
        """True if a request was complete, and is answered."""
        if self._end < 0:
            head, end, _ = bytes(self._buffer[:65536]).partition(_END)
            if not end:
                return False
            self._head = head
            self._end = len(head) + len(end) + int(_headers(head).get("content-length", "0"))
        if len(self._buffer) < self._end:
            return False
        headers = _headers(self._head)
        body = bytes(self._buffer[len(self._head) + len(_END) : self._end])
        del self._buffer[: self._end]
        self._end = -1
        kind, coding = headers.get("content-type", ""), headers.get("content-encoding", "")
        preset = _preset_of(self._head)
        self._posts.append(Post(kind, coding, body, preset))
        assert self._transport is not None
        self._transport.write(_ANSWERS.get(preset, _OK))
        return True


def _preset_of(head: bytes) -> str:
    target = head.split(b" ", 2)[1].decode("latin-1").partition("?")[0]
    return target.rpartition("/")[2].removeprefix("lines")


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (it.partition(":") for it in lines)}


async def _main() -> list[Post]:
    posts: list[Post] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(posts), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    return posts


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(msgspec.msgpack.encode(asyncio.run(_main())))
    print(json.dumps("kept"), flush=True)

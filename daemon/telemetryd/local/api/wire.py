"""Requests and responses as bytes of HTTP/1.1, for platforms on bare sockets. No I/O.

It supports only what an extension sends: bodies have a `Content-Length`, and none is chunked.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request's line and headers."""
MAX_BODY: Final = 1024 * 1024
"""Bytes of a request's body, as on AWS's emulator."""
_NUMBER = re.compile(r"[0-9]{1,10}")
_END: Final = b"\r\n\r\n"
_REASONS: Final = {
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    500: "Internal Server Error",
}


class Request(NamedTuple):
    """One call of an extension."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class Answer(NamedTuple):
    """The response to a call. Its sender adds `Content-Length`."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...]


class WireError(ValueError):
    """The bytes are no request that is understood here; the connection is of no more use."""


class RequestReader:
    """Cuts what one connection receives into requests."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[Request]:
        """Yield every request that is complete with `data`. Raises `WireError`."""
        self._buffer += data
        while True:
            head, end, rest = self._buffer.partition(_END)
            if len(head) > MAX_HEAD:
                raise WireError(f"the head of a request has more than {MAX_HEAD} bytes")
            if not end:
                return
            method, path, headers = _parse_head(head)
            length = _body_length(headers)
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            yield Request(method, path, headers, rest[:length])


def _parse_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3:  # noqa: PLR2004 - method, path, version
        raise WireError(f"no request line: {first[:80]!r}")
    fields = (line.partition(":") for line in lines)
    return parts[0], parts[1], {name.lower(): value.strip() for name, _, value in fields}


def _body_length(headers: Mapping[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise WireError("chunked bodies are not supported")
    text = headers.get("content-length", "0")
    if not (_NUMBER.fullmatch(text) and int(text) <= MAX_BODY):
        raise WireError(f"Content-Length {text[:80]!r}: not a number up to {MAX_BODY}")
    return int(text)


def encode(answer: Answer) -> bytes:
    """Return the answer as bytes of HTTP/1.1."""
    status, body, headers = answer
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines.append(f"Content-Length: {len(body)}\r\n\r\n")
    return "\r\n".join(lines).encode("latin-1") + body

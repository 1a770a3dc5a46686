"""HTTP/1.1 requests, sans-IO: bytes of a connection in, whole requests out (RFC 9112).

Rules:

1. A request is handed out once it is whole: `Request`, with its body. One whose body is too
   large, or finds no room in the budget that all connections share, is read to its end and handed
   out as `Skipped`: a peer that still writes would not read an answer.
2. What leaves open where a request ends is `Unreadable`, and the last of its connection: two
   lengths, a length beside chunks, a line that continues, white space before a colon. Elsewhere
   lenient: a line may end in a bare newline, and `Host` may be missing.
3. Requests may follow each other before they are answered (pipelining). Each is handed out when it
   is asked for, so that answers stay in order. The connection is not read until then, so that what
   is held is bounded by one request and one read.
4. Each byte is looked at a fixed number of times, however the stream is cut.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec

from telemetryd_proto.framing import TailBudget

MAX_HEAD_BYTES: Final = 16 * 1024
"""Bytes of a request's first line and headers, and of the trailers behind chunks."""
MAX_SKIPPED_BYTES: Final = 256 * 1024 * 1024
"""Bytes of a body that is read only to be thrown away."""
_MAX_CHUNK_LINE: Final = 256
_MAX_LENGTH_DIGITS: Final = 15

_REQUEST_LINE: Final = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([!-~\x80-\xff]+) HTTP/(\d)\.(\d)"
)
_HEADER: Final = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*\r?"
)
_EMPTY_LINE: Final = re.compile(rb"\r?\n")
_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?\r?\n")


class Request(msgspec.Struct, frozen=True):
    """A whole request."""

    method: str
    target: str
    """The target in the first line, with its query; not decoded."""
    headers: Mapping[str, str]
    """Fields by name in lower case. Values of a repeated field are joined by ", "."""
    body: bytes | bytearray
    is_last: bool
    """True if the peer sends no further request: it wants the connection closed."""


class Skipped(msgspec.Struct, frozen=True):
    """A whole request whose body was thrown away."""

    reason: str
    """`too_long` or `tail_budget`, as for lines."""
    size: int
    """Bytes of the body."""
    head: bytes
    """The first bytes of the body, as many as the reader was told to keep."""
    request: Request
    """The rest of it, without a body."""


class Unreadable(msgspec.Struct, frozen=True):
    """Bytes that are not a request. Nothing after them can be read."""

    status: int
    """The HTTP status to answer with, before the connection is closed."""
    problem: str


class Expecting(msgspec.Struct, frozen=True):
    """The peer waits for `100 Continue` before it sends a body of `size` bytes (None: unknown)."""

    size: int | None


Event: TypeAlias = Request | Skipped | Unreadable | Expecting


class _Refusal(Exception):  # noqa: N818 - becomes an event
    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status


class _Head(msgspec.Struct):
    """The first line and the headers of the request that is being read."""

    method: str
    target: str
    headers: dict[str, str]
    length: int | None
    """Bytes of the body; None: it comes in chunks."""
    is_last: bool
    expects: bool


class RequestReader:
    """Reads the requests of one connection.

    `budget` is shared between connections, and holds the bytes of bodies. `keep_bytes` is how much
    of a body that is thrown away `Skipped.head` carries.
    """

    __slots__ = (
        "_body", "_broken", "_budget", "_buffer", "_chunk", "_head", "_is_new", "_keep", "_looked",
        "_max", "_reason", "_refusal", "_size", "_trailers",
    )  # fmt: skip

    def __init__(self, budget: TailBudget, *, max_body_bytes: int, keep_bytes: int = 0) -> None:
        self._budget = budget
        self._max = max_body_bytes
        self._keep = keep_bytes
        self._buffer = bytearray()  # not yet looked at
        self._looked = 0  # bytes of it in which no end of the head was found
        self._head: _Head | None = None
        self._is_new = False
        """True until something was made of the head."""
        self._refusal: _Refusal | None = None
        self._broken = False
        self._begin_body()

    def _begin_body(self) -> None:
        self._body = bytearray()
        self._size = 0
        """Bytes of the body so far, kept or not."""
        self._chunk = 0
        """Bytes of the chunk that are still to come, its end of line included."""
        self._reason = ""
        """The reason why the body is discarded."""
        self._trailers = -1
        """Bytes of trailers so far; -1 before the last chunk."""

    @property
    def unfinished_bytes(self) -> int:
        """Bytes fed and not yet handed out."""
        return len(self._buffer) + len(self._body)

    @property
    def is_between(self) -> bool:
        """True if nothing of a request was read since the last one."""
        return self._head is None and not self._buffer

    def use(self, budget: TailBudget) -> None:
        """Take what is unfinished out of `budget` from now on, unless it does not fit there."""
        held = 0 if self._reason else len(self._body)
        if budget.take(held):
            self._budget.give(held)
            self._budget = budget

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes of the stream. `data` may be reused as soon as this returns."""
        if self._broken or self._refusal is not None:
            return
        at, end = 0, len(data)
        with memoryview(data) as view:
            if self._head is None and not self._buffer:
                # a body behind its head is copied once, not with it and then again
                found = _END_OF_HEAD.search(view, 0, MAX_HEAD_BYTES)
                at = found.end() if found is not None else end
                self._buffer += view[:at]
                self._begin()
            head = self._head
            if at < end and head is not None and head.length is not None and not self._buffer:
                piece = view[at : at + head.length - self._size]
                at += len(piece)
                self._add(piece)
            if at < end:
                self._buffer += view[at:]

    def next_event(self) -> Event | None:
        """Return the next event, None if more bytes are needed."""
        if self._broken:
            return None
        try:
            return self._next()
        except _Refusal as refusal:
            self._broken = True
            self.close()
            return Unreadable(refusal.status, str(refusal))

    def close(self) -> bytes:
        """Forget what is unfinished: return the first bytes of its body, as many as are kept."""
        head = bytes(self._body[: self._keep])
        self._buffer = bytearray()
        self._take_body()
        self._head = None
        return head

    # -- head ----------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Read the head of a request, if it is whole."""
        try:
            self._head = self._read_head()
        except _Refusal as refusal:  # it is `next_event` that says so
            self._refusal = refusal
        self._is_new = self._head is not None

    def _next(self) -> Event | None:
        if self._head is None and self._buffer and self._refusal is None:
            self._begin()
        if self._refusal is not None:
            raise self._refusal
        head = self._head
        if head is None:
            return None
        if self._is_new:
            self._is_new = False
            if head.expects and head.length != 0 and not self._buffer and not self._size:
                return Expecting(head.length)
        if not (self._read_chunks() if head.length is None else self._read_length(head.length)):
            return None
        return self._finish(head)

    def _read_head(self) -> _Head | None:
        buffer = self._buffer
        # empty lines may stand before a request (RFC 9112, 2.2)
        while not self._looked and (empty := _EMPTY_LINE.match(buffer)):
            del buffer[: empty.end()]
        found = _END_OF_HEAD.search(buffer, max(0, self._looked - 2), MAX_HEAD_BYTES)
        if found is None:
            if len(buffer) >= MAX_HEAD_BYTES:
                raise _Refusal(431, f"the head of a request is longer than {MAX_HEAD_BYTES} bytes")
            if buffer != b"\r":  # which may become an empty line
                self._looked = len(buffer)
            return None
        end, self._looked = found.end(), 0
        lines = bytes(buffer[:end]).rstrip(b"\r\n").split(b"\n")
        del buffer[:end]
        return _parse_head(lines)

    # -- body ----------------------------------------------------------------------------------

    def _add(self, piece: memoryview | bytes | bytearray) -> None:
        """Keep a piece of the body, or only count it."""
        size = len(piece)
        self._size += size
        if not self._reason:
            if self._size > self._max:
                self._reason = "too_long"
            elif not self._budget.take(size):
                self._reason = "tail_budget"
            else:
                self._body += piece
                return
            self._budget.give(len(self._body))
            self._body = self._body[: self._keep]
        if len(self._body) < self._keep:
            self._body += piece[: self._keep - len(self._body)]
        if self._size > MAX_SKIPPED_BYTES:
            raise _Refusal(413, f"a body is longer than {self._max} bytes")

    def _read_length(self, length: int) -> bool:
        if length > MAX_SKIPPED_BYTES:
            raise _Refusal(413, f"a body is longer than {self._max} bytes")
        self._move(length - self._size)
        return self._size == length

    def _move(self, most: int) -> int:
        """Move up to `most` bytes of what was fed to the body; return how many."""
        buffer = self._buffer
        size = min(most, len(buffer))
        if size:
            with memoryview(buffer) as view, view[:size] as piece:
                self._add(piece)
            del buffer[:size]
        return size

    def _read_chunks(self) -> bool:
        """Read chunks as far as there are; True at the end of the trailers."""
        while self._trailers < 0:
            if self._chunk > 2:  # noqa: PLR2004 - its end of line
                self._chunk -= self._move(self._chunk - 2)
                if self._chunk > 2:  # noqa: PLR2004
                    return False
            if self._chunk and not self._end_chunk():
                return False
            if not self._begin_chunk():
                return False
        return self._read_trailers()

    def _end_chunk(self) -> bool:
        buffer = self._buffer
        if not buffer or buffer == b"\r":
            return False
        end = len(b"\n") if buffer.startswith(b"\n") else len(b"\r\n")
        if not buffer[:end].endswith(b"\n"):
            raise _Refusal(400, "a chunk is longer than its size")
        del buffer[:end]
        self._chunk = 0
        return True

    def _begin_chunk(self) -> bool:
        buffer = self._buffer
        end = buffer.find(b"\n", 0, _MAX_CHUNK_LINE) + 1
        if not end:
            if len(buffer) >= _MAX_CHUNK_LINE:
                raise _Refusal(400, "the size of a chunk is too long")
            return False
        found = _CHUNK.fullmatch(buffer, 0, end)
        if found is None:
            raise _Refusal(400, "the size of a chunk is no hexadecimal number")
        size = int(found[1], 16)
        del buffer[:end]
        if size:
            self._chunk = size + 2
        else:
            self._trailers = 0
        return True

    def _read_trailers(self) -> bool:
        """Discard trailers. True at the empty line after them."""
        buffer = self._buffer
        while (end := buffer.find(b"\n", 0, MAX_HEAD_BYTES) + 1) > 0:
            is_end = bytes(buffer[:end]) in (b"\n", b"\r\n")
            del buffer[:end]
            if is_end:
                return True
            self._trailers += end
            if self._trailers > MAX_HEAD_BYTES:
                raise _Refusal(431, f"trailers are longer than {MAX_HEAD_BYTES} bytes")
        if len(buffer) >= MAX_HEAD_BYTES:
            raise _Refusal(431, f"trailers are longer than {MAX_HEAD_BYTES} bytes")
        return False

    def _finish(self, head: _Head) -> Request | Skipped:
        size, reason = self._size, self._reason
        body = self._take_body()
        self._head = None
        kept = b"" if reason else body
        request = Request(head.method, head.target, head.headers, kept, head.is_last)
        return Skipped(reason, size, bytes(body), request) if reason else request

    def _take_body(self) -> bytearray:
        """Return the body, for which the budget pays no longer."""
        body = self._body
        if not self._reason:
            self._budget.give(len(body))
        self._begin_body()
        return body


def _parse_head(lines: list[bytes]) -> _Head:
    first = _REQUEST_LINE.fullmatch(lines[0].removesuffix(b"\r"))
    if first is None:
        raise _Refusal(400, "this is no HTTP request")
    if first[3] != b"1":
        raise _Refusal(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise _Refusal(400, "a line among the headers is no header")
        name, value = found[1].decode("ascii").lower(), found[2].decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    is_old = first[4] == b"0"
    wishes = {word.strip().lower() for word in headers.get("connection", "").split(",")}
    return _Head(
        first[1].decode("ascii"),
        first[2].decode("latin-1"),
        headers,
        _length(headers, is_old=is_old),
        is_last="close" in wishes or (is_old and "keep-alive" not in wishes),
        expects=not is_old and headers.get("expect", "").lower() == "100-continue",
    )


def _length(headers: Mapping[str, str], *, is_old: bool) -> int | None:
    """Return the length of the body, None if it comes in chunks."""
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is None:
        if length is None:
            return 0
        if not (length.isascii() and length.isdigit() and len(length) <= _MAX_LENGTH_DIGITS):
            raise _Refusal(400, "Content-Length is no number")
        return int(length)
    if length is not None or is_old:
        # a peer that reads this otherwise takes the rest for another request (RFC 9112, 6.1)
        raise _Refusal(400, "Transfer-Encoding beside a length, or in HTTP/1.0")
    if coding.strip().lower() != "chunked":
        raise _Refusal(501, "the only transfer encoding that is understood here is chunked")
    return None

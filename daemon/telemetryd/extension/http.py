"""HTTP/1.1 as the APIs on loopback need it: build a request, read a response. No I/O.

Error bodies may not be JSON, and content types are not reliable, so bodies stay bytes.
"""

IDENTIFIER = "lambda-extension-identifier"


def request(
    method: str, host: str, path: str, headers: tuple[tuple[str, str], ...], body: bytes = b""
) -> bytes:
    """Return the bytes of a request. A GET has no body: the platform refuses one on `next`."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if method != "GET":
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


class Answer:
    """Collects one answer: feed bytes until `complete`."""

    __slots__ = ("_buffer", "_length", "body", "chunked", "complete", "headers", "status")

    MAX_BYTES = 1024 * 1024

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._length = -1
        self.chunked = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False

    def feed(self, data: bytes) -> bool:
        """Take the next bytes, or `b""` at the end of the stream; True when complete.

        Raises ValueError for what is not HTTP, ConnectionError when the stream ends too early.
        """
        self._buffer += data
        if len(self._buffer) > self.MAX_BYTES:
            raise ValueError("the answer is larger than 1 MiB")
        if not self.status and not self._read_head():
            if not data:
                raise ConnectionError("the connection ended before an answer")
            return False
        if self._length >= 0:
            self.complete = len(self._buffer) >= self._length
            if self.complete:
                self.body = bytes(self._buffer[: self._length])
        elif self.chunked:
            self.complete = self._read_chunks()
        elif not data:  # neither length nor chunks: the end of the stream ends the body
            self.body = bytes(self._buffer)
            self.complete = True
        if not data and not self.complete:
            raise ConnectionError("the connection ended in the middle of an answer")
        return self.complete

    @property
    def keeps_alive(self) -> bool:
        """True if another request may follow on the same connection."""
        known_end = self._length >= 0 or self.chunked
        return known_end and self.headers.get("connection", "").lower() != "close"

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        status_line, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        protocol, _, status = status_line.partition(" ")
        if not protocol.startswith("HTTP/"):
            raise ValueError(f"not an HTTP answer: {status_line[:80]!r}")
        self.status = int(status[:3])
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()
        self.chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        if self.status == 204:  # noqa: PLR2004 - No Content
            self._length = 0
        elif not self.chunked and "content-length" in self.headers:
            self._length = int(self.headers["content-length"])
            if self._length < 0:
                raise ValueError("a body of negative length")
        return True

    def _read_chunks(self) -> bool:
        body, at = b"", 0
        while (end := self._buffer.find(b"\r\n", at)) >= 0:
            size = int(self._buffer[at:end].split(b";")[0], 16)
            if size < 0:
                raise ValueError("a chunk of negative size")
            at = end + 2 + size + 2
            if len(self._buffer) < at:
                return False
            if size == 0:
                self.body = body
                return True
            body += bytes(self._buffer[end + 2 : end + 2 + size])
        return False

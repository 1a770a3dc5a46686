"""HTTP/1.1 without I/O (RFC 9112): heads of requests out, answers in.

Requests are checked, because a line break in a header would inject another header. Answers are read
as they arrive, however they are cut, with a bound for each part. The work is linear in the bytes.
Anything but a well-formed answer raises HttpError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from telemetryd.http_client.messages import Answer, HttpError

_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_VISIBLE: Final = bytes(range(0x21, 0x7F))
_VALUE_OUT: Final = b" " + _VISIBLE
_VALUE_IN: Final = b"\t" + _VALUE_OUT + bytes(range(0x80, 0x100))
_HEX: Final = b"0123456789abcdefABCDEF"
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "expect"})
"""Headers that decide where a request goes or ends: no caller's."""
_VERSIONS: Final = (b"HTTP/1.1 ", b"HTTP/1.0 ")
_MAX_INTERIM: Final = 16
"""Most answers of the kind `100 Continue` before the one that counts."""
_MAX_CHUNK_LINE: Final = 1024
_MAX_DIGITS: Final = 15
_WITHOUT_BODY: Final = frozenset({204, 304})
_NO_BODY_SENT: Final = frozenset({"GET", "HEAD", "CONNECT"})


def encode_head(
    method: str,
    target: str,
    authority: str,
    headers: Sequence[tuple[str, str]],
    length: int,
) -> bytes:
    """Return the head of a request with a body of `length` bytes.

    Raises HttpError, `invalid_request`, for what HTTP does not allow: above all line breaks and
    other control characters. The error names the header, never its value.
    """
    _check(method, _TOKEN, "the method")
    _check(target, _VISIBLE, "the target")
    _check(authority, _VISIBLE, "the host")
    lines = [f"{method} {target} HTTP/1.1\r\nHost: {authority}\r\n"]
    for name, value in headers:
        _check(name, _TOKEN, "the name of a header")
        if name.lower() in _OURS:
            raise HttpError("invalid_request", f"header {name} is the client's to set")
        if value:
            _check(value, _VALUE_OUT, f"header {name}")
        lines.append(f"{name}: {value}\r\n")
    if length or method not in _NO_BODY_SENT:
        lines.append(f"Content-Length: {length}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("ascii")


def _check(text: str, allowed: bytes, what: str) -> None:
    if not text:
        raise HttpError("invalid_request", f"{what} is empty")
    if not text.isascii() or text.encode("ascii").translate(None, allowed):
        raise HttpError(
            "invalid_request", f"{what} contains a character that HTTP does not allow there"
        )


class AnswerReader:
    """Reads one answer to a request with `method`.

    `answer` is None until it is complete. `has_begun`: a byte of it arrived. `keeps_alive`: the
    connection may carry another request.
    """

    __slots__ = (
        "_body", "_buffer", "_fields", "_interim", "_is_1_0", "_max_body", "_max_head", "_method",
        "_need", "_scanned", "_status", "_step", "answer", "has_begun", "keeps_alive",
    )  # fmt: skip

    def __init__(self, method: str, *, max_head: int, max_body: int) -> None:
        self._method = method
        self._max_head = max_head
        self._max_body = max_body
        self._buffer = bytearray()
        self._scanned = 0
        """Bytes of the buffer that hold no end of what is looked for."""
        self._body = bytearray()
        self._need = 0
        """Bytes still missing of the body, or of the chunk."""
        self._status = 0
        self._fields: dict[str, str] = {}
        self._is_1_0 = False
        self._interim = 0
        self._step: Callable[[AnswerReader], bool] = AnswerReader._read_head
        self.answer: Answer | None = None
        self.has_begun = False
        self.keeps_alive = False

    def feed(self, data: bytes) -> None:
        """Read `data`, which follows what was fed before. Raises HttpError."""
        if not data:
            return
        self.has_begun = True
        self._buffer += data
        while self._step(self):
            pass

    @property
    def is_complete(self) -> bool:
        """True if there is an answer."""
        return self.answer is not None

    def eof(self, *, clean: bool = True) -> None:
        """Take the end of the connection into account. Raises HttpError if the answer is cut.

        `clean`: no one but the destination can have ended it, so a body may end there.
        """
        self.keeps_alive = False
        if self.answer is not None:
            return
        if clean and self._step is AnswerReader._read_to_end:
            self._finish()
            return
        what = "the connection ended within the answer" if self.has_begun else "no answer"
        raise HttpError("connection_lost", what, sent="all")

    # -- steps: each says whether the next one may find something --------------------------------

    def _read_head(self) -> bool:
        head = self._cut_at(b"\r\n\r\n", self._max_head, "head")
        if head is None:
            return False
        first, *lines = head.split(b"\r\n")
        self._read_status(first)
        fields = _read_fields(lines)
        if self._status < 200:  # noqa: PLR2004 - informational, RFC 9110
            self._interim += 1
            if self._status == 101 or self._interim > _MAX_INTERIM:  # noqa: PLR2004 - never asked for
                raise _refuse_garbled("interim answers without an end")
            return True
        self._fields = {name: ", ".join(values) for name, values in fields.items()}
        self._begin_body()
        return not self.is_complete

    def _read_status(self, line: bytes) -> None:
        status = line[9:12]
        if line[:9] not in _VERSIONS or len(status) != 3 or not status.isdigit():  # noqa: PLR2004
            raise _refuse_garbled("no HTTP/1.1 status line")
        if line[12:13] not in (b"", b" ") or line[12:].translate(None, _VALUE_IN):
            raise _refuse_garbled("no HTTP/1.1 status line")
        self._is_1_0 = line[:9] == _VERSIONS[1]
        self._status = int(status)
        if not 100 <= self._status <= 599:  # noqa: PLR2004 - RFC 9110, 15
            raise _refuse_garbled("a status that HTTP does not have")

    def _begin_body(self) -> None:
        """Decide how the body ends (RFC 9112, 6.3)."""
        coding = self._fields.get("transfer-encoding")
        length = self._fields.get("content-length")
        tokens = [each.strip().lower() for each in self._fields.get("connection", "").split(",")]
        self.keeps_alive = "keep-alive" in tokens if self._is_1_0 else "close" not in tokens
        tunnel = self._method == "CONNECT" and self._status < 300  # noqa: PLR2004 - 2xx
        if self._method == "HEAD" or tunnel or self._status in _WITHOUT_BODY:
            self.keeps_alive |= tunnel  # it carries something else from now on
            self._finish()
        elif coding is not None:
            if coding.strip().lower() != "chunked" or length is not None or self._is_1_0:
                raise _refuse_garbled("a body of unknown length")
            self._step = AnswerReader._read_chunk_line
        elif length is not None:
            self._need = self._check_bound(_read_length(length))
            self._step = AnswerReader._read_body
            if not self._need:
                self._finish()
        else:
            self.keeps_alive = False
            self._step = AnswerReader._read_to_end

    def _read_body(self) -> bool:
        self._take_needed()
        if not self._need:
            self._finish()
        return False

    def _read_to_end(self) -> bool:
        self._check_bound(len(self._body) + len(self._buffer))
        self._body += self._buffer
        self._buffer.clear()
        return False

    def _read_chunk_line(self) -> bool:
        line = self._cut_at(b"\r\n", _MAX_CHUNK_LINE, "size of a chunk")
        if line is None:
            return False
        digits, _, extension = line.partition(b";")
        digits = digits.rstrip(b" \t")
        if not 0 < len(digits) <= _MAX_DIGITS or digits.translate(None, _HEX):
            raise _refuse_garbled("a chunk without a size")
        if extension.translate(None, _VALUE_IN):
            raise _refuse_garbled("a control character after the size of a chunk")
        self._need = int(digits, 16)
        self._check_bound(len(self._body) + self._need)
        self._step = AnswerReader._read_chunk if self._need else AnswerReader._read_trailer
        return True

    def _read_chunk(self) -> bool:
        self._take_needed()
        if self._need or len(self._buffer) < 2:  # noqa: PLR2004 - CRLF
            return False
        if self._buffer[:2] != b"\r\n":
            raise _refuse_garbled("a chunk that is longer than its size")
        del self._buffer[:2]
        self._step = AnswerReader._read_chunk_line
        return True

    def _read_trailer(self) -> bool:
        if self._buffer[:2] == b"\r\n":
            del self._buffer[:2]
        else:
            trailer = self._cut_at(b"\r\n\r\n", self._max_head, "trailer")
            if trailer is None:
                return False
            _read_fields(trailer.split(b"\r\n"))
        self._finish()
        return False

    # -- helpers ---------------------------------------------------------------------------------

    def _cut_at(self, mark: bytes, most: int, what: str) -> bytes | None:
        """Return what is before `mark`, and drop both; None if it has not arrived yet."""
        buffer = self._buffer
        end = buffer.find(mark, max(self._scanned - len(mark) + 1, 0), most + len(mark))
        if end < 0:
            if len(buffer) >= most + len(mark):
                raise HttpError("answer_too_large", f"the {what} is over {most} bytes", sent="all")
            self._scanned = len(buffer)
            return None
        found = bytes(buffer[:end])
        del buffer[: end + len(mark)]
        self._scanned = 0
        return found

    def _take_needed(self) -> None:
        taken = self._buffer[: self._need]
        self._body += taken
        self._need -= len(taken)
        del self._buffer[: len(taken)]

    def _check_bound(self, size: int) -> int:
        if size > self._max_body:
            most = self._max_body
            raise HttpError("answer_too_large", f"the body is over {most} bytes", sent="all")
        return size

    def _finish(self) -> None:
        self.answer = Answer(self._status, self._fields, bytes(self._body))
        self._body.clear()
        self._step = AnswerReader._read_excess
        self._read_excess()

    def _read_excess(self) -> bool:
        """Handle more data than was asked for: the connection is not used for another request."""
        if self._buffer:
            self.keeps_alive = False
            self._buffer.clear()
        return False


def _read_fields(lines: Sequence[bytes]) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for name, value in _split_fields(lines):
        fields.setdefault(name, []).append(value)
    return fields


def _split_fields(lines: Sequence[bytes]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.translate(None, _TOKEN):
            raise _refuse_garbled("a header line without a name")
        value = value.strip(b" \t")
        if value.translate(None, _VALUE_IN):
            raise _refuse_garbled("a control character in a header")
        yield name.decode("ascii").lower(), value.decode("latin-1")


def _read_length(text: str) -> int:
    """Return the number in Content-Length, which may be there more than once if it is the same."""
    numbers = {each.strip() for each in text.split(",")}
    number = numbers.pop()
    if numbers or not (number.isascii() and number.isdigit()) or len(number) > _MAX_DIGITS:
        raise _refuse_garbled("a Content-Length that is no number")
    return int(number)


def _refuse_garbled(what: str) -> HttpError:
    return HttpError("garbled_answer", what, sent="all")

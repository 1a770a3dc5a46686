"""However an answer is cut, it is read the same; whatever is no answer is one kind of error."""

from __future__ import annotations

from typing import Any, TypeAlias

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.http_client.messages import Answer, HttpError
from telemetryd.http_client.wire import AnswerReader, encode_head

Outcome: TypeAlias = tuple[Answer | None, bool, str]
"""The answer, whether the connection may be used again, and the reason of an error."""

bodies = st.binary(max_size=200)
tokens = st.text("abcXYZ-_09", min_size=1, max_size=8)
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
framing = ("content-length", "transfer-encoding", "connection")
fields = st.lists(
    st.tuples(tokens.filter(lambda name: name.lower() not in framing), values), max_size=4
)
pieces = st.sampled_from(
    [
        b"HTTP/1.1 ", b"HTTP/1.0 ", b"200", b"204", b"100", b"413", b" OK", b"\r\n", b"\r\n\r\n",
        b"\n", b"\r", b":", b" ", b"Content-Length: 5", b"Content-Length: ", b"5", b"0", b"a", b";",
        b"Transfer-Encoding: chunked", b"Connection: close", b"hello", b"\0", b"\xff", b"X" * 40,
    ]
)  # fmt: skip
garbage = st.lists(pieces | st.binary(max_size=4), max_size=30).map(b"".join)


def encode_chunks(body: bytes, sizes: list[int], trailers: list[tuple[str, str]]) -> bytes:
    parts, at = [], 0
    for size in sizes:
        chunk = body[at : at + size]
        at += len(chunk)
        if chunk:
            parts.append(b"%x;n=v\r\n%b\r\n" % (len(chunk), chunk))
    rest = body[at:]
    if rest:
        parts.append(b"%X\r\n%b\r\n" % (len(rest), rest))
    lines = "".join(f"{name}: {value}\r\n" for name, value in trailers)
    return b"".join(parts) + b"000\r\n" + lines.encode() + b"\r\n"


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, Answer]:
    """An answer as bytes, and what it says."""
    status = draw(st.integers(200, 599).filter(lambda status: status not in (204, 304)))
    headers, body = draw(fields), draw(bodies)
    if draw(st.booleans()):
        headers.append(("Content-Length", str(len(body))))
        data = body
    else:
        headers.append(("transfer-encoding", "chunked"))
        data = encode_chunks(body, draw(st.lists(st.integers(1, 50), max_size=8)), draw(fields))
    lines = "".join(f"{name}:{value}\r\n" for name, value in headers)
    head = f"HTTP/1.1 {status} Why\r\n{lines}\r\n".encode()
    interim = b"HTTP/1.1 100 Continue\r\n\r\n" * draw(st.integers(0, 2))
    return interim + head + data, Answer(status, fields_of(headers), body)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted(min(each, len(data)) for each in cuts)
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


def read(parts: list[bytes], *, eof: bool = False) -> Outcome:
    reader = AnswerReader("POST", max_head=500, max_body=300)
    try:
        for part in parts:
            reader.feed(part)
        if eof:
            reader.eof()
    except HttpError as error:
        return None, False, error.reason
    return reader.answer, reader.keeps_alive, ""


@given(answers(), st.lists(st.integers(0, 800), max_size=20))
def test_an_answer_is_read_the_same_however_it_is_cut(
    sample: tuple[bytes, Answer], cuts: list[int]
) -> None:
    data, wanted = sample
    assert read(cut(data, cuts)) == (wanted, True, "")
    assert read([data[at : at + 1] for at in range(len(data))]) == (wanted, True, "")


@given(answers(), st.integers(0, 10_000))
def test_an_answer_is_complete_with_its_last_byte_and_not_before(
    sample: tuple[bytes, Answer], at: int
) -> None:
    data, _ = sample
    assert read([data[: at % len(data)]])[0] is None
    assert read([data, b"H"])[:2] == (sample[1], False)


@given(garbage | st.binary(max_size=200), st.lists(st.integers(0, 300), max_size=12))
def test_garbage_is_one_kind_of_error_or_an_answer_however_it_is_cut(
    data: bytes, cuts: list[int]
) -> None:
    whole = read([data], eof=True)
    assert whole[2] in ("", "garbled_answer", "answer_too_large", "connection_lost")
    in_parts = read(cut(data, cuts), eof=True)
    by_byte = read([data[at : at + 1] for at in range(len(data))], eof=True)
    assert whole == in_parts == by_byte


@given(answers(), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4))
def test_an_answer_with_wrong_bytes_is_one_kind_of_error_or_an_answer(
    sample: tuple[bytes, Answer], changes: list[tuple[int, int]]
) -> None:
    data = bytearray(sample[0])
    for at, byte in changes:
        data[at % len(data)] = byte
    assert read([bytes(data)], eof=True) == read(
        [bytes(data[at : at + 1]) for at in range(len(data))], eof=True
    )


@given(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5), st.text(max_size=5))
def test_whatever_a_head_is_made_of_it_has_its_own_lines_only(
    method: str, target: str, name: str, value: str
) -> None:
    try:
        head = encode_head(method, target, "host", [(name, value)], 3)
    except HttpError as error:
        assert error.reason == "invalid_request"  # noqa: PT017 - or a head
        return
    assert head.count(b"\r") == head.count(b"\n") == head.count(b"\r\n") == 5
    assert head.isascii()


@given(st.integers(200, 599), fields, st.lists(bodies, max_size=5), st.booleans(), st.booleans())
def test_what_another_library_sends_is_read_as_it_was_meant(
    status: int, headers: list[tuple[str, str]], parts: list[bytes], sized: bool, head_only: bool
) -> None:
    """h11 decides how a body is framed, and whether there may be one."""
    headers = [(name, value.strip()) for name, value in headers]
    method = "HEAD" if head_only else "POST"
    server = h11.Connection(h11.SERVER)
    server.receive_data(encode_head(method, "/", "host", [("X-A", "b")], 0))
    assert isinstance(server.next_event(), h11.Request)
    if sized:
        headers = [*headers, ("Content-Length", str(sum(map(len, parts))))]
    data = server.send(h11.Response(status_code=status, headers=headers)) or b""
    is_empty = head_only or status in (204, 304)
    for part in () if is_empty else parts:
        data += server.send(h11.Data(part)) or b""
    if sized and is_empty:
        server = h11.Connection(h11.SERVER)  # it was promised more than there may be
    else:
        data += server.send(h11.EndOfMessage()) or b""
    reader = AnswerReader(method, max_head=500, max_body=2000)
    reader.feed(data)
    assert reader.answer is not None
    assert reader.keeps_alive
    assert (reader.answer.status, reader.answer.body) == (
        status,
        b"" if is_empty else b"".join(parts),
    )
    for name, value in fields_of(headers).items():
        assert reader.answer.headers[name] == value


def fields_of(headers: list[tuple[str, str]]) -> dict[str, str]:
    said: dict[str, list[str]] = {}
    for name, value in headers:
        said.setdefault(name.lower(), []).append(value.strip(" \t"))
    return {name: ", ".join(each) for name, each in said.items()}


class CountedBuffer(bytearray):
    """A buffer that counts the bytes that searches and slices touch."""

    touched = 0

    def find(self, *args: Any) -> int:
        """As of bytearray, counted."""
        start, end = (*args[1:], 0, len(self))[:2]
        found = super().find(*args)
        self.touched += (min(end, len(self)) if found < 0 else found + len(args[0])) - start
        return found

    def __getitem__(self, at: Any) -> Any:
        part = super().__getitem__(at)
        self.touched += len(part) if isinstance(part, bytearray) else 1
        return part


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
        (b"HTTP/1.1 200 OK\r\n", b"a:b\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n", b"y"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"y"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\nab\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"y"),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_no_byte_is_looked_at_again_and_again(start: bytes, piece: bytes, step: int) -> None:
    reader = AnswerReader("POST", max_head=1 << 24, max_body=1 << 24)
    buffer = reader._buffer = CountedBuffer()
    data = start + piece * (30_000 // len(piece))
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])
    assert buffer.touched <= 6 * len(data)

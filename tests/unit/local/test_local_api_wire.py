"""Requests and answers of the Extensions API as bytes."""

from __future__ import annotations

import pytest

from telemetryd.local.api.wire import (
    MAX_BODY,
    MAX_HEAD,
    Answer,
    Request,
    RequestReader,
    WireError,
    encode,
)

TWO = (
    b"POST /register HTTP/1.1\r\nHost: h\r\nLambda-Extension-NAME:  a:b \r\n"
    b"Content-Length: 7\r\n\r\n{}\r\n\r\n."
    b"GET /next HTTP/1.1\r\nhost: h\r\n\r\n"
)
FOUND = [
    Request(
        "POST",
        "/register",
        {"host": "h", "lambda-extension-name": "a:b", "content-length": "7"},
        b"{}\r\n\r\n.",
    ),
    Request("GET", "/next", {"host": "h"}, b""),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
def test_requests_are_the_same_whatever_the_chunks(size: int) -> None:
    """Names in lower case, values without the spaces around them, bodies by their length."""
    reader = RequestReader()
    pieces = [TWO[i : i + size] for i in range(0, len(TWO), size)]
    assert [request for piece in pieces for request in reader.feed(piece)] == FOUND


def test_a_request_is_there_with_its_last_byte() -> None:
    """Not before; and once."""
    reader = RequestReader()
    head = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{"
    assert list(reader.feed(head)) == []
    assert [request.body for request in reader.feed(b"}")] == [b"{}"]
    assert list(reader.feed(b"")) == []


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"x" * (MAX_HEAD + 1), "head"),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * MAX_HEAD + b"\r\n\r\n", "head"),
        (b"GET /\r\n\r\n", "request line"),
        (b"\r\n\r\n", "request line"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "chunked"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "Content-Length"),
        (b"POST / HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n", "Content-Length"),
        (b"POST / HTTP/1.1\r\nContent-Length: \r\n\r\n", "Content-Length"),
        (b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1), "Content-Length"),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", "Content-Length"),
    ],
)
def test_what_is_no_request_is_said(data: bytes, why: str) -> None:
    """Everything that is kept has a bound."""
    with pytest.raises(WireError, match=why):
        list(RequestReader().feed(data))


def test_the_largest_body_is_taken() -> None:
    """The bound is the last that is allowed."""
    head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % MAX_BODY
    (request,) = RequestReader().feed(head + b"x" * MAX_BODY)
    assert len(request.body) == MAX_BODY


def test_an_answer_has_its_length() -> None:
    """Headers in their order, then the length, then the body."""
    answer = Answer(202, b"{}", (("Content-Type", "application/json"), ("A", "b")))
    assert encode(answer) == (
        b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nA: b\r\n"
        b"Content-Length: 2\r\n\r\n{}"
    )
    assert encode(Answer(418, b"", ())) == b"HTTP/1.1 418 Unknown\r\nContent-Length: 0\r\n\r\n"

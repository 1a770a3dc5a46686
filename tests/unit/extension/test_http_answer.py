"""HTTP answers, in any pieces: lengths, chunks, ends of stream, and what is no HTTP."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.extension.http import Answer, request

BODY = b'{"eventType":"INVOKE"}'
WITH_LENGTH = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nContent-Length:  22\r\n"
    b"Lambda-Extension-Identifier: abc\r\n\r\n" + BODY
)
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b"5;x=1\r\n" + BODY[:5] + b"\r\n11\r\n" + BODY[5:] + b"\r\n0\r\n\r\n"
)


def fed(*pieces: bytes) -> Answer:
    answer = Answer()
    for piece in pieces:
        answer.feed(piece)
    return answer


@pytest.mark.parametrize("data", [WITH_LENGTH, CHUNKED])
def test_an_answer_in_one_piece(data: bytes) -> None:
    answer = fed(data)
    assert (answer.complete, answer.status, answer.body) == (True, 200, BODY)
    assert answer.keeps_alive


@given(data=st.sampled_from([WITH_LENGTH, CHUNKED]), cuts=st.lists(st.integers(1, 150), max_size=8))
def test_an_answer_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    answer = Answer()
    done = [answer.feed(data[a:b]) for a, b in pairwise(edges)]
    assert done == [False] * (len(done) - 1) + [True]
    assert answer.body == BODY


def test_headers_are_found_whatever_their_case() -> None:
    assert fed(WITH_LENGTH).headers["lambda-extension-identifier"] == "abc"


def test_without_a_length_the_end_of_the_stream_ends_the_body() -> None:
    answer = Answer()
    assert not answer.feed(b"HTTP/1.0 500 \r\n\r\nplain")
    assert not answer.feed(b" text")
    assert answer.feed(b"")
    assert (answer.status, answer.body, answer.keeps_alive) == (500, b"plain text", False)


def test_no_content_has_none() -> None:
    answer = fed(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert (answer.complete, answer.body) == (True, b"")


def test_close_is_heard() -> None:
    answer = fed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n")
    assert answer.complete
    assert not answer.keeps_alive


@pytest.mark.parametrize("cut", [0, 1, 20, len(WITH_LENGTH) - 1])
@pytest.mark.parametrize("data", [WITH_LENGTH, CHUNKED])
def test_an_end_too_early_is_a_connection_error(data: bytes, cut: int) -> None:
    answer = Answer()
    if cut:
        assert not answer.feed(data[: min(cut, len(data) - 1)])
    with pytest.raises(ConnectionError):
        answer.feed(b"")


@pytest.mark.parametrize(
    "data",
    [
        b"220 mail.example ESMTP\r\n\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc",
        b"x" * (Answer.MAX_BYTES + 1),
    ],
)
def test_what_is_no_answer_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        fed(data)


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_nothing_else_is_ever_raised(head: bytes, tail: bytes) -> None:
    for data in (head, b"HTTP/1.1 200 OK\r\n" + head, CHUNKED[:50] + head):
        answer = Answer()
        try:
            for piece in (data, tail, b""):
                if answer.feed(piece):
                    break
        except (ValueError, ConnectionError):
            continue
        assert answer.complete


def test_a_request_has_a_body_only_if_it_may() -> None:
    assert (
        request("GET", "h:1", "/p", (("A", "b"),))
        == b"GET /p HTTP/1.1\r\nHost: h:1\r\nA: b\r\n\r\n"
    )
    assert request("PUT", "h:1", "/p", (), b"{}") == (
        b"PUT /p HTTP/1.1\r\nHost: h:1\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2\r\n\r\n{}"
    )

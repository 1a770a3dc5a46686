"""Answers, read from bytes: what is one, what is none, and when it is complete."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from telemetryd.http_client.messages import Answer, HttpError
from telemetryd.http_client.wire import AnswerReader


def reader(method: str = "POST") -> AnswerReader:
    return AnswerReader(method, max_head=200, max_body=100)


def read(data: bytes, method: str = "POST", *, eof: bool = False) -> AnswerReader:
    found = reader(method)
    found.feed(data)
    if eof:
        found.eof()
    return found


def answer(data: bytes, method: str = "POST", *, eof: bool = False) -> Answer:
    found = read(data, method, eof=eof).answer
    assert found is not None
    return found


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *lines, "")).encode()


def test_an_answer_with_a_length() -> None:
    found = answer(head("Content-Length: 3", "X-A:  b \t", "x-a: c", "X-Empty:") + b"abc")
    headers: Mapping[str, str] = {"content-length": "3", "x-a": "b, c", "x-empty": ""}
    assert found == Answer(200, headers, b"abc")


def test_an_answer_in_chunks_with_trailers() -> None:
    body = b"3\r\nabc\r\nA ;x=y\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\n"
    assert answer(head("Transfer-Encoding: Chunked") + body).body == b"abc0123456789"
    body = b"3\r\nabc\r\n000\r\n\r\n"
    assert answer(head("Transfer-Encoding: chunked") + body).body == b"abc"


def test_an_answer_that_ends_with_the_connection() -> None:
    data = head("X: y") + b"abc"
    assert read(data).answer is None
    assert answer(data, eof=True).body == b"abc"
    assert not read(data, eof=True).keeps_alive


def test_a_body_that_anyone_may_have_ended_is_none() -> None:
    found = read(head("X: y") + b"abc")
    with pytest.raises(HttpError, match="connection_lost"):
        found.eof(clean=False)


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", "200 OK"), ("POST", "204 No Content"), ("GET", "304 Not")]
)
def test_an_answer_without_a_body_in_spite_of_its_headers(method: str, status: str) -> None:
    for line in ("Content-Length: 50", "Transfer-Encoding: chunked"):
        found = read(head(line, status=status), method)
        assert found.answer is not None
        assert found.answer.body == b""
        assert found.keeps_alive


def test_interim_answers_are_skipped() -> None:
    interim = head(status="100 Continue") + head("Link: x", status="103 Early Hints")
    assert answer(interim + head("Content-Length: 0", status="404 ")).status == 404


def test_a_tunnel_begins_after_the_head() -> None:
    for data in (head(), b"HTTP/1.0 200 established\r\n\r\n", head("Connection: close")):
        found = read(data, "CONNECT")
        assert found.answer == Answer(200, found.answer.headers if found.answer else {}, b"")
        assert found.keeps_alive
    assert answer(head("Content-Length: 2", status="407 No") + b"no", "CONNECT").body == b"no"


@pytest.mark.parametrize(
    ("data", "keeps_alive"),
    [
        (head("Content-Length: 0"), True),
        (head("Content-Length: 0", "Connection: x, Close"), False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n", True),
        (head("Content-Length: 0") + b"H", False),
        (head("Content-Length: 1") + b"xH", False),
        (head(status="204 x") + b"H", False),
        (head("Transfer-Encoding: chunked") + b"0\r\n\r\nH", False),
    ],
)
def test_what_keeps_a_connection_alive(data: bytes, keeps_alive: bool) -> None:
    found = read(data)
    assert found.answer is not None
    assert found.keeps_alive is keeps_alive
    found.feed(b"HTTP/1.1 200 OK\r\n")
    assert not found.keeps_alive


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 99 OK\r\n\r\n",
        b"HTTP/1.1 600 OK\r\n\r\n",
        b"HTTP/1.1 -20 OK\r\n\r\n",
        b"HTTP/1.1 \xb2\xb2\xb2 OK\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\n\r\n",
        head(status="101 Switching Protocols"),
        head(status="100 Continue") * 17,
        head("no colon"),
        head(": empty"),
        head("a b: c"),
        head("Host : x"),
        head("A: b", " folded"),
        head("A: b\nB: c"),
        head("A: \0"),
        head("Content-Length: x"),
        head("Content-Length: -1"),
        head("Content-Length: +1"),
        head("Content-Length: 1_0"),
        head("Content-Length: "),
        head("Content-Length: ,"),
        head("Content-Length: 3, 4"),
        head("Content-Length: 3", "Content-Length: 4"),
        head("Content-Length: " + "1" * 100),
        head("Transfer-Encoding: gzip"),
        head("Transfer-Encoding: gzip, chunked"),
        head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        head("Transfer-Encoding: chunked", "Content-Length: 3"),
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        *(
            head("Transfer-Encoding: chunked") + bad
            for bad in (
                b"\r\n", b";x\r\n", b"x\r\n", b"-1\r\n", b"0x1\r\n", b" 1\r\n", b"1 2\r\n",
                b"1_0\r\n", b"+1\r\n", b"1\r\nabc", b"1\r\na\n\r", b"1;\0\r\n", b"f" * 16 + b"\r\n",
                b"0\r\nno colon\r\n\r\n",
            )
        ),
    ],
)  # fmt: skip
def test_what_is_no_answer(data: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        read(data)
    assert caught.value.reason == "garbled_answer"


@pytest.mark.parametrize(
    "data",
    [
        b"H" * 204,
        head("X: " + "y" * 200),
        head(status="100 x") + head("X: " + "y" * 200),
        head("Content-Length: 101"),
        head("X: y") + b"z" * 101,
        head("Transfer-Encoding: chunked") + b"65\r\n",
        head("Transfer-Encoding: chunked") + b"64\r\n" + b"z" * 100 + b"\r\n1\r\n",
        head("Transfer-Encoding: chunked") + b"1;" + b"z" * 1030,
        head("Transfer-Encoding: chunked") + b"0\r\n" + b"T: u\r\n" * 40,
    ],
)
def test_what_is_too_large(data: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        read(data)
    assert caught.value.reason == "answer_too_large"


def test_what_is_as_large_as_may_be() -> None:
    lines = "Content-Length: 100", "X: "
    padding = 200 - (len(head(*lines)) - 4)
    assert answer(head(lines[0], "X: " + "y" * padding) + b"z" * 100).body == b"z" * 100
    with pytest.raises(HttpError):
        read(head(lines[0], "X: " + "y" * (padding + 1)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200",
        head("Content-Length: 3") + b"ab",
        head("Transfer-Encoding: chunked") + b"3\r\nab",
        head("Transfer-Encoding: chunked") + b"0\r\n",
    ],
)
def test_an_answer_that_is_cut_is_none(data: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        read(data, eof=True)
    assert caught.value.reason == "connection_lost"

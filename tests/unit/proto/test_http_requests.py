"""The rules by which requests are read, one by one."""

from __future__ import annotations

import pytest

from telemetryd_proto.framing import TailBudget
from telemetryd_proto.http_requests import (
    MAX_HEAD_BYTES,
    MAX_SKIPPED_BYTES,
    Event,
    Expecting,
    Request,
    RequestReader,
    Skipped,
    Unreadable,
)

POST = b"POST /telemetry HTTP/1.1\r\nHost: sandbox.localdomain:28353\r\n"


def reader(max_body: int = 64, budget: int = 1024) -> RequestReader:
    return RequestReader(TailBudget(budget), max_body_bytes=max_body, keep_bytes=4)


def events(subject: RequestReader, *pieces: bytes) -> list[Event]:
    found = []
    for piece in pieces:
        subject.feed(piece)
        while (event := subject.next_event()) is not None:
            found.append(event)
    return found


def body_of(event: Event) -> bytes:
    assert isinstance(event, Request)
    return bytes(event.body)


def problem_of(*pieces: bytes) -> Unreadable:
    event = events(reader(), *pieces)[-1]
    assert isinstance(event, Unreadable)
    return event


def test_a_request_is_handed_out_when_it_is_whole() -> None:
    subject = reader()
    assert events(subject, POST + b"Content-Type: a/b\r\nX: 1\r\nx: 2\r\n") == []
    assert events(subject, b"Content-Length: 4\r\n\r\n[{") == []
    assert subject.unfinished_bytes == 2
    (event,) = events(subject, b"}]")
    assert event == Request(
        "POST",
        "/telemetry",
        {
            "host": "sandbox.localdomain:28353",
            "content-type": "a/b",
            "x": "1, 2",
            "content-length": "4",
        },
        b"[{}]",
        False,
    )
    assert subject.is_between


def test_requests_that_follow_unasked_wait_until_asked_for() -> None:
    subject = reader()
    subject.feed((POST + b"Content-Length: 2\r\n\r\n[]") * 2 + POST)
    assert body_of(subject.next_event() or pytest.fail("no request")) == b"[]"
    assert not subject.is_between
    assert body_of(subject.next_event() or pytest.fail("no request")) == b"[]"
    assert subject.next_event() is None
    assert not subject.is_between


def test_chunks_are_joined_and_trailers_thrown_away() -> None:
    chunked = (
        POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[1\r\n2;a\n,2\n1 \r\n]\r\n0\r\nA: b\r\n\r\n"
    )
    assert [body_of(event) for event in events(reader(), chunked * 2)] == [b"[1,2]"] * 2


def test_a_peer_that_waits_for_a_word_is_told_of() -> None:
    subject = reader()
    assert events(subject, POST + b"Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n") == [
        Expecting(2)
    ]
    assert [body_of(event) for event in events(subject, b"{}")] == [b"{}"]
    assert isinstance(events(subject, POST + b"Expect: 100-continue\r\n\r\n")[0], Request)


@pytest.mark.parametrize(
    ("head", "is_last"),
    [
        (b"POST / HTTP/1.1\r\n", False),
        (b"POST / HTTP/1.1\r\nConnection: x, Close\r\n", True),
        (b"POST / HTTP/1.0\r\n", True),
        (b"POST / HTTP/1.0\r\nConnection: Keep-Alive\r\n", False),
    ],
)
def test_who_wants_the_connection_closed_is_known(head: bytes, is_last: bool) -> None:
    (event,) = events(reader(), head + b"\r\n")
    assert isinstance(event, Request)
    assert event.is_last is is_last


@pytest.mark.parametrize(
    "length", [b"Content-Length: 70\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n46\r\n"]
)
def test_a_body_that_is_too_long_is_read_to_its_end(length: bytes) -> None:
    """Kept is only its beginning, and the budget is free again before its end."""
    budget = TailBudget(1024)
    subject = RequestReader(budget, max_body_bytes=64, keep_bytes=4)
    end = b"\r\n0\r\n\r\n" if b"chunked" in length else b""
    assert events(subject, POST + length + b"[1,2" + b" " * 61) == []
    assert budget.used == 0
    (skipped, after) = events(subject, b" " * 5 + end + POST + b"\r\n")
    assert isinstance(skipped, Skipped)
    assert (skipped.reason, skipped.size, skipped.head) == ("too_long", 70, b"[1,2")
    assert skipped.request.target == "/telemetry"
    assert isinstance(after, Request)


def test_a_body_without_room_in_the_budget_is_read_to_its_end() -> None:
    budget = TailBudget(10)
    subject = RequestReader(budget, max_body_bytes=64, keep_bytes=4)
    assert budget.take(5)
    (skipped,) = events(subject, POST + b"Content-Length: 6\r\n\r\n", b"[12", b"34]")
    assert isinstance(skipped, Skipped)
    assert (skipped.reason, skipped.size, skipped.head) == ("tail_budget", 6, b"[123")
    assert budget.used == 5


def test_a_connection_that_ends_gives_back_what_it_held() -> None:
    budget = TailBudget(64)
    subject = RequestReader(budget, max_body_bytes=64, keep_bytes=4)
    assert events(subject, POST + b"Content-Length: 60\r\n\r\n[123456") == []
    assert budget.used == 7
    assert subject.close() == b"[123"
    assert budget.used == 0


@pytest.mark.parametrize(
    ("stream", "status"),
    [
        (b"\x16\x03\x01\r\n\r\n", 400),
        (b'{"time":1}\n\n', 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        (POST + b"Content-Length: -1\r\n\r\n", 400),
        (POST + b"Content-Length: \xb2\r\n\r\n", 400),
        (POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (POST + b"A: b\r\n c\r\n\r\n", 400),
        (POST + b"A : b\r\n\r\n", 400),
        (POST + b"A: b\0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 300, 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 3000, 431),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A" * MAX_HEAD_BYTES, 431),
        (POST + b"A: b\r\n" * 3000, 431),
        (POST + b"Content-Length: %d\r\n\r\n" % (MAX_SKIPPED_BYTES + 1), 413),
    ],
)
def test_what_leaves_open_where_it_ends_is_the_last(stream: bytes, status: int) -> None:
    found = problem_of(stream)
    assert found.status == status
    assert found.problem


def test_nothing_is_read_behind_what_is_no_request() -> None:
    subject = reader()
    assert len(events(subject, b"nonsense\r\n\r\n", POST + b"\r\n")) == 1
    assert subject.unfinished_bytes == 0


def test_a_body_in_endless_chunks_ends_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telemetryd_proto.http_requests.MAX_SKIPPED_BYTES", 100)
    found = problem_of(POST + b"Transfer-Encoding: chunked\r\n\r\n", *[b"8\r\n12345678\r\n"] * 20)
    assert found.status == 413


def test_empty_lines_before_a_request_are_passed_over() -> None:
    found = events(reader(), b"\r\n\n\r", b"\n" + POST + b"\r\n", b"\r")
    assert len(found) == 1


def test_another_budget_pays_for_what_is_unfinished() -> None:
    """Unless it does not fit there; what is thrown away costs nothing."""
    first, small, second = TailBudget(64), TailBudget(3), TailBudget(64)
    subject = RequestReader(first, max_body_bytes=8, keep_bytes=4)
    assert events(subject, POST + b"Content-Length: 20\r\n\r\n[1234") == []
    subject.use(small)
    assert (first.used, small.used) == (5, 0)
    subject.use(second)
    assert (first.used, second.used) == (0, 5)
    assert events(subject, b"56789") == []
    subject.use(first)
    assert (first.used, second.used) == (0, 0)

"""Heads of requests: what is sent, and what is refused."""

from __future__ import annotations

import pytest

from telemetryd.http_client.messages import HttpError, Request
from telemetryd.http_client.wire import encode_head


def test_a_head_has_host_and_length_beside_the_callers_headers() -> None:
    head = encode_head("POST", "/a?b=%20", "host.test:81", [("X-A", "b c"), ("X-E", "")], 12)
    assert head == (
        b"POST /a?b=%20 HTTP/1.1\r\nHost: host.test:81\r\nX-A: b c\r\nX-E: \r\n"
        b"Content-Length: 12\r\n\r\n"
    )


@pytest.mark.parametrize(("method", "has_length"), [("GET", False), ("PUT", True), ("POST", True)])
def test_an_empty_body_has_a_length_where_a_body_is_usual(method: str, has_length: bool) -> None:
    assert (b"Content-Length: 0" in encode_head(method, "/", "h", [], 0)) is has_length


@pytest.mark.parametrize("bad", ["\r", "\n", "\r\nX: y", "\0", "\x1b", "\x7f", "\t", "é", "\x85"])
def test_no_control_character_gets_into_a_head(bad: str) -> None:
    calls: list[tuple[str, str, str, list[tuple[str, str]]]] = [
        (f"POST{bad}", "/", "h", []),
        ("POST", f"/{bad}", "h", []),
        ("POST", "/", f"h{bad}", []),
        ("POST", "/", "h", [(f"X{bad}", "v")]),
        ("POST", "/", "h", [("X-Secret", f"hunter2{bad}")]),
    ]
    for call in calls:
        with pytest.raises(HttpError) as caught:
            encode_head(*call, 0)
        assert (caught.value.reason, caught.value.sent) == ("invalid_request", "nothing")
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        ("", "/", "h", ()),
        ("GET", "", "h", ()),
        ("GET", "/", "", ()),
        ("GET", "/ HTTP/1.1", "h", ()),
        ("GET", "/", "h", [("", "v")]),
        ("GET", "/", "h", [("a b", "v")]),
        ("GET", "/", "h", [("hOst", "v")]),
        ("GET", "/", "h", [("Content-Length", "1")]),
        ("GET", "/", "h", [("Transfer-Encoding", "chunked")]),
    ],
)
def test_what_would_be_another_request_is_refused(
    call: tuple[str, str, str, list[tuple[str, str]]],
) -> None:
    with pytest.raises(HttpError, match="invalid_request"):
        encode_head(*call, 0)


@pytest.mark.parametrize(
    ("scheme", "host", "port", "authority"),
    [
        ("https", "a.test", 443, "a.test"),
        ("https", "a.test", 80, "a.test:80"),
        ("http", "a.test", 80, "a.test"),
        ("http", "127.0.0.1", 4566, "127.0.0.1:4566"),
        ("http", "fd00:ec2::23", 80, "[fd00:ec2::23]"),
        ("https", "::1", 8443, "[::1]:8443"),
    ],
)
def test_the_host_header_has_a_port_unless_it_is_the_schemes(
    scheme: str, host: str, port: int, authority: str
) -> None:
    assert Request("GET", scheme, host, port, "/").authority == authority  # type: ignore[arg-type]

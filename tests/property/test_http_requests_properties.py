"""Requests are read as h11 reads them, however the stream is cut; each byte costs once."""

from __future__ import annotations

from dataclasses import dataclass, field

import h11
from hypothesis import example, given, settings
from hypothesis import strategies as st

from telemetryd_proto.framing import TailBudget
from telemetryd_proto.http_requests import (
    Event,
    Expecting,
    Request,
    RequestReader,
    Skipped,
    Unreadable,
)

MAX_BODY = 200
BUDGET = 1 << 20

Read = tuple[str, str, bytes]


@dataclass
class Outcome:
    """What was read of a stream."""

    requests: list[Read] = field(default_factory=list)
    refused: bool = False


def read(pieces: list[bytes], max_body: int = MAX_BODY) -> list[Event]:
    """Return the events of a stream that arrives in `pieces`; the budget is whole at the end."""
    budget = TailBudget(BUDGET)
    reader = RequestReader(budget, max_body_bytes=max_body, keep_bytes=8)
    events = []
    for piece in pieces:
        reader.feed(piece)
        while (event := reader.next_event()) is not None:
            events.append(event)
    reader.close()
    assert budget.used == 0
    assert reader.unfinished_bytes == 0
    return events


def outcome(events: list[Event]) -> Outcome:
    """Return what `events` say, without what depends on the cuts."""
    found = Outcome()
    for event in events:
        if isinstance(event, Request):
            found.requests.append((event.method, event.target, bytes(event.body)))
        elif isinstance(event, Skipped):
            head = event.request
            found.requests.append(
                (head.method, head.target, b"%d of %s" % (event.size, event.head))
            )
        elif isinstance(event, Unreadable):
            found.refused = True
    return found


def read_by_h11(stream: bytes) -> Outcome:
    """Return what h11 reads of the stream."""
    connection, found = h11.Connection(h11.SERVER), Outcome()
    connection.receive_data(stream)
    head, body = None, b""
    try:
        while True:
            event = connection.next_event()
            if event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
                return found
            if isinstance(event, h11.Request):
                head, body = event, b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                found.requests.append(
                    (head.method.decode(), head.target.decode("latin-1"), bytes(body))
                )
                if connection.our_state is h11.SEND_RESPONSE:
                    connection.send(
                        h11.Response(status_code=200, headers=[("content-length", "0")])
                    )
                    connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    return found
                connection.start_next_cycle()
    except h11.RemoteProtocolError:
        found.refused = True
        return found


@st.composite
def cuts(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """Return the stream in pieces."""
    at = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    return [stream[a:b] for a, b in zip([0, *at], [*at, len(stream)], strict=True)]


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, Read]:
    """Return a proper request, and what is to be read of it."""
    method = draw(st.sampled_from(["POST", "PUT", "GET", "PATCH"]))
    target = draw(st.sampled_from(["/", "/a?b=c", "*", "http://h/x", "/%41"]))
    body = draw(st.binary(max_size=MAX_BODY))
    headers = draw(
        st.lists(st.sampled_from([b"A: b", b"a:", b"X-Y:  z \t", b"Accept: */*"]), max_size=3)
    )
    if draw(st.booleans()):
        headers.append(b"Transfer-Encoding: Chunked")
        parts = draw(cuts(body))
        extension = draw(st.sampled_from([b"", b";a=b", b" "]))
        chunks = [b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts if part]
        trailer = draw(st.sampled_from([b"", b"Checksum: 1\r\n"]))
        content = b"".join(chunks) + b"000\r\n" + trailer + b"\r\n"
    elif body or draw(st.booleans()):
        headers.append(b"Content-Length: %d" % len(body))
        content = body
    else:
        content = b""
    lines = [b"%s %s HTTP/1.1" % (method.encode(), target.encode()), b"Host: here", *headers]
    return b"\r\n".join([*lines, b"", b""]) + content, (method, target, body)


@given(st.data(), st.lists(requests(), min_size=1, max_size=4))
def test_proper_requests_are_read_however_they_are_cut(
    data: st.DataObject, sent: list[tuple[bytes, Read]]
) -> None:
    stream = b"".join(raw for raw, _ in sent)
    wanted = Outcome([read for _, read in sent])
    assert outcome(read(data.draw(cuts(stream)))) == wanted
    assert read_by_h11(stream) == wanted


PIECES = st.sampled_from(
    [
        b"POST / HTTP/1.1\r\nHost: x\r\n", b"GET /a HTTP/1.0\r\n", b"PUT * HTTP/1.1\nHost: y\n",
        b"POST / HTTP/2.0\r\n", b"POST  / HTTP/1.1\r\n", b"nonsense\r\n",
        b"\r\n", b"\n", b"\r", b" ",
        b"Content-Length: 3\r\n", b"Content-Length: 4\r\n", b"Content-Length: +3\r\n",
        b"content-length: 3, 3\r\n", b"Content-Length: 99999999999999999999\r\n",
        b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n",
        b"transfer-encoding: identity\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n",
        b"Expect: 100-continue\r\n", b"Key : value\r\n", b" folded\r\n", b"Key: a\x00b\r\n",
        b"3\r\nabc\r\n", b"3;x=y\r\nabc\r\n", b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"ffffffffff\r\n",
        b"-1\r\n", b"0x3\r\n", b"abc", b"abcd", b"[{}]", b"\xff\xfe", b"x" * 70,
    ]
)  # fmt: skip


def test_empty_lines_before_a_request_may_be_cut_anywhere() -> None:
    stream = b"\r\n\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"
    whole = outcome(read([stream], max_body=1 << 16))
    assert len(whole.requests) == 1
    for at in range(len(stream)):
        assert outcome(read([stream[:at], stream[at:]], max_body=1 << 16)) == whole
    assert outcome(read([stream[at : at + 1] for at in range(len(stream))])) == whole


@given(st.data(), st.lists(PIECES, max_size=12).map(b"".join))
@settings(max_examples=300)
@example(
    None, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcdPOST / HTTP/1.1\r\n\r\n"
)
def test_what_is_read_of_anything_is_what_h11_reads(
    data: st.DataObject | None, stream: bytes
) -> None:
    """Never more, never otherwise. Less only where we refuse what may be read in two ways."""
    ours = outcome(read([stream], max_body=1 << 16))
    if data is not None:
        assert outcome(read(data.draw(cuts(stream)), max_body=1 << 16)) == ours
    theirs = read_by_h11(stream)
    if b"Host" in stream:  # h11 asks for it
        common = min(len(ours.requests), len(theirs.requests))
        assert ours.requests[:common] == theirs.requests[:common]
        assert len(ours.requests) <= len(theirs.requests) or theirs.refused


@given(st.binary(max_size=400))
def test_noise_is_no_crash(stream: bytes) -> None:
    assert all(isinstance(event, Unreadable | Request | Expecting) for event in read([stream]))


def test_work_is_linear_in_bytes_sent_one_at_a_time() -> None:
    """A head of 16 KiB and many chunks of a byte: none is looked at from its beginning again."""
    body = b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n"
    stream = (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + b"A: b\r\n" * 2_000 + b"\r\n" + body
    )
    (event,) = read([stream[at : at + 1] for at in range(len(stream))], max_body=1 << 20)
    assert isinstance(event, Request)
    assert event.body == b"x" * 20_000

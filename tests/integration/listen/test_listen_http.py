"""HTTP into `telemetryd listen`: what senders do, rightly and wrongly, over real sockets."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
import zstandard

from helpers.daemon import (
    NOTHING,
    PATIENCE_SECONDS,
    Daemon,
    Settings,
    file_sink,
    leaf,
    leaf_of,
    sink,
)
from helpers.lines import event, events

MIB = 1024 * 1024
TOKEN = "s3cret-0815"  # noqa: S105 - opens nothing
NONE: Mapping[str, str] = MappingProxyType({})


def daemon(tmp_path: Path, **keys: object) -> Daemon:
    """`listen` by HTTP, with a file."""
    settings: Settings = {"TELEMETRY__PROTOCOL": "http"} | file_sink(tmp_path / "out") | keys
    return Daemon(tmp_path, **settings)


def array(lines: bytes) -> bytes:
    """The lines as an array of records, as the platform sends them."""
    return b"[" + b",".join(lines.splitlines()) + b"]"


def post(
    subject: Daemon, body: bytes, headers: Mapping[str, str] = NONE, method: str = "POST"
) -> tuple[int, str]:
    """Status and error of one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", subject.port, timeout=PATIENCE_SECONDS)
    connection.request(method, "/any/path?x=1", body, dict(headers))
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text)["error"] if text else ""


def exchange(subject: Daemon, sent: bytes) -> bytes:
    """Everything that is answered to raw bytes, up to the end of the connection."""
    with subject.connect() as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


def statuses(answer: bytes) -> list[int]:
    """The statuses of the answers in a row."""
    return [int(part.split()[0]) for part in answer.split(b"HTTP/1.1 ")[1:]]


def test_arrays_and_lines_arrive_as_lines(tmp_path: Path) -> None:
    """Byte for byte, in order; white space and newlines inside records break no line."""
    lines = events(2_000, size=290)
    pretty = json.dumps([json.loads(event(7)), json.loads(event(8))], indent=1).encode()
    with daemon(tmp_path) as subject:
        assert post(subject, array(lines)) == (200, "")
        assert post(subject, lines) == (200, "")
        assert post(subject, pretty, method="PUT") == (200, "")
        assert post(subject, event(9)[:-1]) == (200, "")
        assert post(subject, b"") == (200, "")
        outcome = subject.stop()
    found = (tmp_path / "out").read_bytes()
    assert found.startswith(lines + lines)
    *rest, last = found[2 * len(lines) :].splitlines(keepends=True)
    assert [json.loads(line) for line in rest] == [json.loads(event(7)), json.loads(event(8))]
    assert last == event(9)
    assert outcome.ledger["received"] == outcome.sink()["delivered"] == leaf_of(found)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "zstd"])
def test_compressed_bodies_are_named_by_their_header(tmp_path: Path, coding: str) -> None:
    """Unannounced, the same bytes are refused with a word on what is missing."""
    lines = events(500)
    compress = zstandard.compress if coding == "zstd" else gzip.compress
    body = compress(array(lines))
    with daemon(tmp_path) as subject:
        assert post(subject, body, {"Content-Encoding": coding}) == (200, "")
        status, error = post(subject, body)
        assert status == 400
        assert f"Content-Encoding: {coding.removeprefix('x-')}" in error
        subject.stop()
    assert (tmp_path / "out").read_bytes() == lines


@pytest.mark.parametrize(
    ("body", "headers", "status", "word"),
    [
        (b"hello", NONE, 400, "neither an array"),
        (b"[1,2", NONE, 400, "not closed"),
        (b"[1] x", NONE, 400, "follows the array"),
        (array(events(3))[:-20], NONE, 400, "not closed"),
        (b"[1]", {"Content-Encoding": "br"}, 415, "gzip, zstd or identity"),
        (b"[1]", {"Content-Encoding": "gzip"}, 400, "not compressed"),
        (gzip.compress(b"[1]")[:-5], {"Content-Encoding": "gzip"}, 400, "decompressed"),
        (gzip.compress(b" " * (2 * MIB)), {"Content-Encoding": "gzip"}, 413, "max_body_bytes"),
        (zstandard.compress(b" " * (2 * MIB)), {"Content-Encoding": "zstd"}, 413, "max_body_bytes"),
        (b" " * (2 * MIB), NONE, 413, "max_body_bytes"),
        (b" " * (64 * MIB), NONE, 413, "max_body_bytes"),
    ],
)
def test_of_a_bad_body_nothing_is_taken_and_the_sender_is_told_why(
    tmp_path: Path, body: bytes, headers: Mapping[str, str], status: int, word: str
) -> None:
    with daemon(tmp_path, TELEMETRY__MAX_BODY_BYTES=MIB) as subject:
        found, error = post(subject, body, headers)
        assert (found, word in error) == (status, True), error
        assert post(subject, array(event(1))) == (200, "")
        outcome = subject.stop()
    assert outcome.ledger["received"] == outcome.sink()["delivered"] == leaf_of(event(1))
    (refused,) = outcome.events("http_refused")
    assert refused["status"] == status


def test_one_bad_record_affects_only_itself(tmp_path: Path) -> None:
    """A lone surrogate, a bare NaN and broken UTF-8 are lines like any; one too long is not."""
    odd = b'{"record":"\\ud800"}\n{"record":NaN}\n{"record":"\xff"}\n'
    long = b'{"record":"' + b"x" * 2000 + b'"}\n'
    with daemon(tmp_path, TELEMETRY__MAX_LINE_BYTES=1024) as subject:
        assert post(subject, array(event(1) + odd + event(2))) == (200, "")
        assert post(subject, array(event(3) + long + event(4))) == (200, "")
        outcome = subject.stop()
    assert (tmp_path / "out").read_bytes() == (event(1) + odd + event(2) + event(3) + event(4))
    assert outcome.ledger["rejected"]["too_long"] == leaf_of(long)


def test_many_requests_follow_each_other_on_a_connection(tmp_path: Path) -> None:
    """Pipelined, chunked, with and without a word ahead; answers come in the same order."""
    one = array(event(1))
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(one), one)
    plain = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(one), one)
    chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    bad = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nno"
    last = b"POST / HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(one), one)
    with daemon(tmp_path) as subject:
        answer = exchange(subject, (plain + chunked) * 400 + bad + last + plain)
        assert statuses(answer) == [200] * 800 + [400, 200]
        outcome = subject.stop()
    assert outcome.sink()["delivered"] == leaf(801, 801 * len(event(1)))


def test_a_sender_that_asks_first_gets_a_word(tmp_path: Path) -> None:
    """`Expect: 100-continue`: yes before the body, or at once that it is too large."""
    head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    with daemon(tmp_path, TELEMETRY__MAX_BODY_BYTES=MIB) as subject:
        connection = subject.connect()
        connection.sendall(head % 3)
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"[1]")
        assert statuses(connection.recv(100)) == [200]
        assert statuses(exchange(subject, head % (9 * MIB))) == [413]
        assert subject.stop().sink()["delivered"] == leaf_of(b"1\n")


@pytest.mark.parametrize(
    "sent",
    [
        events(3),
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n[1]",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000,
    ],
)
def test_what_is_no_request_ends_its_connection_alone(tmp_path: Path, sent: bytes) -> None:
    with daemon(tmp_path) as subject:
        (status,) = statuses(exchange(subject, sent + b"\r\n\r\n" + b"x" * 100))
        assert status in (400, 431)
        assert post(subject, array(event(1))) == (200, "")
        outcome = subject.stop()
    assert outcome.ledger["received"] == leaf_of(event(1))
    assert len(outcome.events("http_unreadable")) == 1


def test_a_request_that_is_cut_off_was_never_taken(tmp_path: Path) -> None:
    """The sender got no answer, so it sends again; nothing is counted twice."""
    whole = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n[1]"
    with daemon(tmp_path) as subject:
        for end in range(1, len(whole)):
            assert exchange(subject, whole[:end]) == b""
        outcome = subject.stop()
    assert outcome.ledger["received"] == NOTHING
    assert outcome.events("http_request_cut_off")


def test_only_who_knows_the_token_may_send(tmp_path: Path) -> None:
    with daemon(tmp_path, TELEMETRY__TOKEN=TOKEN) as subject:
        for value in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}", "Bearer \xfc"):
            status, error = post(subject, b"[1]", {"Authorization": value} if value else NONE)
            assert (status, "Bearer" in error) == (401, True)
        assert post(subject, b"[2]", {"Authorization": f"bearer {TOKEN}"}) == (200, "")
        outcome = subject.stop()
    assert (tmp_path / "out").read_bytes() == b"2\n"
    assert TOKEN not in json.dumps(outcome.log)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_other_methods_are_told_what_to_use(tmp_path: Path, method: str) -> None:
    with daemon(tmp_path) as subject:
        answer = exchange(subject, b"%s / HTTP/1.1\r\n\r\n" % method.encode())
        assert statuses(answer) == [405]
        assert b"Allow: POST, PUT" in answer
        assert answer.endswith(b"\r\n\r\n") is (method == "HEAD")
        subject.stop()


def test_a_full_queue_asks_the_sender_to_come_again(tmp_path: Path) -> None:
    """`block`: 503 with `Retry-After`, and nothing of it taken; each line arrives once."""
    stuck = sink(
        "out", type="stdout", overflow="block", write_timeout_ms=600_000,
        queue_max_bytes=MIB, batch_max_bytes=64 * 1024,
    )  # fmt: skip
    body = array(events(300, size=1024))
    taken = refused = 0
    with Daemon(tmp_path, stdout_pipe=True, TELEMETRY__PROTOCOL="http", **stuck) as subject:
        assert subject.process.stdout is not None
        while refused < 3:
            status, _ = post(subject, body)
            taken, refused = taken + (status == 200), refused + (status == 503)
            assert taken < 20, "the queue is never full"
        assert select.select([subject.process.stdout], [], [], PATIENCE_SECONDS)[0]
        subject.read_stdout()
        while post(subject, body)[0] == 503:
            pass
        outcome = subject.stop()
    lines = outcome.stdout.splitlines(keepends=True)
    assert len(lines) == (taken + 1) * 300
    assert outcome.sink("out")["delivered"] == leaf_of(outcome.stdout)


def test_a_slow_sink_loses_nothing_of_a_million_records(tmp_path: Path) -> None:
    """Under `block` each refused request is sent again, and each record arrives once."""
    slow = sink(
        "out", type="stdout", overflow="block", write_timeout_ms=600_000, queue_max_bytes=4 * MIB
    )
    sent = [array(events(10_000, first=first)) for first in range(0, 1_000_000, 10_000)]
    with Daemon(tmp_path, stdout_pipe=True, TELEMETRY__PROTOCOL="http", **slow) as subject:
        pipe = subject.process.stdout
        assert pipe is not None
        hashed = hashlib.sha256()

        def read_slowly() -> None:
            while piece := os.read(pipe.fileno(), 1 << 16):
                hashed.update(piece)
                time.sleep(0.0002)

        reader = threading.Thread(target=read_slowly)
        reader.start()
        connection = http.client.HTTPConnection("127.0.0.1", subject.port, timeout=600)
        refused = 0
        for body in sent:
            while True:
                connection.request("POST", "/", body)
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    break
                assert answer.status == 503
                assert answer.headers["Retry-After"] == "1"
                refused += 1
        connection.close()
        subject.process.send_signal(signal.SIGTERM)
        reader.join(PATIENCE_SECONDS)
        outcome = subject.finish()
    wanted = b"".join(body[1:-1].replace(b"},{", b"}\n{") + b"\n" for body in sent)
    assert hashed.hexdigest() == hashlib.sha256(wanted).hexdigest()
    assert outcome.sink("out")["delivered"] == leaf_of(wanted)


def test_bodies_share_what_may_be_unfinished(tmp_path: Path) -> None:
    """What finds no room is refused when it is whole, and can be sent again."""
    keys = {
        "TELEMETRY__MAX_BODY_BYTES": MIB,
        "TELEMETRY__TAIL_BUDGET_BYTES": MIB,
        "TELEMETRY__MAX_LINE_BYTES": MIB,
    }
    half = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n[%s"
    with daemon(tmp_path, **keys) as subject:
        holding = subject.connect()
        holding.sendall(half % (700_000, b" " * 690_000))
        subject.barrier()
        status, error = post(subject, b"[" + b" " * 500_000 + b"1]")
        assert (status, "tail_budget_bytes" in error) == (503, True)
        holding.sendall(b" " * (700_000 - 690_000 - 2) + b"]")
        assert statuses(holding.recv(100)) == [200]
        assert post(subject, b"[" + b" " * 500_000 + b"1]") == (200, "")
        assert subject.stop().sink()["delivered"] == leaf_of(b"1\n")


def test_an_answer_may_wait_until_lines_are_safe(tmp_path: Path) -> None:
    """`spooled`: at the answer each line is in the file, though the sink would linger."""
    lingers = file_sink(tmp_path / "out", linger_ms=60_000)
    with daemon(tmp_path, TELEMETRY__HTTP_ACK="spooled", **lingers) as subject:
        for number in range(5):
            assert post(subject, array(event(number))) == (200, "")
            assert (tmp_path / "out").read_bytes() == events(number + 1)
        one = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n[1]"
        assert statuses(exchange(subject, one * 3)) == [200] * 3
        subject.stop()


def test_lines_on_disk_are_safe_while_the_destination_is_down(tmp_path: Path) -> None:
    """The answer waits until the circuit is open; those after it need not wait for that."""
    down = sink(
        "out", type="kinesis", stream="s", region="eu-west-1", endpoint_url="http://127.0.0.1:9",
        spool__path=tmp_path / "spool", retry_max_elapsed_ms=1000,
    )  # fmt: skip
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    settings: Settings = {"TELEMETRY__PROTOCOL": "http", "TELEMETRY__HTTP_ACK": "spooled"} | down
    with Daemon(tmp_path, foreign=keys, **settings) as subject:
        for number in range(3):
            assert post(subject, array(event(number))) == (200, "")
        outcome = subject.stop()
    assert outcome.sink("out")["spooled"] == leaf_of(events(3))

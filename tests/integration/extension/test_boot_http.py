"""Telemetry by HTTP from a scripted platform: subscription, answers, and what is left degraded."""

from __future__ import annotations

import http.client
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from helpers.lifecycle import settings, until
from helpers.scripted_platform import (
    NEXT,
    TELEMETRY,
    ScriptedPlatform,
    file_sink,
    line,
    runtime_done,
)

HTTP = settings(TELEMETRY__PROTOCOL="http")
PATIENCE_SECONDS = 60.0


def post(port: int, body: bytes) -> int:
    """The status of a POST on a connection of its own, as a platform may make one for each."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    connection.request("POST", "/", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.read() == b""
    connection.close()
    return answer.status


def array(*lines: bytes) -> bytes:
    return b"[" + b",".join(lines) + b"]"


def subscribe(platform: ScriptedPlatform) -> int:
    """Let it register and subscribe by HTTP; the port to post to."""
    platform.register()
    call = platform.expect(TELEMETRY)
    destination = call.json()["destination"]
    assert destination.keys() == {"protocol", "URI"}
    assert destination["protocol"] == "HTTP"
    uri = urlsplit(destination["URI"])
    assert (uri.scheme, uri.hostname) == ("http", "sandbox.localdomain")
    call.answer(200, b'"OK"')
    port: int | None = uri.port
    assert port is not None
    return port


def test_records_arrive_and_the_end_of_an_invocation_is_seen(tmp_path: Path) -> None:
    """Each POST on its own connection: none is missed between two of them."""
    variables = HTTP | settings(FLUSH__STRATEGY="invocation", FLUSH__MAX_ADDED_MS=10_000)
    with ScriptedPlatform(file_sink(tmp_path / "f") | variables) as platform:
        port = subscribe(platform)
        platform.expect(NEXT).invoke("r1", seconds=900)
        assert post(port, array(line(1), line(2))) == 200
        assert platform.no_calls()
        assert post(port, array(line(3), runtime_done("r1"))) == 200
        call = platform.expect(NEXT)
        assert (tmp_path / "f").read_bytes().startswith(line(1) + line(2) + line(3))
        call.shutdown()
        platform.finish()
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 4
        assert not platform.log("end_missed")


@pytest.mark.parametrize("body", [b"no JSON", b"[1,", b'{"a":1} trailing', b"\xff\xfe", b""])
def test_whatever_was_read_completely_is_answered_200(tmp_path: Path, body: bytes) -> None:
    """A refused body would come again for ever. What is no record is counted, and kept."""
    letters = tmp_path / "letters"
    variables = file_sink(tmp_path / "f") | HTTP | settings(DEAD_LETTER__PATH=letters)
    with ScriptedPlatform(variables) as platform:
        port = subscribe(platform)
        call = platform.expect(NEXT)
        assert post(port, body) == 200
        assert post(port, array(line(1))) == 200
        call.shutdown()
        platform.finish()
        ledger = platform.ledger()
        rejected = ledger["rejected"]["malformed_body"]["lines"]
        assert rejected + ledger["framed"]["lines"] == 1 + (body != b"") + (body == b"[1,")
        assert (rejected > 0) is letters.exists()


def test_the_last_post_may_come_after_shutdown(tmp_path: Path) -> None:
    variables = HTTP | settings(TELEMETRY__BUFFERING__TIMEOUT_MS=1500)
    with ScriptedPlatform(file_sink(tmp_path / "f") | variables) as platform:
        port = subscribe(platform)
        platform.expect(NEXT).shutdown()
        until(lambda: platform.log("stopping"))
        assert post(port, array(line(1))) == 200
        platform.finish()
        assert (tmp_path / "f").read_bytes() == line(1)


@pytest.mark.parametrize("is_auto", [True, False])
def test_auto_takes_http_where_tcp_is_refused(tmp_path: Path, is_auto: bool) -> None:
    """After 400 to both schemas; `tcp` goes on without telemetry."""
    variables = settings(TELEMETRY__PROTOCOL="auto" if is_auto else "tcp")
    with ScriptedPlatform(file_sink(tmp_path / "f") | variables) as platform:
        platform.register()
        for _ in range(2):
            call = platform.expect(TELEMETRY)
            assert call.json()["destination"]["protocol"] == "TCP"
            call.answer(400, b'{"errorType":"ValidationError"}')
        if is_auto:
            call = platform.expect(TELEMETRY)
            port = urlsplit(call.json()["destination"]["URI"]).port
            assert port is not None
            call.answer(200, b'"OK"')
            assert post(port, array(line(1))) == 200
        platform.expect(NEXT).shutdown()
        platform.finish()
        assert platform.ledger()["received"]["lines"] == is_auto
        assert [each["protocol"] for each in platform.log("subscription_refused")] == ["tcp"] * 2


def test_degraded_it_answers_and_counts(tmp_path: Path) -> None:
    """The loop of last resort: records are counted, and each POST is answered."""
    (tmp_path / "uvloop.py").write_text("raise ImportError('no uvloop here')")
    with ScriptedPlatform({"PYTHONPATH": str(tmp_path)} | HTTP) as platform:
        port = subscribe(platform)
        call = platform.expect(NEXT)
        assert post(port, array(line(1), line(2))) == 200
        assert post(port, b"no JSON") == 200
        assert post(port, line(3) + b"\n") == 200
        call.shutdown()
        platform.finish()
        ledger = platform.ledger()
        assert ledger["degraded"] is True
        assert ledger["unrouted"]["lines"] == 3
        assert ledger["rejected"]["malformed_body"] == {"lines": 1, "bytes": 7}

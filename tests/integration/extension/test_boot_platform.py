"""The order of calls, and odd answers to them, over a scripted Extensions API."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.lifecycle import settings, until
from helpers.scripted_platform import (
    IDENTIFIER,
    INIT_ERROR,
    NEXT,
    REGISTER,
    TELEMETRY,
    ScriptedPlatform,
    file_sink,
    line,
    runtime_done,
)
from telemetryd.local.api.server import Registered
from telemetryd.local.api.wire import Request, encode

INVOCATION = settings(FLUSH__STRATEGY="invocation", FLUSH__MAX_ADDED_MS=10_000)
"""What an invocation printed is delivered before `next`, however busy the machine."""


def test_the_order_and_form_of_the_first_calls() -> None:
    """Register, listen, subscribe with all three buffering values, next without a body."""
    with ScriptedPlatform() as platform:
        register = platform.register()
        assert (register.method, register.path) == ("POST", REGISTER)
        assert register.headers["lambda-extension-name"] == "telemetryd"
        assert register.headers["lambda-extension-accept-feature"] == "accountId"
        assert register.json() == {"events": ["INVOKE", "SHUTDOWN"]}
        subscribe = platform.expect(TELEMETRY)
        assert subscribe.method == "PUT"
        assert subscribe.headers["lambda-extension-identifier"] == IDENTIFIER
        wanted = subscribe.json()
        assert wanted.pop("destination")["protocol"] == "TCP"
        assert wanted == {
            "schemaVersion": "2025-01-29",
            "types": ["platform", "function"],
            "buffering": {"maxItems": 10_000, "maxBytes": 1_048_576, "timeoutMs": 25},
        }
        platform.dial(subscribe)  # it listens before it subscribes
        subscribe.answer(200, b'"OK"')
        following = platform.expect(NEXT)
        assert following.method == "GET"
        assert following.body == b""
        assert "content-length" not in following.headers
        assert following.headers["lambda-extension-identifier"] == IDENTIFIER
        following.shutdown()
        platform.finish()
        assert platform.ledger()["received"]["lines"] == 0


@pytest.mark.parametrize(
    ("found", "asks", "holds"),
    [("1", "auto", True), ("1", "early", False), ("0", "auto", False), ("", "auto", False)],
)
def test_with_a_large_share_of_a_cpu_it_asks_for_next_when_it_is_up(
    found: str, asks: str, holds: bool
) -> None:
    """Where the launcher has measured one."""
    variables = {"TELEMETRYD_LARGE_SHARE": found} | settings(LAMBDA__NEXT=asks)
    with ScriptedPlatform(variables) as platform:
        _, call = platform.begin()
        call.shutdown()
        platform.finish()
        assert (platform.log("started")[0]["next_ms"] is None) is holds
        assert platform.log("configuration_warning") == []
        assert platform.log("configuration_invalid") == []


@pytest.mark.parametrize(
    "refusal", [b'{"errorType":"Extension.InvalidEventType"}', b"Extension.InvalidEventType: \xff"]
)
def test_without_invoke_it_registers_for_shutdown(refusal: bytes, tmp_path: Path) -> None:
    """INVOKE refused, in JSON or not: a second register, then all the rest."""
    with ScriptedPlatform(file_sink(tmp_path / "f")) as platform:
        platform.expect(REGISTER).answer(403, refusal)
        assert platform.register().json() == {"events": ["SHUTDOWN"]}
        telemetry = platform.subscribe()
        telemetry.sendall(line(1))
        platform.expect(NEXT).shutdown()
        platform.finish()
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 1
        assert (tmp_path / "f").read_bytes() == line(1)


@pytest.mark.parametrize("answer", [(403, b"Extension.InvalidExtensionName"), (500, b"")])
def test_a_refused_registration_ends_the_process(answer: tuple[int, bytes]) -> None:
    """Nothing can follow it; the log says what was refused."""
    with ScriptedPlatform() as platform:
        platform.expect(REGISTER).answer(*answer)
        platform.finish(status=1)
        (failed,) = platform.log("register_failed")
        assert str(answer[0]) in failed["error"]
        assert ("/opt/extensions" in failed.get("fix", "")) is (answer[0] == 403)


def test_the_older_schema_is_tried_once() -> None:
    """400 for the newest: the one before it, with everything else unchanged."""
    with ScriptedPlatform() as platform:
        platform.register()
        first = platform.expect(TELEMETRY)
        first.answer(400, b'{"errorType": "ValidationError", "errorMessage": "not "2025""}')
        second = platform.expect(TELEMETRY)
        assert second.json() == first.json() | {"schemaVersion": "2022-12-13"}
        platform.dial(second).sendall(line(1))
        second.answer(200, b'"OK"')
        platform.expect(NEXT).shutdown()
        platform.finish()
        assert platform.ledger()["received"]["lines"] == 1


@pytest.mark.parametrize(
    ("status", "body", "tries"),
    [
        (400, b'{"errorType": "ValidationError", "errorMessage": "unescaped "quotes""}', 2),
        (403, b'{"errorType":"Telemetry.SubscriptionClosed"}', 1),
        (500, b"\xff\xfe not text", 1),
        (404, b"404 page not found", 1),
        (202, b'{"errorType":"Telemetry.NotSupported"}', 1),
    ],
)
def test_without_a_subscription_it_polls_on(status: int, body: bytes, tries: int) -> None:
    """The silent connection of a refused subscription included; invocations are not delayed."""
    with ScriptedPlatform(INVOCATION | settings(FLUSH__MAX_ADDED_MS=900_000)) as platform:
        platform.register()
        for _ in range(tries):
            call = platform.expect(TELEMETRY)
            platform.dial(call)  # carries nothing, is never closed
            call.answer(status, body)
        for number in range(3):
            platform.expect(NEXT).invoke(f"r{number}", seconds=900)
        platform.expect(NEXT).shutdown()
        platform.finish()
        assert [record["status"] for record in platform.log("subscription_refused")] == [
            status
        ] * tries
        assert platform.ledger()["received"]["lines"] == 0


def test_a_subscription_that_is_not_answered_properly() -> None:
    """The connection ends instead: the function runs without telemetry."""
    with ScriptedPlatform() as platform:
        platform.register()
        platform.expect(TELEMETRY).drop()
        platform.expect(NEXT).shutdown()
        platform.finish()
        assert platform.log("subscription_failed")
        platform.ledger()


def test_next_is_asked_for_again_when_its_connection_ends(tmp_path: Path) -> None:
    """A connection that died while frozen is renewed, each time; nothing is lost."""
    with ScriptedPlatform(file_sink(tmp_path / "f") | INVOCATION) as platform:
        telemetry, call = platform.begin()
        call.drop()
        platform.expect(NEXT).invoke("a")
        telemetry.sendall(line(1) + runtime_done("a"))
        platform.expect(NEXT).drop()
        platform.expect(NEXT).invoke("b")
        telemetry.sendall(line(2) + runtime_done("b"))
        platform.expect(NEXT).shutdown()
        platform.finish()
        assert platform.log("platform_gone") == []
        assert (tmp_path / "f").read_bytes().count(b"line ") == 2
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 4


def test_an_answer_without_keep_alive_is_followed_by_a_new_connection() -> None:
    """`Connection: close`, HTTP/1.0 without a length, chunks: all of it is understood."""
    body = json.dumps({"eventType": "INVOKE", "requestId": "x", "deadlineMs": 0}).encode()
    with ScriptedPlatform(settings(FLUSH__STRATEGY="continuous")) as platform:
        _, call = platform.begin()
        call.answer(200, body, [("Connection", "close")])
        call.drop()
        call = platform.expect(NEXT)
        call.raw(b"HTTP/1.0 200 OK\r\n\r\n" + body)
        call.drop()
        chunks = b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (body[:5], len(body) - 5, body[5:])
        platform.expect(NEXT).raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        platform.expect(NEXT).shutdown()
        platform.finish()
        platform.ledger()


@pytest.mark.parametrize("status", [403, 500])
def test_a_refused_next_means_the_end(status: int, tmp_path: Path) -> None:
    """Flush, close, ledger, status 0."""
    with ScriptedPlatform(file_sink(tmp_path / "f")) as platform:
        telemetry, call = platform.begin()
        telemetry.sendall(line(1))
        call.answer(status, b"no more")
        platform.finish()
        assert str(status) in platform.log("platform_gone")[0]["error"]
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 1


def test_answers_that_make_no_sense_do_not_end_it() -> None:
    """No JSON, no object, no HTTP: to leave would fail the function, so it asks again."""
    with ScriptedPlatform() as platform:
        _, call = platform.begin()
        call.answer(200, b"not JSON")
        platform.expect(NEXT).answer(200, b"[]")
        platform.expect(NEXT).raw(b"220 mail.example ESMTP\r\n\r\n")
        platform.expect(NEXT).raw(b"HTTP/1.1\r\n\r\n")
        platform.expect(NEXT).event(eventType="RESTORE", deadlineMs=1)
        platform.expect(NEXT).shutdown()
        platform.finish()
        assert platform.log("answer_malformed")
        platform.ledger()


def test_a_platform_that_only_talks_nonsense_is_left() -> None:
    """Not for ever: it would be a busy loop on somebody's bill."""
    with ScriptedPlatform() as platform:
        _, call = platform.begin()
        for _ in range(7):
            call.answer(200, b"?")
            call = platform.expect(NEXT)
        call.answer(200, b"?")
        platform.finish()
        platform.ledger()


@pytest.mark.parametrize("reason", ["SandboxTerminated", "TIMEOUT", "x" * 300, ""])
def test_any_shutdown_reason_is_a_shutdown(reason: str) -> None:
    """The set is open."""
    with ScriptedPlatform() as platform:
        _, call = platform.begin()
        call.shutdown(reason=reason)
        platform.finish()
        assert platform.log("stopping")[0]["reason"] == reason
        platform.ledger()


def test_shutdown_without_a_deadline_or_reason() -> None:
    """The least that can be said."""
    with ScriptedPlatform() as platform:
        _, call = platform.begin()
        call.event(eventType="SHUTDOWN")
        platform.finish()
        platform.ledger()


def test_telemetry_after_shutdown_is_read_without_an_end_of_stream(tmp_path: Path) -> None:
    """What comes within the quiet period arrives; the connection stays open all the time."""
    variables = settings(TELEMETRY__BUFFERING__TIMEOUT_MS=1500, FLUSH__STRATEGY="continuous")
    with ScriptedPlatform(file_sink(tmp_path / "f") | variables) as platform:
        telemetry, call = platform.begin()
        telemetry.sendall(line(1))
        call.shutdown()
        until(lambda: platform.log("stopping"))
        telemetry.sendall(line(2) + line(3))
        platform.finish()
        assert (tmp_path / "f").read_bytes() == line(1) + line(2) + line(3)
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 3


@pytest.mark.parametrize("degraded", [False, True])
def test_what_comes_while_it_gets_no_turn_is_read(tmp_path: Path, degraded: bool) -> None:
    """The quiet period ends while it stands still: what waits in the kernel then is not lost."""
    variables = file_sink(tmp_path / "f") | settings(TELEMETRY__BUFFERING__TIMEOUT_MS=1000)
    if degraded:
        (tmp_path / "uvloop.py").write_text("raise ImportError('no uvloop here')")
        variables["PYTHONPATH"] = str(tmp_path)
    with ScriptedPlatform(variables) as platform:
        telemetry, call = platform.begin()
        telemetry.sendall(line(1))
        until(lambda: platform.log("degraded" if degraded else "started"))
        call.shutdown()
        if not degraded:
            until(lambda: platform.log("stopping"))
        with stopped(platform.process.pid):
            telemetry.sendall(line(2))
            time.sleep(1.3)  # the time without a turn
        platform.finish()
        assert platform.ledger()["received"]["lines"] == 2


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """At the same time the process does not run."""
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("seconds", [0.4, 0.0, -3.0])
def test_a_short_or_passed_deadline_still_gets_a_ledger(seconds: float, tmp_path: Path) -> None:
    """What was read before is delivered."""
    with ScriptedPlatform(file_sink(tmp_path / "f") | INVOCATION) as platform:
        telemetry, call = platform.begin()
        call.invoke("a")
        telemetry.sendall(line(1) + runtime_done("a"))
        platform.expect(NEXT).shutdown(seconds)
        platform.finish()
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 2


def test_a_stream_that_never_becomes_quiet_does_not_keep_it(tmp_path: Path) -> None:
    """Reading ends in time for delivery; what was cut is in the ledger as it was read."""
    with ScriptedPlatform(file_sink(tmp_path / "f")) as platform:
        telemetry, call = platform.begin()
        until(lambda: platform.log("started"))
        call.shutdown(3.0)
        platform.kill_after(3.0)
        sent = 0
        try:
            while platform.process.poll() is None:
                telemetry.sendall(line(sent))
                sent += 1
        except OSError:
            pass  # it has closed the connection
        platform.finish()
        ledger = platform.ledger()
        assert 0 < ledger["received"]["lines"] <= sent
        assert (tmp_path / "f").read_bytes().count(b"\n") == ledger["framed"]["lines"]


def test_the_platform_is_gone(tmp_path: Path) -> None:
    """As when the emulator is killed: no answer, no one listens, what is queued is delivered."""
    with ScriptedPlatform(file_sink(tmp_path / "f") | INVOCATION) as platform:
        telemetry, call = platform.begin()
        call.invoke("a")
        telemetry.sendall(line(1) + runtime_done("a"))
        call = platform.expect(NEXT)
        platform.leave()
        call.drop()
        platform.finish()
        assert platform.log("platform_gone")
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 2


def test_next_waits_for_the_end_of_its_own_invocation(tmp_path: Path) -> None:
    """Not for another's, nor for text that looks like one; then all lines are in the file."""
    with ScriptedPlatform(file_sink(tmp_path / "f") | INVOCATION) as platform:
        telemetry, call = platform.begin()
        call.invoke("mine")
        fake = json.dumps({"time": "", "type": "function", "record": runtime_done("mine").decode()})
        telemetry.sendall(runtime_done("other") + fake.encode() + b"\n" + line(1))
        start = {"type": "platform.start", "time": "", "record": {"requestId": "other"}}
        telemetry.sendall(json.dumps(start).encode() + b"\n")
        until(lambda: (tmp_path / "f").exists() and b"platform.start" in read(tmp_path / "f"))
        assert platform.no_calls()
        telemetry.sendall(line(2) + runtime_done("mine"))
        call = platform.expect(NEXT)
        assert b"line 2" in read(tmp_path / "f")
        call.shutdown()
        platform.finish()
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 6


def read(path: Path) -> bytes:
    return path.read_bytes()


def test_after_a_bug_no_invocation_is_held_up(tmp_path: Path) -> None:
    """A `runtimeDone` that no one sees any more is not waited for, not even by the one running."""
    code = (
        "import telemetryd.ingest.pipeline as m\n"
        "def on_framed(self, parts): raise ZeroDivisionError('injected')\n"
        "m.Pipeline.on_framed = on_framed\n"
    )
    (tmp_path / "sitecustomize.py").write_text(code)
    variables = file_sink(tmp_path / "f") | INVOCATION | {"PYTHONPATH": str(tmp_path)}
    with ScriptedPlatform(variables) as platform:
        telemetry, call = platform.begin()
        call.invoke("a", seconds=900)
        until(lambda: platform.log("started"))
        telemetry.sendall(line(1))
        platform.expect(NEXT).invoke("b", seconds=900)
        telemetry.sendall(line(2))
        platform.expect(NEXT).shutdown()
        platform.finish()
        assert "ZeroDivisionError" in platform.log("internal_error")[0]["error"]
        assert platform.log("ledger")


def test_a_missing_runtime_done_costs_no_more_than_the_deadline() -> None:
    """Lost telemetry: `next` is asked for before the function would time out."""
    with ScriptedPlatform(INVOCATION) as platform:
        _, call = platform.begin()
        call.invoke("a", seconds=0.7)
        platform.expect(NEXT).shutdown()
        platform.finish()
        platform.ledger()


def test_a_signal_during_an_invocation_ends_it_like_a_shutdown(tmp_path: Path) -> None:
    """What was received is delivered."""
    with ScriptedPlatform(file_sink(tmp_path / "f") | INVOCATION) as platform:
        telemetry, call = platform.begin()
        call.invoke("a", seconds=900)
        telemetry.sendall(line(1))
        until(lambda: (tmp_path / "f").exists() and read(tmp_path / "f"))
        platform.process.send_signal(signal.SIGTERM)
        platform.finish()
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 1


def test_a_launcher_may_have_registered_already() -> None:
    """The answer is read from the socket handed over; registration is not repeated."""
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        variables = {"TELEMETRYD_REGISTER_FD": str(there.fileno())}
        platform = ScriptedPlatform(variables, pass_fds=[there.fileno()])
        launcher = {"lambda-extension-name": "telemetryd"}
        registered = platform.api.receive(Request("POST", REGISTER, launcher, b'{"events":[]}'))
        assert isinstance(registered, Registered)
        here.sendall(encode(registered.answer))
        with platform:
            telemetry = platform.subscribe()
            telemetry.sendall(line(1))
            platform.expect(NEXT).shutdown()
            platform.finish()
            assert platform.ledger()["received"]["lines"] == 1
            assert platform.log("configuration_invalid") == []


def test_fail_closed_reports_before_the_first_next() -> None:
    """`init/error` with a type in the form the platform keeps, and a JSON body; then the end."""
    variables = settings(FAIL_CLOSED="true", LAMBDA__NEXT="ready", FLUSH__STRATEGY='ne"ver')
    with ScriptedPlatform(variables) as platform:
        platform.register()
        platform.subscribe()
        report = platform.expect(INIT_ERROR)
        assert report.headers["lambda-extension-function-error-type"] == "Extension.ConfigInvalid"
        assert "flush.strategy" in report.json()["errorMessage"]
        report.answer(202, b'{"status":"OK"}')
        platform.finish(status=78)
        assert platform.log("configuration_invalid")


@pytest.fixture
def shadow(tmp_path: Path) -> dict[str, str]:
    """Variables that make the heavy part of telemetryd fail to load."""
    (tmp_path / "uvloop.py").write_text("raise ImportError('no uvloop here')")
    return {"PYTHONPATH": str(tmp_path)}


def test_degraded_it_renews_a_dead_connection_and_reads_all_streams(shadow: dict[str, str]) -> None:
    """The loop of last resort has the same manners."""
    with ScriptedPlatform(shadow) as platform:
        telemetry, call = platform.begin()
        telemetry.sendall(line(1))
        call.drop()
        platform.expect(NEXT).invoke("a")
        platform.expect(NEXT).answer(200, b"not an event")
        platform.expect(NEXT).raw(b"no HTTP\r\n\r\n")
        call = platform.expect(NEXT)
        telemetry.sendall(line(2) * 10_000)
        call.shutdown()
        platform.finish()
        ledger = platform.ledger()
        assert ledger["degraded"] is True
        assert ledger["unrouted"]["lines"] == 10_001


def test_degraded_it_keeps_a_short_deadline(shadow: dict[str, str]) -> None:
    """A stream that never becomes quiet, and three seconds."""
    with ScriptedPlatform(shadow) as platform:
        telemetry, call = platform.begin()
        until(lambda: platform.log("degraded"))
        call.shutdown(3.0)
        platform.kill_after(3.0)
        sent = 0
        try:
            while platform.process.poll() is None:
                telemetry.sendall(line(sent))
                sent += 1
        except OSError:
            pass  # it has gone
        platform.finish()
        assert 0 < platform.ledger()["received"]["lines"] <= sent


@pytest.mark.parametrize(
    "deadline", ["absent", '"soon"', "NaN", "null", "-5", "1e18", "1.5", "[]", "10e400"]
)
def test_degraded_it_takes_odd_members(shadow: dict[str, str], deadline: str) -> None:
    """No word in an invocation is the end, and no deadline keeps it from reading at the end."""
    with ScriptedPlatform(shadow) as platform:
        telemetry, call = platform.begin()
        until(lambda: platform.log("degraded"))
        call.answer(200, b'{"x":"SHUTDOWN", "eventType" : "INVOKE", "y":"eventType"}')
        call = platform.expect(NEXT)
        telemetry.sendall(line(1))
        member = "" if deadline == "absent" else f', "deadlineMs" : {deadline}'
        call.answer(200, f'{{"eventType": "SHUTDOWN"{member}}}'.encode())
        platform.finish()
        assert platform.ledger()["received"]["lines"] == 1


@pytest.mark.parametrize("end", ["sigterm", "refused", "gone"])
def test_degraded_it_ends_with_a_ledger(shadow: dict[str, str], end: str) -> None:
    """By signal, by a 403, by a platform that is gone."""
    with ScriptedPlatform(shadow) as platform:
        telemetry, call = platform.begin()
        telemetry.sendall(line(1))
        call.invoke("a")
        call = platform.expect(NEXT)
        if end == "sigterm":
            platform.process.send_signal(signal.SIGTERM)
        elif end == "refused":
            call.answer(403, b"")
        else:
            platform.leave()
            call.drop()
        platform.finish()
        assert platform.ledger()["received"]["lines"] == 1


def test_a_name_may_have_an_address_where_nobody_listens(tmp_path: Path) -> None:
    """As `localhost` has ::1 on many a machine: the next one is tried."""
    (tmp_path / "sitecustomize.py").write_text(
        "import _socket\n"
        "real = _socket.getaddrinfo\n"
        "def both(host, *rest): return real('::1', *rest) + real('127.0.0.1', *rest)\n"
        "_socket.getaddrinfo = both\n"
    )
    with ScriptedPlatform({"PYTHONPATH": str(tmp_path)}) as platform:
        telemetry, call = platform.begin()
        telemetry.sendall(line(1))
        call.shutdown()
        platform.finish()
        assert platform.ledger()["received"]["lines"] == 1


def test_an_address_that_is_none_is_named() -> None:
    """A person who set the variable by hand gets one line."""
    command = (sys.executable, "-m", "telemetryd")
    with ScriptedPlatform({"AWS_LAMBDA_RUNTIME_API": "nowhere"}, command=command) as platform:
        platform.finish(status=1)
        assert platform.log("register_failed")[0]["api"] == "nowhere"

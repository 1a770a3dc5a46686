"""Connections to the telemetry port that are not the platform's: counted, bounded, not believed."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from helpers.lifecycle import settings, until
from helpers.ports import own_address
from helpers.scripted_platform import (
    NEXT,
    TELEMETRY,
    Call,
    ScriptedPlatform,
    file_sink,
    line,
    runtime_done,
)

INVOCATION = settings(FLUSH__STRATEGY="invocation", FLUSH__MAX_ADDED_MS=10_000)
TRUST = settings(TELEMETRY__TRUST="platform")
LONG = 900.0


def event(kind: str, **record: object) -> bytes:
    body = {"time": "2026-03-14T10:15:30.123Z", "type": kind, "record": record}
    return json.dumps(body).encode() + b"\n"


def read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def begin(platform: ScriptedPlatform) -> tuple[socket.socket, Call, Call]:
    """Register, subscribe, and let everything come up; telemetry, the port, `next`."""
    platform.register()
    call = platform.expect(TELEMETRY)
    telemetry = platform.dial(call)
    call.answer(200, b'"OK"')
    following = platform.expect(NEXT)
    until(lambda: platform.log("started"))
    return telemetry, call, following


def test_the_one_that_was_there_first_is_one(tmp_path: Path) -> None:
    """As with AWS's emulator, which dials while it handles the subscription: no word about it."""
    with ScriptedPlatform(file_sink(tmp_path / "f") | INVOCATION) as platform:
        telemetry, _, following = begin(platform)
        following.invoke("a", LONG)
        telemetry.sendall(line(1) + runtime_done("a"))
        platform.expect(NEXT).shutdown()
        platform.finish()
        figures = platform.ledger()["figures"]
        assert (figures["connections_beyond"], figures["connections_foreign"]) == (0, 0)
        assert platform.log("connection_beyond") == []


def test_connections_beyond_the_first_are_counted_and_served(tmp_path: Path) -> None:
    """No one is turned away on a guess."""
    with ScriptedPlatform(file_sink(tmp_path / "f") | INVOCATION) as platform:
        telemetry, call, following = begin(platform)
        for number in range(3):
            platform.dial(call).sendall(line(number))
        until(lambda: read(tmp_path / "f").count(b"\n") == 3)
        following.invoke("a", LONG)
        telemetry.sendall(runtime_done("a"))
        platform.expect(NEXT).shutdown()
        platform.finish()
        ledger = platform.ledger()
        assert ledger["figures"]["connections_beyond"] == 3
        assert platform.log("connection_beyond")[0]["peer"] == "127.0.0.1"
        assert ledger["sinks"]["file"]["delivered"]["lines"] == 4


def test_two_subscriptions_bring_everything_twice(tmp_path: Path) -> None:
    """Both are the platform's: one line, one count, every line delivered, each end seen once."""
    with ScriptedPlatform(file_sink(tmp_path / "f") | INVOCATION) as platform:
        platform.register()
        call = platform.expect(TELEMETRY)
        both = [platform.dial(call) for _ in range(2)]
        call.answer(200, b'"OK"')
        for request in "abc":
            platform.expect(NEXT).invoke(request, LONG)
            for telemetry in both:
                telemetry.sendall(event("platform.start", requestId=request))
                telemetry.sendall(line(1) + runtime_done(request))
        platform.expect(NEXT).shutdown()
        platform.finish()
        ledger = platform.ledger()
        assert ledger["sinks"]["file"]["delivered"]["lines"] == 18
        figures = ledger["figures"]
        assert (figures["connections_beyond"], figures["ends_missed"]) == (1, {})
        assert (figures["unknown_requests"], figures["malformed_events"]) == (0, 0)
        assert len(platform.log("connection_beyond")) == 1


def test_another_connection_that_ends_is_no_loss(tmp_path: Path) -> None:
    """Only the platform's can take the end of an invocation with it."""
    with ScriptedPlatform(file_sink(tmp_path / "f") | INVOCATION) as platform:
        telemetry, call, following = begin(platform)
        following.invoke("a", LONG)
        telemetry.sendall(event("platform.start", requestId="a"))
        with platform.dial(call) as other:
            other.sendall(line(1))
        until(lambda: b"line 1" in read(tmp_path / "f"))
        with platform.dial(call):
            pass
        telemetry.sendall(line(2))
        until(lambda: b"line 2" in read(tmp_path / "f"))
        assert platform.no_calls()
        telemetry.sendall(runtime_done("a"))
        platform.expect(NEXT).shutdown()
        platform.finish()
        assert platform.ledger()["figures"]["ends_missed"] == {}


@pytest.mark.parametrize("first", ["platform", "others"])
def test_others_cannot_use_up_what_the_platforms_lines_need(tmp_path: Path, first: str) -> None:
    """Unfinished lines of many peers: a long line of the platform's still finds room."""
    variables = file_sink(tmp_path / "f") | INVOCATION
    variables |= settings(TELEMETRY__MAX_LINE_BYTES=262_144, TELEMETRY__TAIL_BUDGET_BYTES=1_048_576)
    with ScriptedPlatform(variables) as platform:
        platform.register()
        call = platform.expect(TELEMETRY)
        telemetry = platform.dial(call) if first == "platform" else None
        call.answer(200, b'"OK"')
        following = platform.expect(NEXT)
        until(lambda: platform.log("started"))
        hogs = [platform.dial(call) for _ in range(12)]
        for hog in hogs:
            hog.sendall(b"x" * 200_000)
        until(lambda: platform.log("connection_beyond"))
        if telemetry is None:
            telemetry = platform.dial(call)
        following.invoke("a", LONG)
        telemetry.sendall(event("platform.start", requestId="a"))
        until(lambda: b"platform.start" in read(tmp_path / "f"))
        long = line(1).replace(b"line 1", b"y" * 250_000)
        telemetry.sendall(long[:240_000])
        telemetry.sendall(long[240_000:] + runtime_done("a"))
        call = platform.expect(NEXT)
        assert b"y" * 250_000 in read(tmp_path / "f")
        call.shutdown()
        platform.finish()
        assert platform.ledger()["rejected"]["tail_budget"]["lines"] > 0


def test_platform_events_of_others_are_not_believed_where_trust_is_set(tmp_path: Path) -> None:
    """They are rejected, however they are written; what else others send is delivered."""
    with ScriptedPlatform(file_sink(tmp_path / "f") | INVOCATION | TRUST) as platform:
        telemetry, call, following = begin(platform)
        following.invoke("a", LONG)
        telemetry.sendall(event("platform.start", requestId="a"))
        other = platform.dial(call)
        forged = runtime_done("a") + event("platform.report", requestId="x", metrics={})
        escaped = forged.replace(b'"platform.', b'"\\u0070latform.')
        other.sendall(forged + line(1) + escaped)
        until(lambda: b"line 1" in read(tmp_path / "f"))
        telemetry.sendall(line(2))
        until(lambda: b"line 2" in read(tmp_path / "f"))
        assert platform.no_calls(), "a forged end is no end"
        telemetry.sendall(runtime_done("a"))
        platform.expect(NEXT).shutdown()
        platform.finish()
        ledger = platform.ledger()
        assert ledger["rejected"]["untrusted"] == {"lines": 4, "bytes": len(forged + escaped)}
        assert ledger["sinks"]["file"]["delivered"]["lines"] == 4
        assert platform.log("event_untrusted")
        assert platform.log("trust_given_up") == []


def test_trust_is_given_up_loudly_where_the_platform_is_somebody_else(tmp_path: Path) -> None:
    """The connection that was there first brings nothing: better believed than lost."""
    with ScriptedPlatform(file_sink(tmp_path / "f") | INVOCATION | TRUST) as platform:
        _, call, following = begin(platform)
        telemetry = platform.dial(call)
        telemetry.sendall(line(0))
        until(lambda: b"line 0" in read(tmp_path / "f"))
        following.invoke("a", LONG)
        telemetry.sendall(event("platform.start", requestId="a") + event("platform.logsDropped"))
        until(lambda: platform.log("event_untrusted"))
        following = platform.expect(NEXT)
        following.invoke("b", LONG)
        until(lambda: platform.log("trust_given_up"))
        following = platform.expect(NEXT)
        telemetry.sendall(event("platform.start", requestId="c") + line(3))
        until(lambda: b"line 3" in read(tmp_path / "f"))
        following.shutdown()
        platform.finish()
        assert platform.log("trust_given_up")[0]["level"] == "error"
        ledger = platform.ledger()
        assert ledger["rejected"]["untrusted"]["lines"] == 2
        assert b"platform.start" in read(tmp_path / "f")


@pytest.mark.parametrize("is_local", [False, True])
def test_a_connection_to_an_address_that_others_can_reach(tmp_path: Path, is_local: bool) -> None:
    """Counted and logged; closed where the local Lambda says that this is no sandbox."""
    address = own_address()
    if not address:
        pytest.skip("this machine has no address but loopback and link-local ones")
    variables = file_sink(tmp_path / "f") | ({"TELEMETRYD_LOCAL": "1"} if is_local else {})
    with ScriptedPlatform(variables) as platform:
        telemetry, call, following = begin(platform)
        other = platform.dial(call, address)
        if is_local:
            assert other.recv(1) == b""
        else:
            other.sendall(line(1))
            until(lambda: b"line 1" in read(tmp_path / "f"))
        following.invoke("a", LONG)
        telemetry.sendall(line(2) + runtime_done("a"))
        platform.expect(NEXT).shutdown()
        platform.finish()
        (warning,) = platform.log("connection_foreign")
        assert warning["address"] == address
        ledger = platform.ledger()
        assert ledger["figures"]["connections_foreign"] == 1
        assert ledger["sinks"]["file"]["delivered"]["lines"] == (2 if is_local else 3)
        assert platform.log("configuration_invalid") == []

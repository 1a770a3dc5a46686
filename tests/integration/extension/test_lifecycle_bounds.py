"""No wait on the platform is without a bound: whatever is lost, `next` comes, and the log says why.

The functions here may run for 15 minutes, so that no deadline of theirs ends a wait; that the next
call comes at all, within the tests' patience of one minute, is what is shown.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from helpers.lifecycle import settings, until
from helpers.scripted_platform import NEXT, Call, ScriptedPlatform, file_sink, line, runtime_done

INVOCATION = settings(FLUSH__STRATEGY="invocation", FLUSH__MAX_ADDED_MS=10_000)
LONG = 900.0


def event(kind: str, **record: object) -> bytes:
    body = {"time": "2026-03-14T10:15:30.123Z", "type": kind, "record": record}
    return json.dumps(body).encode() + b"\n"


def start(request_id: str) -> bytes:
    return event("platform.start", requestId=request_id, version="$LATEST")


def up(platform: ScriptedPlatform) -> tuple[socket.socket, Call]:
    """The telemetry connection and the first `next`, once everything runs."""
    telemetry, call = platform.begin()
    until(lambda: platform.log("started"))
    return telemetry, call


def drop(telemetry: socket.socket) -> None:
    telemetry.sendall(
        event("platform.logsDropped", droppedRecords=12, droppedBytes=3456, reason="x")
    )


def cut(telemetry: socket.socket) -> None:
    telemetry.sendall(runtime_done("a")[:-20])
    telemetry.close()


def garble(telemetry: socket.socket) -> None:
    telemetry.sendall(event("platform.runtimeDone", requestId=7, status=[]))


def leave_out(telemetry: socket.socket) -> None:
    telemetry.sendall(event("platform.runtimeDone", requestId="", status="success"))


def overlong(telemetry: socket.socket) -> None:
    telemetry.sendall(b"x" * 5000 + b"\n")


LOSSES: dict[str, Callable[[socket.socket], None]] = {
    "nothing_received": lambda _: None,
    "connection_closed": lambda telemetry: telemetry.close(),
    "logs_dropped": drop,
    "line_rejected": cut,
    "line_rejected ": overlong,
    "line_unfinished": lambda telemetry: telemetry.sendall(runtime_done("a")[:-20]),
    "event_malformed": garble,
    "event_malformed ": leave_out,
}


@pytest.mark.parametrize("case", LOSSES)
def test_a_loss_ends_the_wait(tmp_path: Path, case: str) -> None:
    """One warning with its cause, one count; the next invocation is not awaited at all."""
    cause = case.strip()
    variables = file_sink(tmp_path / "f") | INVOCATION | settings(TELEMETRY__MAX_LINE_BYTES=4096)
    with ScriptedPlatform(variables) as platform:
        telemetry, call = up(platform)
        call.invoke("a", LONG)
        if cause != "nothing_received":
            telemetry.sendall(start("a") + line(1))
            until((tmp_path / "f").exists)
        LOSSES[case](telemetry)
        platform.expect(NEXT).invoke("b", LONG)
        platform.expect(NEXT).shutdown()
        platform.finish()
        (warning,) = platform.log("end_missed")
        assert (warning["level"], warning["reason"]) == ("warning", cause)
        ledger = platform.ledger()
        assert ledger["figures"]["ends_missed"] == {cause: 1}
        assert ledger["sinks"]["file"]["delivered"] == ledger["framed"]


@pytest.mark.parametrize("case", ["connection_closed", "logs_dropped", "line_rejected"])
def test_a_loss_at_a_cold_start_ends_the_wait(tmp_path: Path, case: str) -> None:
    """All of it has arrived before telemetryd is up: it is noticed all the same."""
    with ScriptedPlatform(file_sink(tmp_path / "f") | INVOCATION) as platform:
        telemetry, call = platform.begin()
        call.invoke("a", LONG)
        telemetry.sendall(start("a") + line(1))
        LOSSES[case](telemetry)
        platform.expect(NEXT).shutdown()
        platform.finish()
        assert platform.ledger()["figures"]["ends_missed"] == {case: 1}


def test_without_a_connection_nothing_is_awaited(tmp_path: Path) -> None:
    """The subscription is accepted, and no one ever dials."""
    with ScriptedPlatform(file_sink(tmp_path / "f") | INVOCATION) as platform:
        platform.register()
        platform.expect("/2022-07-01/telemetry").answer(200, b'"OK"')
        for request in "abc":
            platform.expect(NEXT).invoke(request, LONG)
        platform.expect(NEXT).shutdown()
        platform.finish()
        figures = platform.ledger()["figures"]
        assert figures["ends_missed"] == {"no_connection": 1}
        assert figures["added_ms_max"] > 0


def test_after_a_silence_none_is_awaited_until_an_end_is_seen(tmp_path: Path) -> None:
    """Logs, but no end: one wait, then none; an end that is seen brings the waits back."""
    variables = file_sink(tmp_path / "f") | INVOCATION | settings(FLUSH__MAX_SILENCE_MS=300)
    with ScriptedPlatform(variables) as platform:
        telemetry, call = up(platform)
        call.invoke("a", LONG)
        telemetry.sendall(start("a") + line(1))
        call = platform.expect(NEXT)
        telemetry.sendall(event("platform.report", requestId="a", status="success", metrics={}))
        call.invoke("b", LONG)
        call = platform.expect(NEXT)
        telemetry.sendall(start("b") + line(2) + runtime_done("b"))
        until(lambda: b"line 2" in (tmp_path / "f").read_bytes())
        call.invoke("c", LONG)
        telemetry.sendall(start("c") + line(3) + runtime_done("c"))
        call = platform.expect(NEXT)
        assert b"line 3" in (tmp_path / "f").read_bytes(), "the third is flushed at its end"
        call.shutdown()
        platform.finish()
        figures = platform.ledger()["figures"]
        assert figures["ends_missed"] == {"silence": 1}
        assert figures["added_ms_max"] >= 300


def test_a_late_end_counts_as_seen(tmp_path: Path) -> None:
    """It comes after `next`: the function had only been silent."""
    variables = file_sink(tmp_path / "f") | INVOCATION | settings(FLUSH__MAX_SILENCE_MS=300)
    with ScriptedPlatform(variables) as platform:
        telemetry, call = up(platform)
        call.invoke("a", LONG)
        telemetry.sendall(start("a"))
        call = platform.expect(NEXT)
        telemetry.sendall(runtime_done("a"))
        until(lambda: b"runtimeDone" in (tmp_path / "f").read_bytes())
        call.invoke("b", LONG)
        telemetry.sendall(start("b"))
        call = platform.expect(NEXT)
        call.shutdown()
        platform.finish()
        assert platform.ledger()["figures"]["ends_missed"] == {"silence": 2}
        assert len(platform.log("end_missed")) == 1, "one warning for each cause"


def test_a_function_that_prints_is_awaited(tmp_path: Path) -> None:
    """Longer than the silence that ends a wait: it is never silent for so long."""
    variables = file_sink(tmp_path / "f") | INVOCATION | settings(FLUSH__MAX_SILENCE_MS=20_000)
    with ScriptedPlatform(variables) as platform:
        telemetry, call = up(platform)
        call.invoke("a", LONG)
        telemetry.sendall(start("a"))
        for number in range(50):
            telemetry.sendall(line(number))
            until(partial(has_line, tmp_path / "f", number))
            assert platform.no_calls()
        telemetry.sendall(runtime_done("a"))
        platform.expect(NEXT).shutdown()
        platform.finish()
        assert platform.ledger()["figures"]["ends_missed"] == {}


def has_line(path: Path, number: int) -> bool:
    return b"line %d\\n" % number in read(path)


def read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


@pytest.mark.parametrize("deadline", [10**18, 10**30, 10**400, -(10**18), 0])
def test_a_deadline_that_makes_no_sense(tmp_path: Path, deadline: int) -> None:
    """One clear line, and a count; the end is awaited as if there were no deadline."""
    with ScriptedPlatform(file_sink(tmp_path / "f") | INVOCATION) as platform:
        telemetry, call = up(platform)
        call.event(eventType="INVOKE", requestId="a", deadlineMs=deadline)
        telemetry.sendall(start("a") + line(1))
        until(lambda: b"line 1" in read(tmp_path / "f"))
        assert platform.no_calls()
        telemetry.sendall(runtime_done("a"))
        call = platform.expect(NEXT)
        call.event(eventType="SHUTDOWN", shutdownReason="spindown", deadlineMs=deadline)
        platform.finish()
        assert platform.log("deadline_implausible")
        ledger = platform.ledger()
        assert ledger["framed"]["lines"] == 3
        assert ledger["figures"]["ends_missed"] == {}
        assert ledger["figures"]["malformed_events"] == 2


ODD = {
    "no deadline": b"",
    "null": b',"deadlineMs":null',
    "text": b',"deadlineMs":"soon"',
    "NaN": b',"deadlineMs":NaN',
    "list": b',"deadlineMs":[1,2]',
    "true": b',"deadlineMs":true',
    "1e999": b',"deadlineMs":1e999',
    "other members": b',"tracing":7,"invokedFunctionArn":{},"x":"\\ud83d","y":-Infinity',
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_members_of_answers(tmp_path: Path, odd: str) -> None:
    """They cost no invocation: its end is awaited, and the process ends as it was asked to."""
    with ScriptedPlatform(file_sink(tmp_path / "f") | INVOCATION) as platform:
        telemetry, call = up(platform)
        call.answer(200, b'{"eventType":"INVOKE","requestId":"a"' + ODD[odd] + b"}")
        telemetry.sendall(start("a") + line(1))
        until(lambda: b"line 1" in read(tmp_path / "f"))
        assert platform.no_calls()
        telemetry.sendall(runtime_done("a"))
        call = platform.expect(NEXT)
        call.answer(200, b'{"eventType":"SHUTDOWN","shutdownReason":8' + ODD[odd] + b"}")
        platform.finish()
        ledger = platform.ledger()
        assert ledger["figures"]["ends_missed"] == {}
        assert ledger["sinks"]["file"]["delivered"]["lines"] == 3
        assert platform.log("answer_repaired")
        assert platform.log("answer_malformed") == []
        odd_ones = 1 if odd in ("no deadline", "null") else 2
        assert ledger["figures"]["malformed_events"] == odd_ones


def test_odd_members_of_the_end(tmp_path: Path) -> None:
    """It is an end all the same."""
    with ScriptedPlatform(file_sink(tmp_path / "f") | INVOCATION) as platform:
        telemetry, call = up(platform)
        call.invoke("a", LONG)
        telemetry.sendall(
            event("platform.start", requestId="a", version=[], tracing="x")
            + event("platform.runtimeDone", requestId="a", status=5, metrics="?", tracing=[[]])
        )
        platform.expect(NEXT).shutdown()
        platform.finish()
        figures = platform.ledger()["figures"]
        assert (figures["ends_missed"], figures["malformed_events"]) == ({}, 0)


def test_events_of_requests_that_never_began(tmp_path: Path) -> None:
    """Counted, one line in the log; the invocation that runs is awaited all the same."""
    with ScriptedPlatform(file_sink(tmp_path / "f") | INVOCATION) as platform:
        telemetry, call = up(platform)
        call.invoke("a", LONG)
        telemetry.sendall(
            start("a") + b"".join(runtime_done(f"x{n}") for n in range(200)) + line(1)
        )
        until(lambda: b"line 1" in read(tmp_path / "f"))
        assert platform.no_calls()
        telemetry.sendall(runtime_done("a"))
        platform.expect(NEXT).shutdown()
        platform.finish()
        figures = platform.ledger()["figures"]
        assert (figures["unknown_requests"], figures["ends_missed"]) == (200, {})
        assert len(platform.log("request_unknown")) == 1


def test_without_invoke_there_is_no_warning(tmp_path: Path) -> None:
    """Managed Instances have no such event: all is as it should be."""
    variables = file_sink(tmp_path / "f") | {
        "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances"
    }
    with ScriptedPlatform(variables) as platform:
        telemetry, call = up(platform)
        telemetry.sendall(start("a") + line(1))
        call.shutdown()
        platform.finish()
        assert [r for r in map(json.loads, platform.printed) if r.get("level") == "warning"] == []

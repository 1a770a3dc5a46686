"""A flood by another process of the sandbox costs none of the platform's lines."""

from __future__ import annotations

import select
from pathlib import Path

import pytest

from helpers.apart import PLATFORM, SANDBOX, Flood, apart, dial_from
from helpers.lifecycle import settings, third_party, until
from helpers.scripted_platform import NEXT, TELEMETRY, ScriptedPlatform, line, runtime_done

LINES = 3000
PADDED = b"".join(line(n).replace(b"line ", b"y" * 500 + b" ") for n in range(LINES))


START = b'{"type":"platform.start","record":{"requestId":"a"}}\n'
ODD = (
    b'{"type":"platform.logsDropped","record":{"droppedRecords":7,"droppedBytes":70}}\n'
    b'{"type":"platform.runtimeDone","record":{"requestId":7}}\n'
    b'{"type":"platform.runtimeDone","record":\n'
)
WHERE = pytest.mark.parametrize("outside", [True, False], ids=["outside", "at the API"])
"""Where the platform connects from: no address of ours, or the API's."""


def variables_of(tmp_path: Path, outside: bool, **keys: object) -> dict[str, str]:
    """A sink that takes nothing until the file `gate` is there."""
    packages = tmp_path / "packages"
    sink = third_party(
        packages, "Gate", PATH=tmp_path / "out", GATE=tmp_path / "gate",
        QUEUE_MAX_BYTES=8_000_000, WRITE_TIMEOUT_MS=600_000, **keys,
    )  # fmt: skip
    return sink | (apart(packages) if outside else {}) | settings(FLUSH__STRATEGY="continuous")


def read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


@WHERE
def test_the_platforms_lines_find_room_in_the_queues(tmp_path: Path, outside: bool) -> None:
    """Others wait while these are more than a quarter full, and are read on when they drain."""
    with ScriptedPlatform(variables_of(tmp_path, outside), host=PLATFORM) as platform:
        platform.register()
        call = platform.expect(TELEMETRY)
        call.answer(200, b'"OK"')
        following = platform.expect(NEXT)
        until(lambda: platform.log("started"))
        following.invoke("a", 900)
        with dial_from(PLATFORM, call) as telemetry, Flood(call, 5):
            until(lambda: platform.log("connection_held"))
            telemetry.sendall(PADDED[: len(PADDED) // 2])
            telemetry.sendall(PADDED[len(PADDED) // 2 :])
            (tmp_path / "gate").touch()
            telemetry.sendall(runtime_done("a"))
            until(lambda: b"runtimeDone" in read(tmp_path / "out"))
            size = len(read(tmp_path / "out"))
            until(lambda: (tmp_path / "out").stat().st_size > size + 10_000_000)
        platform.expect(NEXT).shutdown()
        platform.finish()
        ledger = platform.ledger()
        assert ledger["sinks"]["probe"]["dropped"] == {}
        assert read(tmp_path / "out").count(b"y" * 500) == LINES
        assert 1 <= ledger["figures"]["connections_held"] <= 5
        assert ledger["figures"]["ends_missed"] == {}


@WHERE
def test_without_a_connection_of_the_platforms_nobody_waits(tmp_path: Path, outside: bool) -> None:
    """Where telemetry came from the sandbox after all, it would be the platform that waits."""
    with ScriptedPlatform(
        variables_of(tmp_path, outside, OVERFLOW="drop_newest"), host=PLATFORM
    ) as platform:
        platform.register()
        call = platform.expect(TELEMETRY)
        call.answer(200, b'"OK"')
        following = platform.expect(NEXT)
        until(lambda: platform.log("started"))
        with Flood(call, 2):
            until(lambda: platform.log("lines_dropped"))
            assert platform.log("connection_held") == []
            with dial_from(PLATFORM, call):
                until(lambda: platform.log("connection_held"))
        (tmp_path / "gate").touch()
        following.shutdown()
        platform.finish()
        assert platform.ledger()["sinks"]["probe"]["dropped"]["queue_full"]["lines"] > 0


@WHERE
def test_what_others_lose_ends_no_wait(tmp_path: Path, outside: bool) -> None:
    """Half a line for longer than a second, lines cut off or too long, a forged notice."""
    variables = variables_of(tmp_path, outside)
    variables |= settings(FLUSH__STRATEGY="invocation", FLUSH__MAX_ADDED_MS=10_000)
    (tmp_path / "gate").touch()
    with ScriptedPlatform(variables, host=PLATFORM) as platform:
        platform.register()
        call = platform.expect(TELEMETRY)
        call.answer(200, b'"OK"')
        following = platform.expect(NEXT)
        until(lambda: platform.log("started"))
        with dial_from(PLATFORM, call) as telemetry, dial_from(SANDBOX, call) as other:
            following.invoke("a", 900)
            telemetry.sendall(START + line(1))
            until(lambda: b"line 1" in read(tmp_path / "out"))
            other.sendall(ODD + line(2) + b'{"type":"half')
            until(lambda: b"line 2" in read(tmp_path / "out"))
            assert not select.select([telemetry], [], [], 1.5)[0], "what passes is time itself"
            other.close()
            until(lambda: platform.log("line_rejected"))
            assert platform.no_calls(), platform.log("end_missed")
            telemetry.sendall(runtime_done("a"))
            platform.expect(NEXT).shutdown()
        platform.finish()
        ledger = platform.ledger()
        assert ledger["figures"]["ends_missed"] == {}
        assert ledger["rejected"]["truncated"]["lines"] == 1
        assert ledger["figures"]["malformed_events"] == 2

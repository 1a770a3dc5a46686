"""In Lambda nothing ends a telemetry connection: the platform does not make another one."""

from __future__ import annotations

import select
import socket
from pathlib import Path

from helpers.scripted_platform import ScriptedPlatform, file_sink, line

NO_TIMER = "00"
"""`/proc/net/tcp`: no timer runs, so the kernel will not probe the peer."""


def timer_of(connection: socket.socket) -> str:
    """The timer of the other end of `connection`, which is telemetryd's."""
    theirs, ours = connection.getpeername()[1], connection.getsockname()[1]
    tables = [path for path in map(Path, ("/proc/net/tcp", "/proc/net/tcp6")) if path.exists()]
    for text in "".join(path.read_text() for path in tables).splitlines():
        fields = text.split()
        if (fields[1][-4:], fields[2][-4:]) == (f"{theirs:04X}", f"{ours:04X}"):
            return fields[5][:2]
    raise AssertionError("no such connection")


def test_silence_ends_no_telemetry_connection(tmp_path: Path) -> None:
    """Neither the kernel's probes nor `idle_seconds`, of which the log says that it is no use."""
    variables = file_sink(tmp_path / "out") | {"TELEMETRYD_TELEMETRY__IDLE_SECONDS": "1"}
    with ScriptedPlatform(variables) as platform:
        telemetry, call = platform.begin()
        telemetry.sendall(line(1))
        assert not select.select([telemetry], [], [], 2.5)[0], "what passes is time itself"
        assert timer_of(telemetry) == NO_TIMER
        telemetry.sendall(line(2))
        call.shutdown()
        platform.finish()
        platform.ledger()
        (warning,) = platform.log("configuration_warning")
    assert (tmp_path / "out").read_bytes() == line(1) + line(2)
    assert any(text.startswith("telemetry.idle_seconds: ") for text in warning["details"])


def test_a_variable_that_names_no_key_is_a_warning(tmp_path: Path) -> None:
    """Even where a faulty configuration would fail the function."""
    variables = file_sink(tmp_path / "out") | {
        "TELEMETRYD_TELEMETRY__PROT": "1",
        "TELEMETRYD_SERVICE_HOST": "10.0.0.1",
        "TELEMETRYD_FAIL_CLOSED": "true",
        "TELEMETRYD_LAMBDA__NEXT": "ready",
    }
    with ScriptedPlatform(variables) as platform:
        _, call = platform.begin()
        call.shutdown()
        platform.finish()
        platform.ledger()
        (warning,) = platform.log("configuration_warning")
        assert not platform.log("configuration_invalid")
    (text,) = [text for text in warning["details"] if "unknown" in text]
    assert text.endswith("unknown key telemetry.prot; did you mean telemetry.port?")

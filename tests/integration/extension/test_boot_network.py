"""Where the extension listens: every address of the sandbox, at a port that stays the same."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from helpers.lifecycle import settings
from helpers.ports import reserved
from helpers.scripted_platform import NEXT, TELEMETRY, ScriptedPlatform, file_sink, line
from telemetryd.extension import early

OTHERS = {1053, 2000, 2772, 2773, 4243, 4317, 4318, 4323, 8125, 8126, 8200, 9001, 9999}
"""Ports of the platform, of AWS's samples, and of widely used extensions and agents."""
EPHEMERAL = 32768
"""Where the kernel takes the ports of outgoing connections from (ip_local_port_range)."""


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "127.1.2.3", "::1"])
def test_telemetry_is_received_at_every_address(tmp_path: Path, host: str) -> None:
    """Lambda dials what it calls `sandbox.localdomain`, which is not 127.0.0.1."""
    if ":" in host and not has_ipv6():
        host = "127.0.0.9"
    with ScriptedPlatform(file_sink(tmp_path / "f")) as platform:
        platform.register()
        platform.subscribe(host).sendall(line(1))
        platform.expect(NEXT).shutdown()
        platform.finish()
        assert (tmp_path / "f").read_bytes() == line(1)
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 1


def test_an_address_that_is_set_is_the_only_one(tmp_path: Path) -> None:
    """`telemetry.host = 127.0.0.1`: another address of the sandbox is closed."""
    variables = file_sink(tmp_path / "f") | settings(TELEMETRY__HOST="127.0.0.1")
    with ScriptedPlatform(variables) as platform:
        platform.register()
        call = platform.expect(TELEMETRY)
        with pytest.raises(ConnectionRefusedError):
            platform.dial(call, "127.0.0.2")
        platform.dial(call).sendall(line(1))
        call.answer(200, b'"OK"')
        platform.expect(NEXT).shutdown()
        platform.finish()
        assert (tmp_path / "f").read_bytes() == line(1)


def test_the_port_is_fixed_and_unusual() -> None:
    """The same after a reset; no extension that is known loses its own to it."""
    assert 1024 < early.PORT < EPHEMERAL
    assert early.PORT not in OTHERS


@pytest.mark.parametrize("taken_at", ["127.0.0.1", "127.0.0.3", "0.0.0.0"])
def test_a_port_that_another_extension_has_is_replaced(tmp_path: Path, taken_at: str) -> None:
    """Also where it has the port at one address only: that might be the one Lambda dials."""
    with reserved() as port, socket.create_server((taken_at, port), reuse_port=False):
        variables = file_sink(tmp_path / "f") | settings(TELEMETRY__PORT=port)
        with ScriptedPlatform(variables) as platform:
            platform.register()
            call = platform.expect(TELEMETRY)
            assert call.json()["destination"]["port"] != port
            platform.dial(call, "127.0.0.2").sendall(line(1))
            call.answer(200, b'"OK"')
            platform.expect(NEXT).shutdown()
            platform.finish()
            (warning,) = platform.log("port_not_available")
            assert warning["port"] == port
            ledger = platform.ledger()
            assert ledger["figures"]["port_taken"] == 1
            assert ledger["sinks"]["file"]["delivered"]["lines"] == 1


def test_the_port_is_the_same_after_a_reset(tmp_path: Path) -> None:
    """Connections of the process before, closed or not quite, do not keep it."""
    with reserved() as port:
        variables = file_sink(tmp_path / "f") | settings(TELEMETRY__PORT=port)
        for number in range(2):
            with ScriptedPlatform(variables) as platform:
                platform.register()
                platform.subscribe().sendall(line(number))
                platform.expect(NEXT).shutdown(reason="timeout")
                platform.finish()
                assert platform.log("started")[0]["port"] == port
                assert platform.log("port_not_available") == []
        assert (tmp_path / "f").read_bytes() == line(0) + line(1)

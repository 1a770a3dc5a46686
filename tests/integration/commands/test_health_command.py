"""`telemetryd health`: what probes without a shell ask a daemon, by exit status."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from helpers.daemon import Daemon, Settings, file_sink
from helpers.lines import events
from helpers.measured import MEASURED
from helpers.ports import reserved


def ask(*arguments: str, **environment: object) -> subprocess.CompletedProcess[str]:
    """Run `telemetryd health` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "telemetryd", "health", *arguments],
        env=MEASURED | {f"TELEMETRYD_{key}": str(value) for key, value in environment.items()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def metrics_address(daemon: Daemon) -> str:
    """Where the daemon took a free port."""
    served = daemon.wait_for("metrics_served")
    return f"{served['host']}:{served['port']}"


def test_a_daemon_that_is_well(tmp_path: Path) -> None:
    """Status 0, and what /healthz says."""
    listen: Settings = {"METRICS__LISTEN": "127.0.0.1:0"}
    with Daemon(tmp_path, **file_sink(tmp_path / "archive"), **listen) as daemon:
        done = ask(METRICS__LISTEN=metrics_address(daemon))
        daemon.stop()
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["status"] == "ok"


def test_a_sink_that_keeps_failing_is_not_well_but_alive(tmp_path: Path) -> None:
    """So that it gets no traffic, and yet is not restarted."""
    (tmp_path / "occupied").touch()
    path = tmp_path / "occupied" / "archive"
    keys: Settings = {"METRICS__LISTEN": "127.0.0.1:0", "FLUSH__SHUTDOWN_MS": 200}
    with Daemon(tmp_path, **keys, **file_sink(path, retry_max_elapsed_ms=60_000)) as daemon:
        daemon.send(events(500))
        daemon.wait_for("circuit_opened")
        address = metrics_address(daemon)
        # when the circuit is due for its next attempt the sink counts as up, for a moment
        answers = (ask(METRICS__LISTEN=address) for _ in range(50))
        ready = next(done for done in answers if done.returncode)
        alive = ask("--alive", METRICS__LISTEN=address)
        daemon.stop()
    assert (ready.returncode, alive.returncode) == (69, 0)
    assert json.loads(ready.stdout)["sinks"] == {"archive": "down"}


@pytest.mark.parametrize("options", [(), ("--alive",)])
def test_nobody_there(options: tuple[str, ...]) -> None:
    """One line, which says where no one answered."""
    with reserved() as port:
        address = f"127.0.0.1:{port}"
        done = ask(*options, METRICS__LISTEN=address)
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr == f"telemetryd health: no answer from {address}: Connection refused\n"


@pytest.mark.parametrize("answer", [b"", b"220 mail.example.com ESMTP\r\n", b"\xff" * 100])
def test_somebody_else_there(answer: bytes) -> None:
    """What answers, but not in HTTP, is not the daemon."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        done = ask("--alive", METRICS__LISTEN=f"127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert done.returncode == 69
    assert "does not speak HTTP" in done.stderr


@pytest.mark.parametrize("listen", ["", "127.0.0.1:0"])
def test_a_configuration_that_names_no_port(listen: str) -> None:
    """The probe would always fail: status 78, and what to set."""
    done = ask(METRICS__LISTEN=listen)
    assert done.returncode == 78
    assert "metrics.listen" in done.stderr


def test_a_wrong_configuration_is_named() -> None:
    """As by every command."""
    done = ask(TELEMETRY__PORT=1)
    assert done.returncode == 78
    assert "telemetry.port" in done.stderr

"""A port that is taken, and two telemetryd in one environment, of two layers for one."""

from __future__ import annotations

import socket
from pathlib import Path

from helpers.lifecycle import Stage, install, play, settings, statuses
from helpers.ports import reserved


def taken_port(server: socket.socket) -> int:
    """The port that `server` listens on."""
    port: int = server.getsockname()[1]
    return port


def test_a_port_in_use_is_replaced(tmp_path: Path) -> None:
    """By any free one, with a line that says so; nothing is lost."""
    stage = Stage(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        variables = settings(TELEMETRY__PORT=taken_port(other))
        results, env = play(stage.config(variables), {"print": 5})
    assert statuses(results) == ["success"]
    (warning,) = stage.log("port_not_available")
    assert "in use" in warning["error"]
    assert "telemetry.port" in warning["fix"]
    stage.assert_nothing_lost(env)


def test_two_at_once_both_deliver_everything(tmp_path: Path) -> None:
    """The second takes another port; the function does not notice."""
    stage = Stage(tmp_path)
    names = ("telemetryd", "telemetryd-too")
    with reserved() as port:
        config = stage.config(
            settings(TELEMETRY__PORT=port, SINKS__FILE__PATH=tmp_path / "{instance}.ndjson"),
            extensions=[install(tmp_path / "extensions", name) for name in names],
        )
        results, env = play(config, {"print": 50}, {"print": 50})
    assert statuses(results) == ["success", "success"]
    warned = [name for name in names if stage.log("port_not_available", name)]
    assert len(warned) == 1
    for name, stats in zip(names, env.stats, strict=True):
        assert stats.sent > 100
        assert stage.told("sinks.file.delivered", name) == stage.told("received", name)
    assert sum(stage.told("received", name) for name in names) == sum(s.sent for s in env.stats)
    files = list(tmp_path.glob("*.ndjson"))
    assert len(files) == 2
    for file in files:
        assert file.read_text().count("order accepted i=") == 100

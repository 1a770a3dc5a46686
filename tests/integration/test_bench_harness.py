"""The harness measures real processes, and does not count a run that lost or changed a line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench import measure
from bench.daemon import LossError
from bench.peers.catalog import Peer, PeerSpec
from bench.scenario import Expect, Scenario

RECEIVER = """
import signal, socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
connection, _ = server.accept()
with open(sys.argv[2], "wb", buffering=0) as output, connection.makefile("rb") as stream:
    for number, line in enumerate(stream):
        output.write(CHANGED)
signal.pause()
"""


def scenario(**keys: object) -> Scenario:
    daemon = {"sinks": {"out": {"type": "file", "path": "{output}"}}}
    return Scenario(**{"title": "t", "lines": 4000, "daemon": daemon} | keys)


def receiver(tmp_path: Path, changed: str) -> Peer:
    """A peer that writes `changed`, an expression over `number` and `line`."""
    (tmp_path / "receiver.py").write_text(RECEIVER.replace("CHANGED", changed))
    spec = PeerSpec(
        title="r", does="d", does_not="n", protocol="tcp", kind="peer",
        run=["{python}", "receiver.py", "{port}", "{output}"],
    )  # fmt: skip
    return Peer(tmp_path, spec)


@pytest.mark.parametrize("connections", [1, 3])
def test_a_run_of_telemetryd_is_verified_and_measured(connections):
    """Every line read back, the ledger believed only where it balances."""
    run = measure.telemetryd(scenario(connections=connections))
    assert run.lines >= 3000
    assert run.bytes > 250 * run.lines
    assert run.cpu_seconds >= 0  # a clock that ticks a hundred times a second
    assert run.peak_mib > 10
    assert run.drops == {}


def test_a_sink_that_drops_makes_the_run_void_unless_that_is_what_is_measured():
    """Then the drops are shown, by sink and reason."""
    daemon = {
        "sinks": {
            "out": {"type": "file", "path": "{output}", "overflow": "block"},
            "dead": {"type": "file", "path": "{output}/not-a-directory", "retry_max_elapsed_ms": 0},
        }
    }
    with pytest.raises(LossError, match="lines were dropped"):
        measure.telemetryd(scenario(daemon=daemon))
    run = measure.telemetryd(scenario(daemon=daemon, expect=Expect(drops=True)))
    assert all(name.startswith("dead: ") for name in run.drops)
    assert sum(run.drops.values()) == run.lines


def test_an_honest_peer_counts(tmp_path):
    """What the other tests do to this one must be what they catch."""
    assert measure.peer(receiver(tmp_path, "line"), scenario()).lines >= 3000


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ("line if number != 1000 else b''", "lines arrived"),
        ("line if number != 1000 else line.replace(b'2026', b'2027')", "line 1001 is"),
        ("line if number != 1000 else line + line", "is b"),
    ],
    ids=["lossy", "corrupting", "doubling"],
)
def test_a_peer_that_is_not_honest_does_not(tmp_path, monkeypatch, changed, told):
    """A faster receiver that loses lines is not faster."""
    monkeypatch.setattr(measure, "DEADLINE_SECONDS", 3)
    with pytest.raises(LossError, match=told):
        measure.peer(receiver(tmp_path, changed), scenario())

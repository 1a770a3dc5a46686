"""The log on stderr: JSON lines, few of them, and nothing of what passes through."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.daemon import MARK, Daemon, Settings, file_sink, leaf, reset, sink
from helpers.lines import event, events, logs_dropped
from helpers.ports import reserved


@pytest.mark.parametrize("level", ["info", "error"])
def test_the_level_hides_what_is_below_it_but_never_the_ledger(tmp_path: Path, level: str) -> None:
    """Without `listening` the port can't be known, so it is chosen here."""
    with reserved() as port:
        settings: Settings = {"LOG__LEVEL": level, "TELEMETRY__PORT": port}
        daemon = Daemon(tmp_path, **settings, **file_sink(tmp_path / "archive"))
        with daemon.waiting_for_port(port):
            daemon.send(event(0) + b"cut")
            outcome = daemon.stop()
    levels = ["debug", "info", "warning", "error"]
    assert {record["level"] for record in outcome.log} == set(levels[levels.index(level) :]) - {
        "error"
    }
    assert outcome.ledger["rejected"]["truncated"] == leaf(1, 3)


def test_repeated_warnings_are_limited_and_counted(tmp_path: Path) -> None:
    with Daemon(tmp_path, **file_sink(tmp_path / "archive")) as daemon:
        for _ in range(100):
            daemon.send(b"cut")
        outcome = daemon.stop()
    assert outcome.ledger["rejected"]["truncated"] == leaf(100, 300)
    assert len(outcome.events("line_rejected")) == 1
    assert len(outcome.log) < 10


def test_a_sink_that_keeps_failing_does_not_flood_the_log(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    failing = file_sink(tmp_path / "file" / "archive", retry_max_elapsed_ms=0)
    with Daemon(tmp_path, **failing) as daemon:
        for number in range(100):
            daemon.send(event(number))
        outcome = daemon.stop()
    assert outcome.sink()["dropped"]["io_error"]["lines"] == 100
    assert len(outcome.events("write_failed")) == 1
    assert len(outcome.events("lines_dropped")) == 1


def test_payloads_never_reach_the_log(tmp_path: Path) -> None:
    """`Daemon.stop` looks for the mark after every test; here all goes wrong at once."""
    (tmp_path / "file").touch()
    bad = MARK.encode()
    sinks = (
        sink("out", type="stdout", types="function")
        | file_sink(tmp_path / "file" / "x", "failing", retry_max_elapsed_ms=0)
        | {"DEAD_LETTER__PATH": tmp_path / "file" / "letters", "LOG__LEVEL": "debug"}
    )
    with Daemon(tmp_path, **sinks, TELEMETRY__MAX_LINE_BYTES=1024) as daemon:
        daemon.send(events(10))
        daemon.send(bad + b"\n" + event(0, size=2000) + bad)
        daemon.send(b'{"type":"platform.logsDropped","record":"' + bad + b'"}\n')
        daemon.send(b'{"type":"platform.report","record":{"requestId":"' + bad + b'\xff"}}\n')
        daemon.send(b'{"type":"' + bad + b'","record":"platform.report"}\n')
        broken = daemon.connect()
        broken.sendall(bad)
        daemon.barrier()
        reset(broken)
        outcome = daemon.stop()
    assert {"line_rejected", "lines_dropped", "event_malformed", "dead_letter_failed"} <= {
        record["event"] for record in outcome.log
    }


def test_what_the_platform_lost_is_logged_and_counted(tmp_path: Path) -> None:
    with Daemon(tmp_path, **file_sink(tmp_path / "archive")) as daemon:
        daemon.send(events(3) + logs_dropped(5, 500, "a reason"))
        outcome = daemon.stop()
    (warning,) = outcome.events("upstream_dropped")
    assert (warning["lines"], warning["bytes"], warning["reason"]) == (5, 500, "a reason")
    assert outcome.ledger["upstream_dropped"] == leaf(5, 500)


def test_nonsense_about_losses_is_not_counted(tmp_path: Path) -> None:
    """A number that no platform lost spoils its event, what is no number its member alone."""
    archive = tmp_path / "archive"
    nonsense = ["many", -3, 10**30, 1.5, "2.5", [], {"n": 1}]
    lines = b"".join(logs_dropped(n, 10) + logs_dropped(10, n) for n in nonsense)
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        daemon.send(lines + logs_dropped(2, 20) + event(0))
        outcome = daemon.stop()
    assert archive.read_bytes() == lines + logs_dropped(2, 20) + event(0)
    odd = 5 * 10  # beside text, fractions, list and table
    assert outcome.ledger["upstream_dropped"] == leaf(2 + odd, 20 + odd)
    codes = [record["code"] for record in outcome.events("event_malformed")]
    assert len(codes) == len(set(codes)) > 0

"""Hooks beside sinks: what they are called with, and that a broken one harms nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.daemon import Daemon, Outcome, file_sink, leaf_of
from helpers.lifecycle import until, with_hook
from helpers.lines import event, events

DATA = events(5)


def diary(directory: Path) -> list[str]:
    path = directory / "diary"
    return path.read_text().splitlines() if path.exists() else []


def run(tmp_path: Path, hook: str, *, noted: str, reads: int = 1, **keys: Any) -> Outcome:
    """What a process left that sent `reads` times while the hook was there to note it."""
    package = with_hook(tmp_path / "package", hook, **keys)
    with Daemon(tmp_path, foreign=package, **file_sink(tmp_path / "archive")) as daemon:
        connection = daemon.connect()
        for number in range(reads):
            connection.sendall(DATA)
            daemon.wait_for_file(tmp_path / "archive", len(DATA) * (number + 1))
            if noted:
                until(lambda: len([n for n in diary(tmp_path / "package") if noted in n]) > number)  # noqa: B023 - at once
        connection.close()
        outcome = daemon.stop()
    assert (tmp_path / "archive").read_bytes() == DATA * reads
    assert outcome.sink()["delivered"] == leaf_of(DATA * reads)
    return outcome


def test_a_hook_is_called_in_order(tmp_path: Path) -> None:
    outcome = run(tmp_path, "Diary", noted="events", budget_ms=60_000)
    assert diary(tmp_path / "package") == [
        "init probe local False",
        "events " + " ".join(["function"] * 5),
        "shutdown signal",
    ]
    figures = outcome.ledger["figures"]["hooks"]["probe"]
    assert (figures["calls"], figures["failures"], figures["off"]) == (3, 0, 0)


@pytest.mark.parametrize(
    ("hook", "noted", "reads", "reason", "error"),
    [
        ("Unwilling", "", 1, "not_started", "OSError in on_init"),
        ("Contextless", "", 1, "not_started", "the class takes other arguments"),
        ("Missing", "", 1, "not_started", "Missing"),
        ("Asynchronous", "", 1, "not_started", "on_events is async"),
        ("Raising", "events", 3, "failures", "3 calls in a row failed"),
        ("Leaving", "leaves", 3, "failures", "3 calls in a row failed"),
    ],
)
def test_a_broken_hook_is_switched_off(
    tmp_path: Path, hook: str, noted: str, reads: int, reason: str, error: str
) -> None:
    outcome = run(tmp_path, hook, noted=noted, reads=reads, budget_ms=60_000)
    (off,) = outcome.events("hook_off")
    assert (off["hook"], off["reason"]) == ("probe", reason)
    assert error in off["error"]
    figures = outcome.ledger["figures"]["hooks"]["probe"]
    assert (figures["off"], figures["failures"]) == (1, reads)
    assert bool(outcome.events("hook_failed")) == bool(noted)


def test_a_hook_that_never_returns_is_left_behind(tmp_path: Path) -> None:
    """The process ends in spite of it, and nothing waits."""
    outcome = run(tmp_path, "Sleeping", noted="sleeps", budget_ms=1)
    (off,) = outcome.events("hook_off")
    assert off["reason"] == "too_slow"


def test_a_hook_that_forks_leaves_no_second_daemon(tmp_path: Path) -> None:
    outcome = run(tmp_path, "Forking", noted="forked", reads=2, budget_ms=60_000)
    assert diary(tmp_path / "package").count("shutdown signal") == 1
    assert outcome.events("hook_off") == []


def test_an_unknown_hook_says_which_there_are(tmp_path: Path) -> None:
    package = with_hook(tmp_path / "package", "Diary")
    package["TELEMETRYD_HOOKS"] = json.dumps({"prob": {}})
    with Daemon(tmp_path, foreign=package, **file_sink(tmp_path / "archive")) as daemon:
        off = daemon.wait_for("hook_off")
        daemon.send(event(1))
        daemon.stop()
    assert "known types: probe" in off["error"]


def test_a_hook_gets_what_it_can_keep_up_with(tmp_path: Path) -> None:
    package = with_hook(tmp_path / "package", "Slow", budget_ms=60_000)
    data = events(20_000)
    with Daemon(tmp_path, foreign=package, **file_sink(tmp_path / "archive")) as daemon:
        daemon.send(*[data] * 8)
        outcome = daemon.stop()
    assert outcome.sink()["delivered"] == leaf_of(data * 8)
    figures = outcome.ledger["figures"]["hooks"]["probe"]
    assert 0 < figures["skipped_lines"] < 160_000
    assert outcome.events("hook_lines_skipped")

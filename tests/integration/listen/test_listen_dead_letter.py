"""The dead letter file: every refused line with its reason and place, for its owner's eyes."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from helpers.daemon import Daemon, Settings, file_sink, leaf
from helpers.lines import event, events


def letters_in(path: Path) -> list[dict[str, Any]]:
    """The records of a dead letter file."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def settings(tmp_path: Path, **more: object) -> Settings:
    """A file sink and a dead letter, lines of 1 KiB at most."""
    return {
        "DEAD_LETTER__PATH": tmp_path / "letters",
        "TELEMETRY__MAX_LINE_BYTES": 1024,
        **file_sink(tmp_path / "archive"),
        **more,
    }


def blocked_sink(tmp_path: Path) -> Settings:
    """A file sink that can't write, since a file is where a directory is needed."""
    (tmp_path / "blocked").write_text("a file where a directory is needed")
    return file_sink(tmp_path / "blocked" / "archive", "blocked", retry_max_elapsed_ms=0)


def test_an_overlong_line(tmp_path: Path) -> None:
    """Kept whole where it is not too long for a record too."""
    long = event(1, size=9000)
    with Daemon(tmp_path, **settings(tmp_path)) as daemon:
        daemon.send(event(0) + long + event(2))
        outcome = daemon.stop()
    assert (tmp_path / "archive").read_bytes() == event(0) + event(2)
    (letter,) = letters_in(tmp_path / "letters")
    assert letter.pop("time").endswith("Z")
    assert letter == {
        "reason": "too_long",
        "source": 1,
        "offset": len(event(0)),
        "bytes": len(long),
        "data": long.decode(),
    }
    assert outcome.ledger["rejected"]["too_long"] == leaf(1, len(long))
    assert (tmp_path / "letters").stat().st_mode & 0o777 == 0o600


def test_a_line_too_long_for_a_record_is_cut_and_marked(tmp_path: Path) -> None:
    with Daemon(tmp_path, **settings(tmp_path, DEAD_LETTER__MAX_RECORD_BYTES=256)) as daemon:
        daemon.send(b"x" * 3_000_000 + b"\n")
        daemon.stop()
    (letter,) = letters_in(tmp_path / "letters")
    assert letter["bytes"] == 3_000_001
    assert letter["data"] == "x" * 256
    assert letter["cut"] is True


def test_a_truncated_line(tmp_path: Path) -> None:
    cut = event(1)[:60]
    with Daemon(tmp_path, **settings(tmp_path)) as daemon:
        daemon.send(events(3))
        daemon.send(event(0) + cut)
        daemon.stop()
    (letter,) = letters_in(tmp_path / "letters")
    assert letter["reason"] == "truncated"
    assert letter["source"] == 2
    assert letter["offset"] == len(event(0))
    assert letter["bytes"] == len(cut)
    assert letter["data"] == cut.decode()
    assert "cut" not in letter


def test_a_line_cut_off_by_the_end_of_the_process(tmp_path: Path) -> None:
    with Daemon(tmp_path, **settings(tmp_path)) as daemon:
        connection = daemon.connect()
        connection.sendall(b'{"time":')
        daemon.barrier()
        daemon.stop()
    (letter,) = letters_in(tmp_path / "letters")
    assert (letter["reason"], letter["data"]) == ("truncated", '{"time":')


def test_bytes_that_are_no_text_are_kept_in_base64(tmp_path: Path) -> None:
    bad = b"\xff\xfe\x00 no text\n"
    with Daemon(tmp_path, **settings(tmp_path), **blocked_sink(tmp_path)) as daemon:
        daemon.send(bad)
        outcome = daemon.stop()
    (letter,) = letters_in(tmp_path / "letters")
    assert base64.b64decode(letter["data_base64"]) == bad
    assert "data" not in letter
    assert letter["sink"] == "blocked"
    assert letter["source"] == 1
    assert letter["bytes"] == len(bad)
    assert outcome.sink("blocked")["dead_lettered"] == leaf(1, len(bad))


def test_lines_that_could_not_be_delivered(tmp_path: Path) -> None:
    """All of them can be found again, byte for byte, and count as dead-lettered, not dropped."""
    data = events(2000)
    sinks: Settings = blocked_sink(tmp_path)
    with Daemon(tmp_path, DEAD_LETTER__PATH=tmp_path / "letters", **sinks) as daemon:
        daemon.send(data)
        outcome = daemon.stop()
    kept = letters_in(tmp_path / "letters")
    assert "".join(letter["data"] for letter in kept).encode() == data
    assert {letter["sink"] for letter in kept} == {"blocked"}
    assert outcome.sink("blocked")["dead_lettered"] == leaf(2000, len(data))
    assert outcome.sink("blocked")["dropped"] == {}


def test_a_full_dead_letter_loses_no_count(tmp_path: Path) -> None:
    """What it has no room for is dropped with its own reason."""
    line = event(0, size=500)
    limits: Settings = {"DEAD_LETTER__MAX_BYTES": 64 * 1024, "DEAD_LETTER__MAX_RECORD_BYTES": 1024}
    sinks: Settings = blocked_sink(tmp_path) | file_sink(tmp_path / "archive")
    with Daemon(tmp_path, DEAD_LETTER__PATH=tmp_path / "letters", **limits, **sinks) as daemon:
        for _ in range(300):
            daemon.send(line)
        outcome = daemon.stop()
    assert (tmp_path / "archive").read_bytes() == line * 300
    kept = letters_in(tmp_path / "letters")
    page = outcome.sink("blocked")
    lines = sum(letter["data"].count("\n") for letter in kept)
    assert 0 < lines < 300
    assert (tmp_path / "letters").stat().st_size <= 64 * 1024
    assert page["dead_lettered"] == leaf(lines, lines * len(line))
    (dropped,) = page["dropped"].values()
    assert dropped["lines"] == 300 - lines
    (error,) = outcome.events("dead_letter_failed")
    assert "dead_letter.max_bytes" in error["error"]


@pytest.mark.parametrize("ends", [1, 2])
def test_it_is_appended_to(tmp_path: Path, ends: int) -> None:
    for _ in range(ends):
        with Daemon(tmp_path, **settings(tmp_path)) as daemon:
            daemon.send(b"cut")
            daemon.stop()
    assert [letter["data"] for letter in letters_in(tmp_path / "letters")] == ["cut"] * ends


def test_a_path_that_can_not_be_written_costs_no_delivery(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file where a directory is needed")
    letters = tmp_path / "blocked" / "letters"
    with Daemon(tmp_path, **settings(tmp_path, DEAD_LETTER__PATH=letters)) as daemon:
        daemon.send(event(0) + b"cut")
        outcome = daemon.stop()
    assert (tmp_path / "archive").read_bytes() == event(0)
    assert outcome.ledger["rejected"]["truncated"] == leaf(1, 3)
    (error,) = outcome.events("dead_letter_failed")
    assert error["path"] == str(letters)
    assert "[dead_letter]" in error["fix"]

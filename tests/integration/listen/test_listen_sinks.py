"""Sinks that fail and recover, and the one that is there when none is configured."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.daemon import NOTHING, Daemon, file_sink, leaf_of, sink
from helpers.lines import events

DATA = events(500)


def test_without_a_sink_lines_are_counted_and_the_user_is_told(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        daemon.send(DATA)
        outcome = daemon.stop()
    (warning,) = outcome.events("configuration_warning")
    assert "none is configured" in warning["details"][0]
    assert list(outcome.ledger["sinks"]) == ["default"]
    assert outcome.sink("default")["delivered"] == leaf_of(DATA)
    assert outcome.stdout == b""


def test_standard_output_carries_the_lines_and_nothing_else(tmp_path: Path) -> None:
    with Daemon(tmp_path, **sink("out", type="stdout")) as daemon:
        daemon.send(DATA)
        outcome = daemon.stop()
    assert outcome.stdout == DATA


def test_a_reader_of_standard_output_that_goes_away(tmp_path: Path) -> None:
    """As in `telemetryd listen | head`: the other sink continues."""
    archive = tmp_path / "archive"
    with Daemon(
        tmp_path, stdout_pipe=True, **sink("out", type="stdout"), **file_sink(archive)
    ) as daemon:
        assert daemon.process.stdout is not None
        daemon.process.stdout.close()
        daemon.send(DATA)
        outcome = daemon.stop()
    assert archive.read_bytes() == DATA
    assert outcome.sink("out")["dropped"] == {"stdout_closed": leaf_of(DATA)}


def test_several_sinks_get_every_line(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(3)]
    sinks = {k: v for p in paths for k, v in file_sink(p, f"sink{p.name}").items()}
    with Daemon(tmp_path, **sinks) as daemon:
        daemon.send(DATA)
        outcome = daemon.stop()
    assert [path.read_bytes() for path in paths] == [DATA] * 3
    (warning,) = outcome.events("configuration_warning")
    assert '"block" stops reading' in warning["details"][0]


def test_delivery_resumes_when_what_is_wrong_with_the_path_is_put_right(tmp_path: Path) -> None:
    """Here a file is where a directory is needed; nothing sent in that time is lost."""
    directory = tmp_path / "logs"
    directory.write_text("in the way")
    with Daemon(tmp_path, **file_sink(directory / "archive")) as daemon:
        daemon.send(DATA)
        failed = daemon.wait_for("write_failed", sink="archive")
        directory.unlink()
        daemon.send(DATA)
        outcome = daemon.stop()
    assert (directory / "archive").read_bytes() == DATA + DATA
    assert outcome.sink()["dropped"] == {}
    assert str(directory / "archive") in failed["detail"]
    assert failed["retryable"] is True


@pytest.mark.parametrize("kind", ["directory", "symbolic link", "device"])
def test_a_path_that_is_no_file_of_ours(tmp_path: Path, kind: str) -> None:
    paths = {"directory": tmp_path, "symbolic link": tmp_path / "link", "device": Path("/dev/null")}
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with Daemon(tmp_path, **file_sink(paths[kind], retry_max_elapsed_ms=0)) as daemon:
        daemon.send(DATA)
        outcome = daemon.stop()
    assert not (tmp_path / "elsewhere").exists()
    (reason,) = outcome.sink()["dropped"]
    assert outcome.sink()["dropped"][reason] == leaf_of(DATA)
    assert outcome.sink()["delivered"] == NOTHING
    assert reason in {"io_error", "permission", "not_a_file"}
    (dropped,) = outcome.events("lines_dropped")
    assert dropped["reason"] == reason


def test_the_end_finds_a_sink_that_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "archive"
    with Daemon(tmp_path, FLUSH__SHUTDOWN_MS=500, **file_sink(path)) as daemon:
        daemon.send(DATA)
        daemon.wait_for("write_failed")
        outcome = daemon.stop()
    assert outcome.sink()["delivered"] == NOTHING
    assert sum(count["lines"] for count in outcome.sink()["dropped"].values()) == 500
    assert outcome.sink()["dropped"].keys() <= {"io_error", "shutdown"}


def test_two_daemons_do_not_write_one_file(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    with (
        Daemon(tmp_path, **file_sink(archive)) as first,
        Daemon(tmp_path, **file_sink(archive, retry_max_elapsed_ms=0)) as second,
    ):
        first.send(DATA)
        first.wait_for_file(archive, len(DATA))
        second.send(DATA)
        outcome = second.stop()
    assert archive.read_bytes() == DATA
    assert outcome.sink()["dropped"] == {"locked": leaf_of(DATA)}


def test_placeholders_of_a_path(tmp_path: Path) -> None:
    """Each process writes a file of its own."""
    for _ in range(2):
        with Daemon(tmp_path, **file_sink(tmp_path / "{function}-{instance}.ndjson")) as daemon:
            daemon.send(DATA)
            daemon.stop()
    files = sorted(tmp_path.glob("local-*.ndjson"))
    assert len(files) == 2
    assert {len(file.stem) for file in files} == {len("local-") + 32}
    assert [file.read_bytes() for file in files] == [DATA] * 2

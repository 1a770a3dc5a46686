"""SIGTERM and SIGINT: what was sent before is delivered, the books are closed, the status is 0.

That an end takes ten seconds at most is checked by `Daemon.stop`, in every test there is.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.daemon import (
    NOTHING,
    Daemon,
    Outcome,
    Settings,
    file_sink,
    finish,
    frozen,
    leaf_of,
    sink,
)
from helpers.lines import event, events
from telemetryd.signals import ending_signals, name_of

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@BOTH
def test_an_idle_daemon_ends(tmp_path: Path, number: signal.Signals) -> None:
    with Daemon(tmp_path, **file_sink(tmp_path / "archive")) as daemon:
        outcome = daemon.stop(number)
    assert outcome.ledger["received"] == NOTHING
    (stopping,) = outcome.events("stopping")
    assert stopping["signal"] == number.name


@BOTH
def test_open_connections_do_not_hold_up_the_end(tmp_path: Path, number: signal.Signals) -> None:
    """Not even in the middle of a line."""
    archive = tmp_path / "archive"
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        connections = [daemon.connect() for _ in range(5)]
        for connection in connections:
            connection.sendall(event(0) + b"unfinished")
        outcome = daemon.stop(number)
        for connection in connections:
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
    assert archive.read_bytes() == event(0) * 5
    assert outcome.ledger["rejected"]["truncated"] == {"lines": 5, "bytes": 50}


@pytest.mark.parametrize(
    "number",
    [n for n in ending_signals() if n < signal.SIGRTMIN or n in (signal.SIGRTMIN, signal.SIGRTMAX)],
    ids=name_of,
)
def test_whatever_would_end_a_process_drains_it(tmp_path: Path, number: int) -> None:
    """By default each of them ends it at once, without a word."""
    archive = tmp_path / "archive"
    with Daemon(tmp_path, SINKS__ARCHIVE__LINGER_MS=60_000, **file_sink(archive)) as daemon:
        daemon.send(event(0))
        outcome = daemon.stop(number)
    assert archive.read_bytes() == event(0)
    (stopping,) = outcome.events("stopping")
    assert stopping["signal"] == name_of(number)


def test_the_signals_that_end_are_all_but_those_with_a_meaning_of_their_own() -> None:
    names = {name_of(number) for number in ending_signals()}
    assert {"SIGTERM", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPWR"} <= names
    assert {"SIGRTMIN", "SIGRTMIN+3"} <= names
    others = {signal.Signals(number).name for number in range(1, 32)} - names
    assert others == {
        "SIGHUP", "SIGKILL", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT", "SIGCHLD",
        "SIGURG", "SIGWINCH", "SIGPIPE", "SIGXFSZ", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS",
        "SIGFPE", "SIGSEGV", "SIGSYS",
    }  # fmt: skip


@pytest.mark.parametrize(
    "number",
    [signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGCONT, signal.SIGURG,
     signal.SIGWINCH],
)  # fmt: skip
def test_signals_without_a_meaning_change_nothing(tmp_path: Path, number: signal.Signals) -> None:
    archive = tmp_path / "archive"
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        daemon.process.send_signal(number)
        daemon.send(event(0))
        daemon.stop()
    assert archive.read_bytes() == event(0)


def test_what_is_on_disk_already_waits_for_the_next_process(tmp_path: Path) -> None:
    """A destination that is down is asked once more, not for as long as there is time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, answers nothing
        spool = {"spool__path": tmp_path / "spool", "write_timeout_ms": 500}
        where = f"http://127.0.0.1:{silent.getsockname()[1]}"
        sinks = sink(
            "s", type="kinesis", stream="x", region="eu-west-1", endpoint_url=where, **spool
        )
        keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "testing"}
        with Daemon(tmp_path, foreign=keys, **sinks) as daemon:
            daemon.send(events(100))
            daemon.wait_for("lines_spooled")
            daemon.wait_for("circuit_opened")
            outcome = daemon.stop()
    assert outcome.sink("s")["spooled"]["lines"] == 100
    attempts = len(outcome.events("write_retried"))
    after = outcome.log[outcome.log.index(outcome.events("stopping")[0]) :]
    assert attempts > 0
    assert not [record for record in after if record["event"] == "write_retried"]


def test_a_sender_that_never_pauses_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """What is delivered is whole lines from the beginning, without a gap."""
    archive = tmp_path / "archive"
    limit: Settings = {"FLUSH__SHUTDOWN_MS": 1000}  # some GB of lines in 2500
    with Daemon(tmp_path, **limit, **file_sink(archive)) as daemon, sending(daemon, CHUNK):
        outcome = daemon.stop(signal.SIGTERM)
    assert_beginning(archive, outcome)


def test_a_sender_that_is_never_quiet_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """A line every 10 ms, and the time to drain that is the default."""
    archive = tmp_path / "archive"
    with Daemon(tmp_path, **file_sink(archive)) as daemon, sending(daemon, event(0), every=0.01):
        outcome = daemon.stop(signal.SIGINT)
    assert_beginning(archive, outcome)


CHUNK = events(200)


@contextlib.contextmanager
def sending(daemon: Daemon, data: bytes, *, every: float = 0.0) -> Iterator[None]:
    """At the same time `data` is sent over and over, until the daemon ends the connection."""
    connection = daemon.connect()
    ended = threading.Event()

    def send() -> None:
        with contextlib.suppress(ConnectionError):
            while not ended.wait(every):
                connection.sendall(data)

    connection.sendall(data)
    daemon.barrier()
    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def assert_beginning(archive: Path, outcome: Outcome) -> None:
    """The file holds repeated `CHUNK` or `event(0)`, from the first byte to some line's end.

    It may be larger than memory: it is read in pieces.
    """
    repeated = event(0)
    lines = size = 0
    last = b""
    with archive.open("rb") as file:
        if file.read(len(CHUNK)) == CHUNK:
            repeated = CHUNK
        file.seek(0)
        while piece := file.read(1000 * len(repeated)):
            assert piece == (repeated * 1000)[: len(piece)]
            lines, size, last = lines + piece.count(b"\n"), size + len(piece), piece
    assert last.endswith(b"\n")
    assert outcome.sink()["delivered"] == {"lines": lines, "bytes": size}
    archive.unlink()


@BOTH
def test_what_waits_in_the_kernel_is_delivered(tmp_path: Path, number: signal.Signals) -> None:
    """The process sleeps while lines arrive, and the signal.

    They come on a connection it has, on ones it has not accepted, on ones that have ended already.
    """
    archive = tmp_path / "archive"
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        known = daemon.connect()
        known.sendall(event(0))
        daemon.barrier()
        with frozen(daemon):
            known.sendall(events(900, first=1))
            for turn in range(50):
                connection = daemon.connect()
                connection.sendall(event(turn, origin="new"))
                if turn % 2:
                    connection.shutdown(socket.SHUT_WR)
            daemon.process.send_signal(number)
        outcome = daemon.finish()
    arrived = archive.read_bytes().splitlines(keepends=True)
    expected = events(901) + b"".join(event(turn, origin="new") for turn in range(50))
    assert sorted(arrived) == sorted(expected.splitlines(keepends=True))
    assert outcome.sink()["delivered"] == leaf_of(expected)


def test_a_frozen_daemon_goes_on(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        connection = daemon.connect()
        for turn in range(5):
            with frozen(daemon):
                connection.sendall(events(100, first=100 * turn))
        finish(connection)
        daemon.stop()
    assert archive.read_bytes() == events(500)


@BOTH
def test_a_second_signal_ends_the_wait(tmp_path: Path, number: signal.Signals) -> None:
    """A sink that takes nothing would use all the time there is for draining, and longer."""
    with Daemon(
        tmp_path,
        stdout_pipe=True,
        FLUSH__SHUTDOWN_MS=9500,
        **sink("out", type="stdout", write_timeout_ms=60_000),
    ) as daemon:
        daemon.send(events(3000))
        daemon.process.send_signal(number)
        daemon.wait_for("stopping")
        outcome = daemon.stop(number)
    assert outcome.events("draining_cut_short")[0]["signal"] == number.name
    assert outcome.sink("out")["dropped"].keys() == {"shutdown"}


def test_a_volley_of_signals_costs_no_line(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        daemon.send(events(1000))
        for _ in range(50):
            daemon.process.send_signal(signal.SIGTERM)
            daemon.process.send_signal(signal.SIGINT)
        daemon.finish()
    assert archive.read_bytes() == events(1000)

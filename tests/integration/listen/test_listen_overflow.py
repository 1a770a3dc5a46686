"""Overflow: a sink that can't keep up loses what its policy says, exactly, or stops the sender.

The sink that can't keep up is standard output into a pipe that no one reads.
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.daemon import (
    NOTHING,
    PATIENCE_SECONDS,
    Daemon,
    Outcome,
    Settings,
    file_sink,
    finish,
    frozen,
    leaf,
    leaf_of,
    sink,
)
from helpers.lines import event, events, logs_dropped, pieces

MIB = 1024 * 1024
POLICIES = ("drop_newest", "drop_oldest")


def stuck(overflow: str) -> Settings:
    """A stdout sink whose writes are never given up, so that nothing is written twice."""
    return sink(
        "out", type="stdout", overflow=overflow, write_timeout_ms=600_000,
        queue_max_bytes=MIB, batch_max_bytes=64 * 1024,
    )  # fmt: skip


def overfill(daemon: Daemon) -> bytes:
    """Send 8 MiB to the stuck sink, in pieces small enough to find room one by one.

    The first line is in the pipe before the others are sent.
    """
    data = events(8 * 1024, size=1024)
    daemon.send(data[:1024])
    assert daemon.process.stdout is not None
    assert select.select([daemon.process.stdout], [], [], PATIENCE_SECONDS)[0], (
        "nothing was written"
    )
    daemon.send(*pieces(data[1024:], 16 * 1024))
    return data


def numbers(data: bytes) -> list[int]:
    """The numbers of the lines in `data`."""
    return [int(n) for n in re.findall(rb"  (\d+) ", data)]


def assert_lost_by_policy(outcome: Outcome, policy: str) -> None:
    """What the stuck sink printed is what it was counted for, and the right end is missing."""
    page = outcome.sink("out")
    arrived = numbers(outcome.stdout)
    assert page["delivered"] == leaf_of(outcome.stdout)
    assert page["dropped"].keys() == {"queue_full"}
    assert len(arrived) == page["delivered"]["lines"]
    assert arrived == sorted(set(arrived)), "in order, none twice"
    assert arrived[0] == 0
    middle = arrived[len(arrived) // 2]
    if policy == "drop_oldest":
        assert arrived[-1] == 8191
        assert middle > 6 * 1024
    else:  # a small block may slip into what room is left
        assert middle < 2 * 1024
    assert page["delivered"]["bytes"] > MIB // 2, "the room there was has been used"


@pytest.mark.parametrize("policy", POLICIES)
def test_lines_that_find_no_room_are_dropped_and_counted(tmp_path: Path, policy: str) -> None:
    with Daemon(tmp_path, stdout_pipe=True, **stuck(policy)) as daemon:
        sent = overfill(daemon)
        daemon.read_stdout()
        outcome = daemon.stop()
    assert outcome.sink("out")["enqueued"] == leaf_of(sent)
    assert_lost_by_policy(outcome, policy)
    (warning,) = outcome.events("lines_dropped")
    assert warning["sink"] == "out"
    assert warning["reason"] == "queue_full"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_stuck_sink_costs_no_other_sink_a_line(tmp_path: Path, policy: str) -> None:
    archive = tmp_path / "archive"
    sinks: Settings = stuck(policy) | file_sink(archive)
    with Daemon(tmp_path, stdout_pipe=True, **sinks) as daemon:
        sent = overfill(daemon)
        daemon.read_stdout()
        outcome = daemon.stop()
    assert archive.read_bytes() == sent
    assert outcome.sink("archive")["delivered"] == leaf_of(sent)
    assert outcome.sink("archive")["dropped"] == {}
    assert_lost_by_policy(outcome, policy)


@pytest.mark.parametrize("policy", POLICIES)
def test_what_a_stuck_sink_holds_at_the_end_is_dropped(tmp_path: Path, policy: str) -> None:
    """The pipe is never read: the process ends all the same, and says what is lost."""
    archive = tmp_path / "archive"
    sinks: Settings = stuck(policy) | file_sink(archive)
    with Daemon(tmp_path, stdout_pipe=True, FLUSH__SHUTDOWN_MS=500, **sinks) as daemon:
        sent = overfill(daemon)
        outcome = daemon.stop()
    assert archive.read_bytes() == sent
    page = outcome.sink("out")
    assert page["dropped"].keys() == {"queue_full", "shutdown"}
    assert page["delivered"]["lines"] >= 1


def test_the_platforms_losses_are_counted_while_lines_are_dropped(tmp_path: Path) -> None:
    """Life cycle events are seen before the queues. These are too large for a gap in one."""
    with Daemon(tmp_path, stdout_pipe=True, **stuck("drop_newest")) as daemon:
        overfill(daemon)
        for _ in range(3):
            daemon.send(logs_dropped(7, 700, "why " * 50_000))
        daemon.read_stdout()
        outcome = daemon.stop()
    assert outcome.sink("out")["dropped"]["queue_full"]["lines"] > 0
    assert outcome.stdout.count(b"logsDropped") == 0
    assert outcome.ledger["upstream_dropped"] == leaf(21, 2100)


def test_a_block_larger_than_the_queue(tmp_path: Path) -> None:
    """It could never find room, so it is dropped with a reason of its own."""
    archive = tmp_path / "archive"
    large = event(1, size=MIB)
    sinks = file_sink(archive, overflow="drop_oldest", queue_max_bytes=512 * 1024)
    with Daemon(tmp_path, **sinks) as daemon:
        daemon.send(event(0))
        daemon.send(large)
        daemon.send(event(2))
        outcome = daemon.stop()
    assert archive.read_bytes() == event(0) + event(2)
    assert outcome.sink()["dropped"] == {"too_large": leaf(1, MIB)}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_burst_costs_a_fast_sink_nothing(tmp_path: Path, policy: str) -> None:
    """It finds several times its queue in the kernel, and gets its turns while that is read."""
    data = events(32 * 1024, size=1024)
    fast = sink("fast", type="null", overflow=policy, queue_max_bytes=512 * 1024)
    with Daemon(tmp_path, **fast) as daemon:
        connection = daemon.connect()
        with frozen(daemon):
            rest = send_until_stuck(connection, memoryview(data))
            assert len(data) - len(rest) > MIB, "too little waits in the kernel to be a burst"
        connection.sendall(rest)
        finish(connection)
        outcome = daemon.stop()
    assert outcome.sink("fast")["delivered"] == leaf_of(data)
    assert outcome.sink("fast")["dropped"] == {}


def test_block_stops_the_sender_and_loses_nothing(tmp_path: Path) -> None:
    sent = events(64 * 1024, size=1024)
    with Daemon(tmp_path, stdout_pipe=True, LOG__LEVEL="debug", **stuck("block")) as daemon:
        connection = daemon.connect()
        rest = send_until_paused(daemon, connection, memoryview(sent))
        assert len(rest) > len(sent) // 2, "the sender could continue"
        daemon.read_stdout()
        daemon.wait_for("reading_resumed", sink="out")
        connection.sendall(rest)
        finish(connection)
        outcome = daemon.stop()
    assert outcome.stdout == sent
    assert outcome.sink("out")["delivered"] == outcome.ledger["received"] == leaf_of(sent)
    assert outcome.sink("out")["dropped"] == {}


def test_block_holds_connections_made_meanwhile(tmp_path: Path) -> None:
    late = events(1024, first=70_000, size=1024)
    with Daemon(tmp_path, stdout_pipe=True, LOG__LEVEL="debug", **stuck("block")) as daemon:
        connection = daemon.connect()
        early = events(1024, size=1024)
        rest = send_until_paused(daemon, connection, memoryview(early * 16))
        second = daemon.connect()
        daemon.wait_for("connection_opened", source=2)
        second_rest = send_until_stuck(second, memoryview(late * 16))
        assert second_rest, "the daemon reads a connection it should hold"
        daemon.read_stdout()
        connection.sendall(rest)
        second.sendall(second_rest)
        finish(connection)
        finish(second)
        outcome = daemon.stop()
    assert len(outcome.stdout) == len(early * 16) + len(late * 16)
    assert outcome.sink("out")["dropped"] == {}


def test_block_with_a_reader_that_never_comes(tmp_path: Path) -> None:
    """The end comes all the same; what was read and not delivered is counted."""
    with Daemon(
        tmp_path, stdout_pipe=True, FLUSH__SHUTDOWN_MS=500, LOG__LEVEL="debug", **stuck("block")
    ) as daemon:
        connection = daemon.connect()
        send_until_paused(daemon, connection, memoryview(events(32 * 1024, size=1024)))
        outcome = daemon.stop()
    assert outcome.sink("out")["dropped"].keys() == {"shutdown"}
    assert outcome.ledger["rejected"]["too_long"] == NOTHING


def send_until_paused(daemon: Daemon, connection: socket.socket, data: memoryview) -> memoryview:
    """Send until the daemon has stopped reading and the kernel is full; what is left."""
    rest = send_until_stuck(connection, data, lambda: not daemon.has_logged("reading_paused"))
    return send_until_stuck(connection, rest)


def send_until_stuck(
    connection: socket.socket, data: memoryview, going_on: Callable[[], bool] = lambda: False
) -> memoryview:
    """Send as long as the kernel takes it, and while `going_on`; what is left.

    The other side does not read, or will again: then it may take its time.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    connection.setblocking(False)
    while data:
        if select.select([], [connection], [], 0.3)[1]:
            data = data[connection.send(data) :]
        elif not going_on():
            break
        assert time.monotonic() < until, "the daemon neither reads nor says that it does not"
    connection.settimeout(PATIENCE_SECONDS)
    return data

"""Connections: many, silent, half-closed, reset, too many; none touches another one."""

from __future__ import annotations

import contextlib
import json
import resource
import select
import socket
from collections import defaultdict
from pathlib import Path

import pytest

from helpers.daemon import (
    NOTHING,
    PATIENCE_SECONDS,
    Daemon,
    Settings,
    file_sink,
    finish,
    frozen,
    leaf,
    leaf_of,
    reset,
)
from helpers.lines import event, events, pieces
from helpers.scrape import Scrape, get


def test_two_hundred_connections_at_once(tmp_path: Path) -> None:
    """Each sends in pieces that cut its lines; the lines of each stay whole and in order."""
    archive = tmp_path / "archive"
    sent = {str(n): events(100, origin=str(n)) for n in range(200)}
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        sending = [(daemon.connect(), list(pieces(data, 3001))) for data in sent.values()]
        for turn in range(max(len(cut) for _, cut in sending)):
            for connection, cut in sending:
                if turn < len(cut):
                    connection.sendall(cut[turn])
        for connection, _ in sending:
            finish(connection)
        outcome = daemon.stop()
    arrived: dict[str, bytes] = defaultdict(bytes)
    for line in archive.read_bytes().splitlines(keepends=True):
        arrived[line.split()[1].decode()] += line
    assert arrived == sent
    assert outcome.sink()["delivered"] == leaf_of(b"".join(sent.values()))


def test_connections_in_turn(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        for number in range(300):
            daemon.send(event(number))
        daemon.stop()
    assert archive.read_bytes() == events(300)


def test_silent_connections_hold_nothing_up(tmp_path: Path) -> None:
    """They neither keep others from delivering nor the process from ending."""
    archive = tmp_path / "archive"
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        silent = [daemon.connect() for _ in range(20)]
        daemon.send(events(100))
        outcome = daemon.stop()
        assert len(silent) == outcome.events("stopping")[0]["connections"]
    assert archive.read_bytes() == events(100)
    assert outcome.ledger["rejected"]["truncated"] == NOTHING


def test_a_half_closed_connection_is_read_to_its_end_and_closed(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        connection = daemon.connect()
        connection.sendall(events(1000))
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
        outcome = daemon.stop()
    assert archive.read_bytes() == events(1000)
    assert outcome.events("stopping")[0]["connections"] == 0


def test_a_reset_costs_the_unfinished_line_alone(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    cut = event(2)[:50]
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        other, broken = daemon.connect(), daemon.connect()
        other.sendall(event(0)[:30])
        broken.sendall(event(1) + cut)
        daemon.barrier()
        reset(broken)
        daemon.barrier()
        other.sendall(event(0)[30:])
        finish(other)
        daemon.send(event(3))
        outcome = daemon.stop()
    assert archive.read_bytes() == event(1) + event(0) + event(3)
    assert outcome.ledger["rejected"]["truncated"] == leaf(1, len(cut))
    assert [r["reason"] for r in outcome.events("line_rejected")] == ["truncated"]


def test_a_storm_of_resets(tmp_path: Path) -> None:
    """What the kernel throws away with a reset was never received; others lose nothing."""
    archive = tmp_path / "archive"
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        good = daemon.connect()
        for number in range(200):
            broken = daemon.connect()
            broken.sendall(b"x" * 50_000)
            reset(broken)
            good.sendall(event(number))
        finish(good)
        outcome = daemon.stop()
    assert archive.read_bytes() == events(200)
    assert outcome.ledger["framed"] == leaf_of(events(200))


def test_connections_beyond_the_limit_are_refused(tmp_path: Path) -> None:
    """Those that are open continue, and a place that becomes free is given away again."""
    archive = tmp_path / "archive"
    limit: Settings = {"TELEMETRY__MAX_CONNECTIONS": 2, "LOG__LEVEL": "debug"}
    with Daemon(tmp_path, **limit, **file_sink(archive)) as daemon:
        first, second = daemon.connect(), daemon.connect()
        daemon.wait_for("connection_opened", source=2)
        for _ in range(3):
            assert daemon.connect().recv(1) == b"", "refused connections are closed at once"
        first.sendall(event(0))
        finish(first)
        daemon.wait_for("connection_closed")
        daemon.send(event(1))
        second.sendall(event(2))
        finish(second)
        outcome = daemon.stop()
    assert archive.read_bytes() == events(3)
    (warning,) = outcome.events("connection_refused")
    assert warning["open"] == 2
    assert "telemetry.max_connections" in warning["fix"]


def test_the_kernel_is_to_find_out_who_has_vanished(tmp_path: Path) -> None:
    """On the daemon's side of each connection, a keepalive timer runs (/proc/net/tcp)."""
    with Daemon(tmp_path, **file_sink(tmp_path / "archive")) as daemon:
        held = [daemon.connect() for _ in range(3)]
        daemon.barrier()
        ours = {f"{daemon.port:04X} {c.getsockname()[1]:04X}" for c in held}
        timers = {}
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            timers[f"{fields[1][-4:]} {fields[2][-4:]}"] = fields[5][:2]
        assert [timers[pair] for pair in ours] == ["02"] * 3


def test_silence_ends_a_connection_where_that_is_wished(tmp_path: Path) -> None:
    """One that speaks stays, and half a line is counted."""
    archive = tmp_path / "archive"
    limit: Settings = {"TELEMETRY__IDLE_SECONDS": 3, "TELEMETRY__MAX_CONNECTIONS": 2}
    with Daemon(tmp_path, **limit, **file_sink(archive)) as daemon:
        silent, busy = daemon.connect(), daemon.connect()
        silent.sendall(event(0) + b"half")
        silent.settimeout(0.01)
        for number in range(1, 10_000):
            busy.sendall(event(number))
            with contextlib.suppress(TimeoutError):
                assert silent.recv(1) == b""
                break
        busy.sendall(event(0))
        finish(busy)
        outcome = daemon.stop()
    assert archive.read_bytes().count(b"\n") == number + 2
    (closed,) = outcome.events("idle_connection_closed")
    assert closed["unfinished_bytes"] == 4
    assert outcome.ledger["rejected"]["truncated"] == leaf(1, 4)


def test_what_came_while_the_process_stood_still_is_no_silence(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    limit: Settings = {"TELEMETRY__IDLE_SECONDS": 1}
    with Daemon(tmp_path, **limit, **file_sink(archive)) as daemon:
        connection = daemon.connect()
        connection.sendall(event(0))
        daemon.wait_for_file(archive, len(event(0)))
        with frozen(daemon):
            connection.sendall(event(1))
            select.select([], [], [], 2.0)  # what stands still is time itself
        finish(connection)
        outcome = daemon.stop()
    assert archive.read_bytes() == events(2)
    assert not outcome.events("idle_connection_closed")


def test_descriptors_that_run_out_cost_new_connections_alone(tmp_path: Path) -> None:
    """They are refused and counted; probes still get in, and later ones are taken again."""
    archive = tmp_path / "archive"
    with Daemon(tmp_path, METRICS__LISTEN="127.0.0.1:0", **file_sink(archive)) as daemon:
        port = daemon.wait_for("metrics_served")["port"]
        first = daemon.connect()
        daemon.barrier()
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (60, 60))
        made = [daemon.connect() for _ in range(100)]
        refused: list[socket.socket] = []
        while len(refused) < 50:  # there are places for 60 files, and other files are open
            refused, _, _ = select.select(made, [], [], PATIENCE_SECONDS)
        assert {connection.recv(1) for connection in refused} == {b""}
        status, _, body = get(port, "/healthz")
        (problem,) = json.loads(body)["problems"]
        assert status == 503
        assert problem.startswith("no descriptor is left for a connection")
        assert Scrape(port)("connections_refused_total") >= 50
        for connection in made:
            connection.close()
        send_until_taken(daemon, events(3))
        first.sendall(event(3))
        finish(first)
        assert get(port, "/healthz")[0] == 200
        outcome = daemon.stop()
    assert archive.read_bytes() == events(4)
    (warning, *_) = outcome.events("connection_refused")
    assert warning["reason"] == "Too many open files"
    assert "ulimit -n" in warning["fix"]


def test_descriptors_that_others_have_used_up(tmp_path: Path) -> None:
    """Not even one is left to accept a connection with; then one is given up to refuse it."""
    archive = tmp_path / "archive"
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        limit = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (3, limit[1]))
        waiting = daemon.connect()
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, limit)
        send_until_taken(daemon, events(3))
        waiting.close()
        daemon.stop()
    assert archive.read_bytes() == events(3)


def test_the_limit_of_descriptors_is_raised_as_far_as_it_may_be(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard), hard))
    try:
        daemon = Daemon(tmp_path, **file_sink(tmp_path / "archive"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with daemon:
        assert resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)


def send_until_taken(daemon: Daemon, data: bytes) -> None:
    """Send `data` once; a connection that is refused is made again."""
    while True:
        connection = daemon.connect()
        if not select.select([connection], [], [], 0.2)[0]:
            connection.sendall(data)
            finish(connection)
            return
        connection.close()


def test_ipv6(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    archive = tmp_path / "archive"
    with Daemon(tmp_path, TELEMETRY__HOST="::1", **file_sink(archive)) as daemon:
        assert daemon.host == "::1"
        with socket.create_connection(("::1", daemon.port), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(events(10))
            finish(connection)
        daemon.stop()
    assert archive.read_bytes() == events(10)


def test_a_host_name(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    with Daemon(tmp_path, TELEMETRY__HOST="localhost", **file_sink(archive)) as daemon:
        assert daemon.host == "127.0.0.1"
        daemon.send(events(10))
        daemon.stop()
    assert archive.read_bytes() == events(10)

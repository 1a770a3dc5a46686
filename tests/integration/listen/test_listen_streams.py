"""The sample streams through the real socket, cut in every way: what arrives is what was sent."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from helpers.daemon import NOTHING, Daemon, Outcome, file_sink, finish, leaf, leaf_of
from helpers.lines import pieces, sample_streams


def lost_upstream(data: bytes) -> dict[str, int]:
    """What the `platform.logsDropped` events of `data` say."""
    found = (json.loads(line) for line in data.splitlines())
    records = [e["record"] for e in found if e["type"] == "platform.logsDropped"]
    return leaf(sum(r["droppedRecords"] for r in records), sum(r["droppedBytes"] for r in records))


def assert_delivered(outcome: Outcome, data: bytes) -> None:
    """Every byte was received, framed, delivered; nothing refused, dropped or held back."""
    ledger, page = outcome.ledger, outcome.sink()
    everything = leaf_of(data)
    assert ledger["received"] == ledger["framed"] == everything
    assert set(map(str, ledger["rejected"].values())) == {str(NOTHING)}
    assert ledger["upstream_dropped"] == lost_upstream(data)
    assert ledger["unrouted"] == NOTHING
    assert page["offered"] == page["enqueued"] == page["delivered"] == everything
    assert page["dropped"] == {}
    assert not outcome.events("line_rejected")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 1 << 20])
def test_streams_in_pieces_of_so_many_bytes(tmp_path: Path, size: int) -> None:
    streams = sample_streams()
    archive = tmp_path / "archive.ndjson"
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        for stream in streams.values():
            daemon.send(*pieces(stream, size))
        outcome = daemon.stop()
    assert archive.read_bytes() == b"".join(streams.values())
    assert_delivered(outcome, b"".join(streams.values()))


def test_all_streams_at_once_on_one_connection(tmp_path: Path) -> None:
    everything = b"".join(sample_streams().values())
    archive = tmp_path / "archive.ndjson"
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        daemon.send(everything)
        outcome = daemon.stop()
    assert archive.read_bytes() == everything
    assert_delivered(outcome, everything)


def test_one_line_at_a_time(tmp_path: Path) -> None:
    everything = b"".join(sample_streams().values())
    archive = tmp_path / "archive.ndjson"
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        daemon.send(*everything.splitlines(keepends=True))
        outcome = daemon.stop()
    assert archive.read_bytes() == everything
    assert_delivered(outcome, everything)


def test_every_split_point_of_a_stream(tmp_path: Path) -> None:
    """A connection for each point; the first part is read before the second is sent."""
    stream = min(sample_streams().values(), key=len)
    archive = tmp_path / "archive.ndjson"
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        for at in range(1, len(stream)):
            connection = daemon.connect()
            connection.sendall(stream[:at])
            daemon.barrier()
            connection.sendall(stream[at:])
            finish(connection)
        outcome = daemon.stop()
    everything = stream * (len(stream) - 1)
    assert archive.read_bytes() == everything
    assert_delivered(outcome, everything)


@pytest.mark.parametrize("size", [1, 97, 4096])
def test_streams_interleaved_on_connections_open_at_once(tmp_path: Path, size: int) -> None:
    streams = sample_streams()
    archive = tmp_path / "archive.ndjson"
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        sending = [(daemon.connect(), pieces(stream, size)) for stream in streams.values()]
        while sending:
            for connection, rest in list(sending):
                piece = next(rest, None)
                if piece is None:
                    finish(connection)
                    sending.remove((connection, rest))
                else:
                    connection.sendall(piece)
        outcome = daemon.stop()
    arrived = archive.read_bytes().splitlines(keepends=True)
    sent = {name: stream.splitlines(keepends=True) for name, stream in streams.items()}
    assert Counter(arrived) == sum(map(Counter, sent.values()), Counter())
    for name, lines in sent.items():
        later = iter(arrived)
        assert all(line in later for line in lines), f"{name} is out of order"
    assert_delivered(outcome, b"".join(streams.values()))


def test_streams_survive_a_restart_that_appends(tmp_path: Path) -> None:
    first, second, *_ = sample_streams().values()
    archive = tmp_path / "archive.ndjson"
    for stream in (first, second):
        with Daemon(tmp_path, **file_sink(archive)) as daemon:
            daemon.send(stream)
            outcome = daemon.stop()
        assert_delivered(outcome, stream)
    assert archive.read_bytes() == first + second
    assert archive.stat().st_mode & 0o777 == 0o600

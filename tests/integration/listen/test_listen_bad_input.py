"""Bad input: each bad line affects only itself, with exact counters, and memory stays bounded."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from helpers.daemon import NOTHING, Daemon, Outcome, Settings, file_sink, leaf, leaf_of
from helpers.lines import event, events, pieces

MIB = 1024 * 1024
BEFORE = events(50, origin="before")
AFTER = events(50, first=50, origin="after")


class Bad(msgspec.Struct):
    """Bytes put between good lines, and what must become of them."""

    data: bytes
    untyped: bytes = b""
    """The part that has no type: it passes a sink that goes by types, and is counted there."""
    foreign: bytes = b""
    """The part whose type that sink does not want."""
    well_formed: bytes = b""
    """The part that is odd, and yet telemetry."""
    rejected: tuple[str, int] = ("", 0)
    """Reason and lines of what reaches no sink."""

    @property
    def data_of_lines(self) -> bytes:
        """What reaches a sink without filters: all that is a line."""
        return self.untyped + self.foreign + self.well_formed


def untyped(data: bytes) -> Bad:
    """Lines that are no telemetry events, but lines."""
    return Bad(data, untyped=data)


def foreign(data: bytes) -> Bad:
    """Events, in lines that strict readers refuse, of a type that is not wanted."""
    return Bad(data, foreign=data)


def well_formed(data: bytes) -> Bad:
    """Lines that look strange, and are telemetry events."""
    return Bad(data, well_formed=data)


BAD = {
    "10 MiB without a newline": Bad(b"x" * (10 * MIB) + b"\n", rejected=("too_long", 1)),
    "10 MiB of one event": Bad(event(0, size=10 * MIB), rejected=("too_long", 1)),
    "three overlong lines": Bad(event(0, size=5 * MIB) * 3, rejected=("too_long", 3)),
    "1-MiB lines": well_formed(event(0, size=MIB) * 20),
    "1-MiB lines of NUL": untyped((b"\0" * (MIB - 1) + b"\n") * 8),
    "blank lines": Bad(b"\n\n\r\n\n", rejected=("empty", 4)),
    "a megabyte of blank lines": Bad(b"\n" * MIB, rejected=("empty", MIB)),
    "only spaces": untyped(b"   \n\t\n"),
    "CRLF": well_formed(event(0)[:-1] + b"\r\n" + event(1)[:-1] + b"\r\n"),
    "lone CR": untyped(event(0)[:-1] + b"\r" + event(1)),
    "NUL bytes": untyped(b"\0\0\0\n" + event(0)[:-1] + b"\0\n"),
    "NUL inside a string": foreign(b'{"type":"func\0tion","record":"x"}\n'),
    "invalid UTF-8 for a type": untyped(b'{"type":"func\xff","record":"x"}\n'),
    "invalid UTF-8 in a record": well_formed(b'{"type":"function","record":"\xff\xfe"}\n'),
    "line separators that are not newlines": well_formed(
        '{"type":"function","record":"a\u2028b\u2029c\u0085d"}\n'.encode()
    ),
    "byte order mark": well_formed(b"\xef\xbb\xbf" + event(0)),
    "truncated JSON": untyped(event(0)[:40] + b"\n" + event(1)[:-2] + b"\n"),
    "two objects on a line": untyped(event(0)[:-1] + event(1)),
    "an object over two lines": untyped(event(0).replace(b",", b",\n", 1)),
    "an array": untyped(b"[" + event(0)[:-1] + b"]\n[]\n"),
    "other JSON values": untyped(b'null\ntrue\n1\n"function"\n{}\n'),
    "a type that is no string": untyped(b'{"type":7,"record":"x"}\n'),
    "no record": well_formed(b'{"type":"function"}\n'),
    "unknown keys": well_formed(b'{"type":"function","record":"x","more":{"a":[1,2]}}\n'),
    "an endless number": well_formed(b'{"type":"function","record":1' + b"0" * 9000 + b"}\n"),
    "nesting without end": untyped(
        b'{"type":"function","record":' + b"[" * 300_000 + b"\n" + b"[" * 300_000 + b"\n"
    ),
    "nesting in a life cycle event": untyped(
        b'{"type":"platform.report","record":' + b'{"a":' * 100_000 + b"\n"
    ),
    "not telemetry at all": untyped(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n".replace(b"\n\r", b"")),
    "a TLS hello": untyped(bytes(range(9)) + b"\x16\x03\x01\x02\x00\x01\xfc\xfe" * 9 + b"\n"),
}


def check(outcome: Outcome, bad: Bad) -> None:
    """The ledger of a run that got `BEFORE`, `bad` and `AFTER`, raw and filtered sink."""
    ledger = outcome.ledger
    sent = BEFORE + bad.data + AFTER
    reason, lines = bad.rejected
    refused = leaf(lines, len(bad.data)) if lines else NOTHING
    assert ledger["received"] == leaf_of(sent)
    assert ledger["framed"] == leaf_of(BEFORE + bad.data_of_lines + AFTER)
    for name, count in ledger["rejected"].items():
        assert count == (refused if name == reason else NOTHING), name
    assert outcome.sink("raw")["delivered"] == ledger["framed"]
    typed = outcome.sink("typed")
    assert typed["delivered"] == leaf_of(BEFORE + bad.untyped + bad.well_formed + AFTER)
    assert typed["filtered"] == leaf_of(bad.foreign)
    assert typed["dropped"] == {}


@pytest.mark.parametrize("name", BAD)
def test_bad_lines_cost_themselves_alone(tmp_path: Path, name: str) -> None:
    bad = BAD[name]
    raw, typed = tmp_path / "raw", tmp_path / "typed"
    sinks = file_sink(raw, "raw") | file_sink(typed, "typed", types="function,platform")
    with Daemon(tmp_path, **sinks) as daemon:
        daemon.send(BEFORE + bad.data + AFTER)
        outcome = daemon.stop()
    assert raw.read_bytes() == BEFORE + bad.data_of_lines + AFTER
    assert typed.read_bytes() == BEFORE + bad.untyped + bad.well_formed + AFTER
    check(outcome, bad)


@pytest.mark.parametrize("size", [13, 4096, 65_537])
def test_all_bad_input_in_a_row_in_pieces(tmp_path: Path, size: int) -> None:
    small = [bad for bad in BAD.values() if len(bad.data) < 20_000 or size > 60_000]
    data = b"".join(bad.data + event(number) for number, bad in enumerate(small))
    archive = tmp_path / "archive"
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        daemon.send(*pieces(data, size))
        outcome = daemon.stop()
    expected = b"".join(bad.data_of_lines + event(number) for number, bad in enumerate(small))
    assert archive.read_bytes() == expected
    assert outcome.ledger["received"] == leaf_of(data)
    assert outcome.ledger["framed"] == outcome.sink()["delivered"] == leaf_of(expected)


@pytest.mark.parametrize("end", [b"", b"\r", b'{"time":"2026', b"x" * 3 * MIB])
def test_a_cut_tail_is_truncated(tmp_path: Path, end: bytes) -> None:
    archive = tmp_path / "archive"
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        daemon.send(BEFORE + end)
        daemon.send(AFTER)
        outcome = daemon.stop()
    assert archive.read_bytes() == BEFORE + AFTER
    assert outcome.ledger["rejected"]["truncated"] == leaf(1 if end else 0, len(end))


def test_a_skipped_line_that_never_ends_is_too_long(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        daemon.send(BEFORE + b"x" * (5 * MIB))
        outcome = daemon.stop()
    assert archive.read_bytes() == BEFORE
    assert outcome.ledger["rejected"]["too_long"] == leaf(1, 5 * MIB)
    assert outcome.ledger["rejected"]["truncated"] == NOTHING


@pytest.mark.parametrize("extra", [0, 1])
def test_the_longest_line_is_max_line_bytes(tmp_path: Path, extra: int) -> None:
    archive = tmp_path / "archive"
    line = event(0, size=1024 + 1 + extra)
    with Daemon(tmp_path, TELEMETRY__MAX_LINE_BYTES=1024, **file_sink(archive)) as daemon:
        daemon.send(BEFORE + line + AFTER)
        outcome = daemon.stop()
    assert archive.read_bytes() == BEFORE + (b"" if extra else line) + AFTER
    assert outcome.ledger["rejected"]["too_long"] == leaf(extra, extra * len(line))


def test_unfinished_lines_of_all_connections_share_a_budget(tmp_path: Path) -> None:
    """Ten of twenty fit; the other ten lose one line each, and nothing that follows it."""
    archive = tmp_path / "archive"
    limits: Settings = {"TELEMETRY__TAIL_BUDGET_BYTES": MIB, "TELEMETRY__MAX_LINE_BYTES": MIB // 4}
    long_lines = [event(n, size=100_000) for n in range(20)]
    with Daemon(tmp_path, **limits, **file_sink(archive)) as daemon:
        connections = [daemon.connect() for _ in long_lines]
        for connection, line in zip(connections, long_lines, strict=True):
            connection.sendall(line[:-1])
            daemon.barrier()
        for number, connection in enumerate(connections):
            connection.sendall(b"\n" + event(number, origin="next"))
            daemon.barrier()
        outcome = daemon.stop()
    expected = [
        (line if number < 10 else b"") + event(number, origin="next")
        for number, line in enumerate(long_lines)
    ]
    assert archive.read_bytes() == b"".join(expected)
    assert outcome.ledger["rejected"]["tail_budget"] == leaf(10, 10 * 100_000)
    assert outcome.ledger["rejected"]["truncated"] == NOTHING


def test_the_budget_of_unfinished_lines_bounds_memory(tmp_path: Path) -> None:
    """Sixty connections hold 3 MiB each of a line; the 16 MiB of the default take five of them."""
    archive = tmp_path / "archive"
    piece = b"x" * (3 * MIB)
    with Daemon(tmp_path, **file_sink(archive)) as daemon:
        connections = [daemon.connect() for _ in range(60)]
        for connection in connections:
            connection.sendall(piece)
        outcome = daemon.stop()
    ledger = outcome.ledger
    assert ledger["received"] == leaf(60, 60 * len(piece))
    assert 0 < ledger["rejected"]["truncated"]["lines"] <= 5
    assert ledger["framed"] == NOTHING

"""`telemetryd replay` as a user runs it: files, dead letters, spools; stopped and gone on with."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from helpers.kinesis_server import Error, Hang, KinesisServer, environment
from helpers.lifecycle import settings
from helpers.measured import MEASURED
from telemetryd.errors import TransientSinkError
from telemetryd.sinks.base import Batch, Sink, SinkConfig, SpoolConfig, WriteResult
from telemetryd.testing import LogBook, Rig, block, context, dead_letter_at, run
from telemetryd.testing.loops import JumpingLoop
from telemetryd_proto.kinesis import unwrap

EX_OK, EX_USAGE, EX_NOINPUT, EX_TEMPFAIL, EX_CONFIG = 0, 64, 66, 75, 78


def start(
    path: Path, sink: str, variables: dict[str, str], *more: str, **keys: Any
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "telemetryd", "replay", str(path), "--sink", sink, *more]
    aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return subprocess.Popen(
        command, env={"PATH": os.environ["PATH"], **MEASURED, **aws, **variables},
        stderr=subprocess.PIPE, text=True, **keys,
    )  # fmt: skip


def replay(
    path: Path, sink: str, variables: dict[str, str], *more: str, status: int = EX_OK
) -> str:
    """Run it to its end; what it printed."""
    with start(path, sink, variables, *more) as process:
        _, printed = process.communicate(timeout=120)
    assert process.returncode == status, printed
    return printed


def file_sink(path: Path) -> dict[str, str]:
    return settings(SINKS__A__TYPE="file", SINKS__A__PATH=path)


def numbered(count: int, size: int = 200) -> bytes:
    return b"".join(b'{"n":%d,"pad":"%s"}\n' % (n, b"x" * size) for n in range(count))


# -- NDJSON files --------------------------------------------------------------------------------


def test_a_file_is_delivered_once_whole_and_in_order(tmp_path: Path) -> None:
    """Larger than a piece, blank lines passed over, the last line without its newline."""
    source = tmp_path / "lines.ndjson"
    source.write_bytes(numbered(10_000) + b"\n\n" + b'{"last":true}')
    printed = replay(source, "a", file_sink(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == numbered(10_000) + b'{"last":true}\n'
    assert "10,001 lines delivered to a" in printed
    assert "100%" in printed
    again = replay(source, "a", file_sink(tmp_path / "out"))
    assert "everything in it has been replayed" in again
    assert (tmp_path / "out").read_bytes().count(b"\n") == 10_001


def test_lines_that_came_since_are_delivered_by_the_next_call(tmp_path: Path) -> None:
    """A file that grows, such as a dead letter, is taken up where it was left."""
    source = tmp_path / "lines.ndjson"
    source.write_bytes(b"1\n")
    replay(source, "a", file_sink(tmp_path / "out"))
    with source.open("ab") as file:
        file.write(b"2\n")
    assert "continuing at byte 2" in replay(source, "a", file_sink(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == b"1\n2\n"


def test_lines_that_are_older_than_the_rules_are_masked(tmp_path: Path) -> None:
    source = tmp_path / "lines.ndjson"
    source.write_bytes(b'{"to":"ada@example.com"}\n{"to":"no one"}\n')
    replay(source, "a", file_sink(tmp_path / "out") | settings(REDACT="email"))
    assert (tmp_path / "out").read_bytes() == b'{"to":"[redacted:email]"}\n{"to":"no one"}\n'


def test_another_file_of_the_same_name_begins_anew(tmp_path: Path) -> None:
    """The place is that of the file itself, not of its name."""
    source = tmp_path / "lines.ndjson"
    source.write_bytes(b"1\n")
    replay(source, "a", file_sink(tmp_path / "out"))
    other = tmp_path / "other"
    other.write_bytes(b"2\n3\n")
    other.replace(source)
    replay(source, "a", file_sink(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == b"1\n2\n3\n"


def packed(name: str, data: bytes) -> bytes:
    """`data` in two gzip members or zstd frames, or one of each."""
    zstd = zstandard.ZstdCompressor().compress
    half = data.index(b"\n", len(data) // 2) + 1
    first, second = data[:half], data[half:]
    return {
        "gzip": gzip.compress(first) + gzip.compress(second) + bytes(512),
        "zstd": zstd(first) + b"\x5a\x2a\x4d\x18\x02\0\0\0??" + zstd(second),
        "mixed": gzip.compress(first) + zstd(second),
        "plain": data,
    }[name]


PACKINGS = pytest.mark.parametrize("name", ["gzip", "zstd", "mixed", "plain"])


@PACKINGS
def test_a_file_is_read_as_what_it_is_whatever_its_name(tmp_path: Path, name: str) -> None:
    """Compressed files, members and frames one behind the other, are unpacked; once."""
    source = tmp_path / "lines.txt"
    source.write_bytes(packed(name, numbered(20_000)))
    printed = replay(source, "a", file_sink(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == numbered(20_000)
    assert "100%" in printed
    assert "everything in it has been" in replay(source, "a", file_sink(tmp_path / "out"))
    with source.open("ab") as file:  # as `cat more.gz >> lines.gz` makes it grow
        file.write(packed(name, b"{}\n{}\n"))
    assert "continuing at byte" in replay(source, "a", file_sink(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == numbered(20_000) + b"{}\n{}\n"


def write_and_close(pipe: int, data: bytes) -> None:
    with os.fdopen(pipe, "wb") as file:
        file.write(data)


@PACKINGS
@pytest.mark.parametrize("way", ["fifo", "-", "/dev/stdin"])
def test_a_pipe_is_read_to_its_end(tmp_path: Path, name: str, way: str) -> None:
    """A FIFO, standard input, or what a shell makes of `<(...)`; nothing is kept of the place."""
    data = packed(name, numbered(3000))
    path, given = Path(way), {}
    if way == "fifo":
        path = tmp_path / "fifo"
        os.mkfifo(path)
        writing = threading.Thread(target=path.write_bytes, args=[data])
        writing.start()
    else:
        ours, theirs = os.pipe()
        writing = threading.Thread(target=write_and_close, args=[theirs, data])
        writing.start()
        given = {"stdin": ours}
    with start(path, "a", file_sink(tmp_path / "out"), **given) as process:
        _, printed = process.communicate(timeout=120)
    writing.join()
    if given:
        os.close(given["stdin"])
    assert process.returncode == EX_OK, printed
    assert "3,000 lines delivered to a" in printed
    assert (tmp_path / "out").read_bytes() == numbered(3000)
    assert list(tmp_path.glob("*.replayed")) == []


def test_a_pipe_to_which_nobody_writes_can_be_left(tmp_path: Path) -> None:
    """Ctrl-C ends the wait, though nothing ever comes."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    keeps_open = os.open(fifo, os.O_RDWR)
    os.write(keeps_open, b"{}\n{}\n")
    with start(fifo, "a", file_sink(tmp_path / "out")) as process:
        arrived = tmp_path / "out"
        while not (arrived.exists() and arrived.read_bytes() == b"{}\n{}\n"):
            with contextlib.suppress(subprocess.TimeoutExpired):
                pytest.fail(f"it ended by itself, with status {process.wait(0.05)}")
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=120)
    os.close(keeps_open)
    assert process.returncode == EX_TEMPFAIL
    assert "2 lines delivered to a" in printed


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_a_compressed_file_that_is_cut_off_gives_what_is_whole_and_says_so(
    tmp_path: Path, name: str
) -> None:
    """Its lines are delivered once, however often it is tried."""
    source = tmp_path / "lines"
    source.write_bytes(packed(name, numbered(20_000))[:-600])
    for _ in range(2):
        printed = replay(source, "a", file_sink(tmp_path / "out"), status=EX_NOINPUT)
        assert "cut off" in printed
    delivered = (tmp_path / "out").read_bytes()
    assert len(delivered) > 1_000_000
    assert numbered(20_000).startswith(delivered)


def test_a_compressed_dead_letter_is_one(tmp_path: Path) -> None:
    """Its records are taken apart, those of other sinks passed over."""
    letter = dead_letter_at(tmp_path / "dead")
    letter.keep(b"1\n2\n", reason="r", sink="a")
    letter.keep(b"3\n", reason="r", sink="b")
    letter.close()
    source = tmp_path / "dead.gz"
    source.write_bytes(gzip.compress((tmp_path / "dead").read_bytes()))
    replay(source, "a", file_sink(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == b"1\n2\n"


def foreign(name: str, data: bytes) -> bytes:
    if name == "zip":
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("lines.ndjson", data)
        return archive.getvalue()
    if name.startswith("tar"):
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            member = tarfile.TarInfo("lines.ndjson")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        return archive.getvalue() if name == "tar" else gzip.compress(archive.getvalue())
    return {
        "xz": lambda: lzma.compress(data),
        "lzma": lambda: lzma.compress(data, lzma.FORMAT_ALONE),
        "bzip2": lambda: bz2.compress(data),
        "lz4": lambda: b"\x04\x22\x4d\x18\x64\x40\xa7" + data,
        "7z": lambda: b"7z\xbc\xaf\x27\x1c\0\x04" + data,
        "Parquet": lambda: b"PAR1\x15\x04" + data + b"PAR1",
        "xz behind gzip": lambda: gzip.compress(b"") + lzma.compress(data),
        "compressed twice": lambda: gzip.compress(gzip.compress(data)),
    }[name]()


@pytest.mark.parametrize("way", ["file", "pipe"])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("xz", "xz, not lines: unpack it first (unxz)"),
        ("lzma", "lzma, not lines: unpack it first (unlzma)"),
        ("bzip2", "bzip2, not lines: unpack it first (bunzip2)"),
        ("zip", "a zip archive, not lines: unpack it first (unzip)"),
        ("lz4", "lz4, not lines: unpack it first (unlz4)"),
        ("7z", "a 7z archive, not lines: unpack it first (7z x)"),
        ("tar", "a tar archive, not lines: unpack it first (tar -xf)"),
        ("tar.gz", "a tar archive, not lines: unpack it first (tar -xf)"),
        ("Parquet", "Parquet, not lines: convert it to NDJSON first"),
        ("xz behind gzip", "xz, not lines: unpack it first (unxz)"),
        ("compressed twice", "compressed twice, not lines: unpack it first (gunzip or unzstd)"),
    ],
)
def test_what_is_no_lines_is_refused_by_name_and_nothing_of_it_is_delivered(
    tmp_path: Path, name: str, told: str, way: str
) -> None:
    """Also where it comes through a pipe, within gzip, or behind it."""
    source = tmp_path / "lines"
    source.write_bytes(foreign(name, numbered(50)))
    variables = file_sink(tmp_path / "out")
    if way == "file":
        printed = replay(source, "a", variables, status=EX_NOINPUT)
    else:
        with source.open("rb") as file, start(Path("-"), "a", variables, stdin=file) as process:
            _, printed = process.communicate(timeout=120)
        assert process.returncode == EX_NOINPUT, printed
    assert told in printed
    out = tmp_path / "out"
    assert not out.exists() or out.read_bytes() == b""


def test_on_a_terminal_it_shows_a_bar(tmp_path: Path) -> None:
    """One line, drawn again, then the summary."""
    source = tmp_path / "lines.ndjson"
    source.write_bytes(numbered(20_000))
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "telemetryd", "replay", str(source), "--sink", "a"]
    variables = {"PATH": os.environ["PATH"], **file_sink(tmp_path / "out")}
    with subprocess.Popen(command, env=variables, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while data := os.read(ours, 65_536):
                shown += data
        os.close(ours)
    assert process.returncode == EX_OK
    bar, summary = shown.decode().strip().split("\r\n")
    assert "\r[" + "#" * 30 + "] 100%  4.2 of 4.2 MiB, 20,000 lines" in "\r" + bar
    assert summary.endswith("20,000 lines delivered to a")


def test_an_empty_file_is_no_error(tmp_path: Path) -> None:
    """There is nothing to do."""
    (tmp_path / "empty").touch()
    replay(tmp_path / "empty", "a", file_sink(tmp_path / "out"))


# -- a real destination --------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[KinesisServer]:
    with KinesisServer() as server:
        environment(monkeypatch, server)
        yield server
        assert server.violations == []


def kinesis(**keys: object) -> dict[str, str]:
    keys = {"TYPE": "kinesis", "STREAM": "s", "WRITE_TIMEOUT_MS": 60_000} | keys
    return settings(**{f"SINKS__A__{key}": value for key, value in keys.items()})


def arrived(server: KinesisServer) -> bytes:
    return b"".join(unwrap(put.data)[1] for put in server.accepted)


def test_what_was_read_from_a_pipe_and_is_refused_is_in_the_dead_letter(
    tmp_path: Path, server: KinesisServer
) -> None:
    """It can't be read again."""
    server.otherwise = Error(400, "ValidationException")
    variables = kinesis(PACKING="single") | settings(DEAD_LETTER__PATH=tmp_path / "dead")
    ours, theirs = os.pipe()
    write_and_close(theirs, numbered(10))
    with start(Path("-"), "a", variables, stdin=ours) as process:
        _, printed = process.communicate(timeout=120)
    os.close(ours)
    assert process.returncode == EX_OK, printed
    assert "10 refused for good" in printed
    replay(tmp_path / "dead", "a", file_sink(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == numbered(10)


def test_stopped_with_ctrl_c_it_goes_on_where_it_was(tmp_path: Path, server: KinesisServer) -> None:
    """The destination hangs in the middle of it; what was settled is not sent again."""
    source = tmp_path / "lines.ndjson"
    source.write_bytes(numbered(12_000))
    server.script = [None, None, Hang()]
    with start(source, "a", kinesis(READ_TIMEOUT_MS=30_000)) as process:
        server.wait_for_requests(3)
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=120)
    assert process.returncode == EX_TEMPFAIL, printed
    assert "stopped; the same command continues from byte" in printed
    first = arrived(server)
    assert 0 < len(first) < len(numbered(12_000))
    replay(source, "a", kinesis())
    assert arrived(server) == numbered(12_000)


def test_it_ends_where_the_destination_takes_nothing_and_loses_nothing(
    tmp_path: Path, server: KinesisServer
) -> None:
    """No line is given up: the circuit opens, and the next call delivers all of it."""
    source = tmp_path / "lines.ndjson"
    source.write_bytes(numbered(100))
    server.otherwise = Error(500, "InternalFailure")
    printed = replay(source, "a", kinesis(), status=EX_TEMPFAIL)
    assert "a takes nothing now; the same command continues from byte 0" in printed
    assert "0 lines delivered" in printed
    server.otherwise = None
    replay(source, "a", kinesis())
    assert arrived(server) == numbered(100)


def test_a_line_that_is_refused_for_good_is_counted_and_costs_no_other(
    tmp_path: Path, server: KinesisServer
) -> None:
    """One that no record can hold."""
    source = tmp_path / "lines.ndjson"
    source.write_bytes(b"1\n" + b"x" * 1_500_000 + b"\n2\n")
    printed = replay(source, "a", kinesis())
    assert "2 lines delivered to a, 1 refused for good (record_too_large)" in printed
    assert arrived(server) == b"1\n2\n"


# -- dead letters --------------------------------------------------------------------------------


def dead_letter(path: Path) -> None:
    letter = dead_letter_at(path, max_record=1000)
    letter.keep(b"a1\na2\n", reason="throttled", sink="a")
    letter.keep(b"b1\n", reason="throttled", sink="b")
    letter.keep(b"\xff\xfe\n", reason="rejected", sink="a")
    letter.keep(b"y" * 5000 + b"\n", reason="too_large", sink="a")  # cut
    letter.keep_head(b"half a line", 70_000, reason="too_long")
    letter.keep(b"a3\n", reason="shutdown", sink="a")
    letter.close()


def test_of_a_dead_letter_a_sink_gets_what_it_could_not_deliver(tmp_path: Path) -> None:
    """Bytes as they came; what was cut is left out, and said."""
    dead_letter(tmp_path / "dead")
    printed = replay(tmp_path / "dead", "a", file_sink(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == b"a1\na2\n\xff\xfe\na3\n"
    assert "4 lines delivered to a, 1 left out: cut, malformed or too long" in printed


def test_or_everything_that_is_in_it(tmp_path: Path) -> None:
    """For a sink that replaces the others."""
    dead_letter(tmp_path / "dead")
    printed = replay(tmp_path / "dead", "a", file_sink(tmp_path / "out"), "--all-sinks")
    assert (tmp_path / "out").read_bytes() == b"a1\na2\nb1\n\xff\xfe\na3\n"
    assert "2 left out" in printed


def test_a_torn_record_costs_itself(tmp_path: Path) -> None:
    """A crash cut it short; its neighbours arrive."""
    dead_letter(tmp_path / "dead")
    records = (tmp_path / "dead").read_bytes().splitlines(keepends=True)
    torn = records[1][:40] + b"\n"
    (tmp_path / "dead").write_bytes(b"".join([records[0], torn, *records[2:]]))
    replay(tmp_path / "dead", "a", file_sink(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == b"a1\na2\n\xff\xfe\na3\n"


# -- spools --------------------------------------------------------------------------------------


def spool_of(directory: Path, sink_class: type[Sink], config: SinkConfig, lines: int) -> None:
    """What a process leaves whose destination was down."""

    class Unlucky(sink_class):  # type: ignore[misc, valid-type]
        open = Sink.open  # no client is needed to be refused

        async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
            raise TransientSinkError("down")

    log = LogBook()
    rig = Rig(Unlucky(config, context(log, name="a")), config, log=log)

    async def scenario() -> None:
        rig.worker.start()
        for n in range(lines):
            rig.offer([block(b"%d" % n)])
        await rig.stop(0.5, keep=True)

    run(JumpingLoop, scenario())
    assert rig.account.spooled.lines == lines
    assert list(directory.glob("*/*.spool"))


def kinesis_spool(directory: Path, lines: int = 50, **more: Any) -> Path:
    import msgspec

    from telemetryd.sinks.kinesis.sink import KinesisSink

    keys: dict[str, Any] = {"type": "kinesis", "stream": "s", "linger_ms": 0} | more
    config = msgspec.convert(keys, KinesisSink.Config)
    config = msgspec.structs.replace(config, spool=SpoolConfig(path=str(directory)))
    spool_of(directory, KinesisSink, config, lines)
    return directory / "a.kinesis"


NUMBERS = b"".join(b"%d\n" % n for n in range(50))


def test_a_spool_is_delivered_as_it_was_packed_and_is_empty_then(
    tmp_path: Path, server: KinesisServer
) -> None:
    """In order, with the ids it was packed with."""
    spool = kinesis_spool(tmp_path)
    assert "50 lines delivered to a" in replay(spool, "a", kinesis())
    assert arrived(server) == NUMBERS
    assert list(spool.glob("*.spool")) == []
    assert "the spool is empty" in replay(spool, "a", kinesis())


def test_the_directory_of_all_spools_is_not_one(tmp_path: Path) -> None:
    """As `spool.path` is configured: the message says what to name."""
    kinesis_spool(tmp_path)
    printed = replay(tmp_path, "a", kinesis(), status=EX_NOINPUT)
    assert (
        "holds no segments (*.spool) of a spool; it has the spools a.kinesis, name one" in printed
    )


def test_stopped_in_the_midst_of_a_spool_it_says_how_far_it_came(
    tmp_path: Path, server: KinesisServer
) -> None:
    """In lines as they were received: the records are compressed."""
    spool = kinesis_spool(tmp_path, 2000, compression="gzip", batch_max_bytes=1024)
    lines = b"".join(b"%d\n" % n for n in range(2000))
    server.script = [None, Hang()]
    keys = kinesis(COMPRESSION="gzip", BATCH_MAX_BYTES=1024, READ_TIMEOUT_MS=30_000)
    with start(spool, "a", keys) as process:
        server.wait_for_requests(2)
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=120)
    assert process.returncode == EX_TEMPFAIL, printed
    delivered = arrived(server)
    assert 0 < len(delivered) < len(lines)
    assert f"{len(delivered) / len(lines):4.0%}" in printed
    server.script = []
    replay(spool, "a", keys)
    assert arrived(server) == lines


def test_a_spool_stays_what_it_is_while_the_destination_takes_nothing(
    tmp_path: Path, server: KinesisServer
) -> None:
    """Nothing is lost by trying."""
    spool = kinesis_spool(tmp_path)
    server.otherwise = Error(500, "InternalFailure")
    printed = replay(spool, "a", kinesis(), status=EX_TEMPFAIL)
    assert "continues with 50 lines" in printed
    assert "  0%" in printed
    server.otherwise = None
    replay(spool, "a", kinesis())
    assert arrived(server) == NUMBERS


def test_another_type_of_sink_gets_the_lines(tmp_path: Path, server: KinesisServer) -> None:
    """The sink that packed them, configured as it was, gives them back."""
    spool = kinesis_spool(tmp_path)
    out = settings(SINKS__OUT__TYPE="file", SINKS__OUT__PATH=tmp_path / "out")
    printed = replay(spool, "out", out, status=EX_NOINPUT)
    assert "was packed by a sink a of type kinesis" in printed
    replay(spool, "out", out | kinesis())
    assert (tmp_path / "out").read_bytes() == NUMBERS
    assert server.requests == []


# -- wrong input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "sink", "status", "told"),
    [
        ("none", "a", EX_NOINPUT, "none: No such file or directory"),
        (".", "a", EX_NOINPUT, "holds no segments"),
        ("lines", "b", EX_NOINPUT, "--sink b: no sink of this name is configured; there is: a"),
    ],
)
def test_wrong_input_is_named(tmp_path: Path, path: str, sink: str, status: int, told: str) -> None:
    """What, where, and how to continue; no traceback."""
    (tmp_path / "lines").write_bytes(b"1\n")
    printed = replay(tmp_path / path, sink, file_sink(tmp_path / "out"), status=status)
    assert told in printed
    assert "Traceback" not in printed


def test_a_sink_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    """Nothing is read, nothing is lost."""
    (tmp_path / "lines").write_bytes(b"1\n")
    (tmp_path / "occupied").touch()
    variables = file_sink(tmp_path / "occupied" / "out")
    printed = replay(tmp_path / "lines", "a", variables, status=EX_NOINPUT)
    assert printed.count("sinks.a") == 1
    assert str(tmp_path / "occupied" / "out") in printed
    assert list(tmp_path.glob("*.replayed")) == []


def test_a_spool_in_use_is_left_alone(tmp_path: Path, server: KinesisServer) -> None:
    """Two processes must not deliver the same."""
    from telemetryd.spool.segment_log import SpoolLog

    spool = kinesis_spool(tmp_path)
    log = SpoolLog(str(spool), max_bytes=1 << 30)
    log.open()
    printed = replay(spool, "a", kinesis(), status=EX_NOINPUT)
    assert "a running telemetryd has this spool open" in printed
    log.close()

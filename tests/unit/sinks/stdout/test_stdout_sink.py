"""The stdout sink in a process of its own, on real pipes: closed, stalled, full, non-blocking."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import pytest

PRELUDE = """
import asyncio, os, sys
from telemetryd.log import EventLog
from telemetryd.sinks import _standard_output
from telemetryd.sinks.base import Batch, DELIVERED, Item, SinkConfig, SinkContext
from telemetryd.sinks.stdout import StdoutSink

sink = StdoutSink(SinkConfig(type="stdout"), SinkContext(
    name="out", function="f", version="1", instance="i",
    salvage=lambda data, reason: False, log=EventLog()))

def say(text):
    os.write(2, text.encode() + b"\\n")

def hear():
    os.read(0, 1)

async def write(*payloads):
    items = tuple(Item(p, p.count(b"\\n"), len(p)) for p in payloads)
    try:
        result = await sink.write(Batch("b", items), attempt=1, deadline=9e9)
    except Exception as error:
        return type(error).__name__, error.code
    return [(f.index, f.code, f.retryable) for f in result.failures]
"""


@contextmanager
def sink_process(code: str, stdout: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run `code` (the body of an async function) beside the prelude, `stdout` as descriptor 1.

    It says lines on stderr and hears bytes on stdin: that is how the two keep step.
    """
    body = "async def main():\n" + textwrap.indent(textwrap.dedent(code), "    ")
    with subprocess.Popen(
        [sys.executable, "-c", f"{PRELUDE}\n{body}\nasyncio.run(main())\n"],
        stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[bytes]) -> str:
    assert process.stderr is not None
    return process.stderr.readline().decode().strip()


def tell(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b".")
    process.stdin.flush()


class Pipe:
    """A pipe; its ends know whether they are closed."""

    def __init__(self) -> None:
        read_end, write_end = os.pipe()
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 65536)  # as on machines with small pages
        self.reader = FileIO(read_end, "rb")
        self.writer = FileIO(write_end, "wb")


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.reader.close()
    pipe.writer.close()


def test_lines_pass_unchanged_and_in_order(pipe: Pipe) -> None:
    code = r"""
        assert await write(b"one\n", b"\xff\0\r\n") == []
        assert await write(b"x" * 1_000_000 + b"\n", b"last\n") == []
        await sink.close()
        await sink.close()
    """
    with sink_process(code, pipe.writer.fileno()) as process:
        pipe.writer.close()
        assert pipe.reader.readall() == b"one\n\xff\0\r\n" + b"x" * 1_000_000 + b"\nlast\n"
        assert process.wait() == 0


def test_a_reader_that_goes_away_is_permanent(pipe: Pipe) -> None:
    code = r"""
        assert await write(b"one\n") == []
        say("written")
        hear()
        say(str(await write(b"two\n")))
    """
    with sink_process(code, pipe.writer.fileno()) as process:
        assert said(process) == "written"
        pipe.reader.close()
        tell(process)
        assert said(process) == "('PermanentSinkError', 'stdout_closed')"
        assert process.wait() == 0


def test_a_closed_standard_output_is_permanent(pipe: Pipe) -> None:
    code = r"""
        os.close(1)
        say(str(await write(b"one\n")))
    """
    with sink_process(code, pipe.writer.fileno()) as process:
        assert said(process) == "('PermanentSinkError', 'stdout_closed')"


def test_a_full_disk_behind_it_may_pass() -> None:
    with Path("/dev/full").open("wb") as full:
        code = r"""say(str(await write(b"one\n")))"""
        with sink_process(code, full.fileno()) as process:
            assert said(process) == "('TransientSinkError', 'io_error')"


def test_a_non_blocking_pipe_takes_everything_from_a_slow_reader(pipe: Pipe) -> None:
    os.set_blocking(pipe.writer.fileno(), False)
    code = r"""
        assert await write(*(b"%06d\n" % n for n in range(100_000))) == []
        await sink.close()
    """
    with sink_process(code, pipe.writer.fileno()) as process:
        pipe.writer.close()
        assert pipe.reader.readall() == b"".join(b"%06d\n" % n for n in range(100_000))
        assert process.wait() == 0


def test_a_stalled_reader_refuses_the_rest_and_the_cut_line_is_completed_first(
    pipe: Pipe,
) -> None:
    """Half a line is out when the pipe is full: whatever comes next must not be glued to it."""
    os.set_blocking(pipe.writer.fileno(), False)
    code = r"""
        _standard_output._STALL_SECONDS = 0.01
        fits, cut, later = b"a" * 999 + b"\n", b"b" * 99_999 + b"\nB\n", b"c\n"
        say(str(await write(fits, cut, later)))
        say(str(await write(cut, later)))
        hear()
        _standard_output._STALL_SECONDS = 60.0
        say(str(await write(cut, later)))
        await sink.close()
    """
    whole = b"b" * 99_999 + b"\n"
    with sink_process(code, pipe.writer.fileno()) as process:
        pipe.writer.close()
        assert said(process) == "[(1, 'stdout_stalled', True), (2, 'stdout_stalled', True)]"
        assert said(process) == "('TransientSinkError', 'stdout_stalled')"
        tell(process)
        got = pipe.reader.readall()
        assert said(process) == "[]"
        assert process.wait() == 0
    assert got == b"a" * 999 + b"\n" + whole + whole + b"B\nc\n"


def test_a_stall_between_lines_owes_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.writer.fileno(), False)
    code = r"""
        _standard_output._STALL_SECONDS = 0.01
        fills = b"a" * 4095 + b"\n"
        say(str(await write(fills * 16 + b"dropped\n")))
        hear()
        _standard_output._STALL_SECONDS = 60.0
        say(str(await write(b"next\n")))
        await sink.close()
    """
    with sink_process(code, pipe.writer.fileno()) as process:
        pipe.writer.close()
        assert said(process) == "('TransientSinkError', 'stdout_stalled')"
        tell(process)
        assert pipe.reader.readall() == (b"a" * 4095 + b"\n") * 16 + b"next\n"
        assert said(process) == "[]"


def test_a_write_that_hangs_holds_up_neither_the_loop_nor_the_end(pipe: Pipe) -> None:
    code = r"""
        writing = asyncio.create_task(write(b"x" * 1_000_000 + b"\n"))
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await sink.close()
        say("closed")
        os._exit(3)
    """
    with sink_process(code, pipe.writer.fileno()) as process:
        assert said(process) == "closed"
        assert process.wait() == 3


def test_a_little_is_written_at_once_to_a_pipe_with_room(pipe: Pipe) -> None:
    """All of it or nothing: never more than is atomic, and nothing that would have to wait."""
    code = r"""
        assert sink.write_direct(b"a" * 4095 + b"\n")
        assert not sink.write_direct(b"b" * 4096 + b"\n"), "not atomic"
        while sink.write_direct(b"c" * 1023 + b"\n"):
            pass
        assert os.get_blocking(1), "it is shared"
        say("full")
        hear()
        assert sink.write_direct(b"d\n")
        assert await write(b"e\n") == []
        assert sink.write_direct(b"f\n")
        await sink.close()
    """
    with sink_process(code, pipe.writer.fileno()) as process:
        pipe.writer.close()
        assert said(process) == "full"
        found = pipe.reader.read(65536)
        tell(process)
        assert process.wait() == 0
        found += pipe.reader.readall()
    assert found == b"a" * 4095 + b"\n" + (b"c" * 1023 + b"\n") * 60 + b"d\ne\nf\n"


def test_behind_a_line_that_was_cut_nothing_is_written_at_once(pipe: Pipe) -> None:
    """The rest of it comes first. Neither is anything while the thread is at the pipe."""
    code = r"""
        os.set_blocking(1, False)
        _standard_output._STALL_SECONDS = 0.05
        say(str(await write(b"x" * 100_000 + b"\n")))
        hear()
        assert not sink.write_direct(b"glued\n")
        writing = asyncio.ensure_future(write(b"y" * 100_000 + b"\n"))
        await asyncio.sleep(0)
        assert not sink.write_direct(b"between\n")
        say("writes")
        assert await writing == []
        assert sink.write_direct(b"last\n")
        await sink.close()
    """
    with sink_process(code, pipe.writer.fileno()) as process:
        pipe.writer.close()
        assert "stdout_stalled" in said(process)
        found = pipe.reader.read(65536)
        tell(process)
        assert said(process) == "writes"
        found += pipe.reader.readall()
        assert process.wait() == 0
    assert found == b"x" * 100_000 + b"\n" + b"y" * 100_000 + b"\nlast\n"


@pytest.mark.parametrize("kind", ["file", "closed", "no reader"])
def test_what_is_no_pipe_with_a_reader_is_not_written_at_once(
    tmp_path: Path, pipe: Pipe, kind: str
) -> None:
    code = r"""
        assert not sink.write_direct(b"direct\n")
        await sink.close()
    """
    if kind == "closed":
        code = "os.close(1)\n" + textwrap.dedent(code)
    elif kind == "no reader":
        pipe.reader.close()
    with (tmp_path / "out").open("wb") as file:
        stdout = pipe.writer.fileno() if kind == "no reader" else file.fileno()
        with sink_process(code, stdout) as process:
            assert process.wait() == 0
    assert (tmp_path / "out").read_bytes() == b""

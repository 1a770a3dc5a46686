"""The stdout sink in a process of its own, on real pipes: closed, stalled, full, non-blocking."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PRELUDE = """
import asyncio, os, sys
from telemetryd.sinks import stdout
from telemetryd.sinks.base import Batch, DELIVERED, Item, SinkConfig, SinkContext
from telemetryd.sinks.stdout import StdoutSink

sink = StdoutSink(SinkConfig(type="stdout"), SinkContext(
    name="out", function="f", version="1", instance="i",
    salvage=lambda data, reason: False, log=lambda *a, **k: None))

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


def read_all(fd: int) -> bytes:
    return b"".join(iter(lambda: os.read(fd, 1 << 16), b""))


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb", closefd=False):
        yield read_end, write_end
    for fd in (read_end, write_end):
        try:
            os.close(fd)
        except OSError as error:
            assert error.errno == 9  # noqa: PT017 - closed by the test already


def test_lines_pass_unchanged_and_in_order(pipe: tuple[int, int]) -> None:
    code = r"""
        assert await write(b"one\n", b"\xff\0\r\n") == []
        assert await write(b"x" * 1_000_000 + b"\n", b"last\n") == []
        await sink.close()
        await sink.close()
    """
    with sink_process(code, pipe[1]) as process:
        os.close(pipe[1])
        assert read_all(pipe[0]) == b"one\n\xff\0\r\n" + b"x" * 1_000_000 + b"\nlast\n"
        assert process.wait() == 0


def test_a_reader_that_goes_away_is_permanent(pipe: tuple[int, int]) -> None:
    code = r"""
        assert await write(b"one\n") == []
        say("written")
        hear()
        say(str(await write(b"two\n")))
    """
    with sink_process(code, pipe[1]) as process:
        assert said(process) == "written"
        os.close(pipe[0])
        tell(process)
        assert said(process) == "('PermanentSinkError', 'stdout_closed')"
        assert process.wait() == 0


def test_a_closed_standard_output_is_permanent(pipe: tuple[int, int]) -> None:
    code = r"""
        os.close(1)
        say(str(await write(b"one\n")))
    """
    with sink_process(code, pipe[1]) as process:
        assert said(process) == "('PermanentSinkError', 'stdout_closed')"


def test_a_full_disk_behind_it_may_pass() -> None:
    with Path("/dev/full").open("wb") as full:
        code = r"""say(str(await write(b"one\n")))"""
        with sink_process(code, full.fileno()) as process:
            assert said(process) == "('TransientSinkError', 'io_error')"


def test_a_non_blocking_pipe_takes_everything_from_a_slow_reader(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    code = r"""
        assert await write(*(b"%06d\n" % n for n in range(100_000))) == []
        await sink.close()
    """
    with sink_process(code, pipe[1]) as process:
        os.close(pipe[1])
        assert read_all(pipe[0]) == b"".join(b"%06d\n" % n for n in range(100_000))
        assert process.wait() == 0


def test_a_stalled_reader_refuses_the_rest_and_the_cut_line_is_completed_first(
    pipe: tuple[int, int],
) -> None:
    """Half a line is out when the pipe is full: whatever comes next must not be glued to it."""
    os.set_blocking(pipe[1], False)
    code = r"""
        stdout._STALL_SECONDS = 0.01
        fits, cut, later = b"a" * 999 + b"\n", b"b" * 99_999 + b"\nB\n", b"c\n"
        say(str(await write(fits, cut, later)))
        say(str(await write(cut, later)))
        hear()
        stdout._STALL_SECONDS = 60.0
        say(str(await write(cut, later)))
        await sink.close()
    """
    whole = b"b" * 99_999 + b"\n"
    with sink_process(code, pipe[1]) as process:
        os.close(pipe[1])
        assert said(process) == "[(1, 'stdout_stalled', True), (2, 'stdout_stalled', True)]"
        assert said(process) == "('TransientSinkError', 'stdout_stalled')"
        tell(process)
        got = read_all(pipe[0])
        assert said(process) == "[]"
        assert process.wait() == 0
    assert got == b"a" * 999 + b"\n" + whole + whole + b"B\nc\n"


def test_a_stall_between_lines_owes_nothing(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    code = r"""
        stdout._STALL_SECONDS = 0.01
        fills = b"a" * 4095 + b"\n"
        say(str(await write(*[fills] * 16, b"dropped\n")))
        hear()
        stdout._STALL_SECONDS = 60.0
        say(str(await write(b"next\n")))
        await sink.close()
    """
    with sink_process(code, pipe[1]) as process:
        os.close(pipe[1])
        assert said(process) == "[(16, 'stdout_stalled', True)]"
        tell(process)
        assert read_all(pipe[0]) == (b"a" * 4095 + b"\n") * 16 + b"next\n"
        assert said(process) == "[]"


def test_a_write_that_hangs_holds_up_neither_the_loop_nor_the_end(pipe: tuple[int, int]) -> None:
    code = r"""
        writing = asyncio.create_task(write(b"x" * 1_000_000 + b"\n"))
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await sink.close()
        say("closed")
        os._exit(3)
    """
    with sink_process(code, pipe[1]) as process:
        assert said(process) == "closed"
        assert process.wait() == 3

"""The stdout sink under the Sink contract, file descriptor 1 being a real pipe with a reader."""

# ruff: noqa: D101, D102 - the base class says it
from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from telemetryd.sinks.base import SinkConfig
from telemetryd.sinks.stdout import StdoutSink
from telemetryd.testing import Received, SinkContract


class PipeReader:
    """Reads a pipe in a thread until its end, or as long as `allowed`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._data = bytearray()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while data := os.read(self._fd, 65536):
            with self._changed:
                self._data += data
                self._changed.notify_all()

    def everything(self, write_fd: int) -> bytes:
        """All that was written before this call: waits for a mark that follows it."""
        mark = b"\0mark\0"
        os.write(write_fd, mark)
        with self._changed:
            self._changed.wait_for(lambda: self._data.endswith(mark))
            del self._data[-len(mark) :]
            return bytes(self._data)

    def received(self, at_least: int) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: len(self._data) >= at_least)
            return bytes(self._data)

    def join(self) -> None:
        self._thread.join()


@contextmanager
def stdout_as_pipe() -> Iterator[PipeReader]:
    """File descriptor 1 is a pipe, read in a thread."""
    ours = os.dup(1)
    read_end, write_end = os.pipe()
    os.dup2(write_end, 1)
    os.close(write_end)
    reader = PipeReader(read_end)
    try:
        yield reader
    finally:
        os.dup2(ours, 1)
        os.close(ours)
        reader.join()
        os.close(read_end)


@contextmanager
def full_stdout() -> Iterator[None]:
    """A full disk behind standard output."""
    pipe = os.dup(1)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 1)
    os.close(full)
    try:
        yield
    finally:
        os.dup2(pipe, 1)
        os.close(pipe)


class TestStdoutSink(SinkContract):
    sink_class = StdoutSink
    patience_seconds = 60.0  # a busy machine's

    def config(self, directory: Path, **keys: object) -> SinkConfig:
        return msgspec.convert({"type": "stdout", **keys}, SinkConfig)

    @contextmanager
    def destination(self, directory: Path) -> Iterator[Received]:
        with stdout_as_pipe() as reader:
            yield reader.received

    @contextmanager
    def outage(self, directory: Path) -> Iterator[str]:
        with full_stdout():
            yield "io_error"

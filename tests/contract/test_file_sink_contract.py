"""The file sink under the Sink contract, on a real file; plain, and with every option at work."""

# ruff: noqa: D101, D102 - the base class says it
from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from telemetryd.sinks.base import SinkConfig
from telemetryd.sinks.file.sink import FileConfig, FileSink
from telemetryd.testing import Received, SinkContract


class TestFileSink(SinkContract):
    sink_class = FileSink
    patience_seconds = 60.0  # a busy machine's
    options: dict[str, object] = {}  # noqa: RUF012 - never changed

    def config(self, directory: Path, **keys: object) -> SinkConfig:
        path = str(directory / "out" / "{function}.ndjson")
        return msgspec.convert({"type": "file", "path": path, **self.options, **keys}, FileConfig)

    @contextmanager
    def destination(self, directory: Path) -> Iterator[Received]:
        def received(at_least: int) -> bytes:
            files = sorted((directory / "out").glob("orders.ndjson.*"))
            files += (directory / "out").glob("orders.ndjson")
            return b"".join(map(content, files))

        yield received

    @contextmanager
    def outage(self, directory: Path) -> Iterator[str]:
        """A regular file where the directory was: nothing can be opened or looked at below it."""
        out, aside = directory / "out", directory / "aside"
        was_there = out.exists()
        if was_there:
            out.rename(aside)
        out.write_bytes(b"")
        try:
            yield "io_error"
        finally:
            out.unlink()
            if was_there:
                aside.rename(out)


class TestFileSinkWithRotation(TestFileSink):
    """Many small files, compressed, each write forced to the disk."""

    options = {"rotate_bytes": 4096, "compression": "gzip", "fsync": "always"}  # noqa: RUF012


class TestFileSinkWithFsync(TestFileSink):
    options = {"fsync": "flush"}  # noqa: RUF012


def content(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data

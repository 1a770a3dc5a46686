"""The HTTP sink under the Sink contract, against a strict server that keeps what is POSTed."""

# ruff: noqa: D101, D102 - the base class says it
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from helpers.collector_server import CollectorServer, Hang, Say, no_proxies
from telemetryd.sinks.base import SinkConfig
from telemetryd.sinks.http.config import HttpConfig
from telemetryd.sinks.http.sink import HttpSink
from telemetryd.testing import Received, SinkContract

MIB = 1024 * 1024


class TestHttpSink(SinkContract):
    sink_class = HttpSink
    patience_seconds = 60.0  # a busy machine's
    oversized_bytes = 3 * MIB
    refused_bytes: ClassVar[int | None] = 5 * MIB
    write_timeout_ms = 3000
    drops_duplicates = True
    options: ClassVar[dict[str, object]] = {}

    @pytest.fixture(autouse=True)
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[CollectorServer]:
        no_proxies(monkeypatch)
        with CollectorServer(max_body=4 * MIB) as server:
            self.running = server
            yield server
            assert server.violations == []

    def config(self, directory: Path, **keys: object) -> SinkConfig:
        given = {
            "type": "http", "url": self.running.url, "linger_ms": 0, "max_body_bytes": 4 * MIB,
            **self.options, **keys,
        }  # fmt: skip
        return msgspec.convert(given, HttpConfig)

    @contextmanager
    def destination(self, directory: Path) -> Iterator[Received]:
        yield lambda _: self.running.lines

    @contextmanager
    def outage(self, directory: Path) -> Iterator[str]:
        self.running.otherwise = Say(503)
        try:
            yield "server_error"
        finally:
            self.running.catch_up()  # what has been sent belongs to the outage
            self.running.otherwise = None

    @contextmanager
    def stall(self, directory: Path) -> Iterator[None]:
        self.running.otherwise = Hang()
        try:
            yield
        finally:
            self.running.catch_up()  # what has been sent gets no answer
            self.running.otherwise = None


class TestHttpSinkWithASmallerServer(TestHttpSink):
    """The server takes less than the sink sends: it refuses the line that is too large."""

    options: ClassVar[dict[str, object]] = {"max_body_bytes": 16 * MIB}


class TestHttpSinkWithGzip(TestHttpSink):
    options: ClassVar[dict[str, object]] = {"compression": "gzip", "token": "s3cret"}


class TestHttpSinkWithZstd(TestHttpSink):
    options: ClassVar[dict[str, object]] = {"compression": "zstd", "headers": {"X-Tenant": "a"}}

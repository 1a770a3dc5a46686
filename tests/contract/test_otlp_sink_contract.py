"""The OTLP sink under the Sink contract, against a server that the protobuf library judges with."""

# ruff: noqa: D101, D102 - the base class says it
from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from helpers.collector_server import MIB, Hang, Say, no_proxies
from helpers.otlp_server import OtlpServer
from helpers.otlp_signals import SignalServer
from telemetryd.sinks.base import SinkConfig
from telemetryd.sinks.otlp.config import OtlpConfig
from telemetryd.sinks.otlp.sink import OtlpSink
from telemetryd.testing import Received, SinkContract


class TestOtlpSink(SinkContract):
    sink_class = OtlpSink
    patience_seconds = 60.0  # a busy machine's
    oversized_bytes = 3 * MIB
    refused_bytes: ClassVar[int | None] = 5 * MIB
    write_timeout_ms = 3000
    options: ClassVar[dict[str, object]] = {}
    as_json: ClassVar[bool] = False

    @pytest.fixture(autouse=True)
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpServer]:
        no_proxies(monkeypatch)
        for name in list(os.environ):
            if name.startswith(("OTEL_", "AWS_")):
                monkeypatch.delenv(name)
        with SignalServer(max_body=4 * MIB, as_json=self.as_json) as server:
            self.running = server
            yield server
            assert server.violations == []

    def config(self, directory: Path, **keys: object) -> SinkConfig:
        given = {
            "type": "otlp", "endpoint": self.running.base, "linger_ms": 0,
            "max_body_bytes": 4 * MIB, **self.options, **keys,
        }  # fmt: skip
        return msgspec.convert(given, OtlpConfig)

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


class TestOtlpSinkWithASmallerServer(TestOtlpSink):
    """The server takes less than the sink sends: it refuses the line that is too large."""

    options: ClassVar[dict[str, object]] = {"max_body_bytes": 16 * MIB}


class TestOtlpSinkWithAllSignals(TestOtlpSink):
    """Metrics and spans beside the lines change nothing for them."""

    options: ClassVar[dict[str, object]] = {"signals": ("logs", "metrics", "traces")}


class TestOtlpSinkWithJson(TestOtlpSink):
    options: ClassVar[dict[str, object]] = {"protocol": "http/json", "compression": "gzip"}
    as_json = True

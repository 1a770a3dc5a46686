"""The presets of the HTTP sink under the Sink contract, each against its vendor's strict server."""

# ruff: noqa: D101, D102 - the base class says it
from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from helpers.collector_server import Hang, Say, no_proxies
from helpers.vendor_servers import (
    CloudWatchServer,
    DatadogServer,
    ElasticServer,
    HoneycombServer,
    LokiServer,
    NewRelicServer,
    SplunkServer,
    VendorServer,
)
from telemetryd.core.ledger import Count
from telemetryd.sinks.base import SinkConfig
from telemetryd.sinks.http.config import HttpConfig
from telemetryd.sinks.http.sink import HttpSink
from telemetryd.testing import Received, SinkContract, block, data_of
from telemetryd.testing.loops import LOOPS, LoopFactory

TOKEN = "s3cret-0815"  # noqa: S105 - opens nothing


class PresetContract(SinkContract):
    sink_class = HttpSink
    patience_seconds = 60.0  # a busy machine's
    oversized_bytes = 200 * 1024
    write_timeout_ms = 1000
    preset: ClassVar[str]
    server_class: ClassVar[type[VendorServer]]
    options: ClassVar[dict[str, object]] = {"token": TOKEN, "compression": "gzip"}

    @pytest.fixture(autouse=True)
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[VendorServer]:
        no_proxies(monkeypatch)
        with self.server_class() as server:
            server.token = str(self.options.get("token", ""))
            self.running = server
            yield server
            assert server.violations == []

    def config(self, directory: Path, **keys: object) -> SinkConfig:
        given = {
            "type": "http", "url": self.running.url, "linger_ms": 0, "preset": self.preset,
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

    @LOOPS
    def test_lines_that_are_not_json_pass_byte_for_byte(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory
    ) -> None:
        """As text: bodies are JSON, so bytes that are no UTF-8 arrive as U+FFFD."""
        received = stack.enter_context(self.destination(tmp_path))
        blocks = [
            block(b'{"cut": ', b"\xe2\x80\xa8 \xc2\x85", b'{"a":1} {"b":2}', b"[1,2]x"),
            block(b"carriage return\r", b"$LATEST %s \\n {}", bytes(range(1, 10)), b"\xff\x80!"),
            block(b'{"a":1}', b"x", b'{"a":2}'),
        ]
        rig = self.rig(tmp_path)
        self.deliver(loop_factory, rig, blocks)
        assert rig.leaves() == {"delivered": Count(11, len(data_of(blocks)))}
        assert received is not None
        assert received(0) == data_of(blocks).replace(b"\xff\x80", b"\xef\xbf\xbd" * 2)


class TestLoki(PresetContract):
    preset = "loki"
    server_class = LokiServer
    drops_duplicates = True
    refused_bytes = 300 * 1024


class TestSplunkHec(PresetContract):
    preset = "splunk_hec"
    server_class = SplunkServer
    refused_bytes = 1_100_000


class TestElasticBulk(PresetContract):
    preset = "elastic_bulk"
    server_class = ElasticServer
    drops_duplicates = True
    refused_bytes = 6 * 1024 * 1024


class TestDatadog(PresetContract):
    preset = "datadog"
    server_class = DatadogServer
    refused_bytes = 6 * 1024 * 1024


class TestNewRelic(PresetContract):
    preset = "new_relic"
    server_class = NewRelicServer
    refused_bytes = 1_100_000


class TestHoneycomb(PresetContract):
    preset = "honeycomb"
    server_class = HoneycombServer
    refused_bytes = 1_100_000


class TestCloudWatch(PresetContract):
    preset = "cloudwatch"
    server_class = CloudWatchServer
    refused_bytes = 1_100_000
    options: ClassVar[dict[str, object]] = {
        "labels": {"log_group": CloudWatchServer.group, "log_stream": CloudWatchServer.stream}
    }

    @pytest.fixture(autouse=True)
    def _keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")

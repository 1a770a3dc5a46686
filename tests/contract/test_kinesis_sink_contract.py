"""The Kinesis sink under the Sink contract, against a server that keeps what PutRecords brings."""

# ruff: noqa: D101, D102 - the base class says it
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from helpers.kinesis_server import Error, Hang, KinesisServer, environment
from telemetryd.sinks.base import SinkConfig
from telemetryd.sinks.kinesis.sink import KinesisSink
from telemetryd.testing import Received, SinkContract
from telemetryd_proto.kinesis import unwrap

# aiohttp advises against what is right here: a body that is one piece of memory already.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")


class TestKinesisSink(SinkContract):
    """Records of about one of the contract's blocks, so that batches have several items."""

    sink_class = KinesisSink
    patience_seconds = 60.0  # a busy machine's
    oversized_bytes = 900_000
    refused_bytes: ClassVar[int | None] = 1_100_000
    write_timeout_ms = 3000  # the first one connects, and signs with tables yet to be read
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed

    @pytest.fixture(autouse=True)
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[KinesisServer]:
        with KinesisServer() as server:
            environment(monkeypatch, server)
            self.running = server
            yield server
            assert server.violations == []

    def config(self, directory: Path, **keys: object) -> SinkConfig:
        options: dict[str, Any] = {"linger_ms": 0, **self.options, **keys}
        # built directly: a target of less than 1 KiB is for tests only
        return KinesisSink.Config(type="kinesis", stream="s", record_target_bytes=30, **options)

    @contextmanager
    def destination(self, directory: Path) -> Iterator[Received]:
        def received(at_least: int) -> bytes:
            return b"".join(unwrap(put.data)[1] for put in self.running.accepted)

        yield received

    @contextmanager
    def outage(self, directory: Path) -> Iterator[str]:
        self.running.otherwise = Error(500, "InternalFailure")
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


class TestKinesisSinkWithZstdAndRandomKeys(TestKinesisSink):
    options = {"compression": "zstd", "partition_key": "random"}  # noqa: RUF012
    refused_bytes = None  # compressed, such a line fits


class TestKinesisSinkWithKpl(TestKinesisSink):
    options = {"packing": "kpl", "explicit_hash_key": "7"}  # noqa: RUF012

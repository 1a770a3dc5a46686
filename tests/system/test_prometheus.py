"""A real Prometheus server scrapes telemetryd, and its own tool judges the names.

Debian: apt-get install prometheus
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from helpers.daemon import Daemon, file_sink, sink
from helpers.lifecycle import with_hook
from helpers.lines import events
from helpers.otlp_signals import SignalServer
from helpers.ports import reserved
from helpers.scrape import get
from telemetryd.exposition.catalogue import FAMILIES

pytestmark = pytest.mark.system

PATIENCE_SECONDS: Final = 120.0
"""Prometheus takes about six seconds to its first scrape."""
DATA = events(500)
PLATFORM = (
    b'{"time":"2026-03-14T10:15:30.123Z","type":"platform.start","record":{"requestId":"r"}}\n'
)


@pytest.fixture(autouse=True)
def tools() -> None:
    """Both commands of the package."""
    missing = [name for name in ("prometheus", "promtool") if shutil.which(name) is None]
    if missing:
        pytest.fail(f"missing: {', '.join(missing)} (Debian: apt-get install prometheus)", False)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon with metrics that has delivered `DATA`, and lost the same lines at another sink.

    What has metrics only where it is configured is there too.
    """
    (tmp_path / "file").touch()
    keys = file_sink(tmp_path / "archive", types="function") | file_sink(
        tmp_path / "file" / "x", "broken", retry_max_elapsed_ms=0, types="function"
    )
    keys |= {"SYSTEM__METRICS": "true", "REDACT": "email"}
    hook = with_hook(tmp_path / "package", "Diary", budget_ms=60_000)
    with SignalServer() as server:
        keys |= sink("otlp", type="otlp", endpoint=server.base, signals="logs,metrics")
        with Daemon(tmp_path, foreign=hook, METRICS__LISTEN="127.0.0.1:0", **keys) as daemon:
            daemon.send(DATA + PLATFORM)
            daemon.wait_for_file(tmp_path / "archive", len(DATA))
            daemon.wait_for("lines_dropped", sink="broken")
            yield daemon


def port_of(daemon: Daemon) -> int:
    port: int = daemon.wait_for("metrics_served")["port"]
    return port


def test_promtool_has_nothing_to_say(daemon: Daemon) -> None:
    """Neither of the syntax nor of the names (`promtool check metrics`)."""
    _, _, body = get(port_of(daemon), "/metrics")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=body, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_prometheus_scrapes_every_family(daemon: Daemon, tmp_path: Path) -> None:
    """In the format it prefers; the numbers it has are those of the daemon."""
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        "scrape_configs:\n"
        "  - job_name: telemetryd\n"
        f"    static_configs: [{{targets: ['127.0.0.1:{port_of(daemon)}']}}]\n"
    )
    with reserved() as port:
        known = scraped(config, tmp_path, port)
    for family in FAMILIES:
        end = "_bucket" if family.kind == "histogram" else ""
        assert family.full_name + end in known


def scraped(config: Path, tmp_path: Path, port: int) -> set[str]:
    """The metrics known to a Prometheus on `port`, whose numbers are right."""
    command = [
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
    ]  # fmt: skip
    server = subprocess.Popen(command)
    try:
        lost = "telemetryd_dropped_lines_total{reason='io_error'}"
        assert until(port, lost) == {("broken",): 500}
        assert until(port, "up{job='telemetryd'}") == {("",): 1}
        assert until(port, "telemetryd_delivered_lines_total")["archive",] == 500
        assert until(port, "telemetryd_delivery_latency_seconds_count")["archive",] == 500
        quantile = "histogram_quantile(0.99, telemetryd_delivery_latency_seconds_bucket)"
        assert 0 < until(port, quantile)["archive",] < 60
        return names(port)
    finally:
        server.terminate()
        server.wait()


def asked(port: int, path: str) -> Any:
    """What the server's API answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return json.load(answer)["data"]


def until(port: int, query: str) -> dict[tuple[str, ...], float]:
    """The first result of a query that is not empty, by sink."""
    end = time.monotonic() + PATIENCE_SECONDS
    path = "/api/v1/query?" + urllib.parse.urlencode({"query": query})
    while time.monotonic() < end:
        try:
            found = asked(port, path)["result"]
        except OSError:  # it is still starting
            found = []
        if found:
            return {(r["metric"].get("sink", ""),): float(r["value"][1]) for r in found}
        time.sleep(0.1)
    raise AssertionError(f"nothing for {query}")


def names(port: int) -> set[str]:
    """All the metrics the server knows."""
    return set(asked(port, "/api/v1/label/__name__/values"))

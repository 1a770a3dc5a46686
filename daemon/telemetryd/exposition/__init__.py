"""`/metrics` and `/healthz` over HTTP: a daemon's counts for Prometheus, its health for probes.

`catalogue` lists the metrics. `collector` passes them to Prometheus' client library. `health`
judges, and `server` speaks HTTP. This is loaded only if `metrics.listen` names an address.
"""

from __future__ import annotations

import importlib
from contextlib import suppress

from telemetryd.app import Daemon
from telemetryd.config import parse_address
from telemetryd.exposition.health import health
from telemetryd.exposition.loop_lag import LoopLag
from telemetryd.exposition.server import HttpServer
from telemetryd.log import DaemonLog, describe

_COLLECTOR = "telemetryd.exposition.collector"
"""Loaded by name: Prometheus' library may be missing."""
_FIX = 'set metrics.listen to a free address (port 0 takes any free port), or to "" for none'


def prepare() -> None:
    """Load what takes a while to load, while no client waits."""
    with suppress(ImportError):
        importlib.import_module(_COLLECTOR)


async def expose(daemon: Daemon, address: str, log: DaemonLog) -> None:
    """Serve at `address` (`host:port`) until the daemon has stopped; "" for nowhere.

    Whatever is in the way there costs a warning only.
    """
    parsed = parse_address(address)
    if parsed is None:
        return
    host, port = parsed
    try:
        collector = importlib.import_module(_COLLECTOR)
    except ImportError as error:
        log.warning("metrics_not_served", reason=f"prometheus_client can't be loaded: {error}",
            fix='pip install prometheus-client, or set metrics.listen to ""')  # fmt: skip
        return
    scrapes = collector.Scrapes(daemon, collector.CollectorRegistry())

    def metrics(accept: str) -> tuple[int, str, bytes]:
        body, content_type = scrapes.answer(accept)
        return 200, content_type, body

    def healthz(_: str) -> tuple[int, str, bytes]:
        status, body = health(daemon)
        return status, "application/json", body

    def bug(error: Exception) -> None:
        log.error("metrics_failed", error=describe(error))

    server = HttpServer({"/metrics": metrics, "/healthz": healthz}, bug)
    try:
        host, port = await server.start(host, port)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        log.warning("metrics_not_served", host=host, port=port, reason=reason, fix=_FIX)
        return
    log.info("metrics_served", host=host, port=port, paths=["/metrics", "/healthz"])
    lag = LoopLag(daemon.stats.loop_lag_seconds)

    def close() -> None:
        lag.stop()
        server.close()

    daemon.close_last(close)

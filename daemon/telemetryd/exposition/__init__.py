"""`/metrics` and `/healthz` over HTTP: what a daemon counts, for Prometheus; how it is, for probes.

`catalogue` lists the metrics, `collector` hands them to Prometheus' client library, `health`
judges, `server` speaks HTTP. Loaded only where `metrics.listen` names an address.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import suppress

from telemetryd.app import Daemon
from telemetryd.exposition.health import health
from telemetryd.exposition.loop_lag import LoopLag
from telemetryd.exposition.server import HttpServer
from telemetryd.log import describe

_COLLECTOR = "telemetryd.exposition.collector"
"""Loaded by name: Prometheus' library may be missing."""
_FIX = 'set metrics.listen to a free address (port 0 takes any free port), or to "" for none'


class Exposition:
    """Serves one daemon's metrics and health until `close`."""

    def __init__(self, server: HttpServer, lag: LoopLag) -> None:
        self._server = server
        self._lag = lag

    def close(self) -> None:
        """Answer no more."""
        self._lag.stop()
        self._server.close()


def prepare() -> None:
    """Load what takes a while to load, while no client waits."""
    with suppress(ImportError):
        importlib.import_module(_COLLECTOR)


async def expose(
    daemon: Daemon, host: str, port: int, log: Callable[..., None]
) -> Exposition | None:
    """Serve on `host`:`port`; None, and a warning, if that can't be: telemetry goes on."""
    try:
        collector = importlib.import_module(_COLLECTOR)
    except ImportError as error:
        log("warning", "metrics_not_served", reason=f"prometheus_client can't be loaded: {error}",
            fix='pip install prometheus-client, or set metrics.listen to ""')  # fmt: skip
        return None
    scrapes = collector.Scrapes(daemon, collector.CollectorRegistry())

    def metrics(accept: str) -> tuple[int, str, bytes]:
        body, content_type = scrapes.answer(accept)
        return 200, content_type, body

    def healthz(_: str) -> tuple[int, str, bytes]:
        status, body = health(daemon)
        return status, "application/json", body

    def bug(error: Exception) -> None:
        log("error", "metrics_failed", error=describe(error))

    server = HttpServer({"/metrics": metrics, "/healthz": healthz}, bug)
    try:
        host, port = await server.start(host, port)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        log("warning", "metrics_not_served", host=host, port=port, reason=reason, fix=_FIX)
        return None
    log("info", "metrics_served", host=host, port=port, paths=["/metrics", "/healthz"])
    return Exposition(server, LoopLag(daemon.stats.loop_lag_seconds))

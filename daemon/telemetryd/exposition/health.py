"""The response of `/healthz`: 200 if telemetryd accepts lines and writes to every sink."""

from __future__ import annotations

import msgspec

from telemetryd.app import Daemon

OK = 200
UNAVAILABLE = 503


def health(daemon: Daemon) -> tuple[int, bytes]:
    """Return the status, and a JSON object that tells what is wrong.

    Paused reading is no fault: it is how a full queue is kept from losing lines. A circuit that is
    due for an attempt counts as up, since only the next line can tell.
    """
    down = [worker.name for worker in daemon.workers if not worker.is_up]
    problems = [f"sink {name}: the circuit is open, its destination keeps failing" for name in down]
    if daemon.listener.problem and not daemon.is_stopping:
        problems.append(daemon.listener.problem)
    if daemon.is_discarding:
        problems.append("an internal error: lines are counted and discarded")
    if daemon.is_stopping:
        problems.append("stopping")
    body = {
        "status": "unavailable" if problems else "ok",
        "problems": problems,
        "sinks": {
            worker.name: "down" if worker.name in down else "up" for worker in daemon.workers
        },
        "reading": "paused" if daemon.stats.pauses.is_on else "yes",
    }
    return UNAVAILABLE if problems else OK, msgspec.json.encode(body) + b"\n"

"""`telemetryd listen`: the daemon outside Lambda, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping
from functools import partial
from typing import Final

import uvloop

from telemetryd.app import Daemon, Identity
from telemetryd.config import Config, load
from telemetryd.errors import EXIT_BUG, EXIT_OK
from telemetryd.log import Log, LoggingBridge
from telemetryd.shell.listener import bind

_QUIET_SECONDS: Final = 0.1
"""No bytes for so long after the signal: everything sent before it has arrived."""


def listen(environ: Mapping[str, str]) -> int:
    """Run until a signal; the exit status. Raises ConfigError, ListenError."""
    loaded = load(environ, mode="listen")
    log = Log(loaded.config.log.level)
    logging.getLogger().addHandler(LoggingBridge(log))
    for warning in loaded.warnings:
        log("warning", "configuration_warning", detail=warning)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_listen(loaded.config, Identity(environ), log))


async def _listen(config: Config, identity: Identity, log: Log) -> int:
    loop = asyncio.get_running_loop()
    stopping: asyncio.Future[str] = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, stopping, signal.Signals(number).name)
    sock = bind(config.telemetry.host, config.telemetry.port)
    daemon = Daemon(
        config, sock, mode="listen", identity=identity, log=log, on_bug=partial(_fail, stopping)
    )
    await daemon.start()
    listener = daemon.listener
    log("info", "listening", host=listener.address, port=listener.port, sinks=list(config.sinks))
    failed = False
    try:
        log("info", "stopping", signal=await stopping, connections=listener.connections)
    except Exception as bug:  # noqa: BLE001 - ours: deliver what we have, then say so
        failed = True
        log("error", "internal_error", error=repr(bug)[:500])
    budget = config.flush.shutdown_ms / 1000
    now = loop.time()
    balanced = await daemon.stop(
        quiet=_QUIET_SECONDS, read_until=now + budget / 2, deadline=now + budget
    )
    return EXIT_OK if balanced and not failed else EXIT_BUG


def _stop(stopping: asyncio.Future[str], name: str) -> None:
    if not stopping.done():
        stopping.set_result(name)


def _fail(stopping: asyncio.Future[str], bug: Exception) -> None:
    if not stopping.done():
        stopping.set_exception(bug)

"""`telemetryd listen`: the daemon outside Lambda, until a signal ends it (see `signals`)."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import uvloop

from telemetryd import library_log
from telemetryd.app import Daemon, Identity
from telemetryd.clock import Clock
from telemetryd.config import Loaded, effective_address, effective_memory, effective_metrics, load
from telemetryd.errors import EXIT_BUG, EXIT_OK, TelemetrydError
from telemetryd.ingest.listener import bind
from telemetryd.log import Log, describe
from telemetryd.reload import Reloader
from telemetryd.signals import Wishes

_STDOUT: Final = 1
_QUIET_SECONDS: Final = 0.1
"""No bytes for so long after the signal: everything sent before it has arrived."""

_HURRY_SECONDS: Final = 0.5
"""Seconds after a second signal: enough for every sink that is not stuck. A terminal's Ctrl-C often
arrives twice, once more from the parent process, and must not cost lines."""


def listen(environ: Mapping[str, str]) -> int:
    """Run until a signal; the exit status. Errors are logged, as all that happens here is."""
    clock = Clock()
    started = clock.monotonic()
    log = Log(clock=clock)
    try:
        read = partial(load, environ, mode="listen", terminal=os.isatty(_STDOUT))
        loaded = read()
        log.set_level(loaded.config.log.level)
        library_log.bridge(log)
        if loaded.warnings:
            log.warning("configuration_warning", details=loaded.warnings)
        _raise_descriptor_limit(log)
        # Never closed: closing the loop gives the signals their default action back, and one that
        # comes before the process has ended would then change its exit status.
        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        memory = effective_memory(loaded.config, "listen", environ)
        return runner.run(_listen(loaded, read, memory, Identity(environ), log, clock, started))
    except TelemetrydError as error:
        log.error("not_started", problems=str(error).splitlines())
        return error.exit_status
    except Exception as bug:  # noqa: BLE001 - ours: the log must say so
        log.error("internal_error", error=describe(bug))
        return EXIT_BUG


def _raise_descriptor_limit(log: Log) -> None:
    """Raise the soft limit of open files to the hard limit, because each connection needs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:
            log.warning("descriptor_limit_not_raised", limit=soft, error=str(error))


async def _listen(
    loaded: Loaded,
    read: Callable[[], Loaded],
    memory: int,
    identity: Identity,
    log: Log,
    clock: Clock,
    started: float,
) -> int:
    config = loaded.config
    wishes = Wishes()
    sock = bind(*effective_address(config, "listen"))
    daemon = Daemon(
        config,
        sock,
        mode="listen",
        memory_bytes=memory,
        identity=identity,
        log=log,
        on_bug=wishes.fail,
        speaks_http=config.telemetry.protocol == "http",
        started=started,
        clock=clock,
    )
    reloader = Reloader(daemon, config, read, log)
    wishes.follow_hangups(reloader.request)
    metrics_at = effective_metrics(config, "listen")
    if metrics_at:
        from telemetryd import exposition  # noqa: PLC0415 - only where it is of use

        exposition.prepare()
    await daemon.start()
    daemon.stats.start_seconds["up"] = clock.monotonic() - started
    listener = daemon.listener
    log.info("listening", host=listener.address, port=listener.port, sinks=list(config.sinks))
    if metrics_at:
        await exposition.expose(daemon, metrics_at, log)
    failed = False
    try:
        log.info("stopping", signal=await wishes.stopping, connections=listener.connections)
    except Exception as bug:  # noqa: BLE001 - ours: deliver what we have, then say so
        failed = True
        log.error("internal_error", error=describe(bug))
    reloader.stop()
    balanced = await _stop(daemon, reloader.config.flush.shutdown_ms / 1000, wishes.hurrying, log)
    return EXIT_OK if balanced and not failed else EXIT_BUG


async def _stop(daemon: Daemon, seconds: float, hurrying: asyncio.Future[str], log: Log) -> bool:
    """Stop within `seconds`, or soon after `hurrying` is done; whether the ledger balances."""
    draining = asyncio.create_task(_drain(daemon, seconds))
    await asyncio.wait((draining, hurrying), return_when=asyncio.FIRST_COMPLETED)
    if not draining.done():
        log.info("draining_cut_short", signal=hurrying.result())
        draining.cancel()
        await asyncio.wait((draining,))
        if draining.cancelled():
            return await _drain(daemon, _HURRY_SECONDS)
    return draining.result()


async def _drain(daemon: Daemon, seconds: float) -> bool:
    now = asyncio.get_running_loop().time()
    return await daemon.stop(
        quiet=_QUIET_SECONDS, read_until=now + seconds / 2, deadline=now + seconds, keep=True
    )

"""The limits that a configuration would run into, for `telemetryd check`.

Values that are valid alone may bound each other: a queue and the memory of all, a batch and a
request, a line and what a sink can send, a spool and its disk. Each is one line, which says what
then happens.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping
from typing import Final

from telemetryd.config import Config, Mode, effective_memory
from telemetryd.sinks.base import MIB, SinkConfig
from telemetryd.sinks.file.sink import FileConfig

_TMP: Final = "/tmp"  # noqa: S108 - Lambda's
_TMP_BYTES: Final = 512 * MIB
"""Of a function that asks for no more (AWS Lambda Developer Guide, Lambda quotas)."""
_OWN_DESCRIPTORS: Final = 64
"""Open files of telemetryd besides connections, about."""


def limits(config: Config, mode: Mode, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield one text for each limit, as `"key: text"`."""
    yield from _of_memory(config, effective_memory(config, mode, environ))
    for name, sink in config.sinks.items():
        yield from (f"sinks.{name}{text}" for text in _of_sink(sink, config))
    yield from _of_disks(config)
    if mode == "lambda":
        yield from _of_tmp(config)
    else:
        yield from _of_descriptors(config)


def _of_memory(config: Config, memory: int) -> Iterator[str]:
    queues = sum(sink.queue_max_bytes for sink in config.sinks.values())
    if queues > memory and len(config.sinks) > 1:
        yield (
            f"memory.max_bytes: is {memory}, but the queues of all sinks may hold {queues}: "
            "together they are full before each of them is"
        )
    for name, sink in config.sinks.items():
        if sink.queue_max_bytes > memory:
            yield (
                f"sinks.{name}.queue_max_bytes: is {sink.queue_max_bytes}, but memory.max_bytes "
                f"is {memory}: the queue is full at that"
            )


def _of_sink(sink: SinkConfig, config: Config) -> Iterator[str]:
    line, request = sink.most_line_bytes, sink.most_request_bytes
    longest = config.telemetry.max_line_bytes
    if 0 < line < longest:
        yield (
            f": type {sink.type} delivers lines of at most {line} bytes with these values, "
            f"but telemetry.max_line_bytes is {longest}: a larger line is lost as too_large"
        )
    if sink.batch_max_bytes > sink.queue_max_bytes:
        yield (
            f".batch_max_bytes: is {sink.batch_max_bytes}, but the queue is full at "
            f"{sink.queue_max_bytes}: no batch becomes larger than that"
        )
    if 0 < request < sink.batch_max_bytes:
        calls = -(-sink.batch_max_bytes // request)
        yield (
            f".batch_max_bytes: is {sink.batch_max_bytes}, but a request has at most {request} "
            f"bytes: a full batch takes {calls} requests, all within write_timeout_ms"
        )
    if config.telemetry.buffering.max_bytes > sink.queue_max_bytes:
        yield (
            f".queue_max_bytes: is {sink.queue_max_bytes}, but Lambda may send "
            f"{config.telemetry.buffering.max_bytes} bytes at once "
            "(telemetry.buffering.max_bytes): they do not fit into the queue"
        )
    phases = [getattr(sink, f"{phase}_timeout_ms", None) or 0 for phase in ("connect", "read")]
    if sum(phases) > sink.write_timeout_ms:
        yield (
            f".write_timeout_ms: is {sink.write_timeout_ms}, but connecting and waiting for a "
            f"response may take {sum(phases)}: the attempt ends before, as timeout"
        )


def _of_disks(config: Config) -> Iterator[str]:
    """Yield where a disk has less room now than what may be written to it."""
    for key, path, most in _kept_on_disk(config):
        free = _free_bytes(path)
        if free is not None and free < most:
            yield f"{key}: is {most}, but {free} bytes are free there now: a full disk ends it"


def _kept_on_disk(config: Config) -> Iterator[tuple[str, str, int]]:
    """Yield the key, the path and the bytes of each spool and of the dead letter."""
    for name, sink in config.sinks.items():
        if sink.spool is not None:
            yield f"sinks.{name}.spool.max_bytes", sink.spool.path, sink.spool.max_bytes
    if config.dead_letter.path:
        yield "dead_letter.max_bytes", config.dead_letter.path, config.dead_letter.max_bytes


def _of_tmp(config: Config) -> Iterator[str]:
    kept = [(path, most) for _, path, most in _kept_on_disk(config) if _is_in_tmp(path)]
    total = sum(most for _, most in kept)
    if total > _TMP_BYTES:
        yield (
            f"spool.max_bytes: spools and dead letter in {_TMP} may take {total} bytes, but "
            f"{_TMP} of a function has {_TMP_BYTES} unless it asks for more"
        )
    for name, sink in config.sinks.items():
        if isinstance(sink, FileConfig) and _is_in_tmp(sink.path):
            bounded = sink.rotate_bytes and sink.keep
            if not bounded:
                yield (
                    f"sinks.{name}.path: {_TMP} of a function has {_TMP_BYTES} bytes unless it "
                    "asks for more, and nothing bounds this file: set rotate_bytes and keep"
                )


def _is_in_tmp(path: str) -> bool:
    return path.startswith(f"{_TMP}/")


def _of_descriptors(config: Config) -> Iterator[str]:
    """Yield it if not all connections can be open. `listen` raises the soft limit to the hard."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = config.telemetry.max_connections + _OWN_DESCRIPTORS
    if hard != resource.RLIM_INFINITY and wanted > hard:
        yield (
            f"telemetry.max_connections: is {config.telemetry.max_connections}, but the hard limit "
            f"of open files is {hard} (ulimit -Hn): later connections are refused"
        )


def _free_bytes(path: str) -> int | None:
    """Return the bytes that are free where `path` will be; None if that can't be found out."""
    while path:
        try:
            found = os.statvfs(path)
        except FileNotFoundError:
            parent = os.path.dirname(path)  # noqa: PTH120
            path = "" if parent == path else parent
        except OSError:
            return None
        else:
            return found.f_bavail * found.f_frsize
    return None

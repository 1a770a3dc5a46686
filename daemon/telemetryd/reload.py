"""SIGHUP: reopens files, rereads the configuration, and applies the keys that may change at once.

No queued line is touched and no connection closed. The log names changes that need a restart, at
each reload until then. A configuration with a fault changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from telemetryd.app import Daemon
from telemetryd.config import Config, Loaded
from telemetryd.config.explain import show
from telemetryd.errors import ConfigError
from telemetryd.log import Log, describe
from telemetryd.sinks.base import SinkConfig

LIVE_KEYS: Final = (
    "flush.shutdown_ms",
    "log.level",
    "tags",
    "telemetry.idle_seconds",
    "telemetry.max_connections",
)
LIVE_SINK_KEYS: Final = (
    "exclude",
    "fields",
    "format",
    "include",
    "linger_ms",
    "min_level",
    "retry_max_elapsed_ms",
    "sample",
    "tags",
    "types",
    "write_timeout_ms",
)
"""Keys of `[sinks.<name>]`, if the type stays the same."""
_OPEN_SECONDS: Final = 5.0
"""Seconds for files to open."""


class Reloader:
    """Reloads for `daemon`, which runs on `config`; `read` reads the configuration again."""

    def __init__(
        self, daemon: Daemon, config: Config, read: Callable[[], Loaded], log: Log
    ) -> None:
        self.config = config
        """The configuration in effect."""
        self._daemon = daemon
        self._read = read
        self._log = log
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._number = 0

    def request(self) -> None:
        """Reload, or reload again after the current reload."""
        if self._daemon.is_stopping:
            self._log.info("reload_ignored", reason="telemetryd is ending")
        elif self._task is None or self._task.done():
            self._task = asyncio.create_task(self._reload(), name="reload")
        else:
            self._again = True

    def stop(self) -> None:
        """Stop reloading."""
        self._again = False
        if self._task is not None:
            self._task.cancel()

    async def _reload(self) -> None:
        self._again = True
        while self._again:
            self._again = False
            try:
                await self._reload_once()
            except Exception as bug:  # noqa: BLE001 - ours: the work continues as it was
                self._log.error("reload_failed", error=describe(bug))

    async def _reload_once(self) -> None:
        self._number += 1
        failed = await self._daemon.reopen(_OPEN_SECONDS)
        for sink, reason in failed.items():
            self._log.warning("sink_not_reopened", sink=sink, error=reason)
        try:
            # in a thread: the disk may be slow, and a large file takes its time
            loaded = await asyncio.to_thread(self._read)
        except ConfigError as error:
            self._log.error(
                "configuration_invalid", reload=self._number, problems=error.problems,
                consequence="files are reopened; the configuration is unchanged",
            )  # fmt: skip
            return
        if loaded.warnings:
            self._log.warning("configuration_warning", details=loaded.warnings)
        applied, pending = [], []
        for key, before, after in differences(self.config, loaded.config):
            is_live = is_live_key(key)
            if is_live:
                applied.append(f"{key}: {show(key, before)} -> {show(key, after)}")
            else:
                pending.append(key)
        self.config = with_live_keys(self.config, loaded.config)
        self._log.set_level(self.config.log.level)
        self._daemon.adjust(self.config)
        self._log.info(
            "reloaded", reload=self._number, file=loaded.file, applied=applied,
            needs_restart=pending,
        )  # fmt: skip
        if pending:
            self._log.warning("restart_needed", reload=self._number, keys=pending)


def is_live_key(key: str) -> bool:
    """True if a change of this dotted key takes effect at once."""
    section, _, rest = key.partition(".")
    return key in LIVE_KEYS or (section == "sinks" and rest.partition(".")[2] in LIVE_SINK_KEYS)


def differences(old: Config, new: Config) -> Iterator[tuple[str, Any, Any]]:
    """Yield each key whose value differs, with both; a new, removed or other sink by its name."""
    for field in msgspec.structs.fields(Config):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if field.name != "sinks":
            yield from _differences(field.encode_name, before, after)
            continue
        for name in {**before, **after}:
            one, other = before.get(name), after.get(name)
            if one is not None and other is not None and one.type != other.type:
                yield f"sinks.{name}.type", one.type, other.type
            else:
                yield from _differences(f"sinks.{name}", one, other)


def _differences(key: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    if before == after:
        return
    if type(before) is type(after) and isinstance(before, msgspec.Struct):
        for field in msgspec.structs.fields(before):
            inner = f"{key}.{field.encode_name}"
            yield from _differences(inner, getattr(before, field.name), getattr(after, field.name))
    else:
        yield key, before, after


def with_live_keys(old: Config, new: Config) -> Config:
    """Return `old` with those values of `new` that can take effect at once."""
    replace = msgspec.structs.replace
    sinks = {
        name: _with_live_keys(sink, new.sinks[name])
        if name in new.sinks and new.sinks[name].type == sink.type
        else sink
        for name, sink in old.sinks.items()
    }
    sections: dict[str, Any] = {}
    for key in LIVE_KEYS:
        section, _, name = key.partition(".")
        value = getattr(new, section)
        if name:
            struct = sections.get(section, getattr(old, section))
            value = replace(struct, **{name: getattr(value, name)})
        sections[section] = value
    return replace(old, sinks=sinks, **sections)


def _with_live_keys(old: SinkConfig, new: SinkConfig) -> SinkConfig:
    return msgspec.structs.replace(old, **{key: getattr(new, key) for key in LIVE_SINK_KEYS})

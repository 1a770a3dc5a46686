"""docs/signals.md says of signals and reloads what the code does."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from telemetryd.config import Config
from telemetryd.delivery.attempt import LAST_CHANCE_SECONDS
from telemetryd.log import ALLOWED
from telemetryd.reload import LIVE_KEYS, LIVE_SINK_KEYS, is_live_key
from telemetryd.signals import ending_signals, name_of
from telemetryd.sinks.base import SinkConfig

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "signals.md").read_text()


def test_the_keys_that_change_at_once_are_those_of_the_page() -> None:
    general, sinks = re.search(r"at once:\n\n- (.*?);\n- (.*?)\.\n", PAGE, re.DOTALL).groups()  # type: ignore[union-attr]
    assert re.findall(r"`([a-z_.]+)`", general) == sorted(LIVE_KEYS)
    assert re.findall(r"`([a-z_]+)`", sinks.partition(":")[2]) == sorted(LIVE_SINK_KEYS)


def test_they_exist() -> None:
    for key in LIVE_KEYS:
        section, _, name = key.partition(".")
        assert hasattr(getattr(Config(), section), name) or not name
        assert is_live_key(key)
    assert set(LIVE_SINK_KEYS) < set(SinkConfig.__struct_fields__)
    assert is_live_key("sinks.a.types")
    assert not is_live_key("sinks.a.type")
    assert not is_live_key("sinks.a.spool.path")


def test_every_signal_of_this_system_has_its_place() -> None:
    """By name, or among those that end a process by default."""
    for number in signal.valid_signals():
        name = name_of(number)
        faults = ("SIGILL", "SIGTRAP", "SIGBUS", "SIGFPE", "SIGSYS")
        assert number in ending_signals() or f"`{name}`" in PAGE or name in faults, name


def test_figures() -> None:
    assert f"one last attempt of {LAST_CHANCE_SECONDS} seconds" in PAGE
    limits = re.search(r"warnings to (\d+), `info` to (\d+),\s+`debug` to (\d+)", PAGE)
    assert limits is not None
    assert [int(n) for n in limits.groups()] == [ALLOWED[k] for k in ("error", "info", "debug")]

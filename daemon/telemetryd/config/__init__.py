"""Configuration: defaults < TOML file < environment, checked as a whole before anything starts.

`schema` says what may be set, `sources` reads the file and the environment, `load` merges and
checks them, `suggest` guesses what an unknown key meant, `explain` renders values for people,
`document` writes docs/configuration.md. Nothing outside this package reads the environment for
configuration.
"""

from telemetryd.config.load import Loaded, load, mask_warnings, pattern_warnings
from telemetryd.config.schema import (
    Buffering,
    Config,
    DeadLetter,
    Flush,
    HookConfig,
    Lambda,
    Log,
    Memory,
    Metrics,
    Mode,
    RedactRule,
    Telemetry,
    as_rule,
    effective_address,
    effective_memory,
    effective_metrics,
    effective_overflow,
    effective_tags,
    parse_address,
    with_last_resort,
    without_bad_failovers,
)
from telemetryd.config.sources import DEFAULT_PATHS

__all__ = [
    "DEFAULT_PATHS",
    "Buffering",
    "Config",
    "DeadLetter",
    "Flush",
    "HookConfig",
    "Lambda",
    "Loaded",
    "Log",
    "Memory",
    "Metrics",
    "Mode",
    "RedactRule",
    "Telemetry",
    "as_rule",
    "effective_address",
    "effective_memory",
    "effective_metrics",
    "effective_overflow",
    "effective_tags",
    "load",
    "mask_warnings",
    "parse_address",
    "pattern_warnings",
    "with_last_resort",
    "without_bad_failovers",
]

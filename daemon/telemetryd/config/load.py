"""The configuration as the daemon gets it: merged, checked, and with the origin of every value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from telemetryd.config.reader import Reader
from telemetryd.config.schema import Config, Mode, as_rule, effective_overflow
from telemetryd.config.sources import DEFAULT_PATHS, read_sources
from telemetryd.config.types import type_faults
from telemetryd.core.patterns import HEAD_ONLY, risk_of
from telemetryd.errors import ConfigError


class Loaded(msgspec.Struct, frozen=True):
    """A configuration without faults."""

    config: Config
    origins: Mapping[str, str]
    """Dotted key to "default", the path of the file, or "environment TELEMETRYD_...": every key."""
    warnings: tuple[str, ...]
    """Lines about what is permitted and probably not wanted."""
    file: str
    """Path of the TOML file that was read, "" where there was none."""


def load(
    environ: Mapping[str, str],
    *,
    default_paths: Sequence[str] = DEFAULT_PATHS,
    mode: Mode = "listen",
    tolerant: bool = False,
    terminal: bool = False,
) -> Loaded:
    """Read, merge and check the whole configuration.

    `default_paths` are tried in order where TELEMETRYD_CONFIG is not set; `mode` decides which
    defaults the warnings assume. With `tolerant`, a variable that names no key is a warning.
    `terminal`: standard output is one, and gets the lines if no sink is configured. Raises
    ConfigError with every problem found, and nothing else.
    """
    sources = read_sources(environ, default_paths)
    reader = Reader(sources, mode, tolerant=tolerant, terminal=terminal)
    config = reader.config()
    reader.report_unknown()
    unusual = []
    for key, text, impossible in type_faults(config, mode):
        if impossible:
            reader.refuse(key, text)
        else:
            unusual.append(f"{key}: {text}")
    if reader.problems:
        usable = reader.repair(config)
        left_out = tuple(name for name in reader.sinks if name not in usable.sinks)
        unknown = tuple(reader.warnings)
        raise ConfigError(reader.all_problems, usable, left_out, unknown)
    warnings = (
        *reader.warnings,
        *_warnings(config, reader.sinks, mode),
        *_lambda_warnings(config, mode, sources.file),
        *pattern_warnings(config, risk_of),
        *unusual,
    )
    return Loaded(config, reader.origins, warnings, sources.file)


def _warnings(config: Config, declared: Iterable[str], mode: Mode) -> Iterable[str]:
    if not list(declared) and mode == "listen":
        so = "printed on this terminal (a stdout sink)"
        if config.sinks["default"].type == "null":
            so = "counted and discarded (a null sink; on a terminal it would be printed)"
        yield (
            f"sinks: none is configured, so every line is {so}; add a section such as "
            '[sinks.archive] with type = "file"'
        )
    sinks = config.sinks.items()
    blocking = [name for name, sink in sinks if effective_overflow(sink, mode) == "block"]
    if blocking and len(sinks) > 1:
        keys = ", ".join(f"sinks.{name}.overflow" for name in blocking)
        yield (
            f'{keys}: "block" stops reading when the queue is full, and so delays every other '
            f'sink; "drop_oldest" or "drop_newest" keeps them independent'
        )


def pattern_warnings(config: Config, risk_of: Callable[[str], str]) -> Iterator[str]:
    """Yield the risks that `risk_of` finds in the patterns of all sinks."""
    for name, sink in config.sinks.items():
        for key in ("include", "exclude"):
            for pattern in getattr(sink, key):
                if risk := risk_of(pattern):
                    yield f"sinks.{name}.{key}: {pattern!r}: {risk}"
        for rule in sink.sample:
            if rule.match and (risk := risk_of(rule.match)):
                yield f"sinks.{name}.sample: {rule.match!r}: {risk}"


def mask_warnings(config: Config, risk_of: Callable[[str], str]) -> Iterator[str]:
    """Yield the risks that `risk_of` finds in the patterns of `redact`, by the name of the rule."""
    for rule in map(as_rule, config.redact):
        if rule.pattern and (risk := risk_of(rule.pattern)):
            yield f"redact: {rule.name}: {risk.removesuffix(HEAD_ONLY)}"


def _lambda_warnings(config: Config, mode: Mode, file: str) -> Iterable[str]:
    if mode != "lambda":
        return
    if config.telemetry.token:
        yield "telemetry.token: without effect in Lambda, whose platform sends no token"
    if config.lambda_.start == "park" and file:
        yield (
            f'lambda.start: "park" is without effect beside a configuration file ({file}), which '
            "the launcher can't read; set all keys as environment variables, or build the layer "
            "with the file (make layer CONFIG=FILE)"
        )
    if config.telemetry.idle_seconds:
        yield (
            "telemetry.idle_seconds: has no effect in Lambda, where the platform is silent between "
            "invocations and connects only once"
        )
    if config.flush.strategy == "continuous":
        return
    if "platform" not in config.telemetry.types:
        yield (
            'telemetry.types: without "platform" telemetryd does not see the end of an invocation, '
            "so it does not flush then; queued lines wait for the next invocation"
        )
    if config.telemetry.buffering.timeout_ms > config.flush.max_added_ms:
        yield (
            f"telemetry.buffering.timeout_ms = {config.telemetry.buffering.timeout_ms} exceeds "
            f"flush.max_added_ms = {config.flush.max_added_ms}: the last lines of an invocation "
            "arrive after the wait for them"
        )

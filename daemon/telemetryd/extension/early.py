"""The settings needed before `next`: `[telemetry]`, `[lambda]` and `fail_closed`.

They are read without msgspec, from the environment and the TOML file, if there is one. An invalid
value is replaced by its default, with one log line. `telemetryd.config` checks everything again,
completely, when the function no longer waits for us.
"""

from __future__ import annotations

import posix

TYPE_CHECKING = False  # type checkers take it for typing's, which costs time to import
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

DEFAULT_PATHS = ("/var/task/telemetryd.toml", "/opt/telemetryd.toml")
SCHEMA_VERSIONS = ("2025-01-29", "2022-12-13", "2022-07-01")
LOGS_VERSIONS = ("2021-03-18", "2020-08-15")
"""Schemas of the Logs API. The older one does not tell the end of an invocation."""
HOST = "::"
"""Every address: Lambda connects to the one that it calls `sandbox.localdomain`."""
PORT = 28353
"""Below the ephemeral ports, and none that another extension is known to use."""
TYPES = ("platform", "function", "extension")
_PREFIX = "TELEMETRYD_"
_CONFIG = "TELEMETRYD_CONFIG"
_MAX_DIGITS = 20


class Invalid(Exception):  # noqa: N818 - never leaves this module
    """A value that can't be used; the text says what is allowed."""


class Early:
    """The settings, and a line for each value that was not usable."""

    def __init__(self) -> None:
        self.types: tuple[str, ...] = ("platform", "function")
        self.host = HOST
        self.port = PORT
        self.schema_version = SCHEMA_VERSIONS[0]
        self.max_items = 10_000
        self.max_bytes = 1_048_576
        self.timeout_ms = 25
        self.protocol = "tcp"
        self.api = "telemetry"
        self.next = "auto"
        self.events = "auto"
        self.fail_closed = False
        self.problems: list[str] = []


def _choice(*allowed: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in allowed:
            raise Invalid("one of " + ", ".join(allowed))
        return str(value)

    return read


def _whole(low: int, high: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, str) and len(value) < _MAX_DIGITS and value.strip().isdecimal():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise Invalid(f"{low} to {high}")
        return value

    return read


def _port(value: object) -> int:
    port: int = _whole(0, 65535)(value)
    if 0 < port < 1025 or port == 9001:  # noqa: PLR2004 - the platform's limits
        raise Invalid("0, or 1025 to 65535 but not 9001")
    return port


def _host(value: object) -> str:
    if not isinstance(value, str) or not value or any(c.isspace() for c in value):
        raise Invalid("one address to listen on")
    return value


def _types(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip(' "') for part in value.strip("[] ").split(",")]
    if (
        not isinstance(value, list)
        or not value
        or any(part not in TYPES for part in value)
        or len(set(value)) < len(value)
    ):
        raise Invalid("a list of " + ", ".join(TYPES))
    return tuple(value)


def _flag(value: object) -> bool:
    text = str(value).lower()
    if text not in ("true", "false", "1", "0"):
        raise Invalid("true or false")
    return text in ("true", "1")


_KEYS: tuple[tuple[tuple[str, ...], str, Callable[[object], object]], ...] = (
    (("telemetry", "types"), "types", _types),
    (("telemetry", "protocol"), "protocol", _choice("tcp", "http", "auto")),
    (("telemetry", "api"), "api", _choice("telemetry", "logs")),
    (("telemetry", "host"), "host", _host),
    (("telemetry", "port"), "port", _port),
    (("telemetry", "schema_version"), "schema_version", _choice(*SCHEMA_VERSIONS)),
    (("telemetry", "buffering", "max_items"), "max_items", _whole(1000, 10_000)),
    (("telemetry", "buffering", "max_bytes"), "max_bytes", _whole(262_144, 1_048_576)),
    (("telemetry", "buffering", "timeout_ms"), "timeout_ms", _whole(25, 30_000)),
    (("lambda", "next"), "next", _choice("auto", "early", "ready")),
    (("lambda", "events"), "events", _choice("auto", "shutdown")),
    (("fail_closed",), "fail_closed", _flag),
)


def read(environ: Mapping[str, str], default_paths: Sequence[str] = DEFAULT_PATHS) -> Early:
    """Return the settings in `environ` and in the TOML file, named there or at a default path."""
    settings = Early()
    variables = {}
    for name in environ:
        if name.upper().startswith(_PREFIX):
            variables[name.upper()] = environ[name]
    named = environ.get(_CONFIG) or variables.get(_CONFIG, "")
    table = _read_file(named, default_paths, settings.problems)
    for path, attribute, convert in _KEYS:
        variable = _PREFIX + "__".join(path).upper()
        found: Any = variables.get(variable)
        if found is None:
            found = table
            for part in path:
                found = found.get(part) if isinstance(found, dict) else None
            if found is None:
                continue
        try:
            setattr(settings, attribute, convert(found))
        except Invalid as allowed:
            settings.problems.append(
                f"{'.'.join(path)} = {str(found)[:80]!r}: must be {allowed}; the default is used"
            )
    if settings.fail_closed and settings.next != "ready":
        settings.fail_closed = False
        settings.problems.append('fail_closed = true: needs lambda.next = "ready"; it is off')
    return settings


def _read_file(named: str, default_paths: Sequence[str], problems: list[str]) -> dict[str, Any]:
    for path in (named,) if named else default_paths:
        try:
            posix.stat(path)
            from telemetryd import toml_file  # noqa: PLC0415 - only where a file exists

            return toml_file.read(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            if named:
                problems.append(f"{path}: can't be read: {error}")
        except (OSError, ValueError) as error:
            problems.append(f"{path}: {error}")
            return {}
    return {}

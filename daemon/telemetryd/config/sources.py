"""Reads the two places a configuration can come from: a TOML file and environment variables.

    TELEMETRYD_CONFIG, else the first of DEFAULT_PATHS that exists
    TELEMETRYD_<SECTION>__<KEY>, e.g. TELEMETRYD_TELEMETRY__BUFFERING__TIMEOUT_MS=25

Nothing is checked here beyond the syntax; faults become problem lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from telemetryd.config.explain import printable

DEFAULT_PATHS: Final = ("/var/task/telemetryd.toml", "/opt/telemetryd.toml")
PREFIX: Final = "TELEMETRYD_"
CONFIG_VARIABLE: Final = "TELEMETRYD_CONFIG"
LOCAL_VARIABLE: Final = "TELEMETRYD_LOCAL"
"""`1` in what the local Lambda starts: the sandbox is a machine with a network of its own."""
EXEMPT: Final = frozenset({CONFIG_VARIABLE, LOCAL_VARIABLE})
"""Variables with the prefix that are no configuration keys."""

MAX_FILE_BYTES: Final = 1024 * 1024

Path: TypeAlias = tuple[str, ...]


class FromEnvironment(NamedTuple):
    """One variable: its name as written, and its text."""

    variable: str
    text: str


class Sources(NamedTuple):
    """What was found, unchecked."""

    file: str
    """Path of the TOML file that was read, "" when there is none."""
    table: dict[str, Any]
    environment: dict[Path, FromEnvironment]
    problems: list[str]


def read_sources(environ: Mapping[str, str], default_paths: Sequence[str]) -> Sources:
    """Read the file and collect the variables. Raises nothing; see `Sources.problems`."""
    sources = Sources("", {}, {}, [])
    file = ""
    for variable, text in environ.items():
        name = variable.upper()
        if name == CONFIG_VARIABLE and (variable == CONFIG_VARIABLE or not file):
            file = text
        elif name.startswith(PREFIX) and name not in EXEMPT:
            _collect(sources, variable, text)
    found, table = _read_file(file, default_paths, sources.problems)
    return sources._replace(file=found, table=table)


def _collect(sources: Sources, variable: str, text: str) -> None:
    path = tuple(variable[len(PREFIX) :].lower().split("__"))
    earlier = sources.environment.get(path)
    if earlier is not None:
        problem = f"sets the same key as {printable(earlier.variable)}; keep one of them"
    elif not _is_unicode(text):
        problem = "its value is not valid UTF-8"
    else:
        sources.environment[path] = FromEnvironment(variable, text)
        return
    sources.problems.append(f"environment {printable(variable)}: {problem}")


def _is_unicode(text: str) -> bool:
    """False where the bytes of a variable were no UTF-8, which Python keeps as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_file(
    named: str, default_paths: Sequence[str], problems: list[str]
) -> tuple[str, dict[str, Any]]:
    for path in [named] if named else default_paths:
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs start-up time
                data = file.read(MAX_FILE_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError) as error:
            if not named:
                continue
            problems.append(f"environment {CONFIG_VARIABLE} = {printable(path)}: {error.strerror}")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            origin = f"environment {CONFIG_VARIABLE} = " if named else ""
            problems.append(f"{origin}{printable(path)}: can't be read: {reason}")
        else:
            return path, _parse(path, data, problems)
        return path, {}
    return "", {}


def _parse(path: str, data: bytes, problems: list[str]) -> dict[str, Any]:
    # Imported only where a file exists: most functions have none, and wait for nothing.
    import tomllib  # noqa: PLC0415

    if len(data) > MAX_FILE_BYTES:
        problems.append(f"{printable(path)}: larger than {MAX_FILE_BYTES} bytes, not read")
        return {}
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before) - before.rfind(b"\n")
        reason = f"not UTF-8: byte 0x{data[error.start]:02x} (at line {line}, column {column})"
    except tomllib.TOMLDecodeError as error:
        reason = printable(str(error))
    except RecursionError:
        reason = "nested too deeply"
    problems.append(f"{printable(path)}: invalid TOML: {reason}")
    return {}

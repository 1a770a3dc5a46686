"""Reads the two places a configuration can come from: a TOML file and environment variables.

    TELEMETRYD_CONFIG, else the first of DEFAULT_PATHS that exists
    TELEMETRYD_<SECTION>__<KEY>, e.g. TELEMETRYD_TELEMETRY__BUFFERING__TIMEOUT_MS=25

Nothing is checked here beyond the syntax; faults become problem lines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from telemetryd import toml_file
from telemetryd.config.explain import printable

DEFAULT_PATHS: Final = ("/var/task/telemetryd.toml", "/opt/telemetryd.toml")
PREFIX: Final = "TELEMETRYD_"
CONFIG_VARIABLE: Final = "TELEMETRYD_CONFIG"
LOCAL_VARIABLE: Final = "TELEMETRYD_LOCAL"
"""`1` in what the local Lambda starts: the sandbox is a machine with a network of its own."""
EXEMPT: Final = frozenset({CONFIG_VARIABLE, LOCAL_VARIABLE})
"""Variables with the prefix that are no configuration keys."""

Path: TypeAlias = tuple[str, ...]


_LONGEST_MADE_NAME: Final = 512
_OF_SERVICE: Final = r"TELEMETRYD(_[A-Z0-9]+)*?_SERVICE_(HOST|PORT(_[A-Z0-9]+)*)"
_OF_PORT: Final = (
    r"TELEMETRYD(_[A-Z0-9]+)*?_PORT_[0-9]+_(TCP|UDP|SCTP)"
    r"(_PROTO|_ADDR|(_PORT)?(_START|_END)?)"
)
_OF_LINK: Final = r"TELEMETRYD(_[A-Z0-9]+)*?_ENV_.+"
_WITH_VALUE: Final = (
    (r"TELEMETRYD(_[A-Z0-9]+)*?_PORT", r"(tcp|udp|sctp)://[^/]+"),
    (r"TELEMETRYD(_[A-Z0-9]+)*?_NAME", r"/.+/.+"),
)
"""Names that somebody may have written for a key of ours, unless the value shows who made them."""
_DASHED: Final = r"TELEMETRYD_[A-Z0-9_]*[A-Z0-9]"
_IP: Final = r"[0-9.]+|[0-9a-f:.]*:[0-9a-f:.]*"
_WITH_DASHES: Final = (
    (_DASHED + r"_SERVICE_HOST", _IP),
    (_DASHED + r"_SERVICE_PORT(_[A-Z0-9]+)*", r"[0-9]+"),
    (_DASHED + r"_PORT(_[0-9]+_(TCP|UDP|SCTP))?", r"(tcp|udp|sctp)://[^/]+"),
    (_DASHED + r"_PORT_[0-9]+_(TCP|UDP|SCTP)_PROTO", r"tcp|udp|sctp"),
    (_DASHED + r"_PORT_[0-9]+_(TCP|UDP|SCTP)_PORT", r"[0-9]+"),
    (_DASHED + r"_PORT_[0-9]+_(TCP|UDP|SCTP)_ADDR", _IP),
)
"""Names with `__`, of a Service with `--` in its name, and the values that go with them."""


def is_made_by_platform(name: str, value: str) -> bool:
    """True if the platform made this variable for a service of our name.

    Kubernetes makes them for a Service `telemetryd` or `telemetryd-...` (kubernetes.io, "Service",
    Environment variables), `docker --link` for a container of such an alias (docs.docker.com,
    "Legacy container links"). Both write upper case, and `_` for `-`.
    """
    if len(name) > _LONGEST_MADE_NAME:
        return False
    if "__" in name and "_ENV_" not in name:  # most are ours
        return ("_PORT" in name or "_SERVICE_" in name) and _is_one_of(_WITH_DASHES, name, value)
    if any(re.fullmatch(pattern, name) for pattern in (_OF_SERVICE, _OF_PORT, _OF_LINK)):
        return True
    return _is_one_of(_WITH_VALUE, name, value)


def _is_one_of(forms: Sequence[tuple[str, str]], name: str, value: str) -> bool:
    return any(re.fullmatch(of, name) and re.fullmatch(form, value) for of, form in forms)


class FromEnvironment(NamedTuple):
    """One variable: its name as written, and its text."""

    variable: str
    text: str


class Sources(NamedTuple):
    """The values that were found, unchecked."""

    file: str
    """Path of the TOML file that was read, "" when there is none."""
    table: dict[str, Any]
    environment: dict[Path, FromEnvironment]
    problems: list[str]
    hidden: list[Path]
    """Keys that are set in a variable, or may be set in a file, that could not be read."""


def read_sources(environ: Mapping[str, str], default_paths: Sequence[str]) -> Sources:
    """Read the file and collect the variables. Raises nothing; see `Sources.problems`."""
    sources = Sources("", {}, {}, [], [])
    file = ""
    for variable, text in environ.items():
        name = variable.upper()
        if name == CONFIG_VARIABLE and (variable == CONFIG_VARIABLE or not file):
            file = text
        elif (
            name.startswith(PREFIX)
            and name not in EXEMPT
            and not is_made_by_platform(variable, text)
        ):
            _collect(sources, variable, text)
    found, table = _read_file(file, default_paths, sources)
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
    sources.hidden.append(path)
    sources.problems.append(f"environment {printable(variable)}: {problem}")


def _is_unicode(text: str) -> bool:
    """False where the bytes of a variable were no UTF-8, which Python keeps as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_file(
    named: str, default_paths: Sequence[str], sources: Sources
) -> tuple[str, dict[str, Any]]:
    for path in [named] if named else default_paths:
        origin = f"environment {CONFIG_VARIABLE} = " if named else ""
        may_redact = True
        try:
            return path, toml_file.read(path)
        except toml_file.NoTable as error:
            origin = origin if error.unread else ""
            may_redact = error.may_have(b"redact")
            reason = printable(str(error))
        except (FileNotFoundError, NotADirectoryError) as error:
            if not named:
                continue
            reason = str(error.strerror)
        except (OSError, ValueError) as error:
            reason = f"can't be read: {getattr(error, 'strerror', None) or error}"
        sources.problems.append(f"{origin}{printable(path)}: {reason}")
        if may_redact and ("redact",) not in sources.environment:  # which would replace it
            sources.hidden.append(("redact",))
        return path, {}
    return "", {}

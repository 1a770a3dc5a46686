"""Masks secrets in texts that people read: `check`, errors, the log.

Every repetition in a pattern that can begin anywhere is bounded, because the texts are other
people's. Patterns are compiled at their first use (`re` keeps them), so a start without faults
needs none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

REDACTED: Final = "***"

_NAMES: Final = (
    r"passw(?:or)?d|passphrase|pwd|secret|salt|token|credential|authorization|bearer|cookie|signature"
    r"|(?:api|access|account|auth|private|secret|shared|sign(?:ing)?|encrypt(?:ion)?|license|master"
    r"|ingest(?:ion)?|storage|write|instrumentation)_?keys?"
)
_SHORT_NAMES: Final = frozenset(("key", "keys", "auth", "sas", "sig", "dsn", "headers"))
"""Names that are secret as a whole. Headers are, because any of them may carry a key."""
_HARMLESS: Final = frozenset(
    f"{what}_key"
    for what in (
        *("partition", "hash", "explicit_hash", "range", "sort", "primary", "routing", "object"),
        *("message", "event", "group", "public"),
    )
)
"""Keys by which something is found, not opened."""
_CREDENTIALS: Final = (
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"
)  # fmt: skip
_HEADERS_VARIABLE: Final = r"OTEL_EXPORTER_OTLP_(?:[A-Z]+_)?HEADERS"
"""Variables with headers, `name=value,...`, percent-encoded (OpenTelemetry, OTLP exporter)."""
_SHORTEST: Final = 4
"""Characters of a text that is masked wherever it is found."""
_URL: Final = r"(?i)\b([a-z][a-z0-9+.-]{0,20}://)([^\s\"'<>\\`]+)"
_USER: Final = r"^(?:[^/?#]*@|[^/?#@:]*:(?!\d*(?:[/?#]|$))[^@]*@)"
"""The part before an address: `user:password@`, also if the password has a bare `/` or `@`."""
_BARE_USER: Final = r"(?:(?<![^\s\"'=(<\[,;])|(?<=//))[^\s\"'=(<\[,;:@/\\]{0,64}:(?!\S{0,64}://|//)[^\s\"'<>@]{1,256}@(?=[\w\[.-])"
"""`user:password@` before an address without a scheme, also behind `//`."""
_QUERY_VALUE: Final = r"(?<==)[^&;#]+"
_INVENTED: Final = (
    r"(?<=/)(?=[^/]*\d)(?=[^/]*[A-Za-z])[^/?#]*(?:[A-Za-z0-9]{16}|[0-9a-f]{8}-[0-9a-f]{4}-)[^/?#]*"
    r"|(?<=/)[A-Za-z]{20,}(?=[/?#]|$)"
)
"""A part of a path that only machines can have invented, as in the address of a webhook."""
_ASSIGNED: Final = rf"(?i)((?:{_NAMES})[\w-]{{0,40}}[\"']?=[\"']?)[^\s\"',;&\\]+"
_SCHEMED: Final = r"(?i)\b(bearer|basic)(\s{1,8})[\w.~+/=-]{8,}"
_QUOTE: Final = r"\\{0,3}[\"']?"
_SENT: Final = rf"(?i)(x-amz-security-token{_QUOTE}[:=][ \t]{{0,8}}{_QUOTE})[^\s\"',;&\\]+"
"""A session token as AWS quotes it in an answer: in a header of the canonical request."""
_HEADER: Final = r"(?im)^([ \t]{0,8}[\w-]{0,40}(?:{names})[\w-]{0,40}[ \t]{0,8}:[ \t]{0,8})\S.*$"


def is_secret(key: str) -> bool:
    """True if a value under this key (dotted or not) should not be shown."""
    parts = key.replace("-", "_").lower().split(".")
    if parts[0] == "sinks":
        del parts[:2]  # a name that somebody gave says nothing
    return any(
        part in _SHORT_NAMES
        or (part.endswith("_key") and part not in _HARMLESS)
        or re.search(_NAMES, part)
        for part in parts
    )


def secrets_in(value: object, key: str = "") -> Iterator[str]:
    """Yield the texts in a configuration, or a part of it, that stand under secret keys.

    Texts of less than 4 characters are left out: to mask them would mask half of what is printed.
    """
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from secrets_in(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from secrets_in(inner, key)
    elif isinstance(value, str) and len(value) >= _SHORTEST and is_secret(key):
        yield value


def secrets_of(config: object, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the secrets of a process: of its configuration, and those that libraries read."""
    yield from secrets_in(config)
    for name, value in environ.items():
        if name in _CREDENTIALS and len(value) >= _SHORTEST:
            yield value
        elif re.fullmatch(_HEADERS_VARIABLE, name):
            yield from _header_values(value)


def _header_values(text: str) -> Iterator[str]:
    from urllib.parse import unquote  # noqa: PLC0415 - few have such a variable

    for pair in text.split(","):
        value = pair.partition("=")[2].strip()
        yield from (each for each in {value, unquote(value)} if len(each) >= _SHORTEST)


def hide(text: str, secrets: Iterable[str]) -> str:
    """Return `text` without any of `secrets`, wherever they stand."""
    for secret in sorted(secrets, key=len, reverse=True):  # one may be a part of another
        text = text.replace(secret, REDACTED)
    return text


def without_secrets(text: str) -> str:
    """Return `text` with its secrets masked.

    That is: user and password of an address, the values of its query, parts of its path that look
    like a token; `token=...` and the like; what follows `Bearer` or `Basic`.
    """
    if "://" in text:
        text = re.sub(_URL, _without_secrets, text)
    if "@" in text:
        text = re.sub(_BARE_USER, f"{REDACTED}@", text)
    if "=" in text:
        text = re.sub(_ASSIGNED, rf"\1{REDACTED}", text)
    if "mz-" in text or "MZ-" in text:
        text = re.sub(_SENT, rf"\1{REDACTED}", text)
    return re.sub(_SCHEMED, rf"\1\2{REDACTED}", text)


def without_user(address: str) -> str:
    """Return a network address without the part before the last `@`, which is always secret."""
    user, at, host = address.rpartition("@")
    return f"{REDACTED}@{host}" if user and at else address


def without_header_values(text: str) -> str:
    """Return `text` without the value of a header such as `X-Api-Key: ...`, if it is one."""
    if ":" not in text:
        return text
    names = _NAMES.replace("_?", "[_-]?")
    return re.sub(_HEADER.replace("{names}", names), rf"\1{REDACTED}", text)


def _without_secrets(url: re.Match[str]) -> str:
    address = re.sub(_USER, f"{REDACTED}@", url[2])
    found = re.search(r"[?#]", address)
    end = found.start() if found else len(address)
    path, query = address[:end], address[end:]
    if "=" in query:
        query = re.sub(_QUERY_VALUE, REDACTED, query)
    elif len(query) > 1:
        query = query[0] + REDACTED
    return url[1] + re.sub(_INVENTED, REDACTED, path) + query

"""The configuration of an HTTP sink, and its rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar, Final, Literal, NamedTuple, TypeAlias

from msgspec import Meta, field

from telemetryd.http_client.messages import HttpError
from telemetryd.http_client.wire import encode_head
from telemetryd.sinks.base import MIB, SinkConfig
from telemetryd.sinks.http.formats import FormatName

Compression: TypeAlias = Literal["none", "gzip", "zstd"]
Scheme: TypeAlias = Literal["http", "https"]

KIB: Final = 1024
_URL: Final = (
    r"(?P<scheme>(?i:https?))://(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?(?P<target>[/?][!-\"$-~]*)?"
)
_MAX_PORT: Final = 65535
_SET_BY: Final = {
    "content-encoding": "`compression`",
    "idempotency-key": "the sink",
}
"""Headers that are not the user's, with what sets them. The client refuses more."""


class Place(NamedTuple):
    """The parts of a URL."""

    scheme: Scheme
    host: str
    """Name or address, an IPv6 address without brackets."""
    port: int
    target: str
    """Path and query."""


def place_of(url: str) -> Place | None:
    """Return the parts of `url`; None if requests can't be sent to it."""
    found = re.fullmatch(_URL, url)
    if found is None or int(found["port"] or 1) > _MAX_PORT:
        return None
    scheme: Scheme = "https" if found["scheme"].lower() == "https" else "http"
    port = int(found["port"] or (443 if scheme == "https" else 80))
    target = found["target"] or "/"
    return Place(
        scheme, found["host"].strip("[]"), port, target if target[0] == "/" else f"/{target}"
    )


class HttpConfig(SinkConfig, frozen=True, kw_only=True):
    """`[sinks.<name>]` with `type = "http"`."""

    tuning: ClassVar[frozenset[str]] = SinkConfig.tuning | {
        "compression", "connect_timeout_ms", "max_body_bytes", "read_timeout_ms",
    }  # fmt: skip

    linger_ms: Annotated[int, Meta(ge=0, le=60_000)] = 100
    """Milliseconds that a batch waits for more lines until it is full."""

    url: Annotated[str, Meta(min_length=1, max_length=2048)]
    """URL to POST to, such as `https://collector.example.com/v1/lines`."""
    token: Annotated[str, Meta(max_length=8192)] = ""
    """Sent as `Authorization: Bearer <token>`. Empty: none is sent."""
    headers: dict[str, str] = field(default_factory=dict)
    """Further headers of each request, such as `{X-Api-Key = "..."}`. Their values are masked in
    all output."""
    body: FormatName = "ndjson"
    """The body of a request. `ndjson`: the lines, unchanged; `json`: one JSON array of the lines,
    which are not decoded. A line that is not JSON is then lost as `malformed`."""
    compression: Compression = "none"
    """Compression of the body, named in `Content-Encoding`."""
    max_body_bytes: Annotated[int, Meta(ge=16 * KIB, le=64 * MIB)] = MIB
    """Largest body, before compression. A batch that is larger is sent in several requests. A
    larger line is lost as `too_large`."""
    connect_timeout_ms: Annotated[int, Meta(ge=50, le=60_000)] = 3000
    """Most milliseconds to connect, TLS included."""
    read_timeout_ms: Annotated[int, Meta(ge=50, le=60_000)] = 5000
    """Most milliseconds to wait for the next byte of a response."""

    def problems(self) -> Iterator[str]:
        """Yield faults that types and limits can't express, and missing packages."""
        if place_of(self.url) is None:
            yield (
                "url: must look like https://host/path or http://host:port/path, without a user, "
                "a password or a fragment"
            )
        if self.token and _fault("Authorization", f"Bearer {self.token}"):
            yield "token: must be visible ASCII, in one line"
        yield from self._header_problems()
        if self.compression == "zstd":
            from telemetryd_proto.kinesis import zstd_available  # noqa: PLC0415 - for zstd only

            if not zstd_available():
                yield "compression: zstd is not installed; pip install zstandard"

    def _header_problems(self) -> Iterator[str]:
        seen = {"authorization"} if self.token else set()
        for name, value in self.headers.items():
            lowered = name.lower()
            if fault := _fault(name, value):
                yield f"headers: {fault}"
            elif lowered in _SET_BY:
                yield f"headers: header {name} is set by {_SET_BY[lowered]}: leave it out"
            elif lowered in seen:
                yield f"headers: header {name} would be sent twice: leave one out"
            seen.add(lowered)


def _fault(name: str, value: str) -> str:
    """Return what HTTP does not allow in a header, without its value; empty if it is allowed."""
    try:
        encode_head("POST", "/", "host", [(name, value)], 0)
    except HttpError as error:
        return error.detail
    return ""

"""The configuration of an HTTP sink, and its rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Final

from msgspec import Meta, field

from telemetryd.sinks._posting import Compression, header_fault, place_of
from telemetryd.sinks.base import MIB, SinkConfig
from telemetryd.sinks.http.formats import FormatName

KIB: Final = 1024
_SET_BY: Final = {
    "content-encoding": "`compression`",
    "idempotency-key": "the sink",
}
"""Headers that are not the user's, with what sets them. The client refuses more."""


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
        if self.token and header_fault("Authorization", f"Bearer {self.token}"):
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
            if fault := header_fault(name, value):
                yield f"headers: {fault}"
            elif lowered in _SET_BY:
                yield f"headers: header {name} is set by {_SET_BY[lowered]}: leave it out"
            elif lowered in seen:
                yield f"headers: header {name} would be sent twice: leave one out"
            seen.add(lowered)

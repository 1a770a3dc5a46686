"""The common part of sinks that POST to a URL: the URL, headers, the client, and no answer."""

from __future__ import annotations

import codecs
import os
import re
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.http_client.messages import Answer, HttpError, HttpOptions
from telemetryd.http_client.wire import encode_head
from telemetryd.sinks._authorities import layer_authorities
from telemetryd.sinks._unanswered import UNANSWERED
from telemetryd.sinks.base import SinkContext

if TYPE_CHECKING:
    from telemetryd.http_client.client import HttpClient

Compression: TypeAlias = Literal["none", "gzip", "zstd"]
Scheme: TypeAlias = Literal["http", "https"]

MAX_RETRY_AFTER: Final = 60.0
TOO_LARGE: Final = "too_large"
LIMIT_SECONDS: Final = 600.0
"""Of one request; the longest `write_timeout_ms`. The delivery worker's limits are shorter."""

_IDLE_SECONDS: Final = 5.0
"""After so long without a request its connection is not trusted any more: an environment may have
been frozen since, and the server, or a NAT between, may have hung up unheard."""
_GZIP_WINDOW: Final = 31  # zlib: 15 bits and a gzip wrapper
_MAX_PORT: Final = 65535
_URL: Final = (
    r"(?P<scheme>(?i:https?))://(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?(?P<target>[/?][!-\"$-~]*)?"
)
_PAGES: Final = (b"<!doctype html", b"<html")
_SENT: Final = {
    "nothing": "nothing was sent",
    "part": "a part was sent",
    "all": "all was sent, so the lines may arrive twice",
}


class Place(NamedTuple):
    """The parts of a URL."""

    scheme: Scheme
    host: str
    """Name or address, an IPv6 address without brackets."""
    port: int
    target: str
    """Path and query."""


class Trust(NamedTuple):
    """Files, in PEM form, by which the two sides of TLS prove who they are. Empty: none."""

    certificate: str = ""
    """Of authorities: the server's certificate must be of one of them."""
    client_certificate: str = ""
    client_key: str = ""


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


def key_problems(certificate: str, key: str) -> Iterator[str]:
    """Yield what is wrong with the two settings of a client certificate."""
    if key and not certificate:
        yield "client_key: needs client_certificate"


def header_fault(name: str, value: str) -> str:
    """Return what HTTP does not allow in a header, without its value; empty if it is allowed."""
    try:
        encode_head("POST", "/", "host", [(name, value)], 0)
    except HttpError as error:
        return error.detail
    return ""


def make_client(
    context: SinkContext, *, connect_timeout_ms: int, read_timeout_ms: int, trust: Trust
) -> HttpClient:
    """Return a client with one connection. Nothing is sent."""
    from telemetryd.http_client.client import HttpClient  # noqa: PLC0415 - with the first line

    read_seconds = read_timeout_ms / 1000
    options = HttpOptions(
        environment=os.environ,
        connect_seconds=connect_timeout_ms / 1000,
        send_seconds=read_seconds,
        read_seconds=read_seconds,
        idle_seconds=_IDLE_SECONDS,
        max_connections=1,
        ca_bundle=trust.certificate,
        client_certificate=trust.client_certificate,
        client_key=trust.client_key,
        ca_directory=layer_authorities(),
    )
    return HttpClient(context.clock, context.log, options=options)


def compressor(compression: Compression) -> Callable[[bytes], bytes] | None:
    """Return what compresses a body. Raises ImportError for zstd without its package."""
    if compression == "none":
        return None
    if compression == "gzip":
        return lambda body: zlib.compress(body, 1, _GZIP_WINDOW)
    from telemetryd_proto.kinesis import Encoder  # noqa: PLC0415 - for zstd only

    encoder = Encoder("ndjson", "zstd")
    return lambda body: encoder.encode(body, record_id=None)


def is_page(answer: Answer) -> bool:
    """True if an answer is a web page: something on the way has answered."""
    head = answer.body[:200].removeprefix(codecs.BOM_UTF8).lstrip()[:14].lower()
    if head.startswith(_PAGES):
        return True
    # before its first element a page may have comments, or say that it is XML
    return head.startswith(b"<") and "html" in answer.headers.get("content-type", "").lower()


def without_answer(error: HttpError, authority: str, *, has_lines: bool = True) -> SinkError:
    """Return what it means that there is no answer. The text says what was sent of lines."""
    sent = f"; {_SENT[error.sent]}" if has_lines else ""
    text = f"{error.detail or error.reason} ({authority}{sent})"
    if error.reason in UNANSWERED:
        return TransientSinkError(UNANSWERED[error.reason], text)
    code = "tls_certificate" if error.reason == "tls_certificate" else "http_configuration"
    return PermanentSinkError(code, text, stops_sink=True)

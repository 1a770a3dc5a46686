"""The types of the client: requests, answers, options, errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from telemetryd.errors import TelemetrydError

Sent: TypeAlias = Literal["nothing", "part", "all"]
"""The part of a request that the destination may have seen. `nothing` is certain: another attempt
can't send it twice. After `part` no sane destination acts: the body is shorter than announced."""

Reason: TypeAlias = Literal[
    "invalid_request",
    "name_not_found",
    "unreachable",
    "connect_timeout",
    "proxy_unreachable",
    "proxy_refused",
    "proxy_credentials",
    "proxy_invalid",
    "tls_certificate",
    "tls_error",
    "tls_configuration",
    "send_timeout",
    "read_timeout",
    "timeout",
    "connection_lost",
    "garbled_answer",
    "answer_too_large",
    "closed",
]
"""Reasons why there is no answer.

`invalid_request`: a header or the target has a character that HTTP does not allow.
`proxy_refused`: the proxy answered CONNECT with an error; `proxy_credentials`: with 407.
`proxy_invalid`: a variable such as HTTPS_PROXY names no proxy that can be used.
`tls_certificate`: the certificate does not verify; `tls_configuration`: the authorities can't be
read. `timeout`: the limit of the whole call. `closed`: the client was closed.
"""

KIB: Final = 1024


class Request(msgspec.Struct, frozen=True):
    """One request. The body may be in pieces; they are sent as they are, never joined."""

    method: str
    scheme: Literal["http", "https"]
    host: str
    """Name or address, an IPv6 address without brackets."""
    port: int
    target: str
    """Path and query, percent-encoded; begins with `/`."""
    headers: Sequence[tuple[str, str]] = ()
    """Without Host and Content-Length, which the client adds."""
    body: Sequence[bytes | memoryview] = ()

    @property
    def authority(self) -> str:
        """The value of the Host header: without the port where the scheme has it by default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"


class Answer(msgspec.Struct, frozen=True):
    """One answer, complete."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case. The values of a header that occurs more than once are joined by `, `."""
    body: bytes


class HttpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a client: how it connects, how long it waits, what it accepts."""

    environment: Mapping[str, str] = {}
    """The variables that name proxies and certificate authorities: usually `os.environ`. They are
    read as curl and botocore read them: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY, also in
    lower case; AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE, SSL_CERT_FILE, SSL_CERT_DIR. Empty: no proxy."""
    connect_seconds: float = 3.0
    """Most seconds until a connection is ready: name, TCP, the proxy's CONNECT, TLS."""
    send_seconds: float = 10.0
    """Most seconds in which a destination takes no byte of a request."""
    read_seconds: float = 10.0
    """Most seconds without a byte of the answer, once the request is sent."""
    idle_seconds: float = 5.0
    """Seconds, of a freeze too, after which an idle connection is closed instead of used."""
    max_connections: int = 4
    """Most connections at a time. A request beyond that waits for one."""
    max_head_bytes: int = 64 * KIB
    """Largest head of an answer, and largest trailer."""
    max_body_bytes: int = 4 * KIB * KIB
    """Largest body of an answer."""
    ca_bundle: str = ""
    """File or directory of certificate authorities, ahead of the environment's."""
    ca_directory: str = ""
    """Directory as `openssl rehash` makes it, where nothing else names authorities. Its files are
    read at need."""
    client_certificate: str = ""
    """File with the certificate, in PEM form, by which the client proves who it is to a server that
    asks for one, with those above it. Empty: it has none."""
    client_key: str = ""
    """File with the key of `client_certificate`, without a password. Empty: it is in the same
    file."""
    verify: bool = True
    """True if the destination must prove its name."""


class HttpError(TelemetrydError):
    """There is no answer. `reason` is for counters, `detail` for people: one line, no secret.

    `sent` says whether the destination may have seen the request.
    """

    def __init__(self, reason: Reason, detail: str = "", *, sent: Sent = "nothing") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason: Reason = reason
        self.detail = detail
        self.sent: Sent = sent

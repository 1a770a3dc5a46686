"""Signs requests to AWS with Signature Version 4, for any service.

Source: "Signing AWS API requests" (IAM User Guide). Signatures are those of botocore, byte for
byte; a test compares them. A small body is hashed without OpenSSL, which is dear to load.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec

OPENSSL_BYTES: Final = 256 * 1024
"""From this size of a body OpenSSL hashes it, which is five times faster than what is built in."""

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_BLOCK_BYTES: Final = 64
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))
_UNRESERVED: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/"
)
_UNSIGNED: Final = frozenset(
    {
        "baggage", "connection", "expect", "keep-alive", "proxy-authenticate",
        "proxy-authorization", "te", "traceparent", "tracestate", "trailer", "transfer-encoding",
        "upgrade", "user-agent", "x-amzn-trace-id",
    }
)  # fmt: skip
"""Headers that proxies may change, so that no SDK signs them."""


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...
    def hexdigest(self) -> str: ...


def _built_in() -> Callable[..., _Hash]:
    for name in ("_sha2", "_sha256"):  # since Python 3.12, and before
        try:
            found: Callable[..., _Hash] = importlib.import_module(name).sha256
        except ImportError:
            continue
        return found
    return _openssl()


def _openssl() -> Callable[..., _Hash]:
    found: Callable[..., _Hash] = importlib.import_module("hashlib").sha256
    return found


sha256: Final = _built_in()


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that a request is signed with."""

    access_key: str
    secret_key: str
    token: str = ""
    account_id: str = ""
    """The account they are of, where the source says so."""
    expires_at: float = 0.0
    """Seconds since the Unix epoch; 0: not known."""

    def __repr__(self) -> str:
        return f"Credentials({self.access_key!r}, ...)"


class Signer:
    """Signs for one service in one region, and keeps the key of the day.

    `normalizes_path`: S3 signs the path as it is sent, every other service an encoded one.
    """

    def __init__(self, service: str, region: str, *, normalizes_path: bool = True) -> None:
        self._service = service
        self._region = region
        self._normalizes_path = normalizes_path
        self._day = ""
        self._secret = ""
        self._key = b""

    def sign(
        self,
        credentials: Credentials,
        *,
        method: str,
        path: str,
        headers: Sequence[tuple[str, str]],
        body_hash: str,
        now: float,
        query: str = "",
    ) -> list[tuple[str, str]]:
        """Return `headers` with those that prove who sends them.

        `headers` hold `host`. `path` and `query` are as they are sent. `body_hash`: what
        `hash_body` gives. `now`: seconds since the Unix epoch.
        """
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        sent = [*headers, ("x-amz-date", stamp)]
        if credentials.token:
            sent.append(("x-amz-security-token", credentials.token))
        signed, canonical_headers = _canonical_headers(sent)
        canonical = "\n".join(
            (
                method.upper(), _encode_path(path) if self._normalizes_path else path,
                "&".join(sort_query(query)), canonical_headers, "", signed, body_hash,
            )
        )  # fmt: skip
        scope = f"{stamp[:8]}/{self._region}/{self._service}/aws4_request"
        digest = sha256(canonical.encode()).hexdigest()
        text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}"
        signature = _hmac(self._key_of(stamp[:8], credentials.secret_key), text.encode()).hex()
        credential = f"{_ALGORITHM} Credential={credentials.access_key}/{scope}"
        proof = f"{credential}, SignedHeaders={signed}, Signature={signature}"
        return [*sent, ("authorization", proof)]

    def _key_of(self, day: str, secret: str) -> bytes:
        if (day, secret) != (self._day, self._secret):
            key = b"AWS4" + secret.encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = _hmac(key, part.encode())
            self._day, self._secret, self._key = day, secret, key
        return self._key


def hash_body(pieces: Iterable[bytes], size: int) -> str:
    """Return the SHA-256 of the body made of `pieces`, in hex. `size`: bytes of all of them."""
    digest: Any = _openssl()() if size >= OPENSSL_BYTES else sha256()
    for piece in pieces:
        digest.update(piece)
    text: str = digest.hexdigest()
    return text


def sort_query(query: str) -> list[str]:
    """Return the parts of `query`, sorted by name and value, each with an equals sign."""
    if not query:
        return []
    pairs = sorted(part.partition("=")[::2] for part in query.split("&"))
    return [f"{name}={value}" for name, value in pairs]


def _canonical_headers(headers: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """Return the names of the headers to sign, and a line for each of them."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        lower = name.lower()
        if lower not in _UNSIGNED:
            values.setdefault(lower, []).append(" ".join(value.split()))
    names = sorted(values)
    return ";".join(names), "\n".join(f"{name}:{','.join(values[name])}" for name in names)


def _encode_path(path: str) -> str:
    """Return `path` without dot segments and with everything unusual percent-encoded once more."""
    if path in ("", "/"):
        return "/"
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if kept:
                kept.pop()
        elif part not in ("", "."):
            kept.append(part)
    first = "/" if path[0] == "/" else ""
    last = "/" if path[-1] == "/" and kept else ""
    plain = f"{first}{'/'.join(kept)}{last}"
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in plain.encode())


def _hmac(key: bytes, message: bytes) -> bytes:
    """Return the HMAC-SHA-256 of `message` (RFC 2104). The module `hmac` loads OpenSSL."""
    if len(key) > _BLOCK_BYTES:
        key = sha256(key).digest()
    padded = key.ljust(_BLOCK_BYTES, b"\0")
    inner = sha256(padded.translate(_INNER) + message).digest()
    return sha256(padded.translate(_OUTER) + inner).digest()

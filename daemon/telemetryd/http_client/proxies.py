"""Finds the proxy of a request in the environment's variables, as curl and botocore do.

The variable of the scheme comes before ALL_PROXY, lower case before upper case, and an empty one
means none. NO_PROXY lists names (and what is below them), addresses, networks as `10.0.0.0/8`, or
`*`, each with a port if only that is meant.
"""

from __future__ import annotations

import binascii
import socket
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from telemetryd.http_client.messages import HttpError

_HTTP_PORT: Final = 80
_MAX_PORT: Final = 65535


class Proxy(msgspec.Struct, frozen=True):
    """A proxy that speaks HTTP."""

    host: str
    port: int
    authorization: str
    """Value of Proxy-Authorization, a secret; empty: none."""
    variable: str
    """The variable that names it."""

    @property
    def name(self) -> str:
        """The name in errors: no secret."""
        return f"{self.host}:{self.port} ({self.variable})"


def find_proxy(
    environment: Mapping[str, str], scheme: Literal["http", "https"], host: str, port: int
) -> Proxy | None:
    """Return the proxy for requests to `host`, None if there is none.

    Raises HttpError, `proxy_invalid`, if the variable names something else than an HTTP proxy.
    """
    for stem in (f"{scheme}_proxy", "all_proxy"):
        variable, value = _variable(environment, stem)
        if value:
            break
        if variable:  # set, to nothing
            return None
    else:
        return None
    _, exceptions = _variable(environment, "no_proxy")
    if is_exception(exceptions, host, port):
        return None
    return _parse(value, variable)


def is_exception(exceptions: str, host: str, port: int) -> bool:
    """True if `exceptions`, as in NO_PROXY, name `host`."""
    host = host.lower().rstrip(".")
    address = _pack(host)
    return any(
        _matches(each, host, port, address) for each in exceptions.lower().replace(",", " ").split()
    )


def _variable(environment: Mapping[str, str], stem: str) -> tuple[str, str]:
    """Return the variable's name as it is set, and its value; two empty texts if it is not set."""
    upper = stem.upper()
    names = [stem, upper]
    if upper == "HTTP_PROXY" and "REQUEST_METHOD" in environment:
        names.remove(upper)  # in a CGI program it is a header that the caller chose
    for name in names:
        if name in environment:
            return name, environment[name].strip()
    return "", ""


def _matches(entry: str, host: str, port: int, address: bytes) -> bool:
    if entry == "*":
        return True
    name, named_port = entry, ""
    if entry.startswith("["):
        name, _, named_port = entry[1:].partition("]")
        named_port = named_port.removeprefix(":")
    elif entry.count(":") == 1:
        name, _, named_port = entry.partition(":")
    if named_port and named_port != str(port):
        return False
    if address:
        network, slash, bits = name.partition("/")
        packed = _pack(network)
        return _in_network(address, packed, bits if slash else str(len(packed) * 8))
    name = name.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _in_network(address: bytes, network: bytes, bits: str) -> bool:
    size = len(network) * 8
    if not network or len(address) != len(network) or not (bits.isascii() and bits.isdigit()):
        return False
    if len(bits) > 3 or int(bits) > size:  # noqa: PLR2004 - 128
        return False
    shift = size - int(bits)
    return int.from_bytes(address, "big") >> shift == int.from_bytes(network, "big") >> shift


def _pack(host: str) -> bytes:
    """Return an address as bytes, empty if `host` is a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
    return b""


def _parse(url: str, variable: str) -> Proxy:
    scheme, has_scheme, rest = url.partition("://")
    if not has_scheme:
        scheme, rest = "http", url
    if scheme.lower() != "http":
        raise HttpError("proxy_invalid", f"{variable} must name an http:// proxy")
    rest = rest.replace("?", "/").replace("#", "/").partition("/")[0]
    credentials, has_credentials, place = rest.rpartition("@")
    if place.startswith("["):
        host, bracket, after = place[1:].partition("]")
        colon, port = (after[:1], after[1:]) if bracket else ("[", "")
    else:
        host, colon, port = place.partition(":")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0  # noqa: PLR2004
    if not colon or (colon == ":" and not port):
        number = _HTTP_PORT
    usable = host.isascii() and host.isprintable() and " " not in host
    if not host or not usable or colon not in ("", ":") or not 0 < number <= _MAX_PORT:
        raise HttpError("proxy_invalid", f"{variable} must look like http://host:port")
    authorization = ""
    if has_credentials:
        user, _, password = credentials.partition(":")
        pair = _unquote(user) + b":" + _unquote(password)
        authorization = "Basic " + binascii.b2a_base64(pair, newline=False).decode("ascii")
    return Proxy(host, number, authorization, variable)


def _unquote(text: str) -> bytes:
    """Return percent-encoded text as bytes; a `%` that encodes nothing stays."""
    first, *rest = text.encode("utf-8", "surrogateescape").split(b"%")
    parts = [first]
    for each in rest:
        try:
            byte = binascii.unhexlify(each[:2])
        except ValueError:
            byte = b""
        parts.append(byte + each[2:] if byte else b"%" + each)
    return b"".join(parts)

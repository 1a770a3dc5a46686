"""Makes connections: name, addresses, the proxy's CONNECT, TLS; all within one limit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from telemetryd.http_client.connection import Connection
from telemetryd.http_client.messages import Answer, HttpError, HttpOptions, Reason
from telemetryd.http_client.wire import AnswerReader, encode_head

if TYPE_CHECKING:
    import ssl

    from telemetryd.http_client.proxies import Proxy

Address: TypeAlias = tuple[int, Any]
"""The family, and what `connect` takes."""


class Route(msgspec.Struct, frozen=True):
    """The destination of a connection, and its route."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    proxy: Any = None
    """A `Proxy`, or None."""


async def dial(
    route: Route, options: HttpOptions, context: Callable[[], ssl.SSLContext]
) -> Connection:
    """Return a connection that is ready for requests. Raises HttpError.

    A call that fails or is cancelled leaves no socket.
    """
    proxy: Proxy | None = route.proxy
    place = (route.host, route.port) if proxy is None else (proxy.host, proxy.port)
    limit = asyncio.timeout(options.connect_seconds)
    try:
        async with limit:
            connection = await _connect(*place, proxy, limit)
            try:
                if route.scheme == "https":
                    if proxy is not None:
                        await _open_tunnel(connection, route, proxy, options)
                    await connection.begin_tls(context(), route.host)
            except BaseException:
                connection.drop()
                raise
    except TimeoutError:
        name = f"{place[0]}:{place[1]}" if proxy is None else f"the proxy {proxy.name}"
        raise HttpError(
            "connect_timeout", f"no connection to {name} within {options.connect_seconds:.1f} s"
        ) from None
    except OSError as error:  # of the loop itself; those of each address are tried and told
        raise HttpError("unreachable", f"{place[0]}:{place[1]}: {error.strerror}") from error
    return connection


async def _connect(host: str, port: int, proxy: Proxy | None, limit: asyncio.Timeout) -> Connection:
    """Try each address in turn. All but the last have half of what is left of the time."""
    name = f"{host}:{port}" if proxy is None else f"the proxy {proxy.name}"
    problem = "it has no address"
    addresses = await _resolve(host, port, name)
    for number, address in enumerate(addresses, 1):
        left = (limit.when() or 0.0) - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(None if number == len(addresses) else left / 2):
                sock = await _open_socket(address)
        except OSError as error:  # a TimeoutError is one
            problem = error.strerror or "no answer"
            continue
        return await _adopt(sock)
    reason: Reason = "unreachable" if proxy is None else "proxy_unreachable"
    raise HttpError(reason, f"{name}: {problem}")


async def _resolve(host: str, port: int, name: str) -> Sequence[Address]:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host)
            return [(family, (host, port))]  # an address needs no thread that looks it up
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host.encode("ascii"),  # a text would load the tables of international names
            port,
            type=socket.SOCK_STREAM,
        )
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "not a name"
        raise HttpError("name_not_found", f"{name}: {why}") from error
    return [(each[0], each[4]) for each in found]


async def _open_socket(address: Address) -> socket.socket:
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


async def _adopt(sock: socket.socket) -> Connection:
    """Return the connection that owns `sock` from now on."""
    inode = os.fstat(sock.fileno()).st_ino
    try:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(sock), sock=sock
        )
    except BaseException:
        if not _is_open(sock, inode):  # uvloop closed it without telling its owner
            sock.detach()
        raise
    return connection


def _is_open(sock: socket.socket, inode: int) -> bool:
    try:
        return os.fstat(sock.fileno()).st_ino == inode
    except OSError:
        return False


async def _open_tunnel(
    connection: Connection, route: Route, proxy: Proxy, options: HttpOptions
) -> None:
    host = f"[{route.host}]" if ":" in route.host else route.host
    target = f"{host}:{route.port}"
    headers = [("Proxy-Authorization", proxy.authorization)] if proxy.authorization else []
    head = encode_head("CONNECT", target, target, headers, 0)
    reader = AnswerReader(
        "CONNECT", max_head=options.max_head_bytes, max_body=options.max_body_bytes
    )
    seconds = options.connect_seconds
    try:
        answer = await connection.exchange(
            head, (), reader, send_seconds=seconds, read_seconds=seconds
        )
    except HttpError as error:
        raise HttpError("proxy_unreachable", f"the proxy {proxy.name}: {error.detail}") from error
    check_proxy(answer, proxy)
    if not 200 <= answer.status <= 299:  # noqa: PLR2004 - RFC 9110, 9.3.6
        raise HttpError(
            "proxy_refused", f"the proxy {proxy.name} answered {answer.status} for {target}"
        )
    if not connection.is_usable:  # it hung up, or speaks before the destination can
        raise HttpError("proxy_unreachable", f"the proxy {proxy.name} opened no tunnel")


def check_proxy(answer: Answer, proxy: Proxy) -> None:
    """Raise HttpError, `proxy_credentials`, if the proxy wants to know who we are."""
    if answer.status == 407:  # noqa: PLR2004 - Proxy Authentication Required, RFC 9110
        which = "another user and password" if proxy.authorization else "a user and password"
        raise HttpError(
            "proxy_credentials",
            f"the proxy {proxy.name} answered 407; give {which} in that variable",
        )

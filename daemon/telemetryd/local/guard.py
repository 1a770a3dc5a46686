"""Refuses requests of web pages: a browser on this machine can reach every port of it.

A page may post to another site without permission, as long as it does not read the response. A name
of the page's own may be made to resolve to this machine. So requests of pages from another site are
refused (`Origin`, `Sec-Fetch-Site`), and so are requests for a host that is not this machine
(`Host`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from aiohttp import web

from telemetryd.local.sandbox import SANDBOX_NAMES

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

_OWN_NAMES: Final = frozenset({"localhost", *SANDBOX_NAMES})


Refuse = Callable[[int, str, str], web.Response]
"""Makes an answer of status, error type and message."""


def guard_app(refuse: Refuse, max_body: int) -> web.Application:
    """Return an application that refuses web pages, and bodies above `max_body` bytes."""

    @web.middleware
    async def keep_away(request: web.Request, handler: Handler) -> web.StreamResponse:
        why = intruder(request)
        if why is not None:
            return refuse(403, "AccessDeniedException", why)
        try:
            return await handler(request)
        except web.HTTPRequestEntityTooLarge as error:
            return refuse(413, "RequestEntityTooLargeException", str(error.text))

    return web.Application(middlewares=[keep_away], client_max_size=max_body)


def intruder(request: web.Request) -> str | None:
    """Return why a request cannot come from a program on this machine; None: it can."""
    host, origin = request.headers.get("Host"), request.headers.get("Origin")
    if host is not None and not _is_own(host, request):
        return f"Host {host!r} is not this machine; use the address that is printed"
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site not in ("none", "same-origin") or origin not in (None, f"http://{host}"):
        return f"a web page ({origin or site}) may not call this; use curl or an SDK"
    return None


def _is_own(host: str, request: web.Request) -> bool:
    """True if a Host header names this machine by its address, or by a name it always has."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name in _OWN_NAMES:
            return True
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    transport = request.transport
    own = transport.get_extra_info("sockname")[0] if transport is not None else None
    return address.is_loopback or str(address) == own

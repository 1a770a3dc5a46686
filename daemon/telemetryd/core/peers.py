"""Decides which connections to the telemetry port are the platform's.

Any process of the sandbox can connect. No document says when and from where the platform connects.
So no peer is refused on a guess. Only certain facts separate the peers:

- A peer at one of the sandbox's own addresses is not the platform, if the API is at an address that
  is not the sandbox's.
- A peer that was connected when the subscription was answered is probably the platform: AWS's
  emulator connects before it answers. Without such a peer, the first one probably is.
- The peer that sends `platform.start` of a request that INVOKE has announced sends the platform's
  telemetry, as far as that can be known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LOOPBACK: Final = ("127.", "::1")
LINK_LOCAL: Final = ("169.254.", "fe80:")


def plain(address: str) -> str:
    """Return `address` without a scope, as IPv4 if possible: `::ffff:127.0.0.1` is 127.0.0.1."""
    address = address.partition("%")[0]
    mapped = address.removeprefix("::ffff:")
    return mapped if "." in mapped else address


def is_within(address: str) -> bool:
    """True if only this machine, or its link, can reach `address`: loopback and link-local."""
    address = plain(address)
    return address == LOOPBACK[1] or address.startswith((LOOPBACK[0], *LINK_LOCAL))


class Peer:
    """One connection."""

    __slots__ = ("address", "inside", "likely", "source")

    def __init__(self, source: int, address: str, *, inside: bool, likely: bool) -> None:
        self.source = source
        """The number of the connection."""
        self.address = address
        self.inside = inside
        """It is another process of the sandbox, not the platform."""
        self.likely = likely
        """It may well be the platform's."""


class Peers:
    """The open connections, by what is known of them."""

    def __init__(self, api: str, *, is_ours: Callable[[str], bool]) -> None:
        """Store the facts. `is_ours`: True for addresses of this sandbox; `api`: the API's address.

        An API whose address is not known, "", may be at one of the sandbox's.
        """
        self._api = plain(api) or "unknown"
        self._api_is_ours = not api or is_ours(self._api)
        self._is_ours = is_ours
        self._open: dict[int, Peer] = {}
        self._outside = 0
        """Those at an address that is not the sandbox's, while the API's is not either."""
        self._at_api = 0
        """Those at the API's address."""
        self._trusts_all = False

    @property
    def open(self) -> int:
        """Open connections."""
        return len(self._open)

    @property
    def likely(self) -> int:
        """Those that may be the platform's."""
        return sum(peer.likely for peer in self._open.values())

    def add(self, source: int, address: str, *, early: bool) -> Peer:
        """Add a connection; `early`: before the subscription was answered."""
        address = plain(address)
        inside = not self._api_is_ours and self._is_ours(address)
        outside = not self._api_is_ours and not inside
        likely = early or outside or (not inside and not self.likely)
        peer = self._open[source] = Peer(source, address, inside=inside, likely=likely)
        self._outside += outside
        self._at_api += address == self._api
        return peer

    def remove(self, source: int) -> bool:
        """Remove a connection that has ended. True if it may have been the platform's."""
        peer = self._open.pop(source, None)
        if peer is not None:
            self._outside -= not (self._api_is_ours or peer.inside)
            self._at_api -= peer.address == self._api
        return peer is not None and (peer.likely or not self._open)

    def prove(self, source: int) -> Peer | None:
        """Note that the connection brought `platform.start` of a begun request; return it if new.

        A process of the sandbox could know the request as well: one that is inside is not trusted.
        """
        peer = self._open.get(source)
        if peer is None or peer.likely:
            return None
        peer.likely = True
        return peer

    def trusts(self, source: int) -> bool:
        """True if platform events of this connection count as the platform's, under `trust`."""
        peer = self._open.get(source)
        return self._trusts_all or (peer is not None and peer.likely and not peer.inside)

    def is_anothers(self, source: int) -> bool:
        """True if the connection certainly belongs to another process.

        It is inside, and one from outside is open, whatever it has sent. Or one is open from the
        API's very address, while this one comes from another, and nothing speaks for it.
        """
        peer = self._open.get(source)
        if peer is None or peer.address == self._api:
            return False
        return self._outside > 0 if peer.inside else self._at_api > 0 and not peer.likely

    def trust_all(self) -> None:
        """Trust all peers from now on."""
        self._trusts_all = True

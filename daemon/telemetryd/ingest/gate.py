"""The gate of the telemetry port in Lambda: it admits connections, and gives them their budget.

Lambda needs one connection; any process of the sandbox can open more. These are counted and logged.
They have a share of the memory for unfinished lines (`telemetry.tail_budget_bytes`), so that none
can use up what the platform's own connection needs. They can't fill the queues either: a connection
that is certainly another process's waits while these are more than a quarter full. No peer is
refused, with one exception: on a machine that is not a sandbox, a connection to an address that
others can reach is closed.
"""

from __future__ import annotations

from typing import Final, Protocol

from telemetryd.core.peers import Peers, is_within, plain
from telemetryd.core.stats import DaemonStats
from telemetryd.ingest.addresses import sandbox_addresses
from telemetryd.log import DaemonLog
from telemetryd_proto.framing import TailBudget

MAX_OWN: Final = 4
"""Connections with a budget of their own: the platform has one, or one of each subscription."""
SHARES: Final = 8
"""Parts of the shared budget, of which each other connection may use one."""


class ConnectionObserver(Protocol):
    """An observer of the life cycle."""

    def on_connections(self, count: int, *, lost: bool) -> None:
        """Note how many connections are open. `lost`: the platform's may have ended."""


class Gate:
    """Admits connections, and knows those that are open."""

    def __init__(
        self,
        peers: Peers,
        observer: ConnectionObserver,
        *,
        own_bytes: int,
        tail_budget_bytes: int,
        closes_foreign: bool,
        stats: DaemonStats,
        log: DaemonLog,
    ) -> None:
        """Store the parts.

        `own_bytes`: what a connection that may be the platform's can leave unfinished.
        `closes_foreign`: True on a machine with a network, not in a sandbox.
        """
        self._peers = peers
        self._observer = observer
        self._own_bytes = own_bytes
        self._shared = TailBudget(tail_budget_bytes)
        self._closes_foreign = closes_foreign
        self._stats = stats
        self._log = log
        self._owners: set[int] = set()
        self._held: set[int] = set()
        self._sandbox: frozenset[str] | None = None

    def on_open(self, source: int, local: str, peer: str, *, early: bool) -> TailBudget | None:
        """Return the budget of a connection from `peer` to `local`, None to close it."""
        if not self._is_ours_to_serve(plain(local), plain(peer)):
            return None
        found = self._peers.add(source, peer, early=early)
        if self._peers.open > 1:
            self._stats.connections_beyond += 1
            self._log.info(
                "connection_beyond",
                peer=found.address,
                open=self._peers.open,
                reason="a process of the sandbox" if found.inside else "",
                detail="Lambda needs one telemetry connection; any process of the sandbox can "
                "connect",
            )  # fmt: skip
        self._observer.on_connections(self._peers.open, lost=False)
        return self._own_budget(source) if found.likely else self._share()

    def on_close(self, source: int) -> None:
        """Forget a connection that has ended."""
        self._owners.discard(source)
        self._held.discard(source)
        lost = self._peers.remove(source)
        self._observer.on_connections(self._peers.open, lost=lost)

    def is_anothers(self, source: int) -> bool:
        """True if the connection certainly belongs to another process."""
        return self._peers.is_anothers(source)

    def makes_way(self, source: int) -> bool:
        """True if the connection must wait while the queues fill. Counted and logged once."""
        if not self._peers.is_anothers(source):
            return False
        if source not in self._held:
            self._held.add(source)
            self._stats.connections_held += 1
            self._log.warning(
                "connection_held",
                source=source,
                reason="a process of the sandbox sends more than the sinks take",
                consequence="it is read while the queues are at most a quarter full; the rest is "
                "reserved for the platform's lines",
            )  # fmt: skip
        return True

    def prove(self, source: int) -> TailBudget | None:
        """Return a new budget, if any, for a connection that knows what only Lambda should."""
        return self._own_budget(source) if self._peers.prove(source) else None

    def _own_budget(self, source: int) -> TailBudget:
        if len(self._owners) >= MAX_OWN:
            return self._share()
        self._owners.add(source)
        return TailBudget(self._own_bytes)

    def _share(self) -> TailBudget:
        return TailBudget(self._shared.limit // SHARES, within=self._shared)

    def _is_ours_to_serve(self, local: str, peer: str) -> bool:
        """Return False for a connection that must be closed."""
        if is_within(local):
            return True
        if self._sandbox is None:
            self._sandbox = frozenset(map(plain, sandbox_addresses()))
        if local in self._sandbox:
            return True
        self._stats.connections_foreign += 1
        self._log.warning(
            "connection_foreign",
            address=local,
            peer=peer,
            consequence="closed" if self._closes_foreign else "served",
            fix="telemetry.host = 127.0.0.1 listens on loopback only",
        )  # fmt: skip
        return not self._closes_foreign

"""Ports of 127.0.0.1 that no other program is given in the same time; this machine's address."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved() -> Iterator[int]:
    """A port where no one listens, unless it is told to: connections to it are refused.

    A port that was free a moment ago may be somebody else's by now. This one stays bound, which
    keeps the kernel from giving it away; a socket with SO_REUSEADDR, which any server sets, can
    listen on it all the same.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        yield port


def own_address() -> str:
    """An address of this machine that others can reach; empty if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        address: str = sock.getsockname()[0]
    return "" if address.startswith(("127.", "169.254.")) else address

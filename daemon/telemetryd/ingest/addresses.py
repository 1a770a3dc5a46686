"""The addresses of this machine, or of this sandbox: asked of the kernel, one by one."""

from __future__ import annotations

import socket
from typing import Final

SANDBOX: Final = "sandbox.localdomain"
"""Lambda's name for the sandbox ("Lambda Telemetry API reference", destination)."""
HOSTS: Final = "/etc/hosts"
_MAX_HOSTS_BYTES: Final = 64 * 1024


def is_ours(address: str) -> bool:
    """True if a socket of this sandbox can have `address`."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
    except (OSError, ValueError):
        return False
    return True


def sandbox_addresses(path: str = HOSTS) -> tuple[str, ...]:
    """Return the addresses of `SANDBOX` in the hosts file, none if it has no such name.

    No name server is asked: that takes its time, and where there is none, all of it.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs start-up time
            text = file.read(_MAX_HOSTS_BYTES).decode("latin-1")
    except OSError:
        return ()
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    return tuple(names[0] for names in lines if SANDBOX in names[1:])

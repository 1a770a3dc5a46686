"""The address of the sandbox: the name `sandbox.localdomain`, and its listeners.

On Lambda the platform has one address and the sandbox another, with the name `sandbox.localdomain`.
Here both are addresses of this machine. The name resolves only for the processes of the
environment: they run in a mount namespace whose /etc/hosts has one more line.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

SANDBOX_NAMES: Final = ("sandbox.localdomain", "sandbox")
"""The names of the sandbox, as a subscription may write them."""

_HOSTS: Final = Path("/etc/hosts")
_HELPER: Final = Path(__file__).with_name("hosts_namespace.py")
_HELPER_LIMIT: Final = 20.0
_LISTENING: Final = "0A"
_ANY: Final = {"0.0.0.0", "::"}  # addresses in a table of the kernel, none that we listen on


def hosts_line(address: str) -> str:
    """Return the line of /etc/hosts that names the sandbox."""
    return f"{address} {' '.join(SANDBOX_NAMES)}"


def with_sandbox(hosts: str, address: str) -> str:
    """Return the text of /etc/hosts with the sandbox at `address`, and at no other."""
    kept = [line for line in hosts.splitlines() if not set(_names(line)) & set(SANDBOX_NAMES)]
    return "\n".join((*kept, hosts_line(address), ""))


def _names(line: str) -> list[str]:
    return line.partition("#")[0].split()[1:]


def _read() -> str:
    """Return the text of /etc/hosts; nothing where there is none."""
    try:
        return _HOSTS.read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


class NoNamespaceError(Exception):
    """The name cannot be made to resolve here; the message says why."""


class SandboxHosts:
    """Makes `sandbox.localdomain` resolve for the processes that `enter` it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._namespaces: list[int] = []

    @property
    def is_named(self) -> bool:
        """True if the machine's own /etc/hosts has the sandbox at its address."""
        for line in _read().splitlines():
            if SANDBOX_NAMES[0] in _names(line):
                return line.split()[0] == self._address
        return False

    async def open(self) -> None:
        """Make the namespace, unless /etc/hosts has the name. Raises `NoNamespaceError`."""
        if self.is_named:
            return
        hosts = _read()
        with tempfile.NamedTemporaryFile(prefix="telemetryd-hosts-") as file:
            text = with_sandbox(hosts, self._address)
            file.write(text.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            await self._open(file.name)

    async def _open(self, file: str) -> None:
        helper = await asyncio.create_subprocess_exec(
            sys.executable,
            "-IS",
            str(_HELPER),
            file,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            said = await self._hear(helper)
            if said != self._address:
                raise NoNamespaceError(said.removeprefix("error: ") or "no answer")
            own, its = Path("/proc/self/ns"), Path(f"/proc/{helper.pid}/ns")
            for kind in ("user", "mnt"):
                # A process may not enter the user namespace that it is in.
                if (own / kind).readlink() != (its / kind).readlink():
                    self._namespaces.append(os.open(its / kind, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            raise NoNamespaceError(str(error)) from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                helper.kill()
            await helper.communicate()

    async def _hear(self, helper: asyncio.subprocess.Process) -> str:
        """Return the first line that the helper prints."""
        if helper.stdout is None:
            return ""
        try:
            line = await asyncio.wait_for(helper.stdout.readline(), _HELPER_LIMIT)
        except TimeoutError:
            return f"no answer in {_HELPER_LIMIT:.0f} s"
        return line.decode("utf-8", "replace").strip()

    @property
    def enter(self) -> Callable[[Path], None] | None:
        """A function that a new process calls, with its directory, before its program starts.

        None if the machine's own /etc/hosts has the name.
        """
        if not self._namespaces:
            return None
        namespaces, call = tuple(self._namespaces), ctypes.CDLL(None, use_errno=True).setns

        def enter(directory: Path) -> None:
            for namespace in namespaces:
                if call(namespace, 0):
                    raise OSError(ctypes.get_errno(), "cannot enter the sandbox's namespace")
            os.chdir(directory)  # entering leads to the root

        return enter

    def close(self) -> None:
        """Release the namespace; it ends with its last process."""
        for namespace in self._namespaces:
            os.close(namespace)
        self._namespaces.clear()


def listeners(port: int) -> list[str]:
    """Return the addresses of this machine at which something listens on `port`."""
    found: list[str] = []
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        try:
            lines = Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue  # no such family here
        for line in lines:
            _, local, _, state, *_ = line.split()
            address, _, number = local.partition(":")
            if state == _LISTENING and int(number, 16) == port:
                found.append(_address(address, family))
    return found


def _address(words: str, family: socket.AddressFamily) -> str:
    """Read an address as /proc/net writes it: 32-bit words in the machine's byte order."""
    numbers = (int(words[start : start + 8], 16) for start in range(0, len(words), 8))
    return socket.inet_ntop(family, b"".join(n.to_bytes(4, sys.byteorder) for n in numbers))


def unreachable(name: str, port: int, address: str) -> str:
    """Say why extension `name` gets nothing at `port`: who listens where instead."""
    others = [other for other in listeners(port) if other not in {*_ANY, address}]
    where = f"Lambda connects to {SANDBOX_NAMES[0]}, which is {address} here"
    if others:
        return (
            f"extension {name} gets no telemetry: port {port} is open at {', '.join(others)} only, "
            f"but {where}; listen on {SANDBOX_NAMES[0]} or on 0.0.0.0"
        )
    return (
        f"extension {name} gets no telemetry: nothing listens on port {port}, and {where}; "
        "listen before subscribing"
    )

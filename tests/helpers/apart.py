"""Platform and sandbox at two addresses, as in Lambda: who connects from which can be told apart.

All of 127.0.0.0/8 is this machine's. So the extension's process is told that 127.0.0.1 alone is its
own, which the kernel would say in a sandbox.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from helpers.scripted_platform import Call, line

PLATFORM: Final = "127.0.0.2"
SANDBOX: Final = "127.0.0.1"
_SHIM = f"import telemetryd.ingest.addresses as m\nm.is_ours = {SANDBOX!r}.__eq__\n"
_BURST = line(0).replace(b"line 0", b"flood " + b"x" * 500) * 400


def apart(directory: Path) -> dict[str, str]:
    """Variables of an extension in such a sandbox; the platform's `host` is to be `PLATFORM`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "sitecustomize.py").write_text(_SHIM)
    return {"PYTHONPATH": str(directory)}


def dial_from(address: str, call: Call) -> socket.socket:
    """Connect to where the subscription wants its telemetry, from this address."""
    port = call.json()["destination"]["port"]
    return socket.create_connection((SANDBOX, port), source_address=(address, 0))


class Flood:
    """A context manager: as many processes of the sandbox send as much as is taken from them."""

    def __init__(self, call: Call, connections: int) -> None:
        self._sockets = [dial_from(SANDBOX, call) for _ in range(connections)]
        self._threads = [threading.Thread(target=self._send, args=(s,)) for s in self._sockets]

    @staticmethod
    def _send(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the flood is over
            while True:
                sock.sendall(_BURST)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()

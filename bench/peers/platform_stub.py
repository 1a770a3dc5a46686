"""Runs an extension outside Lambda: an Extensions and Telemetry API on which nothing ever happens.

    python platform_stub.py PORT FILE COMMAND...

Becomes COMMAND (so that this process is the extension, and its CPU the extension's) with
AWS_LAMBDA_RUNTIME_API, PEER_PORT and PEER_OUTPUT in its environment. A child answers `register`,
the telemetry subscription and error reports, and leaves `next` unanswered until the extension is
gone: telemetry comes straight from what posts to PORT.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from telemetryd.local.api.wire import RequestReader

IDENTIFIER = "00000000-0000-4000-8000-000000000000"


def serve_until_gone(listener: socket.socket, extension: int) -> None:
    """Answer until no process holds the other end of the pipe `extension`."""
    # Loaded by the child: before the fork it would be the extension's CPU.
    from telemetryd.local.api import server, wire  # noqa: PLC0415

    api = server.ExtensionsServer(
        server.Function("bench", "$LATEST", "app.handler"), lambda: IDENTIFIER
    )
    connections: dict[socket.socket, RequestReader] = {}
    while True:
        sources: list[int | socket.socket] = [extension, listener, *connections]
        ready, _, _ = select.select(sources, [], [])
        if extension in ready:
            return
        if listener in ready:
            connections[listener.accept()[0]] = wire.RequestReader()
        for connection in connections.keys() & ready:
            try:
                data = connection.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                del connections[connection]
                connection.close()
            for request in connections[connection].feed(data) if data else ():
                outcome = api.receive(request)
                if outcome.answer is not None:
                    connection.sendall(wire.encode(outcome.answer))


def main(port: str, output: str, command: list[str]) -> None:
    """Split into the API and the extension."""
    listener = socket.create_server(("127.0.0.1", 0))
    gone, alive = os.pipe()
    if os.fork() == 0:
        os.close(alive)
        os.setsid()
        serve_until_gone(listener, gone)
        os._exit(0)
    os.set_inheritable(alive, True)  # closed by the kernel when the extension ends
    environment = os.environ | {
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{listener.getsockname()[1]}",
        "PEER_PORT": port,
        "PEER_OUTPUT": output,
    }
    os.execvpe(command[0], command, environment)  # noqa: S606 - an argv, as given


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])

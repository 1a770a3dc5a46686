"""Reads from one TCP connection and forgets: what the generator can do at most.

    python -m bench.load.discard

Prints the port it listens on; ends when the connection does.
"""

from __future__ import annotations

import socket

BUFFER_BYTES = 1024 * 1024


def main() -> None:
    """Read until the other side is done."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        print(server.getsockname()[1], flush=True)
        connection, _ = server.accept()
    view = memoryview(bytearray(BUFFER_BYTES))
    with connection:
        while connection.recv_into(view):
            pass


if __name__ == "__main__":
    main()

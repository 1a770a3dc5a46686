"""The ceiling: copies bytes from TCP connections to a file, and does nothing else.

    python -m bench.copier FILE

A 256-KiB `recv_into` and a `write`, in a loop: what any program that brings bytes from a socket to
a file must do, whatever its language. Prints the port it listens on.
"""

from __future__ import annotations

import os
import select
import socket
import sys

BUFFER_BYTES = 256 * 1024


def main(path: str) -> None:
    """Copy until killed."""
    server = socket.create_server(("127.0.0.1", 0))
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024 * 1024)
    print(server.getsockname()[1], flush=True)
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    view = memoryview(bytearray(BUFFER_BYTES))
    poll = select.poll()
    poll.register(server, select.POLLIN)
    open_connections: dict[int, socket.socket] = {}
    while True:
        for fd, _ in poll.poll():
            if fd == server.fileno():
                connection, _ = server.accept()
                open_connections[connection.fileno()] = connection
                poll.register(connection, select.POLLIN)
            elif size := open_connections[fd].recv_into(view):
                os.write(target, view[:size])
            else:
                poll.unregister(fd)
                open_connections.pop(fd).close()


if __name__ == "__main__":
    main(sys.argv[1])

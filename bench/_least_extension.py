"""The least a telemetry extension can do: asks for events, reads the lines and forgets them.

    python -m bench._least_extension NAME

For `bench.invoke`: what this adds, any extension adds. Registers and subscribes as telemetryd does.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

from telemetryd.extension import boot


def _discard(session: boot.Session) -> None:
    """Read the platform's connection, which may have arrived during the subscription."""
    assert session.listener is not None
    if session.early:
        connection = socket.socket(fileno=session.early[0].detach())
    else:
        with socket.socket(fileno=os.dup(session.listener.fileno())) as listener:
            listener.setblocking(True)
            connection, _ = listener.accept()
    connection.setblocking(True)
    with connection:
        while connection.recv(65536):
            pass


def main(name: str) -> None:
    """Follow the life cycle to SHUTDOWN."""
    session = boot.Session(os.environ["AWS_LAMBDA_RUNTIME_API"], name)
    boot.register(session, os.environ)
    boot.listen(session)
    boot.subscribe(session)
    threading.Thread(target=_discard, args=(session,), daemon=True).start()
    while True:
        session.send_next()
        assert session.next_socket is not None
        session.next_socket.settimeout(None)
        if b'"SHUTDOWN"' in boot.read_answer(session.next_socket).body:
            return


if __name__ == "__main__":
    main(sys.argv[1])

"""Runs an extension outside Lambda: an Extensions and Telemetry API that only says yes.

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
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

IDENTIFIER = "00000000-0000-4000-8000-000000000000"
FUNCTION = b'{"functionName":"bench","functionVersion":"$LATEST","handler":"app.handler"}'


class Api(BaseHTTPRequestHandler):
    """The calls an extension makes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """`event/next`: nothing ever happens."""
        threading.Event().wait()

    def do_POST(self) -> None:
        """`register`, `init/error` and `exit/error`."""
        self._answer(FUNCTION if self.path.endswith("/register") else b'{"status":"OK"}')

    def do_PUT(self) -> None:
        """The subscription."""
        self._answer(b"OK")

    def _answer(self, body: bytes) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Lambda-Extension-Identifier", IDENTIFIER)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve_until_gone(listener: socket.socket, extension: int) -> None:
    """Answer until no process holds the other end of the pipe `extension`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.server_address = listener.getsockname()
    server.server_name, server.server_port = listener.getsockname()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    select.select([extension], [], [])
    os._exit(0)  # a thread may still hold a `next`


def main(port: str, output: str, command: list[str]) -> None:
    """Split into the API and the extension."""
    listener = socket.create_server(("127.0.0.1", 0))
    gone, alive = os.pipe()
    if os.fork() == 0:
        os.close(alive)
        os.setsid()
        serve_until_gone(listener, gone)
    os.set_inheritable(alive, True)  # closed by the kernel when the extension ends
    environment = os.environ | {
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{listener.getsockname()[1]}",
        "PEER_PORT": port,
        "PEER_OUTPUT": output,
    }
    os.execvpe(command[0], command, environment)  # noqa: S606 - an argv, as given


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])

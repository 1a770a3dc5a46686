"""A Lambda extension in the style of AWS's Python samples.

`requests` talks to the Extensions and Telemetry APIs, `http.server` takes the platform's POSTs, a
`queue.Queue` holds decoded events, a dispatcher writes them one per line. Unlike the samples, it
keeps connections open (HTTP/1.1), answers a POST when its events are queued, and writes a batch at
a time.

Environment: AWS_LAMBDA_RUNTIME_API, PEER_OUTPUT (the file), PEER_PORT (default 4243).
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

import requests

NAME = Path(sys.argv[0]).name
BATCH_EVENTS = 1000
BUFFERING = {"maxItems": 10000, "maxBytes": 262144, "timeoutMs": 1000}
ENOUGH_SECONDS = 5

Events = queue.Queue[dict[str, Any] | None]


class Receiver(BaseHTTPRequestHandler):
    """Queues the events of each POST."""

    protocol_version = "HTTP/1.1"
    events: Events

    def do_POST(self) -> None:
        """One batch of the platform."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for event in json.loads(body):
            self.events.put(event)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def dispatch(events: Events, file: BinaryIO) -> None:
    """Write what is queued, up to 1,000 events at once, until None comes."""
    encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
    ended = False
    while not ended:
        batch = [events.get()]
        while len(batch) < BATCH_EVENTS and not events.empty():
            batch.append(events.get())
        ended = batch[-1] is None
        file.write("".join([encode(event) + "\n" for event in batch if event is not None]).encode())


class Platform:
    """The Extensions and Telemetry APIs."""

    def __init__(self, address: str) -> None:
        self._base = f"http://{address}"
        self._session = requests.Session()

    def register(self) -> None:
        """Say that we are here."""
        answer = self._session.post(
            f"{self._base}/2020-01-01/extension/register",
            json={"events": ["INVOKE", "SHUTDOWN"]},
            headers={"Lambda-Extension-Name": NAME},
            timeout=ENOUGH_SECONDS,
        )
        answer.raise_for_status()
        identifier = answer.headers["Lambda-Extension-Identifier"]
        self._session.headers["Lambda-Extension-Identifier"] = identifier

    def subscribe(self, port: int) -> None:
        """Ask for telemetry over HTTP."""
        self._session.put(
            f"{self._base}/2022-07-01/telemetry",
            json={
                "schemaVersion": "2022-12-13",
                "types": ["platform", "function"],
                "buffering": BUFFERING,
                "destination": {"protocol": "HTTP", "URI": f"http://sandbox.localdomain:{port}"},
            },
            timeout=ENOUGH_SECONDS,
        ).raise_for_status()

    def next(self) -> str:
        """Wait for the next event and return its type."""
        answer = self._session.get(f"{self._base}/2020-01-01/extension/event/next", timeout=None)
        answer.raise_for_status()
        event: dict[str, str] = answer.json()
        return event["eventType"]


def terminate(*_: object) -> None:
    """Leave `next`."""
    raise SystemExit


def main() -> None:
    """Register, listen, subscribe, and serve until SHUTDOWN or SIGTERM."""
    signal.signal(signal.SIGTERM, terminate)
    port = int(os.environ.get("PEER_PORT", "4243"))
    events: Events = queue.Queue()
    Receiver.events = events
    platform = Platform(os.environ["AWS_LAMBDA_RUNTIME_API"])
    platform.register()
    with (
        Path(os.environ["PEER_OUTPUT"]).open("ab", buffering=0) as file,
        ThreadingHTTPServer(("0.0.0.0", port), Receiver) as server,
    ):
        dispatcher = threading.Thread(target=dispatch, args=(events, file))
        dispatcher.start()
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            platform.subscribe(port)
            while platform.next() != "SHUTDOWN":
                pass
        finally:
            server.shutdown()
            events.put(None)
            dispatcher.join()


if __name__ == "__main__":
    main()

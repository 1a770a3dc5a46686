#!/usr/bin/env python3
"""A small telemetry extension: standard library only, TCP or HTTP, writes down what it gets.

Everything goes to one file (`LISTENER_FILE`) as JSON lines with a `kind`: `api` (a call and its
status), `event` (INVOKE, SHUTDOWN), `telemetry` (one event), `connection`. A process appends; so a
restarted extension continues in the same file. `LISTENER_MODE` is a JSON object:

    protocol   "TCP" (default) or "HTTP"
    events     what to register for, default ["INVOKE", "SHUTDOWN"]
    types, buffering, schema          of the subscription
    stuck      do not read telemetry before this many INVOKE events (0: never read)
    host       where to listen, default "0.0.0.0"
    port       the port to listen at, default any free one
    twice      repeat the subscription: identically, then changed
    deaf       subscribe to a port at which nothing listens
    second     subscribe a second time, for these types, at another port
    late       subscribe only after the first next
    name       register under this name instead of the base name
    error      post init/error with this type instead of asking for events
    exit_at    exit with status 7 at this many INVOKE events
    hold       seconds to work after SHUTDOWN (default: until no telemetry came for 0.15 s)
    work       seconds to work after each INVOKE
    tick       write a line {"kind": "tick"} every so many seconds
    probe      make the calls that must be refused, before registering
    print      print a line for each INVOKE
"""

from __future__ import annotations

import http.client
import http.server
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

API = os.environ["AWS_LAMBDA_RUNTIME_API"]
MODE: dict[str, Any] = json.loads(os.environ.get("LISTENER_MODE", "{}"))
NAME = MODE.get("name") or Path(sys.argv[0]).name
HOST = MODE.get("host", "0.0.0.0")
OUT = os.open(os.environ["LISTENER_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


READING = threading.Event()
"""Set when telemetry may be read."""

QUIET = 0.15
QUIET_SHARE = 0.75
"""Of the time for the shutdown, what waiting for telemetry may take."""


class _Seen:
    """How many telemetry events were written down."""

    count = 0


def write(kind: str, **values: Any) -> None:
    """Append one line to the file."""
    line = json.dumps({"kind": kind, "at": time.time(), "pid": os.getpid(), **values})
    os.write(OUT, line.encode() + b"\n")


def wait_until_quiet(deadline_ms: int) -> None:
    """Return when no telemetry came for a while; it may come after SHUTDOWN, without an end."""
    end = time.monotonic() + (deadline_ms / 1000 - time.time()) * QUIET_SHARE
    before = -1
    while before != _Seen.count and time.monotonic() < end:
        before = _Seen.count
        time.sleep(QUIET)


def call(method: str, path: str, headers: dict[str, str], body: Any = None) -> tuple[int, Any, Any]:
    """One request to the API: status, headers, body."""
    connection = http.client.HTTPConnection(API)
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    connection.request(method, path, data, {"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    text = answer.read()
    try:
        value = json.loads(text)
    except ValueError:
        value = text.decode()
    write("api", path=path, status=answer.status, body=value, headers=dict(answer.getheaders()))
    connection.close()
    return answer.status, answer.headers, value


def read_connection(connection: socket.socket) -> None:
    """Write down every event of one TCP connection."""
    write("connection", open=True)
    READING.wait()
    local, peer = connection.getsockname(), connection.getpeername()
    write("addresses", local=local[0], port=local[1], peer=peer[0])
    for line in connection.makefile("rb"):
        _Seen.count += 1
        try:
            json.loads(line)
        except ValueError:
            write("broken", text=line.decode("utf-8", "replace"))
            continue
        event = line.rstrip(b"\n")
        os.write(OUT, b'{"kind":"telemetry","port":%d,"event":%b}\n' % (local[1], event))
    write("connection", open=False)


def serve_tcp(port: int = 0) -> int:
    """Listen; returns the port."""
    server = socket.create_server((HOST, port))

    def accept() -> None:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=read_connection, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(server.getsockname()[1])


def closed_port() -> int:
    """A port at which nothing listens: bound, so that no other process takes it."""
    holder = socket.socket()
    holder.bind((HOST, 0))
    _HELD.append(holder)
    return int(holder.getsockname()[1])


_HELD: list[socket.socket] = []


class _Receiver(http.server.BaseHTTPRequestHandler):
    """Writes down every event of every POST."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Take one batch."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for event in json.loads(body):
            _Seen.count += 1
            write("telemetry", event=event, host=self.headers["Host"])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Print nothing: it would come back as telemetry."""


def serve_http() -> int:
    """Serve; returns the port."""
    server = http.server.ThreadingHTTPServer((HOST, 0), _Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_port)


def subscribe(identity: dict[str, str]) -> None:
    """Listen, then ask for telemetry."""
    if MODE.get("protocol", "TCP") == "TCP":
        port = closed_port() if MODE.get("deaf") else serve_tcp(MODE.get("port", 0))
        destination: dict[str, Any] = {"protocol": "TCP", "port": port}
    else:
        uri = f"http://sandbox.localdomain:{serve_http()}/telemetry"
        destination = {"protocol": "HTTP", "URI": uri}
    request = {
        "schemaVersion": MODE.get("schema", "2025-01-29"),
        "types": MODE.get("types", ["platform", "function"]),
        "buffering": MODE.get("buffering", {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25}),
        "destination": destination,
    }
    call("PUT", "/2022-07-01/telemetry", identity, request)
    if MODE.get("twice"):
        call("PUT", "/2022-07-01/telemetry", identity, request)
        call("PUT", "/2022-07-01/telemetry", identity, {**request, "types": ["platform"]})
    if "second" in MODE:
        destination = {"protocol": "TCP", "port": serve_tcp()}
        request |= {"types": MODE["second"], "destination": destination}
        call("PUT", "/2022-07-01/telemetry", identity, request)


def probe() -> None:
    """Calls that an extension must not make, one after the other."""
    prefix = "/2020-01-01/extension"
    unknown = {"Lambda-Extension-Identifier": "00000000-0000-4000-8000-000000000000"}
    call("GET", f"{prefix}/event/next", {})
    call("GET", f"{prefix}/event/next", {"Lambda-Extension-Identifier": "x"})
    call("GET", f"{prefix}/event/next", unknown)
    call("PUT", "/2022-07-01/telemetry", unknown, {})
    call("POST", f"{prefix}/register", {}, {"events": []})
    call("POST", f"{prefix}/register", {"Lambda-Extension-Name": NAME}, b"{")
    call("POST", f"{prefix}/register", {"Lambda-Extension-Name": NAME}, {"events": ["START"]})
    call("POST", f"{prefix}/register", {"Lambda-Extension-Name": "other"}, {"events": ["SHUTDOWN"]})


def tick(period: float) -> None:
    """Show that the process is running."""
    while True:
        write("tick")
        time.sleep(period)


def register() -> dict[str, str]:
    """Register, without INVOKE where that is refused; returns the identity for later calls."""
    path = "/2020-01-01/extension/register"
    headers = {"Lambda-Extension-Name": NAME, "Lambda-Extension-Accept-Feature": "accountId"}
    events = MODE.get("events", ["INVOKE", "SHUTDOWN"])
    status, answer, _ = call("POST", path, headers, {"events": events})
    if status == http.HTTPStatus.FORBIDDEN:
        events = ["SHUTDOWN"]
        status, answer, _ = call("POST", path, headers, {"events": events})
    identity = {"Lambda-Extension-Identifier": answer["Lambda-Extension-Identifier"]}
    if MODE.get("probe"):
        call("POST", path, headers, {"events": events})
        call("POST", "/2020-01-01/extension/init/error", identity)
    return identity


def shut_down(deadline_ms: int) -> int:
    """What there is to do after SHUTDOWN."""
    if "hold" in MODE:
        time.sleep(MODE["hold"])
    else:
        wait_until_quiet(deadline_ms)
    write("end")
    return 0


def poll(identity: dict[str, str]) -> int:
    """Ask for events until SHUTDOWN; returns the exit status."""
    invocations = 0
    while True:
        status, _, event = call("GET", "/2020-01-01/extension/event/next", identity)
        if status != http.HTTPStatus.OK:
            return 3
        write("event", event=event)
        if event["eventType"] == "SHUTDOWN":
            return shut_down(event["deadlineMs"])
        invocations += 1
        if invocations == MODE.get("stuck"):
            READING.set()
        if MODE.get("print"):
            print(f"{NAME}: invocation {invocations}", flush=True)
        if invocations == MODE.get("exit_at"):
            return 7
        if MODE.get("late") and invocations == 1:
            subscribe(identity)
        time.sleep(MODE.get("work", 0))


def main() -> int:
    """Register, subscribe, poll, exit at SHUTDOWN."""
    write("started", environment=dict(os.environ))
    if MODE.get("probe"):
        probe()
    identity = register()
    if "error" in MODE:
        typed = {"Lambda-Extension-Function-Error-Type": MODE["error"]}
        call("POST", "/2020-01-01/extension/init/error", identity | typed)
        return 1
    if "tick" in MODE:
        threading.Thread(target=tick, args=(MODE["tick"],), daemon=True).start()
    if not MODE.get("late"):
        subscribe(identity)
    if "stuck" not in MODE:
        READING.set()
    return poll(identity)


if __name__ == "__main__":
    sys.exit(main())

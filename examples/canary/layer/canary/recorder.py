"""Record what the Lambda platform does to an extension, and answer questions about it.

One process is one external extension with one telemetry subscription, over TCP or HTTP. It keeps
what it saw in memory and serves it as JSON at `GET http://127.0.0.1:<report port>/`, so the
function can return it to its caller. At the end it also prints it as one line, for the log
group. Needs Python's standard library only.

Every time in the record is in milliseconds since this process started. Every list has a bound.
"""

from __future__ import annotations

import hashlib
import http.client
import http.server
import json
import os
import socket
import socketserver
import sys
import threading
import time
from http import HTTPStatus
from typing import Any

MAX_EVENTS = 1500
MAX_CONNECTIONS = 64
MAX_POSTS = 300
MAX_BODY = 16 * 1024 * 1024
WAIT_FOR_END = 2.0
"""Seconds after INVOKE without `platform.runtimeDone` before the next event is asked for anyway."""
SPIN_SECONDS = 0.5
SPIN_AT_INVOKE = 2
"""The invocation in which the CPU share is measured; the script sends one that only sleeps."""
IDENTIFIER = "Lambda-Extension-Identifier"
PORTS = {"TCP": (0, 2), "HTTP": (1, 3)}
"""Telemetry port and report port of each recorder, counted from `CANARY_BASE_PORT`."""
BASE_PORT = 14391


class Record:
    """The record of what was seen so far; safe to use from several threads."""

    def __init__(self, protocol: str) -> None:
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._runtime_done: dict[str, threading.Event] = {}
        self._facts: dict[str, Any] = {"protocol": protocol, "pid": os.getpid()}
        self._lists: dict[str, list[Any]] = {
            name: [] for name in ("calls", "connections", "posts", "events", "life", "surrogates")
        }
        self._counts: dict[str, int] = {}
        self._between_invocations = False

    def now(self) -> float:
        """Milliseconds since the process started."""
        return round((time.monotonic() - self._started) * 1000, 2)

    def set_fact(self, name: str, value: object) -> None:
        """Note a single fact."""
        with self._lock:
            self._facts[name] = value

    def add(self, name: str, limit: int, entry: dict[str, Any]) -> None:
        """Append to a list, up to its limit; what is beyond is counted."""
        with self._lock:
            if len(self._lists[name]) < limit:
                self._lists[name].append(entry)
            else:
                self._count(f"{name} not listed")

    def on_line(self, line: bytes) -> None:
        """Take one telemetry event as it came."""
        at = self.now()
        try:
            event = json.loads(line)
            kind, record = event["type"], event["record"]
        except (ValueError, KeyError, TypeError):
            with self._lock:
                self._count("not a telemetry event")
            return
        with self._lock:
            self._count(kind)
        if kind in ("function", "extension"):
            self._on_log_line(kind, record, line)
            return
        if kind in ("platform.start", "platform.runtimeDone"):
            self._between_invocations = kind == "platform.runtimeDone"
        entry = {"at": at, "type": kind, "time": event.get("time"), **_essence(record)}
        self.add("events", MAX_EVENTS, entry)
        if kind == "platform.runtimeDone" and isinstance(record, dict):
            self.ended(str(record.get("requestId"))).set()

    def ended(self, request_id: str) -> threading.Event:
        """Return an event that is set when this invocation's `platform.runtimeDone` has arrived."""
        with self._lock:
            if len(self._runtime_done) > MAX_EVENTS:
                self._runtime_done.clear()
            return self._runtime_done.setdefault(request_id, threading.Event())

    def as_document(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        with self._lock:
            document: dict[str, Any] = json.loads(
                json.dumps(
                    {
                        **self._facts,
                        **self._lists,
                        "counts": self._counts,
                        "reported_at": self.now(),
                    }
                )
            )
            return document

    def _on_log_line(self, kind: str, record: object, line: bytes) -> None:
        text = record if isinstance(record, str) else json.dumps(record)
        with self._lock:
            if kind == "function" and self._between_invocations:
                self._count("function lines after runtimeDone")
            if kind == "function" and "canary flood" in text:
                self._count("flood lines")
        if "canary surrogate" in text:
            start = max(line.find(b"canary surrogate") - 20, 0)
            raw = line[start : start + 120].decode("latin-1")
            entry = {"as": type(record).__name__, "bytes": raw}
            self.add("surrogates", 8, entry)

    def _count(self, name: str) -> None:
        self._counts[name] = self._counts.get(name, 0) + 1


def _essence(record: object) -> dict[str, Any]:
    """Return the members of a platform event's record that the report needs: no names, no ARNs."""
    if not isinstance(record, dict):
        return {"record": type(record).__name__}
    kept = (
        "requestId",
        "status",
        "errorType",
        "phase",
        "initializationType",
        "metrics",
        "spans",
        "reason",
        "droppedRecords",
        "droppedBytes",
        "state",
        "events",
        "types",
        "tenantId",
    )
    return {name: record[name] for name in kept if name in record}


# -- what the platform connects to -------------------------------------------------------------


def accept_tcp(record: Record, port: int, ready: threading.Event) -> None:
    """Read telemetry by the TCP protocol forever."""
    listener = socket.create_server(("0.0.0.0", port), backlog=16)
    ready.set()
    while True:
        connection, peer = listener.accept()
        seen = _connection(record, connection, peer)
        threading.Thread(target=_read_lines, args=(record, connection, seen), daemon=True).start()


def _connection(record: Record, connection: socket.socket, peer: Any) -> dict[str, Any]:
    seen = {"at": record.now(), "peer": peer[0], "local": connection.getsockname()[0]}
    record.add("connections", MAX_CONNECTIONS, seen)
    return seen


def _read_lines(record: Record, connection: socket.socket, seen: dict[str, Any]) -> None:
    rest = b""
    try:
        while data := connection.recv(1 << 20):
            seen.setdefault("first_bytes_at", record.now())
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                record.on_line(line)
        seen["end"] = "closed by the platform"
    except OSError as error:
        seen["end"] = repr(error)
    seen["ended_at"] = record.now()
    seen["unfinished_bytes"] = len(rest)


def accept_http(record: Record, port: int, ready: threading.Event) -> None:
    """Read telemetry by the HTTP protocol forever. Refuse one POST once, to see what follows."""
    refused: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            _connection(record, self.connection, self.client_address)

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(min(size, MAX_BODY))
            digest = hashlib.sha256(body).hexdigest()[:16]
            again = digest in refused
            refuse = not refused and b"canary: refuse" in body
            status = HTTPStatus.SERVICE_UNAVAILABLE if refuse else HTTPStatus.OK
            if refuse:
                refused.append(digest)
            else:
                _take_array(record, body)
            entry = {
                "at": record.now(),
                "bytes": size,
                "sha256": digest,
                "answered": status,
                "sent_again": again,
                "host": self.headers.get("Host"),
                "path": self.path,
                "encoding": self.headers.get("Content-Encoding"),
            }
            record.add("posts", MAX_POSTS, entry)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True

    server = Server(("0.0.0.0", port), Handler)
    ready.set()
    server.serve_forever()


def _take_array(record: Record, body: bytes) -> None:
    try:
        events = json.loads(body)
    except ValueError:
        record.on_line(b"not JSON")
        return
    for event in events if isinstance(events, list) else [events]:
        record.on_line(json.dumps(event).encode())


def serve_report(record: Record, port: int) -> None:
    """Serve the record on loopback, forever."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(record.as_document()).encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()


# -- the extension's life ------------------------------------------------------------------------


class Platform:
    """The Extensions and Telemetry API; every call goes into the record."""

    def __init__(self, record: Record, name: str) -> None:
        self._record = record
        self._name = name
        self._identifier = ""
        host, _, port = os.environ["AWS_LAMBDA_RUNTIME_API"].rpartition(":")
        self._address = (host, int(port))

    def register(self) -> None:
        """Register for INVOKE and SHUTDOWN, or for SHUTDOWN where there is no INVOKE."""
        for events in (["INVOKE", "SHUTDOWN"], ["SHUTDOWN"]):
            status, headers, body = self._call(
                "POST",
                "/2020-01-01/extension/register",
                {"events": events},
                {"Lambda-Extension-Name": self._name},
            )
            self._identifier = headers.get(IDENTIFIER, "")
            if status == HTTPStatus.OK:
                return
        raise SystemExit(f"canary: register was answered with {status}: {body[:300]!r}")

    def subscribe(self, protocol: str, port: int) -> None:
        """Subscribe to all telemetry, by the newest schema that is taken."""
        destination: dict[str, Any] = {"protocol": protocol}
        if protocol == "TCP":
            destination["port"] = port
        else:
            destination["URI"] = f"http://sandbox.localdomain:{port}/telemetry"
        for schema in ("2025-01-29", "2022-12-13", "2022-07-01"):
            status, _, _ = self._call(
                "PUT",
                "/2022-07-01/telemetry",
                {
                    "schemaVersion": schema,
                    "types": ["platform", "function", "extension"],
                    "buffering": {"maxItems": 10000, "maxBytes": 1048576, "timeoutMs": 25},
                    "destination": destination,
                },
                {IDENTIFIER: self._identifier},
            )
            if status != HTTPStatus.BAD_REQUEST:
                return

    def next_event(self) -> dict[str, Any]:
        """Wait for the next event; SHUTDOWN stands for a platform that is gone."""
        asked = self._record.now()
        connection = http.client.HTTPConnection(*self._address)
        try:
            connection.request(
                "GET", "/2020-01-01/extension/event/next", headers={IDENTIFIER: self._identifier}
            )
            event: dict[str, Any] = json.loads(connection.getresponse().read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            event = {"eventType": "SHUTDOWN", "shutdownReason": repr(error)}
        finally:
            connection.close()
        self._record.add(
            "life",
            MAX_EVENTS,
            {
                "next_asked_at": asked,
                "answered_at": self._record.now(),
                "event": event.get("eventType"),
                "reason": event.get("shutdownReason"),
                "requestId": event.get("requestId"),
                "left_ms": round(event["deadlineMs"] - time.time() * 1000, 1)
                if isinstance(event.get("deadlineMs"), (int, float))
                else None,
            },
        )
        return event

    def _call(
        self, method: str, path: str, body: dict[str, Any], headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        sent = self._record.now()
        connection = http.client.HTTPConnection(*self._address, timeout=5)
        connection.request(method, path, json.dumps(body), headers)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        self._record.add(
            "calls",
            32,
            {
                "call": path.rpartition("/")[2],
                "sent_at": sent,
                "answered_at": self._record.now(),
                "status": response.status,
                "answer": answer[:200].decode("latin-1"),
                "schema": body.get("schemaVersion"),
            },
        )
        return response.status, dict(response.getheaders()), answer


def cpu_share(seconds: float) -> float:
    """Compute for so long; the share of one CPU that this process had, from 0 to 1."""
    wall, cpu = time.monotonic(), time.process_time()
    while time.monotonic() - wall < seconds:
        hashlib.sha256(b"canary" * 1000)
    return round((time.process_time() - cpu) / (time.monotonic() - wall), 3)


def note_surroundings(record: Record) -> None:
    """Note addresses and names of the sandbox, and what kind of environment this is."""
    record.set_fact("runtime_api", os.environ.get("AWS_LAMBDA_RUNTIME_API"))
    for name in (
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_LOG_FORMAT",
        "AWS_EXECUTION_ENV",
        "AWS_REGION",
    ):
        record.set_fact(name, os.environ.get(name))
    addresses: dict[str, list[str] | str] = {}
    for name in ("sandbox.localdomain", "sandbox", "localhost"):
        try:
            found = socket.getaddrinfo(name, 1, type=socket.SOCK_STREAM)
            addresses[name] = sorted({str(entry[4][0]) for entry in found})
        except OSError as error:
            addresses[name] = repr(error)
    record.set_fact("addresses", addresses)


def main() -> None:
    """Be an extension until SHUTDOWN."""
    name = os.path.basename(sys.argv[0])  # noqa: PTH119 - the start is measured: no pathlib
    protocol = "HTTP" if name.endswith("http") else "TCP"
    base = int(os.environ.get("CANARY_BASE_PORT") or BASE_PORT)
    port, report_port = (base + offset for offset in PORTS[protocol])
    record = Record(protocol)
    platform = Platform(record, name)
    platform.register()
    ready = threading.Event()
    accept = accept_tcp if protocol == "TCP" else accept_http
    threading.Thread(target=accept, args=(record, port, ready), daemon=True).start()
    threading.Thread(target=serve_report, args=(record, report_port), daemon=True).start()
    ready.wait(5)
    platform.subscribe(protocol, port)
    note_surroundings(record)
    measures = protocol == "TCP"  # one of the two: together they would measure each other
    if measures:
        record.set_fact("cpu_share_init", cpu_share(SPIN_SECONDS))
    invokes = 0
    while True:
        event = platform.next_event()
        if event.get("eventType") == "SHUTDOWN":
            break
        invokes += 1
        if measures and invokes == SPIN_AT_INVOKE:
            record.set_fact("cpu_share_invoke", cpu_share(SPIN_SECONDS))
        request = str(event.get("requestId"))
        came = record.ended(request).wait(WAIT_FOR_END)
        entry = {"at": record.now(), "waited_for": request, "runtime_done_in_time": came}
        record.add("life", MAX_EVENTS, entry)
    time.sleep(0.3)  # what the platform still sends after SHUTDOWN belongs to the record
    print(json.dumps({"canary": record.as_document()}), flush=True)


if __name__ == "__main__":
    main()

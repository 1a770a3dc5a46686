"""A platform that answers what a test tells it to: the Extensions API over a bare socket.

For answers that no well-behaved platform gives. The test takes the extension's calls one by one,
in the order they came, and answers each as it likes, down to the bytes. A call that it wants to be
answered well goes to the API's server, as any platform's does; the others never reach that.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from helpers.daemon import assert_balanced
from helpers.measured import MEASURED
from telemetryd.local.api import server
from telemetryd.local.api.server import ExtensionsServer, Function, Outcome, RefusedCall
from telemetryd.local.api.wire import Request, RequestReader, encode

PATIENCE_SECONDS: Final = 60.0
REGISTER: Final = server.REGISTER
NEXT: Final = server.NEXT
INIT_ERROR: Final = server.INIT_ERROR
TELEMETRY: Final = server.TELEMETRY
IDENTIFIER: Final = "11111111-2222-4333-8444-555555555555"
_RUN = "import sys; sys.argv = ['telemetryd']; from telemetryd.__main__ import main; main()"


class Call:
    """One request of the extension, waiting for its answer."""

    def __init__(self, connection: socket.socket, request: Request, api: ExtensionsServer) -> None:
        self.method, self.path, self.headers, self.body = request
        self._request = request
        self._connection = connection
        self._api = api

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    def raw(self, data: bytes) -> None:
        """Answer with these very bytes."""
        self._connection.sendall(data)

    def answer(
        self, status: int = 200, body: bytes = b"", headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Answer with this, in the form of HTTP."""
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        self.raw("\r\n".join((*lines, "", "")).encode() + body)

    def accept(self, body: bytes | None = None) -> Outcome:
        """Answer as Lambda does, and say what came of it. A call that is refused fails the test.

        `body` stands in for the answer's own, if given.
        """
        outcome = self._api.receive(self._request)
        assert not isinstance(outcome, RefusedCall), outcome.answer
        if outcome.answer is not None:
            answer = outcome.answer
            self.raw(encode(answer if body is None else answer._replace(body=body)))
        return outcome

    def accept_with(self, data: bytes) -> None:
        """Take the call as Lambda does, but answer with these very bytes."""
        outcome = self._api.receive(self._request)
        assert not isinstance(outcome, RefusedCall), outcome.answer
        self.raw(data)

    def event(self, **event: Any) -> None:
        """Answer `next` with an event."""
        outcome = self.accept()
        assert not isinstance(outcome, RefusedCall)
        outcome.extension.send(event)
        answer = self._api.take(outcome.extension)
        assert answer is not None
        self.raw(encode(answer))

    def invoke(self, request_id: str, seconds: float = 30.0, **more: Any) -> None:
        """Answer `next` with an invocation that may take so many seconds."""
        self.event(
            eventType="INVOKE",
            requestId=request_id,
            deadlineMs=int((time.time() + seconds) * 1000),
            invokedFunctionArn="arn:aws:lambda:us-east-1:123456789012:function:f",
            **more,
        )

    def shutdown(self, seconds: float = 15.0, reason: str = "spindown") -> None:
        """Answer `next` with SHUTDOWN, due in so many seconds: by default more than it needs.

        A sink that takes nothing makes it use all of them, but for a margin.
        """
        deadline = int((time.time() + seconds) * 1000)
        self.event(eventType="SHUTDOWN", deadlineMs=deadline, shutdownReason=reason)

    def drop(self) -> None:
        """Close the connection without an answer."""
        self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def _server(host: str) -> socket.socket:
    """A listening socket; for `localhost` on all that the name may stand for.

    Listening on one address alone, it would leave the port of the other to any other process.
    """
    if host != "localhost":
        return socket.create_server((host, 0))
    if not socket.has_dualstack_ipv6():
        return socket.create_server(("127.0.0.1", 0))
    return socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)


class ScriptedPlatform:
    """A context manager: the API, the extension's process and what it printed."""

    def __init__(
        self,
        variables: Mapping[str, str] | None = None,
        *,
        command: Sequence[str] = (sys.executable, "-c", _RUN),
        pass_fds: Sequence[int] = (),
        stdout: int = subprocess.DEVNULL,
        host: str = "127.0.0.1",
        account: str | None = None,
    ) -> None:
        self.printed: list[str] = []
        self.api = ExtensionsServer(Function("f", "$LATEST", "", account), lambda: IDENTIFIER)
        self._variables = dict(variables or {})
        self._command = command
        self._pass_fds = pass_fds
        self._stdout = stdout
        self._calls: queue.Queue[Call] = queue.Queue()
        self._sockets: list[socket.socket] = []
        self._server = _server(host)
        self.address = f"{host}:{self._server.getsockname()[1]}"
        self.process: subprocess.Popen[bytes]
        self._reader: threading.Thread

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        self.process = subprocess.Popen(
            self._command,
            env={
                "AWS_LAMBDA_RUNTIME_API": self.address,
                "PATH": os.environ["PATH"],
                "TELEMETRYD_TELEMETRY__PORT": "0",
                **MEASURED,
                **self._variables,
            },
            stdin=subprocess.DEVNULL,
            stdout=self._stdout,
            stderr=subprocess.PIPE,
            pass_fds=self._pass_fds,
        )
        self._reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE_SECONDS)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        for item in (self._server, *self._sockets):
            item.close()

    # -- the API -----------------------------------------------------------------------------

    def expect(self, path: str) -> Call:
        """The extension's next call, which must be this one."""
        try:
            call = self._calls.get(timeout=PATIENCE_SECONDS)
        except queue.Empty:
            raise AssertionError(f"no call of {path}; printed: {self.printed}") from None
        assert call.path == path, f"{call.method} {call.path} {call.body!r}, not {path}"
        return call

    def no_calls(self) -> bool:
        """True if no call waits."""
        return self._calls.empty()

    def register(self, body: bytes | None = None) -> Call:
        """Let it register; the call. `body` as `Call.accept` has it."""
        call = self.expect(REGISTER)
        call.accept(body)
        return call

    def subscribe(self, host: str = "127.0.0.1") -> socket.socket:
        """Let it subscribe; the connection that carries telemetry, made during the call."""
        call = self.expect(TELEMETRY)
        connection = self.dial(call, host)
        call.accept()
        return connection

    def dial(self, call: Call, host: str = "127.0.0.1") -> socket.socket:
        """Connect to where a subscription wants its telemetry, at one address of the sandbox."""
        destination = call.json()["destination"]
        assert destination.keys() == {"protocol", "port"}
        assert destination["protocol"] == "TCP"
        connection = socket.create_connection((host, destination["port"]))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sockets.append(connection)
        return connection

    def begin(self, registered: bytes | None = None) -> tuple[socket.socket, Call]:
        """Register and subscribe; the telemetry connection and the first `next`.

        `registered` is the body of the answer to `register`, if not the usual one.
        """
        self.register(registered)
        telemetry = self.subscribe()
        return telemetry, self.expect(NEXT)

    def leave(self) -> None:
        """Accept no more connections: they are refused from now on."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return  # closed: the test is over
            self._sockets.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        reader = RequestReader()
        try:
            while data := connection.recv(65536):
                for request in reader.feed(data):
                    self._calls.put(Call(connection, request, self.api))
        except OSError:
            return  # dropped by the test, or the process has ended

    # -- the process -------------------------------------------------------------------------

    def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.printed.append(line.decode().rstrip("\n"))

    def kill_after(self, seconds: float) -> None:
        """Kill the process then, should it still run: what the platform does at its deadline."""
        timer = threading.Timer(seconds, self.process.kill)
        timer.daemon = True
        timer.start()

    def finish(self, status: int = 0) -> None:
        """Wait for the process to end by itself."""
        assert self.process.wait(PATIENCE_SECONDS) == status, self.printed
        self._reader.join(PATIENCE_SECONDS)

    def log(self, event: str) -> list[dict[str, Any]]:
        """What it printed of one `event`; JSON objects all of it."""
        return [record for record in map(json.loads, self.printed) if record["event"] == event]

    def ledger(self) -> dict[str, Any]:
        """The ledger, checked."""
        (ledger,) = self.log("ledger")
        assert_balanced(ledger)
        return ledger


def file_sink(path: Path) -> dict[str, str]:
    """Environment of a file sink."""
    return {"TELEMETRYD_SINKS__FILE__TYPE": "file", "TELEMETRYD_SINKS__FILE__PATH": str(path)}


def line(number: int) -> bytes:
    """A function's line."""
    event = {"time": "2026-03-14T10:15:30.123Z", "type": "function", "record": f"line {number}\n"}
    return json.dumps(event).encode() + b"\n"


def runtime_done(request_id: str) -> bytes:
    """The end of an invocation."""
    record = {"requestId": request_id, "status": "success"}
    event = {"time": "2026-03-14T10:15:31Z", "type": "platform.runtimeDone", "record": record}
    return json.dumps(event).encode() + b"\n"

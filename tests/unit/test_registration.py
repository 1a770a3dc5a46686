"""The internal extension's registration: whatever the API does, the function is imported."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from helpers.lifecycle import until
from telemetryd.internal import registration
from telemetryd.internal.registration import NAME, register


def answer(body: object, status: str = "200 OK", *headers: str) -> bytes:
    """An answer of HTTP."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = "".join(f"{line}\r\n" for line in headers)
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n{head}\r\n".encode() + data


REGISTERED = answer({}, "200 OK", "Lambda-Extension-Identifier: an-id")
CLOSES = b""
"""Close the connection without an answer."""


def invoke(**changes: object) -> bytes:
    """An INVOKE."""
    event = {"eventType": "INVOKE", "requestId": "a", "deadlineMs": 5}
    return answer({name: value for name, value in (event | changes).items() if value is not None})


class Platform:
    """An API that gives prepared answers, each on the connection that asks, and then hangs."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.asked = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        """Serve one connection after the other, as the extension has one at a time."""
        with self._listener, contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, contextlib.suppress(OSError):
                    self._connection = connection
                    self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        request = b""
        while data := connection.recv(65536):
            request += data
            end = b"}" if request.startswith(b"POST") else b"\r\n\r\n"
            if not request.endswith(end):
                continue
            request = b""
            self.asked += 1
            if self.answers:
                answer = self.answers.pop(0)
                if answer == CLOSES:
                    return
                connection.sendall(answer)

    def close(self) -> None:
        """End, with all connections."""
        for each in (self._listener, self._connection):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._thread.join()


class Heard:
    """The calls of `register`."""

    def __init__(self) -> None:
        self.invoked: list[tuple[str, int]] = []
        self.gone = threading.Event()
        self.said: list[str] = []

    def register(self) -> bool:
        """Register, and write the calls down."""
        return register(
            lambda request, deadline: self.invoked.append((request, deadline)),
            self.gone.set,
            self.said.append,
        )


Serve = Callable[..., Platform]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    made: list[Platform] = []

    def serve(*answers: bytes) -> Platform:
        made.append(Platform(*answers))
        monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", made[-1].address)
        return made[-1]

    monkeypatch.setattr(registration, "_PAUSE_SECONDS", 0.001)
    yield serve
    for each in made:
        each.close()


REFUSALS = {
    "refuses": (answer({"errorType": "Extension.Limit"}, "403 Forbidden"), "403"),
    "fails": (answer(b"<html>\n</html>", "500 Internal Server Error"), "500 <html> </html>"),
    "gives no identifier": (answer({}), "200"),
    "moves": (answer({}, "302 Found", "Location: http://example.com/"), "302"),
    "closes": (CLOSES, "RemoteDisconnected"),
    "is no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "BadStatusLine"),
    "has no end": (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", "HTTPException"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_platform_that_does_not_register_is_one_line(serve: Serve, kind: str) -> None:
    data, reason = REFUSALS[kind]
    serve(data)
    heard = Heard()
    assert not heard.register()
    (said,) = heard.said
    assert reason in said
    assert said.endswith("flushes before the handler returns")
    assert "\n" not in said


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:none",
        "..:80",
        "127.0.0.1:0",
        "127.0.0.1:99999",
        "[::1",
        ":",
        " ",
        "a\rb",
        "\udcff",
    ],
)
def test_an_odd_address_is_one_line(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setitem(os.environ, "AWS_LAMBDA_RUNTIME_API", address)
    heard = Heard()
    assert not heard.register()
    (said,) = heard.said
    assert "could not register" in said


def test_a_platform_that_hangs_is_waited_for_so_long_only(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve()
    monkeypatch.setattr(registration, "_REGISTER_SECONDS", 0.05)
    heard = Heard()
    assert not heard.register()
    until(lambda: not any(each.name == NAME for each in threading.enumerate()))
    (said,) = heard.said
    assert said.endswith("flushes before the handler returns")


def test_without_a_thread_to_spare_nothing_is_registered(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambda would wait for an extension that asks for no event."""
    platform = serve(REGISTERED)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    heard = Heard()
    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", refuse)
        assert not heard.register()
    assert heard.said == [
        "it could not register (can't start new thread), so it flushes before the handler returns"
    ]
    assert platform.asked == 0


def test_outside_lambda_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_LAMBDA_RUNTIME_API", raising=False)
    heard = Heard()
    assert not heard.register()
    assert heard.said == []


@pytest.mark.parametrize(
    "odd",
    [
        CLOSES,
        answer({}, "500 Internal Server Error"),
        answer(b"no JSON"),
        answer([1]),
        answer({"eventType": "SHUTDOWN"}),
        invoke(requestId=None),
        invoke(deadlineMs="soon"),
        b"no HTTP\r\n\r\n",
        answer(b" " * 70000),
    ],
)
def test_it_asks_again_after_an_odd_answer(serve: Serve, odd: bytes) -> None:
    """As Lambda waits for the extension's `next` before it freezes."""
    serve(REGISTERED, invoke(), *[odd] * 4, invoke(requestId="b"), odd, invoke(requestId="c"))
    heard = Heard()
    assert heard.register()
    until(lambda: len(heard.invoked) == 3)
    assert [request for request, _ in heard.invoked] == ["a", "b", "c"]
    assert not heard.gone.is_set()
    assert heard.said == []


def test_an_api_without_events_is_given_up_with_a_line(serve: Serve) -> None:
    platform = serve(REGISTERED, *[answer({}, "403 Forbidden")] * 9)
    heard = Heard()
    assert heard.register()
    assert heard.gone.wait(60)
    (said,) = heard.said
    assert "no next event (403 {})" in said
    assert platform.asked == 6


def test_a_late_registration_is_followed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lambda waits for an extension that it has registered, so it has to ask for events."""
    late = threading.Event()
    post: Any = registration._Following._register

    def wait(following: Any) -> Any:
        late.wait(60)
        return post(following)

    monkeypatch.setattr(registration._Following, "_register", wait)
    monkeypatch.setattr(registration, "_REGISTER_SECONDS", 0.01)
    serve(REGISTERED, invoke())
    heard = Heard()
    assert not heard.register()
    monkeypatch.setattr(registration, "_REGISTER_SECONDS", 60)
    late.set()
    until(lambda: heard.invoked == [("a", 5)])

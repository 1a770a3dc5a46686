"""Asks for `/metrics` as Prometheus does, and reads the answer with its own strict parser."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from prometheus_client.openmetrics.parser import text_string_to_metric_families

PATIENCE_SECONDS: Final = 60.0
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def get(port: int, path: str, *, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    """Status, headers and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


class Scrape:
    """The metrics at one moment. Raises ValueError if they are not valid OpenMetrics."""

    def __init__(self, port: int) -> None:
        status, headers, body = get(port, "/metrics", Accept=OPENMETRICS)
        assert status == 200
        assert headers["Content-Type"].startswith("application/openmetrics-text")
        self.samples: Samples = {}
        self.kinds: dict[str, str] = {}
        families = text_string_to_metric_families(body.decode())  # type: ignore[no-untyped-call]  # of the library
        for family in families:
            self.kinds[family.name] = family.type
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                assert key not in self.samples, f"{key} is there twice"
                self.samples[key] = sample.value

    def __call__(self, name: str, **labels: str) -> float:
        """One sample; `name` without prefix."""
        return self.samples[f"telemetryd_{name}", tuple(sorted(labels.items()))]

    def of(self, family: str) -> Samples:
        """All samples of a family, by its name without prefix and `_total`."""
        ends = ("", "_total", "_count", "_sum", "_bucket")
        names = {f"telemetryd_{family}{end}" for end in ends}
        return {key: value for key, value in self.samples.items() if key[0] in names}


def until(
    port: int, condition: Callable[[Scrape], object], seconds: float = PATIENCE_SECONDS
) -> Scrape:
    """The first scrape of which `condition` is true, awaited."""
    end = time.monotonic() + seconds
    while True:
        scrape = Scrape(port)
        if condition(scrape):
            return scrape
        assert time.monotonic() < end, f"waited without success, at last for {scrape.samples}"
        time.sleep(0.005)  # what is asked has something else to do


def connect(port: int) -> socket.socket:
    """A connection that asks nothing yet."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def received(connection: socket.socket) -> bytes:
    """All that comes until the other side ends the connection, one way or the other."""
    found = b""
    try:
        while data := connection.recv(65536):
            found += data
    except ConnectionResetError:
        return found
    return found


def ask(port: int, request: Iterable[bytes]) -> bytes:
    """The answer to the pieces of a request."""
    connection = connect(port)
    try:
        for piece in request:
            connection.sendall(piece)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it has heard enough
    answer = received(connection)
    connection.close()
    return answer

"""The subjects: a function alone, telemetryd with each sink, other extensions."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.peers import catalog
from bench.peers.catalog import PeerAbsentError
from bench.short_life.service import TOKEN
from bench.short_life.settings import ALONE, BEFORE, IN_INIT, OURS, PEERS, Settings

_TITLES: Final = {
    "file": "file",
    "emf": "EMF (printed)",
    "http": "HTTP over TLS",
    "otlp": "OTLP over TLS",
    "kinesis": "Kinesis over TLS",
    "logs": "EMF to Logs over TLS",
    "null": "null",
}
REMOTE: Final = ("http", "kinesis", "logs", "otlp")
"""Sinks that need a service."""
_INIT: Final = {"TELEMETRYD_LAMBDA__START": "init"}
_PREFIX: Final = "TELEMETRYD_SINKS__OUT__"


class Subject:
    """An extension, or none, and how it is started."""

    def __init__(
        self,
        name: str,
        title: str,
        executable: Path | None = None,
        sink: str = "file",
        own: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.title = title
        self.executable = executable
        self.sink = sink
        """The destination of its lines."""
        self._own = own
        """Variables of its own, if it is telemetryd."""

    @property
    def is_ours(self) -> bool:
        """True if it is telemetryd."""
        return self._own is not None

    def variables(self, output: Path, life: str, service: Mapping[str, str]) -> dict[str, str]:
        """Return its environment: a file sink writes to `output`, others to what `life` names."""
        if self._own is None:
            return {"PEER_OUTPUT": str(output), "PEER_PORT": str(_free_port())}
        found = {"TELEMETRYD_TELEMETRY__PORT": "0", **service, **self._own}
        for key, value in _sink(self.sink, output, life, service).items():
            found[_PREFIX + key] = value
        return found


def _sink(sink: str, output: Path, life: str, service: Mapping[str, str]) -> dict[str, str]:
    if sink == "file":
        return {"TYPE": "file", "PATH": str(output)}
    if sink == "http":
        url = f"{service['AWS_ENDPOINT_URL_KINESIS']}/lines/{life}"
        return {"TYPE": "http", "URL": url, "TOKEN": TOKEN}
    if sink == "otlp":
        url = f"{service['AWS_ENDPOINT_URL_KINESIS']}/otlp/{life}"
        return {"TYPE": "otlp", "ENDPOINT": url, "TOKEN": TOKEN}
    if sink == "kinesis":
        return {"TYPE": "kinesis", "STREAM": life}
    if sink == "logs":
        return {"TYPE": "emf", "DELIVERY": "logs", "LOG_GROUP": life}
    return {"TYPE": sink}


def ours(sink: str, executable: Path, own: Mapping[str, str] | None = None) -> Subject:
    """Return telemetryd with that sink, and `own` variables."""
    return Subject(f"{OURS}-{sink}", f"telemetryd, {_TITLES[sink]}", executable, sink, own or {})


def in_init(sink: str, executable: Path, own: Mapping[str, str]) -> Subject:
    """Return the same with the interpreter started in the init, whatever the share is."""
    title = f"telemetryd, {_TITLES[sink]}, in the init"
    return Subject(f"{IN_INIT}-{sink}", title, executable, sink, {**own, **_INIT})


def before(sink: str, executable: Path) -> Subject:
    """Return the same of another layer, to compare with."""
    return Subject(f"{BEFORE}-{sink}", f"before: {_TITLES[sink]}", executable, sink, {})


def find(
    settings: Settings, executable: Path | None, executable_before: Path | None = None
) -> tuple[list[Subject], dict[str, str]]:
    """Return the wanted subjects, and why one is absent, by its title.

    `executable` is telemetryd's, `executable_before` that of another to compare with. Builds other
    extensions where they are not built. Raises `bench.peers.catalog.PeerError` where that fails.
    """
    found, absent = [Subject(ALONE, "no extension")], dict[str, str]()
    if OURS in settings.only and executable is not None:
        found += [ours(sink, executable, settings.variables) for sink in settings.sinks]
    if IN_INIT in settings.only and executable is not None:
        found += [in_init(sink, executable, settings.variables) for sink in settings.sinks]
    if executable_before is not None:
        found += [before(sink, executable_before) for sink in settings.sinks]
    known = catalog.load()
    for name in (name for name in PEERS if name in settings.only):
        peer = known[name]
        try:
            peer.prepare()
        except PeerAbsentError as error:
            absent[PEERS[name]] = str(error)
        else:
            found.append(Subject(name, PEERS[name], peer.extension()))
    return found, absent


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port

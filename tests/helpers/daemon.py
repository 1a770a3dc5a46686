"""Runs `telemetryd listen` as its users do: a process, its port, its standard error.

Nothing here sleeps: a test waits for a line of the log, or for the daemon to close a connection,
and every wait ends at `PATIENCE_SECONDS`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

from helpers.measured import MEASURED

PATIENCE_SECONDS: Final = 60.0
"""How long anything may take before it counts as hanging; no test measures a duration."""
EXIT_SECONDS: Final = 10.0
"""The documented bound of a shutdown."""
PEAK_RSS_KIB: Final = 100_000
"""The memory that no scenario may exceed."""
MARK: Final = "payload-5b1e"
"""Every line the tests invent carries it; the log must never show it."""

Ledger = dict[str, Any]
Settings = dict[str, Any]
"""Keywords of `Daemon`: `TELEMETRY__PORT=0`. Each value is spelt by `str`."""

_SINK_KEYS: Final = {
    "offered", "filtered", "sampled", "enqueued", "delivered", "dropped", "dead_lettered",
    "failed_over", "recovered", "spooled", "damaged_bytes", "pending",
}  # fmt: skip


class Outcome:
    """What a finished process left behind."""

    def __init__(
        self, status: int, ledger: Ledger, log: list[dict[str, Any]], stdout: bytes, peak: int
    ) -> None:
        self.status = status
        self.ledger = ledger
        self.log = log
        self.stdout = stdout
        self.peak_rss_kib = peak

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log's records with this `event`, in order."""
        return [record for record in self.log if record["event"] == name]

    def sink(self, name: str = "archive") -> dict[str, Any]:
        """A sink's page of the ledger."""
        page: dict[str, Any] = self.ledger["sinks"][name]
        return page


class Daemon:
    """`telemetryd listen` in a process of its own; a context manager.

    The environment holds `environment`, each key with `TELEMETRYD_` in front, and `foreign` as it
    is, alone: no HOME, no PATH. `stdout` is a file, or with `stdout_pipe` a pipe that no one
    reads until `read_stdout`, or the descriptor `stdout_fd`.
    """

    def __init__(
        self,
        tmp_path: Path,
        *,
        stdout_pipe: bool = False,
        stdout_fd: int | None = None,
        foreign: Mapping[str, str] = MappingProxyType({}),
        **environment: object,
    ) -> None:
        self._stdout_path = tmp_path / "stdout"
        self._stdout = b""
        self._stdout_reader: threading.Thread | None = None
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._outcome: Outcome | None = None
        self._connections: list[socket.socket] = []
        settings = {"TELEMETRY__PORT": 0, "METRICS__LISTEN": ""} | environment
        with self._stdout_path.open("wb") as stdout:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "telemetryd", "listen"],
                env={f"TELEMETRYD_{key}": str(value) for key, value in settings.items()}
                | MEASURED
                | dict(foreign),
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if stdout_pipe else stdout_fd or stdout,
                stderr=subprocess.PIPE,
            )
        self._stderr_reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._stderr_reader.start()
        self.host = ""
        self.port = 0

    def __enter__(self) -> Self:
        try:
            listening = self.wait_for("listening")
        except BaseException:
            self._kill()
            raise
        self.host, self.port = listening["host"], listening["port"]
        return self

    @contextlib.contextmanager
    def waiting_for_port(self, port: int) -> Iterator[Self]:
        """Enter without the log's help, once `port` answers: a level can hide `listening`."""
        self.host, self.port = "127.0.0.1", port
        until = time.monotonic() + PATIENCE_SECONDS
        try:
            while True:
                try:
                    self.barrier()
                    break
                except ConnectionRefusedError:
                    assert time.monotonic() < until, "no one listens"
            yield self
        finally:
            self._kill()

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._outcome is None:
                self.stop()
        finally:
            self._kill()

    # -- connections -------------------------------------------------------------------------

    def connect(self) -> socket.socket:
        """A connection whose sends leave at once; closed with the daemon at the latest."""
        connection = socket.create_connection((self.host, self.port), timeout=PATIENCE_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.append(connection)
        return connection

    def send(self, *pieces: bytes) -> None:
        """Send `pieces` on a connection of their own; when this returns, all have been read."""
        connection = self.connect()
        for piece in pieces:
            connection.sendall(piece)
        finish(connection)

    def barrier(self) -> None:
        """Return when every connection has been served once since the call.

        The daemon looks at all sockets in each round of its loop, and needs several rounds to
        accept and end a connection.
        """
        self.send()

    # -- the log -----------------------------------------------------------------------------

    def wait_for(self, event: str, **facts: object) -> dict[str, Any]:
        """The first log record with this `event` and these facts, awaited."""
        until = time.monotonic() + PATIENCE_SECONDS
        seen = 0
        with self._news:
            while True:
                while seen < len(self._lines):
                    record = _json_object(self._lines[seen])
                    seen += 1
                    if record["event"] == event and facts.items() <= record.items():
                        return record
                left = until - time.monotonic()
                if left <= 0 or (self.process.poll() is not None and not self._still_reading()):
                    raise AssertionError(
                        f"no {event!r} with {facts} in:\n" + "\n".join(self._lines)
                    )
                self._news.wait(min(left, 1.0))

    def has_logged(self, event: str) -> bool:
        """True if there is a log record with this `event` by now."""
        with self._news:
            return any(_json_object(line)["event"] == event for line in self._lines)

    def wait_for_file(self, path: Path, size: int) -> None:
        """Return when the file at `path` has `size` bytes."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not path.exists() or path.stat().st_size < size:
            assert time.monotonic() < until, f"{path} is not complete"
            self.barrier()

    # -- standard output ---------------------------------------------------------------------

    def read_stdout(self) -> None:
        """Begin to read the pipe; what comes is in `Outcome.stdout`."""
        pipe = self.process.stdout
        assert pipe is not None

        def read() -> None:
            self._stdout = pipe.read()

        self._stdout_reader = threading.Thread(target=read, daemon=True)
        self._stdout_reader.start()

    # -- the end -----------------------------------------------------------------------------

    def stop(self, number: int = signal.SIGTERM, *, status: int = 0) -> Outcome:
        """Send a signal and `finish`."""
        self.process.send_signal(number)
        return self.finish(status=status)

    def finish(self, *, status: int = 0) -> Outcome:
        """Wait for the end and check what must hold after every run."""
        peak = self._peak_rss_kib()
        ended = self.process.wait(EXIT_SECONDS)
        self._stderr_reader.join(PATIENCE_SECONDS)
        if self._stdout_reader is not None:
            self._stdout_reader.join(PATIENCE_SECONDS)
        elif self.process.stdout is None:
            self._stdout = self._stdout_path.read_bytes()
        text = "\n".join(self._lines)
        assert ended == status, f"exit status {ended}:\n{text}"
        log = [_json_object(line) for line in self._lines]
        ledgers = [record for record in log if record["event"] == "ledger"]
        assert len(ledgers) == 1, text
        assert log[-1] is ledgers[0], text
        assert MARK not in text, "a payload is in the log"
        assert_balanced(ledgers[0])
        assert peak < PEAK_RSS_KIB, f"peak RSS {peak} KiB"
        self._outcome = Outcome(ended, ledgers[0], log[:-1], self._stdout, peak)
        return self._outcome

    def _peak_rss_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        peaks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
        return int(peaks[0]) if peaks else 0  # none once the process has ended

    def _still_reading(self) -> bool:
        return self._stderr_reader.is_alive()

    def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self._lines.append(line.decode().rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def _kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._stderr_reader.join(PATIENCE_SECONDS)
        for connection in self._connections:
            connection.close()
        for pipe in (self.process.stderr, self.process.stdout):
            if pipe is not None:
                pipe.close()


def finish(connection: socket.socket) -> None:
    """End a connection; returns when the daemon has read all of it and closed its side."""
    connection.shutdown(socket.SHUT_WR)
    assert connection.recv(1) == b"", "the daemon sends nothing"
    connection.close()


def reset(connection: socket.socket) -> None:
    """End a connection with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


@contextlib.contextmanager
def frozen(daemon: Daemon) -> Iterator[None]:
    """The process is stopped at the same time, as Lambda freezes an environment."""
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)


def file_sink(path: Path | str, name: str = "archive", **keys: object) -> Settings:
    """Environment of a file sink."""
    return sink(name, type="file", path=path, **keys)


def sink(name: str, **keys: object) -> Settings:
    """Environment of a sink."""
    return {f"SINKS__{name.upper()}__{key.upper()}": value for key, value in keys.items()}


def leaf(lines: int, size: int) -> dict[str, int]:
    """A leaf of the ledger."""
    return {"lines": lines, "bytes": size}


def leaf_of(data: bytes) -> dict[str, int]:
    """The leaf that whole lines make."""
    return leaf(data.count(b"\n"), len(data))


NOTHING: Final = leaf(0, 0)
LAST_RESORT: Final = "last_resort"
"""The one sink that is offered nothing but what others have left over."""


def assert_balanced(ledger: Ledger) -> None:
    """Check the ledger's shape and its sums, without believing its own word."""
    assert ledger["balanced"] is True, ledger
    assert ledger["received"] == _sum([ledger["framed"], *ledger["rejected"].values()])
    for name, page in ledger["sinks"].items():
        assert page.keys() == _SINK_KEYS, name
        assert page["offered"] == _sum([page["filtered"], page["sampled"], page["enqueued"]]), name
        ends = [page[end] for end in ("delivered", "dead_lettered", "failed_over", "spooled")]
        came = _sum([page["enqueued"], page["recovered"]])
        assert came == _sum([*ends, *page["dropped"].values()]), name
        assert page["pending"] == NOTHING, name
        framed = ledger["framed"]["lines"] if name != LAST_RESORT else 0
        assert page["offered"]["lines"] >= framed, f"{name} was offered too few"
    # each sink is offered every line, and what others hand over to it
    pages = ledger["sinks"].values()
    offered = [ledger["framed"]] * len(ledger["sinks"].keys() - {LAST_RESORT})
    offers = [*offered, *(page["failed_over"] for page in pages)]
    assert _sum(page["offered"] for page in pages) == _sum(offers)


def _sum(leaves: Iterable[dict[str, int]]) -> dict[str, int]:
    counted = list(leaves)
    return leaf(sum(c["lines"] for c in counted), sum(c["bytes"] for c in counted))


def _json_object(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    assert isinstance(record, dict), f"a line on stderr is not a JSON object: {line!r}"
    assert record.keys() >= {"event", "ts", "logger"}, line
    assert record["event"] == "ledger" or record["level"] in ("debug", "info", "warning", "error")
    return record

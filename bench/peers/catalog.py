"""The peers as their `peer.toml` files describe them: what is absent, how to build, how to start.

`peer.toml`, beside the peer's files (README.md has the list of peers):

    title, does, does_not   for the table: what the row does and what it does not do
    protocol   "tcp": newline-delimited JSON, written byte for byte
               "http": POSTs of JSON arrays to /, written as one JSON event per line
    kind       "peer" or "ceiling"
    needs      commands that must be on PATH (default: none)
    build      command, run in the peer's folder, that fills `{build}` (default: none); quick when
               that is done; exit status 69 says that something is not to be had here
    run        command, run in the folder, in the foreground: listens on 127.0.0.1:`{port}`, appends
               to `{output}`, ends on SIGTERM when everything it received is written
    versions   command that prints what is measured (default: none)
    [extension]
    run        an executable for Lambda's /opt/extensions; takes PEER_PORT and PEER_OUTPUT

Commands may use `{build}`, a directory outside the source tree that is kept between runs (also in
the environment as PEER_BUILD), `{python}`, and `{port}` and `{output}` in `run`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

HERE: Final = Path(__file__).parent
BUILD_SECONDS: Final = 900
START_SECONDS: Final = 20
END_SECONDS: Final = 20
UNAVAILABLE: Final = 69  # EX_UNAVAILABLE of sysexits.h
_LISTEN_STATE: Final = "0A"
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class PeerError(Exception):
    """A peer that is there could not be built or did not do as its `peer.toml` says."""


class PeerAbsentError(PeerError):
    """The peer needs something that is not on this machine. The message says what."""


class ExtensionSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of the peer as a Lambda extension."""

    run: list[str]


class PeerSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The contents of a `peer.toml`."""

    title: str
    does: str
    does_not: str
    protocol: Literal["tcp", "http"]
    kind: Literal["peer", "ceiling"]
    run: list[str]
    needs: list[str] = []
    build: list[str] = []
    versions: list[str] = []
    extension: ExtensionSpec | None = None


class Peer:
    """One row of the comparison."""

    def __init__(self, folder: Path, spec: PeerSpec, builds: Path | None = None) -> None:
        self.name = folder.name
        self.folder = folder
        self.spec = spec
        self.build = (builds or default_builds()) / folder.name

    def prepare(self) -> None:
        """Build it. Raises PeerAbsentError with what is missing, PeerError when the build fails."""
        missing = [command for command in self.spec.needs if shutil.which(command) is None]
        if missing:
            raise PeerAbsentError(f"{', '.join(missing)} not found")
        if not self.spec.build:
            return
        self.build.mkdir(parents=True, exist_ok=True)
        command = self._fill(self.spec.build)
        done = self._run(command, BUILD_SECONDS)
        if done.returncode == UNAVAILABLE:
            raise PeerAbsentError(done.stdout.strip())
        if done.returncode != 0:
            raise PeerError(f"{self.name}: {' '.join(command)} failed:\n{done.stdout}")

    def version(self) -> str:
        """The first line of what `versions` prints; empty without one."""
        if not self.spec.versions:
            return ""
        lines = self._run(self._fill(self.spec.versions), END_SECONDS).stdout.strip().splitlines()
        return lines[0] if lines else ""

    @contextlib.contextmanager
    def running(
        self, output: Path, prefix: Sequence[str] = ()
    ) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        """Start it behind `prefix` (say `taskset -c 0`), wait until it listens; end it after.

        Yields the process and its port. What it says goes to `output` with `.log` added.
        """
        port = _free_port()
        command = [*prefix, *self._fill(self.spec.run, port=str(port), output=str(output))]
        log = output.with_name(f"{output.name}.log")
        with (
            log.open("wb") as said,
            subprocess.Popen(command, cwd=self.folder, stdout=said, stderr=said) as process,
        ):
            try:
                _wait_for_listener(process, port, log)
                yield process, port
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(END_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise PeerError(f"{self.name} did not end on SIGTERM; see {log}") from None

    def extension(self) -> Path | None:
        """The executable to run as a Lambda extension, if there is one."""
        return None if self.spec.extension is None else Path(self._fill(self.spec.extension.run)[0])

    def _fill(self, command: Sequence[str], **values: str) -> list[str]:
        known = {"build": str(self.build), "python": sys.executable, **values}
        filled = []
        for part in command:
            text = part
            for name, value in known.items():
                text = text.replace("{" + name + "}", value)
            filled.append(text)
        return filled

    def _run(self, command: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=os.environ | {"PEER_BUILD": str(self.build)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )


def default_builds() -> Path:
    """Return the directory of the peers' builds: in the user's cache, kept between runs."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "telemetryd-bench", "peers")


def load(builds: Path | None = None) -> dict[str, Peer]:
    """All peers by name, in the order of their names."""
    return {
        path.parent.name: Peer(
            path.parent, msgspec.toml.decode(path.read_bytes(), type=PeerSpec), builds
        )
        for path in sorted(HERE.glob("*/peer.toml"))
    }


def cpu_seconds(pid: int) -> float:
    """User and system time of `pid`, of its descendants, and of those they have waited for."""
    seconds = 0.0
    for process in _family(pid):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended: its parent has its time
        own, waited_for = (sum(map(int, fields[at : at + 2])) / _TICKS for at in (11, 13))
        with contextlib.suppress(OSError):  # ended, and not waited for
            own = time.clock_gettime(_cpu_clock(process))  # the same, to the nanosecond
        seconds += own + waited_for
    return seconds


def _cpu_clock(pid: int) -> int:
    """The clock of a process's CPU time, as clock_getcpuclockid(3) composes it on Linux."""
    return (~pid << 3) | 2


def _family(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # a thread that has ended
                found += map(int, children.read_text().split())
    return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _wait_for_listener(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait by the kernel's table: a connection to try it would be one more to serve."""
    end = time.monotonic() + START_SECONDS
    wanted = f":{port:04X}"
    while not _listens(wanted):
        if process.poll() is not None or time.monotonic() > end:
            raise PeerError(f"{process.args!r} does not listen on {port}:\n{log.read_text()}")
        time.sleep(0.005)


def _listens(wanted: str) -> bool:
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[1].endswith(wanted) and fields[3] == _LISTEN_STATE:
                    return True
    return False

"""The daemon's image at work, in 128 MB and 1/14 of a processor, on a read-only file system."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers import container_kit as kit
from helpers.daemon import assert_balanced
from helpers.lines import events

PATIENCE_SECONDS = 120.0
LIMIT_BYTES = 128 * 1024 * 1024
SEND = """
import socket, sys
with socket.create_connection(("127.0.0.1", 4243)) as connection:
    connection.sendall(sys.stdin.buffer.read())
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)
"""


class Container:
    """A running daemon, its log and its name."""

    def __init__(self, image: str, *options: str, arguments: tuple[str, ...] = ()) -> None:
        self.name = f"telemetryd-test-{uuid.uuid4().hex[:8]}"
        self.log: list[dict[str, Any]] = []
        self._news = threading.Condition()
        command = kit.podman(
            "--name", self.name, "--network", "none", *kit.SMALL, *options,
            image=image, arguments=arguments,
        )  # fmt: skip
        self.process = subprocess.Popen(
            command, env=kit.podman_environment({}), stderr=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.log.append(json.loads(line))
                self._news.notify_all()

    def wait_for(self, event: str) -> dict[str, Any]:
        """The first record of the log with this event."""

        def found() -> list[dict[str, Any]]:
            return [record for record in self.log if record["event"] == event]

        with self._news:
            assert self._news.wait_for(found, PATIENCE_SECONDS), self.log
            return found()[0]

    @property
    def pid(self) -> int:
        """The daemon's process, as this machine numbers it."""
        return int(kit.of_container(self.name, "inspect", "--format", "{{.State.Pid}}"))

    def send(self, data: bytes) -> None:
        """Send from a neighbour in the same network, as a sidecar's application would."""
        command = ["nsenter", "--target", str(self.pid), "--net", sys.executable, "-c", SEND]
        subprocess.run(command, input=data, check=True, timeout=PATIENCE_SECONDS)

    def stop(self) -> int:
        """`podman stop`; the exit status."""
        kit.of_container(self.name, "stop", "--time", "30")
        status = self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        return status

    def kill(self) -> None:
        """End it, whatever state it is in."""
        if self.process.poll() is None:
            kit.of_container(self.name, "kill")
            self.process.wait(PATIENCE_SECONDS)
        if self.process.stderr is not None:
            self.process.stderr.close()


@contextmanager
def running(image: str, *options: str) -> Iterator[Container]:
    """A container that has begun to listen."""
    container = Container(image, *options)
    try:
        container.wait_for("listening")
        yield container
    finally:
        container.kill()


def writable(directory: Path) -> tuple[str, ...]:
    """Options for a volume at the daemon's own directory, which its user may write to."""
    directory.chmod(0o777)
    return (
        "--volume", f"{directory}:/var/lib/telemetryd",
        "--env", "TELEMETRYD_SINKS__ARCHIVE__TYPE=file",
        "--env", "TELEMETRYD_SINKS__ARCHIVE__PATH=/var/lib/telemetryd/archive.ndjson",
    )  # fmt: skip


def test_every_line_arrives_and_sigterm_ends_it(
    daemon: str, tmp_path: Path, figures: dict[str, str]
) -> None:
    """Status 0 and a ledger that balances, under the limits it says it has."""
    data = events(20_000)
    with running(daemon, *writable(tmp_path)) as container:
        listening = container.wait_for("listening")
        assert (listening["host"], listening["port"]) == ("0.0.0.0", 4243)
        limits = cgroup_limits(container.pid)
        container.send(data)
        status = Path(f"/proc/{container.pid}/status").read_text()
        (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        figures["most memory of the daemon"] = f"{int(peak) * 1024 / 1e6:.0f} MB"
        assert container.stop() == 0
    assert limits == {"memory": LIMIT_BYTES, "cpu": 0.0714}
    assert (tmp_path / "archive.ndjson").read_bytes() == data
    ledger = container.wait_for("ledger")
    assert_balanced(ledger)
    assert ledger["sinks"]["archive"]["delivered"]["lines"] == 20_000


def test_the_health_check_of_the_image_passes(daemon: str, tmp_path: Path) -> None:
    """As an orchestrator runs it: inside the container, by exit status."""
    with running(daemon, *writable(tmp_path)) as container:
        kit.of_container(container.name, "healthcheck", "run")
        assert container.stop() == 0


def test_the_other_commands_are_there(daemon: str) -> None:
    """`check`, with the image's own settings."""
    container = subprocess.run(
        kit.podman("--network", "none", image=daemon, arguments=["check"]),
        env=kit.podman_environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert container.returncode == 0, container.stderr
    assert 'host = "0.0.0.0"' in container.stdout


def cgroup_limits(pid: int) -> dict[str, float]:
    """Bytes of memory and processors that a process may have, by its control groups."""
    root = Path("/sys/fs/cgroup")
    groups: dict[str, str] = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        groups |= {name: path.lstrip("/") for name in controllers.split(",")}
    if "memory" in groups:
        cpu, memory = root / "cpu" / groups["cpu"], root / "memory" / groups["memory"]
        quota, period = (
            int((cpu / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period")
        )
        most = int((memory / "memory.limit_in_bytes").read_text())
    else:
        group = root / groups[""]
        quota, period = map(int, (group / "cpu.max").read_text().split())
        most = int((group / "memory.max").read_text())
    return {"memory": most, "cpu": quota / period}

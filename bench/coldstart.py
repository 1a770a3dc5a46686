"""What telemetryd adds to a function's cold start: time to `register`, `next` and up, CPU, memory.

    python -m bench.coldstart [--layer ZIP] [--runs N] [--share PERCENT] [--cold] [--json FILE]

Starts the extension against a platform in this process, which answers at once, and stamps each call
as it arrives; zero is the moment before `execve`. "up" is the line telemetryd logs when its loop
and sinks are up; what it does after that, until it rests, is above all importing aiobotocore. CPU
and memory are the process's own; instructions are those of valgrind's cachegrind, which no
neighbour disturbs (1 run, up to the end of the shutdown).

    layer    the zip of `make layer`, unpacked as Lambda would
    venv     this very Python with telemetryd installed, as in a container image
    ordinary `venv` with `lambda.next = "ready"`: everything is up before the function may start

`--cold` drops the extension's own files from the page cache before each run; `--share 7.25` is the
CPU of a 128-MB function, 29 that of 512 MB (needs root and a cgroup v1 or v2 CPU controller).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.coldstart_platform import Platform

DIST: Final = Path("dist")
IDLE_SECONDS: Final = 0.25
PERIOD_MICROSECONDS: Final = 20_000
_COLUMNS: Final = (
    ("register", "ms", "register"), ("next", "ms", "next"), ("up", "ms", "up"),
    ("next_cpu", "ms", "CPU to next"), ("up_cpu", "ms", "CPU to up"), ("rss", "MB", "RSS idle"),
    ("later_cpu", "ms", "CPU after up"), ("exit", "ms", "exit"),
)  # fmt: skip


class Subject:
    """A way to start telemetryd."""

    def __init__(self, command: Sequence[str], files: Path, environment: Mapping[str, str]) -> None:
        self.command = list(command)
        self.files = files
        self.environment = dict(environment)

    def evict(self) -> None:
        """Drop its files from the page cache."""
        for path in self.files.rglob("*"):
            if path.is_file():
                descriptor = os.open(path, os.O_RDONLY)
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)


def subjects(layer: Path, directory: Path) -> dict[str, Subject]:
    """The subjects by name; without the layer if there is no zip."""
    venv = Path(sys.prefix)
    script = str(venv / "bin" / "telemetryd")
    found = {
        "venv": Subject([script], venv / "lib", {}),
        "ordinary": Subject([script], venv / "lib", {"TELEMETRYD_LAMBDA__NEXT": "ready"}),
    }
    if not layer.exists():
        return found
    with zipfile.ZipFile(layer) as packed:
        packed.extractall(directory)
        for entry in packed.infolist():
            (directory / entry.filename).chmod(entry.external_attr >> 16 & 0o777)
    launcher = str(directory / "extensions" / "telemetryd")
    return {"layer": Subject([launcher], directory, {}), **found}


def run(subject: Subject, sink: Mapping[str, str], group: Path | None) -> dict[str, float]:
    """One start, idle, shutdown: its figures in milliseconds and megabytes."""
    platform = Platform()
    moment, stamp = os.pipe()

    def enter() -> None:
        if group is not None:
            (group / "cgroup.procs").write_text(str(os.getpid()))
        os.write(stamp, str(time.monotonic_ns()).encode())

    environment = {
        "PATH": "/usr/bin:/bin",
        "AWS_LAMBDA_RUNTIME_API": platform.address,
        "TELEMETRYD_TELEMETRY__PORT": "0",
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_REGION": "eu-west-1",
        **sink,
        **subject.environment,
    }
    with (
        platform,
        subprocess.Popen(
            subject.command,
            env=environment,
            stderr=subprocess.PIPE,
            preexec_fn=enter,  # noqa: PLW1509 - the clock starts after the fork, before the exec
        ) as process,
    ):
        platform.watch(process.pid)
        start = int(os.read(moment, 32))
        up, log = _up(process, platform)
        at_rest = _come_to_rest(platform)
        figures = {"rss": _rss(process.pid), "later_cpu": at_rest - up[1]}
        told = time.monotonic_ns()
        platform.shut_down()
        process.wait()
        figures["exit"] = (time.monotonic_ns() - told) / 1e6
        log.join()
    for descriptor in (moment, stamp):
        os.close(descriptor)
    stamps = platform.stamps | {"up": up}
    for name in ("register", "next", "up"):
        at, cpu = stamps[name]
        figures[name] = (at - start) / 1e6
        figures[f"{name}_cpu"] = cpu
    return figures


def _up(
    process: subprocess.Popen[bytes], platform: Platform
) -> tuple[tuple[int, float], threading.Thread]:
    """When the process said that it is up, and its CPU then; a thread that reads the rest."""
    assert process.stderr is not None
    for line in process.stderr:
        if b'"event":"started"' in line:
            up = time.monotonic_ns(), platform.cpu()
            break
    else:
        raise RuntimeError("telemetryd ended before it was up")
    rest = threading.Thread(target=process.stderr.read)
    rest.start()
    return up, rest


def _come_to_rest(platform: Platform) -> float:
    """Wait until the process uses no CPU: with Kinesis, its client is up. Its CPU, in ms."""
    last, cpu = -1.0, platform.cpu()
    while cpu != last:
        time.sleep(IDLE_SECONDS)
        last, cpu = cpu, platform.cpu()
    return cpu


def _rss(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Rss:\s+(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return int(found.group(1)) / 1024


def instructions(subject: Subject, sink: Mapping[str, str]) -> float | None:
    """Millions of instructions from start to end, by cachegrind; None without valgrind."""
    if shutil.which("valgrind") is None:
        return None
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "log")
        command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", f"--log-file={log}"]
        command += [f"--cachegrind-out-file={directory}/out", "--trace-children=yes"]
        traced = Subject([*command, *subject.command], subject.files, subject.environment)
        run(traced, sink, None)
        found = re.findall(r"I\s+refs:\s+([\d,]+)", log.read_text())
    return int(found[-1].replace(",", "")) / 1e6 if found else None


@contextlib.contextmanager
def cpu_share(percent: float | None) -> Iterator[Path | None]:
    """A control group with that share of one CPU."""
    if percent is None:
        yield None
        return
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    group = Path("/sys/fs/cgroup" if unified else "/sys/fs/cgroup/cpu", "telemetryd-bench")
    group.mkdir(exist_ok=True)
    quota = int(PERIOD_MICROSECONDS * percent / 100)
    if unified:
        (group / "cpu.max").write_text(f"{quota} {PERIOD_MICROSECONDS}")
    else:
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_MICROSECONDS))
        (group / "cpu.cfs_quota_us").write_text(str(quota))
    try:
        yield group
    finally:
        group.rmdir()


def measure(
    subject: Subject, sink: Mapping[str, str], options: argparse.Namespace, group: Path | None
) -> dict[str, Any]:
    """The figures of all runs, by name."""
    runs = []
    for _ in range(options.runs + 1):
        if options.cold:
            subject.evict()
        runs.append(run(subject, sink, group))
    measured = runs[1:]  # the first one warms what is meant to be warm
    return {name: [figures[name] for figures in measured] for name in measured[0]}


def _row(name: str, figures: Mapping[str, list[float]], count: float | None) -> str:
    cells = []
    for key, _, _ in _COLUMNS:
        values = figures[key]
        cells.append(f"{statistics.median(values):.1f} ({min(values):.1f})")
    cells.append("-" if count is None else f"{count:.0f}")
    return f"| {name} | " + " | ".join(cells) + " |"


def _kinesis(directory: Path) -> tuple[dict[str, str], Callable[[], None]]:
    """A sink with a live client of a server on loopback, and how to end that server."""
    helper = Path(__file__).parent.parent / "tests" / "helpers" / "kinesis_server.py"
    server = subprocess.Popen(
        [sys.executable, str(helper)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=directory
    )
    assert server.stdout is not None
    port = int(server.stdout.readline())
    keys = {"TYPE": "kinesis", "STREAM": "bench", "ENDPOINT_URL": f"http://127.0.0.1:{port}"}

    def end() -> None:
        server.communicate()

    return {f"TELEMETRYD_SINKS__OUT__{key}": value for key, value in keys.items()}, end


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        prog="bench.coldstart",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = DIST / f"telemetryd-layer-{os.uname().machine.replace('aarch64', 'arm64')}.zip"
    parser.add_argument("--layer", type=Path, default=default)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--share", type=float, metavar="PERCENT")
    parser.add_argument("--sink", choices=("file", "kinesis"), default="file")
    parser.add_argument("--only", metavar="SUBJECT")
    parser.add_argument("--no-instructions", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if not options.layer.exists():
        print(f"{options.layer} is missing: `make layer` builds it", file=sys.stderr)
    with tempfile.TemporaryDirectory() as place, cpu_share(options.share) as group:
        directory = Path(place)
        keys = {"TYPE": "file", "PATH": f"{directory}/telemetry.ndjson"}
        sink = {f"TELEMETRYD_SINKS__OUT__{key}": value for key, value in keys.items()}
        end: Callable[[], None] = lambda: None  # noqa: E731 - nothing to end
        if options.sink == "kinesis":
            sink, end = _kinesis(directory)
        found = subjects(options.layer, directory / "opt")
        condition = "cold page cache" if options.cold else "warm"
        share = f", {options.share} % of a CPU" if options.share else ""
        print(f"{options.sink} sink, {condition}{share}; medians of {options.runs} (least)\n")
        heads = [f"{title} {unit}" for _, unit, title in _COLUMNS] + ["M instructions"]
        print("| | " + " | ".join(heads) + " |\n|" + "---|" * (len(heads) + 1))
        results = {}
        for name, subject in found.items():
            if options.only in (None, name):
                figures = measure(subject, sink, options, group)
                wanted = not (options.no_instructions or options.share or options.cold)
                count = instructions(subject, sink) if wanted else None
                results[name] = {"figures": figures, "instructions": count}
                print(_row(name, figures, count), flush=True)
        end()
        if options.json:
            options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""TCP to file, side by side with a raw copier: lines per second and CPU per line.

    python -m bench.ingest [--lines N] [--size BYTES] [--connections N] [--repeat N]

Each receiver runs alone on one core, the generator on another, in turn; the clock stops when the
file holds every byte. CPU is user + system time of the receiver's process, from the kernel. The
daemon's file is compared with what was sent and its ledger must balance.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.lines import block_of_lines

DEADLINE_SECONDS = 120


class Run:
    """One run of one receiver."""

    def __init__(self, seconds: float, cpu: float, lines: int, size: int, peak_kib: int) -> None:
        self.lines_per_second = lines / seconds
        self.megabytes_per_second = size / seconds / 1e6
        self.cpu_us_per_line = cpu / lines * 1e6
        self.peak_mib = peak_kib / 1024


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of `pid` so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_kib(pid: int) -> int:
    """Largest resident set of `pid` so far, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def on_core(core: int, command: Sequence[str]) -> list[str]:
    """`command`, bound to one core where there is more than one."""
    if len(os.sched_getaffinity(0)) < 2:
        return list(command)
    return ["taskset", "-c", str(core), *command]


def measure(receiver: str, options: argparse.Namespace) -> Run:
    """Start `receiver` ("copier" or "telemetryd"), send, wait for the file, stop it."""
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        path = Path(directory, "out.ndjson")
        if receiver == "copier":
            command = [sys.executable, "-m", "bench.copier", str(path)]
            process = subprocess.Popen(on_core(0, command), stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            port = int(process.stdout.readline())
        else:
            environ = os.environ | {
                "TELEMETRYD_TELEMETRY__PORT": "0",
                "TELEMETRYD_SINKS__OUT__TYPE": "file",
                "TELEMETRYD_SINKS__OUT__PATH": str(path),
            }
            command = [sys.executable, "-m", "telemetryd", "listen"]
            process = subprocess.Popen(
                on_core(0, command), stderr=subprocess.PIPE, text=True, env=environ
            )
            assert process.stderr is not None
            port = json.loads(process.stderr.readline())["port"]
        try:
            run, sent = _drive(process, port, path, options)
        finally:
            process.send_signal(signal.SIGTERM)
        if receiver == "telemetryd":
            assert process.stderr is not None
            _verify(process.stderr.read(), path, sent)
        process.wait()
        return run


def _drive(
    process: subprocess.Popen[str], port: int, path: Path, options: argparse.Namespace
) -> tuple[Run, dict[str, int]]:
    arguments = [str(port), str(options.lines), str(options.size), str(options.connections)]
    command = on_core(1, [sys.executable, "-m", "bench.blast", *arguments])
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as blaster:
        assert blaster.stdout is not None
        assert blaster.stdin is not None
        blaster.stdout.readline()
        cpu, start = cpu_seconds(process.pid), time.perf_counter()
        blaster.stdin.write("go\n")
        blaster.stdin.flush()
        sent: dict[str, int] = json.loads(blaster.stdout.readline())
        while not path.exists() or path.stat().st_size < sent["bytes"]:
            if time.perf_counter() - start > DEADLINE_SECONDS:
                raise TimeoutError(f"{path.stat().st_size} of {sent['bytes']} bytes arrived")
            time.sleep(0.001)
        seconds = time.perf_counter() - start
    cpu = cpu_seconds(process.pid) - cpu
    return Run(seconds, cpu, sent["lines"], sent["bytes"], peak_kib(process.pid)), sent


def _verify(log: str, path: Path, sent: dict[str, int]) -> None:
    """What arrived is what was sent, and the ledger says so."""
    ledger = next(r for r in map(json.loads, log.splitlines()) if r["event"] == "ledger")
    delivered = ledger["sinks"]["out"]["delivered"]
    if not ledger["balanced"] or delivered != {"lines": sent["lines"], "bytes": sent["bytes"]}:
        raise AssertionError(f"the ledger does not match what was sent: {ledger} {sent}")
    block = block_of_lines(round(sent["bytes"] / sent["lines"]))
    with path.open("rb") as file:
        first = file.read(len(block))
    if first.splitlines()[0] != block.splitlines()[0] or path.stat().st_size != sent["bytes"]:
        raise AssertionError("the file does not hold what was sent")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="bench.ingest", description=__doc__)
    parser.add_argument("--lines", type=int, default=3_000_000)
    parser.add_argument("--size", type=int, default=290, help="mean bytes of a line")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--directory", default=None, help="where the files go (default: /tmp)")
    options = parser.parse_args()
    runs: dict[str, list[Run]] = {"copier": [], "telemetryd": []}
    for number in range(options.repeat):
        for receiver, done in runs.items():
            print(f"\r{receiver} {number + 1}/{options.repeat}   ", end="", file=sys.stderr)
            done.append(measure(receiver, options))
    print("\r" + " " * 30, file=sys.stderr)
    print(
        f"{options.lines} lines of {options.size} bytes, {options.connections} connection(s), "
        f"medians of {options.repeat} (min-max)\n"
    )
    print(f"{'receiver':<12}{'lines/s':>32}{'MB/s':>8}{'CPU µs/line':>24}{'peak MiB':>10}")
    for receiver, done in runs.items():
        rates = [run.lines_per_second for run in done]
        cpus = [run.cpu_us_per_line for run in done]
        rate = f"{statistics.median(rates):,.0f} ({min(rates):,.0f}-{max(rates):,.0f})"
        cpu = f"{statistics.median(cpus):.3f} ({min(cpus):.3f}-{max(cpus):.3f})"
        print(
            f"{receiver:<12}{rate:>32}"
            f"{statistics.median(run.megabytes_per_second for run in done):>8.0f}"
            f"{cpu:>24}{max(run.peak_mib for run in done):>10.0f}"
        )
    pairs = zip(runs["telemetryd"], runs["copier"], strict=True)
    ratio = statistics.median(ours.cpu_us_per_line / raw.cpu_us_per_line for ours, raw in pairs)
    print(f"\nCPU per line, telemetryd / copier: {ratio:.2f} (median of the pairs)")


if __name__ == "__main__":
    main()

"""What an event costs on its way to Kinesis: CPU of `telemetryd listen`, records and bytes sent.

    python -m bench.kinesis [--lines N] [--size BYTES] [--repeat N]

The daemon runs alone on one core. The generator, and a Kinesis server that accepts at memory speed,
share another. CPU is user + system time of the daemon from the first line to the last answer; its
start, and the import of aiobotocore, are not in it: one line is sent ahead. The ledger must say
that every line was delivered, the server that as many records arrived.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench.ingest import DEADLINE_SECONDS, cpu_seconds, on_core
from bench.lines import block_of_lines

SERVER: Final = Path(__file__).parent.parent / "tests" / "helpers" / "kinesis_server.py"
WAYS: Final[Mapping[str, Mapping[str, str]]] = {
    "ndjson + zstd": {"PACKING": "ndjson", "COMPRESSION": "zstd"},
    "ndjson + gzip": {"PACKING": "ndjson", "COMPRESSION": "gzip"},
    "ndjson": {"PACKING": "ndjson"},
    "kpl": {"PACKING": "kpl"},
    "single": {"PACKING": "single"},
}


def measure(keys: Mapping[str, str], lines: int, size: int) -> tuple[float, dict[str, int]]:
    """µs of CPU per line, and what the server counted."""
    with subprocess.Popen(
        on_core(1, [sys.executable, str(SERVER)]),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        port = int(server.stdout.readline())
        cpu, sent = _drive(keys, port, lines, size)
        counts: dict[str, int] = json.loads(server.communicate()[0])
    return cpu / sent * 1e6, counts


def _drive(keys: Mapping[str, str], port: int, lines: int, size: int) -> tuple[float, int]:
    sink = {
        "TYPE": "kinesis",
        "STREAM": "bench",
        "ENDPOINT_URL": f"http://127.0.0.1:{port}",
        **keys,
    }
    environ = os.environ | {f"TELEMETRYD_SINKS__OUT__{key}": value for key, value in sink.items()}
    environ |= {
        "TELEMETRYD_TELEMETRY__PORT": "0", "TELEMETRYD_LOG__LEVEL": "debug",
        "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }  # fmt: skip
    command = on_core(0, [sys.executable, "-m", "telemetryd", "listen"])
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ) as daemon:
        assert daemon.stderr is not None
        try:
            listening = json.loads(daemon.stderr.readline())
            block = block_of_lines(size)
            rounds = max(1, round(lines / block.count(b"\n")))
            _send(listening["port"], block[: block.index(b"\n") + 1], 1)
            _wait_until_idle(daemon.pid)
            start = cpu_seconds(daemon.pid)
            _send(listening["port"], block, rounds)
            _wait_until_idle(daemon.pid)
            cpu = cpu_seconds(daemon.pid) - start
        finally:
            daemon.send_signal(signal.SIGTERM)
        log = [json.loads(line) for line in daemon.stderr]
    sent = rounds * block.count(b"\n")
    _verify(log, sent + 1)
    return cpu, sent


def _send(port: int, block: bytes, times: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(times):
            connection.sendall(block)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)


def _wait_until_idle(pid: int) -> None:
    """Return when the process has used no CPU for a second: nothing is in flight any more."""
    until = time.monotonic() + DEADLINE_SECONDS
    idle_since, last = time.monotonic(), -1.0
    while time.monotonic() - idle_since < 1.0:
        if time.monotonic() > until:
            raise TimeoutError("the daemon does not come to rest")
        time.sleep(0.1)
        now = cpu_seconds(pid)
        if now != last:
            idle_since, last = time.monotonic(), now


def _verify(log: list[dict[str, Any]], lines: int) -> None:
    ledger = next(record for record in log if record["event"] == "ledger")
    if not ledger["balanced"] or ledger["sinks"]["out"]["delivered"]["lines"] != lines:
        raise AssertionError(f"not every line was delivered: {ledger}")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="bench.kinesis", description=__doc__)
    parser.add_argument("--lines", type=int, default=500_000)
    parser.add_argument("--size", type=int, default=290, help="mean bytes of a line")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=WAYS, help="measure one way")
    options = parser.parse_args()
    print(f"{options.lines} lines of {options.size} bytes, medians of {options.repeat} (min-max)\n")
    print(
        f"{'way':<15}{'CPU µs/line':>22}{'calls':>8}{'records':>10}{'data MB':>10}{'HTTP MB':>10}"
    )
    counted: dict[str, dict[str, int]] = {}
    for way in [options.only] if options.only else WAYS:
        runs = [measure(WAYS[way], options.lines, options.size) for _ in range(options.repeat)]
        cpus = [cpu for cpu, _ in runs]
        counts = counted[way] = runs[-1][1]
        cpu = f"{statistics.median(cpus):.2f} ({min(cpus):.2f}-{max(cpus):.2f})"
        print(
            f"{way:<15}{cpu:>22}{counts['calls']:>8}{counts['records']:>10}"
            f"{counts['data_bytes'] / 1e6:>10.1f}{counts['body_bytes'] / 1e6:>10.1f}"
        )
    if "single" in counted and len(counted) > 1:
        one, packed = counted["single"], counted["ndjson + zstd"]
        print(
            f"\nndjson + zstd against one event per record: "
            f"{one['records'] / packed['records']:.0f} times fewer records, "
            f"{one['data_bytes'] / packed['data_bytes']:.1f} times fewer bytes"
        )


if __name__ == "__main__":
    main()

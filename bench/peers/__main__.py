"""Each peer alone: CPU per line, and whether what it wrote is what was sent.

    python -m bench.peers [--lines N] [--size BYTES] [--repeat N] [PEER ...]

The peer has one core, the sender another; the clock stops when the file holds every line. CPU is
user + system time of the peer's processes, from the kernel. The sender waits for each answer of an
HTTP peer, as the platform does, so only CPU compares across protocols.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.lines import block_of_lines
from bench.peers.catalog import Peer, PeerAbsentError, PeerError, cpu_seconds, load
from bench.peers.verify import Counted, differences

DEADLINE_SECONDS: Final = 300
LOOK_SECONDS: Final = 0.01


def on_core(core: int) -> list[str]:
    """What binds a command to one core, where there is more than one."""
    several = len(os.sched_getaffinity(0)) > 1
    return ["taskset", "-c", str(core)] if several else []


def measure(peer: Peer, lines: int, size: int) -> tuple[float, float]:
    """Lines per second and CPU microseconds per line of one run; raises PeerError on a loss."""
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory, "out.ndjson")
        with peer.running(output, on_core(0)) as (process, port):
            arguments = [peer.spec.protocol, str(port), str(lines), str(size)]
            command = [*on_core(1), sys.executable, "-m", "bench.peers.send", *arguments]
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as sender:
                assert sender.stdin is not None
                assert sender.stdout is not None
                sender.stdout.readline()
                cpu, start = cpu_seconds(process.pid), time.perf_counter()
                sender.stdin.write("go\n")
                sender.stdin.flush()
                sent = json.loads(sender.stdout.readline() or "null")
                if sent is None:
                    raise PeerError(f"{peer.name}: sending failed")
            written = Counted(output)
            while written.lines() < sent["lines"]:
                if time.perf_counter() - start > DEADLINE_SECONDS:
                    raise PeerError(f"{peer.name}: {written.lines()} of {sent['lines']} lines")
                time.sleep(LOOK_SECONDS)
            seconds = time.perf_counter() - start
            cpu = cpu_seconds(process.pid) - cpu
        block = block_of_lines(size).splitlines(keepends=True)
        if wrong := differences(peer.spec.protocol, block, output):
            raise PeerError(f"{peer.name}: {wrong}")
    return sent["lines"] / seconds, cpu / sent["lines"] * 1e6


def absence(peer: Peer) -> str | None:
    """Why there is no figure, or None when it is built."""
    try:
        peer.prepare()
    except PeerAbsentError as error:
        return f"absent: {error}"
    return None


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        prog="bench.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("peers", nargs="*", metavar="PEER", help="default: all")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=290, help="mean bytes of a line")
    parser.add_argument("--repeat", type=int, default=1)
    options = parser.parse_args()
    known = load()
    if unknown := set(options.peers) - set(known):
        parser.error(f"no such peer: {', '.join(unknown)}; there are {', '.join(known)}")
    peers = {
        name: peer for name, peer in known.items() if not options.peers or name in options.peers
    }
    reasons = {name: absence(peer) for name, peer in peers.items()}
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in peers}
    for number in range(options.repeat):
        for name, peer in peers.items():
            if reasons[name] is None:
                print(f"\r{name} {number + 1}/{options.repeat}".ljust(50), end="", file=sys.stderr)
                runs[name].append(measure(peer, options.lines, options.size))
    print("\r" + " " * 50 + "\r", end="", file=sys.stderr)
    print(f"{options.lines} lines of {options.size} bytes, medians of {options.repeat} (min-max)\n")
    print("| | protocol | CPU s per million lines | lines/s | version |\n|---|---|---|---|---|")
    for name, peer in peers.items():
        if reasons[name] is not None:
            print(f"| {name} | {peer.spec.protocol} | {reasons[name]} | | |")
            continue
        rates, cpus = zip(*runs[name], strict=True)
        cpu = f"{statistics.median(cpus):.2f} ({min(cpus):.2f}-{max(cpus):.2f})"
        rate = f"{statistics.median(rates):,.0f}"
        print(f"| {name} | {peer.spec.protocol} | {cpu} | {rate} | {peer.version()} |")


if __name__ == "__main__":
    main()

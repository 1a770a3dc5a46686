"""What it costs to count the lines of a block and to tell blank ones apart, in ns per line.

    python -m bench.framing [MEAN_BYTES]

This is why `telemetryd_proto.framing` splits lines it then throws away.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from io import BytesIO

from bench.lines import block_of_lines
from telemetryd.core.watch import LIFE_CYCLE, LOSSES, EventWatch
from telemetryd_proto.envelope import decode_block
from telemetryd_proto.framing import LineFramer, TailBudget

BLOCK_BYTES = 256 * 1024
ROUNDS = 7
CALLS = 100


def nanoseconds_per_line(call: Callable[[], object], lines: int) -> float:
    """The best of `ROUNDS` rounds: what is above it is the machine's noise."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(CALLS):
            call()
        best = min(best, time.process_time() - start)
    return best / CALLS / lines * 1e9


def main(mean_bytes: int) -> None:
    """Measure and print."""
    data = block_of_lines(mean_bytes, BLOCK_BYTES)
    lines = data.count(b"\n")
    framer = LineFramer(TailBudget(1 << 24))
    losses, life_cycle = EventWatch(LOSSES), EventWatch(LIFE_CYCLE)
    cases: dict[str, Callable[[], object]] = {
        'data.count(b"\\n")': lambda: data.count(b"\n"),
        'data.find(b"\\n\\n")': lambda: data.find(b"\n\n"),
        'data.split(b"\\n")': lambda: data.split(b"\n"),
        "BytesIO(data).readlines()": lambda: BytesIO(data).readlines(),
        'b"\\n" in BytesIO(data).readlines()': lambda: b"\n" in BytesIO(data).readlines(),
        "LineFramer.feed": lambda: framer.feed(data, len(data)),
        "EventWatch(LOSSES).find": lambda: losses.find(data),
        "EventWatch(LIFE_CYCLE).find": lambda: life_cycle.find(data),
        "decode_block": lambda: decode_block(data, lines),
    }
    print(f"{lines} lines of {mean_bytes} bytes, Python {sys.version.split()[0]}\n")
    for name, call in cases.items():
        print(f"  {name:<40}{nanoseconds_per_line(call, lines):>8.1f} ns/line")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 290)

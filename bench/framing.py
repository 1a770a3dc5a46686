"""Measures counting the lines of a block and finding blank ones, in ns per line.

    python -m bench.framing [MEAN_BYTES]

The results are the reason why `telemetryd_proto.framing` makes lines that it discards, and why
`core.watch` looks for one byte first. Every round uses different blocks, more than a cache holds.
With a single block the branch predictor learns the search, and half of its cost is gone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from io import BytesIO

from bench.kit.lines import block_of_lines
from telemetryd.core.watch import LIFE_CYCLE, LOSSES, EventWatch
from telemetryd.ingest.heap import MOST_KEPT_BYTES, keep_heap
from telemetryd.sinks._platform.exceptions import HINTS
from telemetryd.sinks._platform.lines import lines_with
from telemetryd_proto import scan
from telemetryd_proto.envelope import decode_lines
from telemetryd_proto.framing import LineFramer, TailBudget

BLOCK_BYTES = 1024 * 1024
BLOCKS = 12
ROUNDS = 7


def nanoseconds_per_line(call: Callable[[bytes], object], blocks: list[bytes]) -> float:
    """The best of `ROUNDS` rounds: what is above it is the machine's noise."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        for block in blocks:
            call(block)
        best = min(best, time.process_time() - start)
    return best / sum(block.count(b"\n") for block in blocks) * 1e9


def readlines_in_pieces(data: bytes) -> None:
    """As `core.router` does it; the lines of a piece are gone before the next one is split."""
    lines = BytesIO(data)
    while lines.readlines(128 * 1024):
        pass


def main(mean_bytes: int) -> None:
    """Measure and print."""
    keep_heap(MOST_KEPT_BYTES)  # as the daemon does
    blocks = [block_of_lines(mean_bytes, BLOCK_BYTES, seed) for seed in range(BLOCKS)]
    mark = b'"platform.logsDropped"'
    cases: dict[str, Callable[[bytes], object]] = {
        'data.count(b"\\n")': lambda data: data.count(b"\n"),
        'data.find(b"\\n\\n")': lambda data: data.find(b"\n\n"),
        'data.split(b"\\n")': lambda data: data.split(b"\n"),
        "BytesIO(data).readlines()": lambda data: BytesIO(data).readlines(),
        'b"\\n" in BytesIO(data).readlines()': lambda data: b"\n" in BytesIO(data).readlines(),
        "BytesIO(data).readlines(), pieces": readlines_in_pieces,
        "min(BytesIO(data))": lambda data: min(BytesIO(data)),
        "data.find(the mark of LOSSES)": lambda data: data.find(mark),
        "decode_lines": lambda data: decode_lines(BytesIO(data).readlines()),
    }
    print(f"{BLOCKS} MiB, lines of {mean_bytes} bytes, Python {sys.version.split()[0]}\n")
    for name, call in cases.items():
        print(f"  {name:<40}{nanoseconds_per_line(call, blocks):>8.1f} ns/line")
    installed = scan.compiled
    scan.compiled = None
    print("\n  in Python:")
    of_blocks(blocks)
    scan.compiled = installed
    print(f"\n  with telemetryd-scan ({installed.KIND if installed else 'not installed'}):")
    if installed is not None:
        of_blocks(blocks)


def of_blocks(blocks: list[bytes]) -> None:
    """Measure and print what the daemon does with each block."""
    debug = [block.replace(b'"INFO"', b'"DEBUG"') for block in blocks]
    framer = LineFramer(TailBudget(1 << 24))
    losses, life_cycle = EventWatch(LOSSES), EventWatch(LIFE_CYCLE)
    marks = (b'"platform.', *HINTS)
    cases: dict[str, tuple[Callable[[bytes], object], list[bytes]]] = {
        "LineFramer.feed": (lambda data: framer.feed(data, len(data)), blocks),
        "EventWatch(LOSSES).find": (losses.find, blocks),
        "EventWatch(LOSSES).find, DEBUG lines": (losses.find, debug),
        "EventWatch(LIFE_CYCLE).find": (life_cycle.find, blocks),
        "the lines that the EMF sink decodes": (
            lambda data: list(lines_with(marks, data)),
            blocks,
        ),
    }
    for name, (call, given) in cases.items():
        print(f"  {name:<40}{nanoseconds_per_line(call, given):>8.1f} ns/line")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 290)

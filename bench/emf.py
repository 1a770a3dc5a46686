"""Measures the cost of turning platform events into metrics, in µs of CPU per line.

    python -m bench.emf [MEAN_BYTES]

The router has already removed the function's own lines when a block reaches the sink. Its share is
printed as well, because only the sink needs it.
"""

from __future__ import annotations

import sys
import time

from bench.kit.lines import block_of_lines
from telemetryd.core.fields import RequestTracker
from telemetryd.core.line_filter import LineFilter
from telemetryd.core.router import RouteRules, merge, open_pieces
from telemetryd.ingest.heap import MOST_KEPT_BYTES, keep_heap
from telemetryd.log import EventLog
from telemetryd.sinks.base import SinkContext
from telemetryd.sinks.emf.config import EmfConfig
from telemetryd.sinks.emf.sink import EmfSink
from telemetryd_proto.framing import Block

BLOCK_BYTES = 1024 * 1024
BLOCKS = 8
"""Not alike: over a single one the branch predictor learns its way by heart."""
ROUNDS = 5


def microseconds_per_line(blocks: list[Block], *, reads_logs: bool) -> tuple[float, float]:
    """The router's share and the sink's: the best of `ROUNDS` rounds, the rest is noise."""
    config = EmfConfig(type="emf", forward_emf=reads_logs, count_log_errors=reads_logs)
    context = SinkContext(
        name="bench", function="bench", version="1", instance="0" * 32,
        salvage=lambda *_: False, log=EventLog(),
    )  # fmt: skip
    rules = RouteRules(LineFilter(types=config.types), None)
    tracker = RequestTracker(one_at_a_time=True)
    lines = sum(block.lines for block in blocks)
    routing = packing = float("inf")
    for _ in range(ROUNDS):
        sink = EmfSink(config, context)  # a new one: requests it remembers would not count
        start = time.process_time()
        wanted = [_routed(block, rules, tracker) for block in blocks]
        routed = time.process_time()
        sink.pack([block for block in wanted if block is not None])
        routing = min(routing, routed - start)
        packing = min(packing, time.process_time() - routed)
    return routing / lines * 1e6, packing / lines * 1e6


def _routed(block: Block, rules: RouteRules, tracker: RequestTracker) -> Block | None:
    """Route a block for the one sink with `rules`, as the pipeline does."""
    selections = []
    for piece in open_pieces(block, tracker):
        selections.append(piece.select(rules))
        piece.count_unwanted()
    return merge(block, selections).wanted


def main(mean_bytes: int) -> None:
    """Measure and print."""
    keep_heap(MOST_KEPT_BYTES)  # as the daemon does
    texts = [block_of_lines(mean_bytes, BLOCK_BYTES, seed) for seed in range(BLOCKS)]
    blocks = [Block.of(text) for text in texts]
    lines = sum(block.lines for block in blocks)
    print(f"{lines} lines of {mean_bytes} bytes, Python {sys.version.split()[0]}\n")
    for name, reads_logs in (("platform events only", False), ("and function lines", True)):
        routing, packing = microseconds_per_line(blocks, reads_logs=reads_logs)
        total = routing + packing
        print(f"  {name:<24}router {routing:.2f} + pack {packing:.2f} = {total:.2f} µs/line")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 290)

"""Measures what the flat format costs a line, beside decoding the same lines: CPU time, in turn.

The layer has the compiled scanner, which makes most rows. Here it must be installed:
`pip install ./proto/scan`.

python -m bench.flat [--rounds N]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Final

from bench.kit.lines import mixed_block
from telemetryd.core.fields import FieldAdder, RequestTracker
from telemetryd.core.flat import FlatReader, Flattener
from telemetryd.core.line_filter import LineFilter
from telemetryd.core.router import RouteRules, merge, open_pieces, reader_for
from telemetryd.ingest.heap import keep_heap
from telemetryd_proto import scan
from telemetryd_proto.envelope import decode_lines
from telemetryd_proto.events import decode_record
from telemetryd_proto.framing import Block

IDENTITY = {"function": "orders", "version": "7", "instance": "ab" * 16}
MEMORY_BYTES = 256 << 20


STREAMS: Final[dict[str, tuple[int, float, float]]] = {
    "lines of 290 bytes": (290, 0.06, 0.53),
    "lines of 1024 bytes": (1024, 0.06, 0.53),
    "texts of 290 bytes": (290, 0.002, 0.0),
    "objects of 290 bytes": (290, 0.002, 1.0),
    "platform events of 290 bytes": (290, 1.0, 0.0),
}
"""Blocks: mean size, share of the platform's events, share of objects among the logs."""


def stream(mean_bytes: int, platform_events: float, json_logs: float) -> Block:
    """Lines from the first start of an invocation on, as the platform sends them."""
    data = mixed_block([(mean_bytes, 1.0)], platform_events=platform_events, json_logs=json_logs)
    start = data.rfind(b"\n", 0, data.index(b'"platform.start"')) + 1
    return Block.of(data[start:])


class Subjects:
    """The ways to treat the same lines."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self._tracker = RequestTracker(one_at_a_time=True)
        self._flat = FlatReader(IDENTITY, time.time)
        self._rules = {
            "tags and fields of the environment": RouteRules(
                LineFilter(), FieldAdder(["function", "version"], IDENTITY, {"stage": "prod"})
            ),
            "fields of events": RouteRules(
                LineFilter(), FieldAdder(["request_id", "trace_id"], IDENTITY)
            ),
            "flat": RouteRules(
                LineFilter(), Flattener(self._flat, (), IDENTITY, {"stage": "prod"})
            ),
        }

    def all(self) -> dict[str, Callable[[], object]]:
        """Each of them, by its name."""
        routed = {name: self._router(rules) for name, rules in self._rules.items()}
        if scan.compiled is not None:
            routed["flat in Python"] = _without_scanner(routed["flat"])
        return {"envelopes": self._envelopes, "envelopes and records": self._records} | routed

    def _envelopes(self) -> None:
        for piece in open_pieces(self._block, self._tracker):
            decode_lines(piece.lines)

    def _records(self) -> None:
        for piece in open_pieces(self._block, self._tracker):
            for envelope in decode_lines(piece.lines):
                if envelope is not None:
                    decode_record(envelope, lenient=True)

    def _router(self, rules: RouteRules) -> Callable[[], object]:
        reader, flat = reader_for([rules]), self._flat if rules.is_flat else None
        tracker = RequestTracker(one_at_a_time=True)
        if rules.wants_facts:
            tracker.keep_facts()

        def route() -> object:
            selections = []
            for piece in open_pieces(self._block, tracker, reader, flat):
                if rules.wants_requests:
                    piece.follow()
                selections.append(piece.select(rules))
            return merge(self._block, selections).wanted

        return route


def _without_scanner(run: Callable[[], object]) -> Callable[[], object]:
    def run_in_python() -> object:
        installed, scan.compiled = scan.compiled, None
        result = run()
        scan.compiled = installed
        return result

    return run_in_python


def measure(block: Block, rounds: int) -> dict[str, list[float]]:
    """Microseconds a line of each subject, round by round."""
    keep_heap(MEMORY_BYTES)
    subjects = Subjects(block).all()
    found: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, run in subjects.items():
            began = time.process_time()
            run()
            found[name].append((time.process_time() - began) / block.lines * 1e6)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench.flat", description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    if scan.compiled is None:
        print("telemetryd-scan is not installed: flat is made in Python, which costs more")
    for kind, shares in STREAMS.items():
        found = measure(stream(*shares), options.rounds)
        print(f"{kind}, us of CPU a line: least, median")
        for name, times in found.items():
            print(f"  {name:<36}{min(times):7.2f}{statistics.median(times):7.2f}")
        for base in ("envelopes", "envelopes and records"):
            pairs = [a - b for a, b in zip(found["flat"], found[base], strict=True)]
            low, middle, high = statistics.quantiles(pairs, n=4)
            print(f"  flat above {base:<32}{middle:7.2f} (quartiles {low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()

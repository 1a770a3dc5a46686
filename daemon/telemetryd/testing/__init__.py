"""Proves a sink: subclass `SinkContract`, say how the sink is made and read back, run pytest.

    from telemetryd.testing import Received, SinkContract

    class TestMySink(SinkContract):
        sink_class = MySink

        def config(self, directory, **keys):
            return MySink.Config(type="mine", path=str(directory / "out"), **keys)

        @contextmanager
        def destination(self, directory):
            yield lambda at_least: (directory / "out").read_bytes()

The suite runs the sink under the worker that runs it in production, on asyncio's loop and on
uvloop, and compares what arrived, byte for byte, with what was sent and with the ledger. The tools
it is made of are here too, for tests of a sink's own. Needs pytest; nothing else of telemetryd
imports this package. `docs/sinks.md` teaches the rest.
"""

from __future__ import annotations

import pytest

# Before the imports below: a failed assertion of the suite then shows both sides.
pytest.register_assert_rewrite(
    "telemetryd.testing.deliveries",
    "telemetryd.testing.failures",
    "telemetryd.testing.life_cycle",
    "telemetryd.testing.outages",
    "telemetryd.testing.packing",
    "telemetryd.testing.rig",
    "telemetryd.testing.steps",
    "telemetryd.testing.subject",
    "telemetryd.testing.verdicts",
)

from telemetryd.testing.lines import (  # noqa: E402 - see above
    batch_of,
    block,
    data_of,
    items_of,
    line_ends,
    numbered_blocks,
)
from telemetryd.testing.loops import LOOPS, JumpingLoop, LoopFactory, run  # noqa: E402
from telemetryd.testing.rig import Rig, dead_letter_at  # noqa: E402
from telemetryd.testing.sink_contract import SinkContract  # noqa: E402
from telemetryd.testing.subject import Received  # noqa: E402
from telemetryd.testing.surroundings import INSTANCE, LogBook, context, no_dead_letter  # noqa: E402

__all__ = [
    "INSTANCE",
    "LOOPS",
    "JumpingLoop",
    "LogBook",
    "LoopFactory",
    "Received",
    "Rig",
    "SinkContract",
    "batch_of",
    "block",
    "context",
    "data_of",
    "dead_letter_at",
    "items_of",
    "line_ends",
    "no_dead_letter",
    "numbered_blocks",
    "run",
]

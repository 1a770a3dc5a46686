"""The pipeline's books, when something in it goes wrong."""

import pytest

from telemetryd.core.fields import RequestTracker
from telemetryd.core.ledger import Count, Ledger
from telemetryd.core.stats import DaemonStats
from telemetryd.core.watch import LIFE_CYCLE, EventWatch
from telemetryd.ingest.pipeline import Pipeline
from telemetryd.testing import LogBook
from telemetryd_proto.envelope import Envelope
from telemetryd_proto.framing import Block, Rejected

LOG = b'{"time":"t","type":"function","record":"x"}\n'
DONE = b'{"time":"t","type":"platform.runtimeDone","record":{"requestId":"r"}}\n'


def test_after_a_bug_in_the_middle_of_a_read_every_line_is_still_in_the_books() -> None:
    seen: list[int] = []

    class Broken:
        def on_event(self, _: Envelope, __: Block, ___: int) -> None:
            raise ZeroDivisionError

        def on_lines(self, count: int) -> None:
            seen.append(count)

        def on_loss(self, cause: str) -> None:
            raise AssertionError

        def on_connections(self, count: int, *, lost: bool) -> None:
            raise AssertionError

    ledger = Ledger(())
    pipeline = Pipeline(
        ledger,
        [],
        dead_letter=None,
        observer=Broken(),
        watch=EventWatch(LIFE_CYCLE),
        tracker=RequestTracker(one_at_a_time=True),
        drop_own_lines=False,
        stats=DaemonStats(()),
        log=LogBook(),
    )
    parts: list[Block | Rejected] = [Block(DONE, 1), Rejected("empty", 1, 1, 0, 0), Block(LOG, 1)]
    size = len(DONE) + 1 + len(LOG)
    pipeline.on_received(size)
    with pytest.raises(ZeroDivisionError):
        pipeline.on_framed(parts)
    assert ledger.received == Count(3, size)
    assert ledger.is_balanced({})
    assert ledger.unrouted.lines == 2
    assert seen == [1], "of the block after the one with the bug"

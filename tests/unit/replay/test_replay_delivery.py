"""Replaying to a sink whose first attempt fails, in a loop whose time jumps."""

from __future__ import annotations

from typing import Any

import pytest

from telemetryd.errors import TransientSinkError
from telemetryd.log import Log
from telemetryd.replay import handover as delivery
from telemetryd.replay.handover import Replay
from telemetryd.replay.sources import Piece
from telemetryd.sinks.base import SinkConfig, SinkContext
from telemetryd.testing import JumpingLoop, LogBook, numbered_blocks, run
from unit.delivery.test_delivery import Answer, MemorySink, hang, raising


@pytest.mark.parametrize(
    "first", [hang, raising(TransientSinkError("throttled", retry_after=5))], ids=["hangs", "fails"]
)
def test_all_is_delivered_after_an_attempt_that_failed(
    monkeypatch: pytest.MonkeyPatch, first: Answer
) -> None:
    class FailsOnce(MemorySink):
        def __init__(self, config: SinkConfig, context: SinkContext) -> None:
            super().__init__(config, LogBook(), iter([first]))

    monkeypatch.setattr(delivery, "sink_class", lambda _: FailsOnce)
    told: list[Piece] = []

    async def scenario() -> Any:
        replay = Replay("spare", SinkConfig(type="memory"), dead_letter=None, log=Log("error"))
        try:
            return await replay.lines(iter([Piece(numbered_blocks(2), 1, 0)]), told.append)
        finally:
            await replay.close()

    assert run(JumpingLoop, scenario()) is True
    assert len(told) == 1

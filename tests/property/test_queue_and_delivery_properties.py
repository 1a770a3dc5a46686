"""Queue and delivery under random offers, failures, bugs, freezes, stops: each line settled once.

The destination keeps what it accepts and reports. Whatever happens, the ledger balances; what is
counted as delivered is exactly what was accepted and answered; nothing arrives that was not
offered; and where nothing failed in part, lines arrive in the order they came in.
"""

# ruff: noqa: D102 - the names say it
from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.wall_clock import WallClock
from telemetryd.core.ledger import Count
from telemetryd.delivery.queue import BLOCK_OVERHEAD, SinkQueue
from telemetryd.errors import PermanentSinkError, SinkUnavailable, TransientSinkError
from telemetryd.sinks.base import (
    DELIVERED,
    Batch,
    Failure,
    Item,
    Overflow,
    Sink,
    SinkConfig,
    WriteResult,
)
from telemetryd.testing import JumpingLoop, LogBook, Rig, block, context, dead_letter_at, run
from telemetryd_proto.framing import Block

CLOCK = WallClock()
OVERFLOWS: st.SearchStrategy[Overflow] = st.sampled_from(["drop_oldest", "drop_newest", "block"])
BEHAVIOURS = st.sampled_from(
    [
        "accept", "accept", "accept", "slow", "transient", "permanent", "partial", "mixed",
        "bug", "nonsense", "own_cancel", "reset", "hang", "late", "pack_bug", "pack_short",
        "unpack_bug", "open_fails",
    ]
)  # fmt: skip
HARMLESS = {"accept", "slow", "transient", "open_fails", "own_cancel", "reset", "unpack_bug"}
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.integers(1, 5), st.integers(1, 12_000)),
        st.tuples(st.just("sleep"), st.floats(0, 20), st.just(0)),
        st.tuples(st.just("flush"), st.floats(0, 20), st.just(0)),
        st.tuples(st.just("yield"), st.integers(1, 5), st.just(0)),
        st.tuples(st.just("freeze"), st.floats(0, 5), st.just(0)),
        st.tuples(st.just("jump"), st.floats(-100_000, 100_000), st.just(0)),
    ),
    max_size=25,
)


class Destination(Sink):
    """Behaves as scripted; `answered` are the items of writes whose answer said delivered."""

    def __init__(self, config: SinkConfig, log: LogBook, script: Iterator[str]) -> None:
        super().__init__(config, context(log, clock=CLOCK.clock))
        self.script = script
        self.behaviour = "accept"
        self.written: list[bytes] = []
        self.answered: list[bytes] = []

    async def open(self) -> None:
        if next(self.script, "accept") == "open_fails":
            raise SinkUnavailable("not_yet")

    def pack(self, blocks: Any) -> list[Item]:
        self.behaviour = next(self.script, "accept")
        if self.behaviour == "pack_bug":
            raise ValueError("bug")
        items = list(super().pack(blocks))
        return items[1:] if self.behaviour == "pack_short" else items

    def unpack(self, item: Item) -> bytes | None:
        if self.behaviour == "unpack_bug":
            raise ValueError("bug")
        return super().unpack(item)

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        behaviour = next(self.script, "accept") if attempt > 1 else self.behaviour
        match behaviour:
            case "slow":
                await asyncio.sleep(0.3)
            case "transient":
                raise TransientSinkError("transient", retry_after=0.1)
            case "permanent":
                raise PermanentSinkError("permanent")
            case "bug":
                raise ValueError("bug")
            case "nonsense":
                return None  # type: ignore[return-value]  # as a careless sink would
            case "own_cancel":
                raise asyncio.CancelledError
            case "reset":
                raise ConnectionResetError
            case "hang":
                await asyncio.Event().wait()
            case "late":
                self.written += [item.payload for item in batch.items]
                await asyncio.Event().wait()
        failures = tuple(refusals(behaviour, len(batch.items)))
        refused = {failure.index for failure in failures}
        taken = [item.payload for i, item in enumerate(batch.items) if i not in refused]
        self.written += taken
        self.answered += taken
        return WriteResult(failures) if failures else DELIVERED


def refusals(behaviour: str, items: int) -> Iterator[Failure]:
    if behaviour in ("partial", "mixed"):
        for index in range(0, items, 2):
            retryable = behaviour == "partial" or index % 4 == 0
            yield Failure(index, behaviour, retryable)


def lines_of(payloads: list[bytes]) -> list[bytes]:
    return b"".join(payloads).splitlines(keepends=True)


def dead_lines(path: Path) -> list[bytes]:
    if not path.exists():
        return []
    records = [json.loads(record) for record in path.read_bytes().splitlines()]
    return lines_of(
        [
            base64.b64decode(r["data_base64"]) if "data_base64" in r else r["data"].encode()
            for r in records
        ]
    )


@settings(max_examples=250)
@given(
    steps=STEPS,
    script=st.lists(BEHAVIOURS, max_size=30),
    overflow=OVERFLOWS,
    seed=st.integers(0, 1000),
    linger_ms=st.sampled_from([0, 500]),
    retry_ms=st.sampled_from([0, 2000, 30_000]),
    patience=st.sampled_from([0.0, 0.001, 1.0, 30.0]),
    keep_dead=st.booleans(),
)
def test_every_line_is_settled_once(
    *,
    steps: list[tuple[str, float, int]],
    script: list[str],
    overflow: Overflow,
    seed: int,
    linger_ms: int,
    retry_ms: int,
    patience: float,
    keep_dead: bool,
) -> None:
    config = SinkConfig(
        type="d", queue_max_bytes=65_536, batch_max_bytes=16_384, linger_ms=linger_ms,
        write_timeout_ms=1000, retry_max_elapsed_ms=retry_ms,
    )  # fmt: skip
    CLOCK.offset = 0.0
    log = LogBook()
    sink = Destination(config, log, iter(script))
    with TemporaryDirectory() as directory:
        letters = Path(directory, "dead")
        letter = dead_letter_at(letters, log, max_bytes=1 << 26, max_record=1 << 20)
        rig = Rig(
            sink, config, log=log, overflow=overflow, seed=seed,
            dead_letter=letter if keep_dead else None,
        )  # fmt: skip
        offered: list[bytes] = []

        async def scenario() -> None:
            rig.worker.start()
            for step, amount, size in steps:
                if step == "offer":
                    lines = [b"%06d" % (len(offered) + n) + b"x" * size for n in range(int(amount))]
                    each = block(*lines, offset=len(offered))
                    offered.extend(lines_of([each.data]))
                    rig.worker.offer(each)
                elif step == "sleep":
                    await asyncio.sleep(amount)
                elif step == "flush":
                    await rig.flush(amount)
                elif step == "freeze":  # whatever is in flight is cancelled
                    await rig.worker.hold()
                    await asyncio.sleep(amount)
                    rig.worker.release()
                elif step == "jump":
                    CLOCK.offset += amount
                else:
                    for _ in range(int(amount)):
                        await asyncio.sleep(0)
                rig.check_balance()
            await rig.stop(patience)

        run(JumpingLoop, scenario())
        letter.close()
        dead = dead_lines(letters)

    rig.check_end()
    account = rig.account
    assert account.offered == account.enqueued
    assert account.offered == Count(len(offered), sum(map(len, offered)))
    answered, written = lines_of(sink.answered), lines_of(sink.written)
    assert account.delivered == Count(len(answered), sum(map(len, answered)))
    assert account.dead_lettered == Count(len(dead), sum(map(len, dead)))
    assert max(Counter([*answered, *dead]).values(), default=1) == 1
    assert set(written) | set(dead) <= set(offered)
    if set(script) <= HARMLESS:
        assert answered == sorted(answered)
        assert rig.holds[-1:] in ([], [False])


@given(
    operations=st.lists(
        st.one_of(
            st.tuples(st.just("offer"), st.integers(0, 3000)),
            st.tuples(st.just("take"), st.integers(1, 5000)),
            st.tuples(st.just("settle"), st.just(0)),
        ),
        max_size=60,
    ),
    overflow=OVERFLOWS,
)
def test_the_queue_keeps_order_bounds_and_books(
    operations: list[tuple[str, int]], overflow: Overflow
) -> None:
    limit = 5000
    holds: list[bool] = []
    queue = SinkQueue(limit, overflow, holds.append)
    came: list[Block] = []
    lost: list[Block] = []
    taken: list[Block] = []
    in_flight: list[list[Block]] = []
    for operation, amount in operations:
        if operation == "offer":
            each = block(b"%04d" % len(came) + b"x" * amount, offset=len(came))
            came.append(each)
            losers = queue.offer(each)
            assert overflow != "block" or losers == []
            lost += [loser for _, loser in losers]
        elif operation == "take":
            blocks = queue.take(amount)
            assert len(blocks) <= 1 or sum(len(b.data) for b in blocks) <= amount
            taken += blocks
            in_flight.append(blocks)
        elif in_flight:
            queue.settle(in_flight.pop(0))
        charged = queue.waiting().bytes + BLOCK_OVERHEAD * len(queue)
        charged += sum(len(b.data) + BLOCK_OVERHEAD for blocks in in_flight for b in blocks)
        assert queue.charged_bytes == charged
        assert queue.queued_bytes == queue.waiting().bytes
        assert overflow == "block" or charged <= limit
        if overflow == "block":
            assert not holds or holds[-1] or charged <= limit
            assert charged <= limit or holds[-1]
    taken += queue.take(1 << 30)
    assert taken == sorted(taken, key=lambda each: each.offset)
    assert sorted([*taken, *lost], key=lambda each: each.offset) == came
    assert holds == [number % 2 == 0 for number in range(len(holds))]

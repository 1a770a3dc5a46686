"""The part of the suite about rules: lines that were masked, filtered, sampled and made rows."""

# ruff: noqa: S101 - assertions are what this is for
from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec
import pytest

from telemetryd.core.fields import FieldAdder, RequestTracker
from telemetryd.core.flat import FlatReader, Flattener
from telemetryd.core.ledger import Ledger, total
from telemetryd.core.line_filter import LineFilter
from telemetryd.core.redaction.redactor import Redactor, redactor
from telemetryd.core.router import RouteRules, merge, open_pieces, reader_for
from telemetryd.core.sample import Sampler, rule
from telemetryd.core.stats import DaemonStats
from telemetryd.core.watch import LOSSES, EventWatch
from telemetryd.ingest.pipeline import Pipeline, Route
from telemetryd.log import utc_timestamp
from telemetryd.sinks.base import Format
from telemetryd.testing.lines import block, data_of
from telemetryd.testing.loops import LOOPS, LoopFactory
from telemetryd.testing.rig import Rig
from telemetryd.testing.subject import Subject
from telemetryd.testing.surroundings import INSTANCE
from telemetryd_proto.flat import FlatLine
from telemetryd_proto.framing import Block

_SECRET: Final = b"ada.lovelace@example.com"
_INVOCATIONS: Final = 60
_VALUES: Final = {"function": "orders", "version": "7", "instance": INSTANCE}
_TAGS: Final = {"stage": "test"}
_EVENT: Final = b'{"time":"%b","type":"%b","record":%b}'


def _invocation(number: int, now: str) -> Iterator[bytes]:
    """Yield what one invocation sends: an event, a text, two objects, and what is no JSON."""
    for kind, record in (
        ("platform.start", '{"requestId":"r-%d","version":"7"}'),
        ("function", r'"[INFO]\t2026-03-14T10:15:00.000Z\tr-%d\tto ada.lovelace@example.com\n"'),
        ("function", '{"level":"DEBUG","message":"not wanted","requestId":"r-%d"}'),
        ("function", '{"level":"ERROR","message":"ada.lovelace@example.com","requestId":"r-%d"}'),
    ):
        yield _EVENT % (now.encode(), kind.encode(), (record % number).encode())
    yield b"plain text of %d, also to ada.lovelace@example.com" % number


class _Rules:
    """Rules of every kind, the same each time that they are made."""

    def __init__(self, shape: Format, now: float) -> None:
        self.flat = FlatReader(_VALUES, lambda: now) if shape == "flat" else None
        shaper = (
            Flattener(self.flat, ("cold_start",), _VALUES, _TAGS)
            if self.flat is not None
            else FieldAdder(("request_id",), _VALUES, _TAGS)
        )
        sample = rule(type="function", level="", match="", keep=0.25, by="request_id")
        self.all = RouteRules(LineFilter(min_level="info"), shaper, Sampler([sample]))
        self.tracker = RequestTracker(one_at_a_time=True)
        if self.all.wants_facts:
            self.tracker.keep_facts()
        self.redactor: Redactor = redactor([("email", "", "label")], b"salt")

    def expected(self, blocks: Sequence[Block]) -> bytes:
        """Return what passes of `blocks`."""
        found = []
        for each in blocks:
            masked = each.with_lines(self.redactor.mask(each.data), each.lines, 0)
            pieces = open_pieces(masked, self.tracker, reader_for([self.all]), self.flat)
            found.append(merge(masked, [piece.select(self.all) for piece in pieces]).wanted)
        return data_of([each for each in found if each is not None])

    def pipeline(self, ledger: Ledger, rig: Rig) -> Pipeline:
        """Return the way to the queue of `rig`, with these rules before it."""
        return Pipeline(
            ledger,
            [Route(rig.worker, self.all)],
            dead_letter=None,
            observer=None,
            watch=EventWatch(LOSSES),
            tracker=self.tracker,
            drop_own_lines=False,
            redactor=self.redactor,
            stats=DaemonStats(ledger.sinks),
            log=rig.log,
        )


class VerdictContract(Subject):
    """Lines that come to the sink by way of rules, as in production."""

    @LOOPS
    @pytest.mark.parametrize("shape", ["raw", "flat"])
    def test_each_line_behind_rules_arrives_or_is_counted(
        self, tmp_path: Path, stack: ExitStack, loop_factory: LoopFactory, shape: Format
    ) -> None:
        """Masked, filtered, sampled, tagged, made rows: nothing is lost, and no secret arrives."""
        config = self.config(tmp_path, format=shape)
        if list(config.shared_problems()):
            pytest.skip(f"{self.sink_class.__name__} does not take the format {shape}")
        received = stack.enter_context(self.destination(tmp_path))
        now = time.time()  # destinations refuse old events
        blocks = [block(*_invocation(n, utc_timestamp(now))) for n in range(_INVOCATIONS)]
        expected = _Rules(shape, now).expected(blocks)
        rig, rules = self.rig(tmp_path, batch_max_bytes=4096), _Rules(shape, now)
        ledger = Ledger((rig.sink.context.name,))
        ledger.sinks[rig.sink.context.name] = rig.account
        pipeline = rules.pipeline(ledger, rig)

        async def scenario() -> None:
            rig.worker.start()
            for at, each in enumerate(blocks):
                pipeline.on_received(each.size)
                pipeline.on_framed([each])
                if at % 20 == 0:
                    await self.flush(rig)
                    rig.check_balance()
            await self.flush(rig)
            await rig.stop()

        self.run(loop_factory, scenario())
        self.check(rig)
        assert ledger.is_balanced({name: rig.worker.pending() for name in ledger.sinks})
        assert set(rig.lines()) == {"delivered", "filtered", "sampled"}
        account = rig.account
        assert total(account.delivered, account.filtered, account.sampled) == ledger.received
        assert account.filtered.lines == _INVOCATIONS
        assert rules.redactor.counts["email"] == 3 * _INVOCATIONS
        assert expected.count(b"\n") == account.delivered.lines
        if config.lets_lines_through:
            self.assert_received(received, expected)
        assert _SECRET not in expected
        assert received is None or _SECRET not in received(0)
        if shape == "flat":
            for row in expected.splitlines():
                msgspec.json.decode(row, type=FlatLine)

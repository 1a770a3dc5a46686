"""The measured environment of a fleet: every line is in a record, or the figures do not count."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from bench.kit.errors import LossError
from bench.scale import packing
from bench.scale.packing import Case
from helpers.kinesis_server import KinesisServer, Put

CASE = Case(name="", calls=4, busy=True, function_ms=1, lines=2, linger_ms=5000, compression="zstd")


def test_records_are_counted_with_all_their_lines() -> None:
    row = asyncio.run(packing.measure(CASE))
    assert row.case == CASE
    # what the function prints, the line of its start, and three events of the platform each
    assert row.lines >= 4 * 2 + 1 + 4 * 3
    assert 1 <= row.records <= row.lines
    assert row.requests >= 1
    assert row.largest_bytes <= row.data_bytes
    assert row.put_units >= row.records
    assert row.on_demand_bytes % 1024 == row.firehose_bytes % 5120 == 0
    assert row.keys == 1
    assert row.cpu_ms > 0


def test_a_missing_line_is_no_figure() -> None:
    life = packing._Life(CASE)
    life.printed["function: a line"] = 1
    with KinesisServer() as server:
        first = b'{"type":"function","record":"example handler: loaded\\n"}\n'
        server.accepted.append(Put(first, "key"))
        with pytest.raises(LossError, match="1 lines are missing, 0 too many"):
            packing._judge(life, server)
        server.accepted.append(Put(b'{"type":"function","record":"a line"}\n', "key"))
        assert packing._judge(life, server).records == 2
        server.violations.append("a call of 9 bytes")
        with pytest.raises(LossError, match="Kinesis would have refused: a call of 9 bytes"):
            packing._judge(life, server)


def test_what_a_kill_loses_is_counted() -> None:
    case = msgspec.structs.replace(
        CASE, calls=3, linger_ms=60_000, strategy="continuous", killed=True
    )
    row = asyncio.run(packing.measure(case))
    assert 0 < row.lost <= 3 * 2 + 1
    assert row.lost + row.lines >= 3 * 2 + 1

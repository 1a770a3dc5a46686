"""The arithmetic of a fleet: from one environment to shards, dollars and limits."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.scale import fleet as arithmetic
from bench.scale import packing, prices, report
from bench.scale.__main__ import main
from bench.scale.fleet import Fleet, Load
from bench.scale.packing import Case, Result, Row
from bench.scale.quotas import QUOTAS, is_reached
from telemetryd.exposition import catalogue

MIB = 1024**2


def row(*, calls: int = 10, busy: bool = True, linger_ms: int = 100, **others: Any) -> Row:
    """An environment whose invocations have 2 lines of 50 bytes and a record of 100."""
    figures = {
        "lines": 2 * calls, "line_bytes": 100 * calls, "records": calls, "requests": calls,
        "data_bytes": 100 * calls, "largest_bytes": 100, "put_units": calls,
        "on_demand_bytes": 1024 * calls, "firehose_bytes": 5120 * calls, "keys": 1,
        "cpu_ms": 100.0 + 2 * (calls - 1),
    } | others  # fmt: skip
    case = Case(
        name="", calls=calls, busy=busy, function_ms=packing.FLEET_MS, linger_ms=linger_ms,
        compression="zstd",
    )  # fmt: skip
    return Row(case=case, **figures)


RESULT = Result(
    machine={},
    rows=[
        *(row(busy=busy, linger_ms=linger) for busy in (True, False) for linger in (100, 5000)),
        row(calls=1, busy=False),
    ],
)


def load(**others: float) -> Load:
    """A load of nothing but `others`."""
    return Load(**{name: others.get(name, 0.0) for name in Load.__struct_fields__})


# -- the fleet -------------------------------------------------------------------------------------


def test_both_readings_of_the_rate() -> None:
    each, together = Fleet(functions=1000, rate=50), Fleet(functions=1000, rate=50, each=False)
    assert (each.invocations, together.invocations) == (50_000, 50)
    assert (each.running, together.running) == (5000, 5)
    assert (each.is_busy, together.is_busy) == (True, False)
    assert (each.sending, together.sending) == (5000, 50)


@pytest.mark.parametrize(("rate", "busy"), [(0.90, False), (0.92, True)])
def test_a_function_called_again_within_a_second_of_its_end_is_busy(
    rate: float, busy: bool
) -> None:
    assert Fleet(functions=1, rate=rate, function_ms=100).is_busy is busy


def test_a_second_is_one_invocation_times_the_invocations() -> None:
    found = arithmetic.load_of(Fleet(functions=10, rate=100), RESULT)
    assert (found.lines, found.line_bytes, found.records) == (2000, 100_000, 1000)
    assert (found.on_demand_bytes, found.firehose_bytes) == (1000 * 1024, 1000 * 5120)
    assert found.cpu_ms == pytest.approx(2000)  # without what a life takes anyway


def test_other_lines_change_sizes_but_not_the_number_of_records() -> None:
    fleet = Fleet(functions=1, rate=10, lines=4, line_bytes=1000)
    found = arithmetic.load_of(fleet, RESULT)
    assert (found.lines, found.line_bytes, found.records) == (40, 40_000, 10)
    assert found.data_bytes == pytest.approx(40_000)
    assert found.on_demand_bytes == 10 * 4096
    assert found.put_units == 10


def test_lines_beyond_a_record_need_more_of_them() -> None:
    found = arithmetic.load_of(Fleet(functions=1, rate=10, line_bytes=3 * MIB / 2), RESULT)
    assert found.records == pytest.approx(30)


def test_what_was_not_measured_is_refused() -> None:
    with pytest.raises(ValueError, match=r"linger_ms 7 was not measured; there is: 100, 5000"):
        arithmetic.load_of(Fleet(linger_ms=7), RESULT)


@pytest.mark.parametrize(("size", "billed"), [(1, 1024), (1024, 1024), (1025, 2048)])
def test_a_record_is_billed_in_whole_units(size: int, billed: int) -> None:
    assert packing.round_up(size, 1024) == billed


# -- shards ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "data", "shards"),
    [(0, 0, 1), (1000, 0, 1), (1001, 0, 2), (10, 5 * MIB, 5), (7000, MIB, 7)],
)
def test_a_shard_takes_a_thousand_records_and_a_mebibyte(
    records: float, data: float, shards: int
) -> None:
    assert arithmetic.even_shards(load(records=records, data_bytes=data)) == shards


def test_keys_go_where_kinesis_puts_them() -> None:
    """RFC 1321, section A.5."""
    assert arithmetic.hash_keys(["a"]) == [0x0CC175B9C0F1B6A831C399E269772661]
    assert arithmetic.fullest([0, 2**127, 2**128 - 1], 2) == 2
    assert arithmetic.fullest([0, 2**127, 2**128 - 1], 1) == 3


def test_the_fullest_shard_takes_its_load_and_with_fewer_it_would_not() -> None:
    busy = load(records=50_000)
    shards = arithmetic.shards_for(busy, 1000)
    assert shards is not None
    assert shards > arithmetic.even_shards(busy) == 50


def test_few_keys_can_not_use_many_shards() -> None:
    assert arithmetic.shards_for(load(records=5000), 4) is None
    assert arithmetic.shards_for(load(records=500), 1) == 1


def test_a_hot_function_fills_a_shard_only_with_its_own_key() -> None:
    fleet = Fleet(functions=1000, rate=100, hot_part=0.1)
    found = {each.key: each for each in arithmetic.spreads(fleet, load(records=100_000))}
    assert found["function"].hot == pytest.approx(10)
    assert found["instance"].hot == found["instance"].largest == pytest.approx(0.01)
    assert found["random"].hot == pytest.approx(0.001)


# -- dollars ---------------------------------------------------------------------------------------


def dollars(fleet: Fleet, of: Load, shards: int = 2, **own: float) -> dict[str, float]:
    """Dollars with prices of 0, but `own`."""
    return arithmetic.dollars(fleet, of, shards, dict.fromkeys(prices.table(), 0.0) | own)


def test_each_destination_has_its_price() -> None:
    month = 730 * 3600
    of = load(
        put_units=3, on_demand_bytes=prices.GIB, firehose_bytes=prices.GIB, data_bytes=prices.GIB
    )
    fleet = Fleet(consumers=2)
    assert dollars(fleet, of, shard_hour=1)["Kinesis, provisioned"] == 2 * 730
    assert dollars(fleet, of, put_units=1)["Kinesis, provisioned"] == pytest.approx(3e-6 * month)
    assert dollars(fleet, of, on_demand_in=1)["Kinesis, on-demand"] == pytest.approx(month)
    assert dollars(fleet, of, on_demand_out=1)["Kinesis, on-demand"] == pytest.approx(2 * month)
    assert dollars(fleet, of, firehose=1)["Firehose behind the stream"] == pytest.approx(month)
    assert dollars(fleet, of, s3_month=1)["S3 behind Firehose"] == pytest.approx(month * 720 / 730)
    assert dollars(fleet, of, s3_put=1)["S3 behind Firehose"] == pytest.approx(8 * month / 1000)
    assert dollars(fleet, of, nat=1)["NAT gateway, per GB only"] == pytest.approx(month * 4 / 3)


def test_fan_out_is_paid_for_apart() -> None:
    of, fleet = load(data_bytes=prices.GIB), Fleet(consumers=3, fan_out=True)
    assert dollars(fleet, of, fan_out_hour=1)["Kinesis, provisioned"] == 3 * 2 * 730
    assert dollars(fleet, of, on_demand_out=1)["Kinesis, on-demand"] == 0
    assert dollars(fleet, of, on_demand_fan_out=1)["Kinesis, on-demand"] > 0


def test_advantage_is_billed_for_its_least() -> None:
    small, large = load(on_demand_bytes=1), load(on_demand_bytes=50 * MIB)
    name = "Kinesis, on-demand advantage"
    least = dollars(Fleet(), small, advantage_in=1)[name]
    assert dollars(Fleet(), large, advantage_in=1)[name] == pytest.approx(2 * least)


@pytest.mark.parametrize(
    ("gb", "usd"), [(10_000, 5000), (30_000, 10_000), (50_000, 12_000), (60_000, 12_500)]
)
def test_log_ingestion_has_tiers(gb: float, usd: float) -> None:
    assert prices.log_ingestion(gb, prices.table()) == pytest.approx(usd)


def test_only_rare_invocations_wait() -> None:
    def waited(fleet: Fleet) -> float:
        return arithmetic.gb_seconds(fleet, load(cpu_ms=1000))["wait at the end"]

    assert waited(Fleet()) == 0
    rare = Fleet(each=False, rate=100, rare_added_ms=20, memory_mb=512)
    assert waited(rare) == pytest.approx(100 * 0.020 / 2)


def test_a_second_of_cpu_costs_a_whole_vcpu() -> None:
    for memory in (128, 1769):
        found = arithmetic.gb_seconds(Fleet(memory_mb=memory), load(cpu_ms=1000))
        assert found["its CPU, at most"] == pytest.approx(1769 / 1024)


def test_a_price_of_your_own() -> None:
    assert prices.table(["shard_hour=0.02"])["shard_hour"] == 0.02
    for wrong in ("shard=1", "shard_hour", "shard_hour=x", "shard_hour=-1", "shard_hour=nan"):
        with pytest.raises(ValueError):
            prices.table([wrong])


# -- limits ----------------------------------------------------------------------------------------


def test_a_limit_is_reached_above_its_default() -> None:
    fleet = Fleet(functions=100, rate=101)
    of, found = load(records=1, requests=1), {quota.name: quota for quota in QUOTAS}
    executions = found["Lambda: Concurrent executions"]
    assert is_reached(executions, executions.need(fleet, of, RESULT.rows[0]))
    smaller = msgspec.structs.replace(fleet, rate=100)
    assert not is_reached(executions, executions.need(smaller, of, RESULT.rows[0]))


def test_what_is_counted_there_is_a_metric() -> None:
    known = {family.name for family in catalogue.FAMILIES}
    named = {
        name
        for quota in QUOTAS
        for name in re.findall(r"`(\w+_(?:total|errors|lines)\w*)`", quota.counted)
    }
    assert named
    assert {name.removesuffix("_total") for name in named} <= known


def test_a_kill_has_a_table_of_its_own() -> None:
    killed = msgspec.structs.replace(row(calls=7, linger_ms=1000), lost=5)
    case = msgspec.structs.replace(killed.case, killed=True, lines=3)
    rows = [*RESULT.rows, msgspec.structs.replace(killed, case=case)]
    found = Result(machine=dict.fromkeys(("processor", "cores", "system"), ""), rows=rows)
    assert "| 1,000 | 7 | 7 | 22 | 5 |" in report.risk(found)
    assert len(report.packing(found)) == len(
        report.packing(msgspec.structs.replace(found, rows=RESULT.rows))
    )


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with the measured environments of this file."""
    (tmp_path / "packing.json").write_bytes(msgspec.json.encode(RESULT))
    return tmp_path


def test_the_tables_are_printed(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(results), "--functions", "10", "--each", "--linger-ms", "100"]) == 0
    said = capsys.readouterr().out
    assert "| | 100/s each function, linger 100 |" in said
    assert "| records | 1,000 |" in said
    assert said.count("\n## ") + 1 == len(report.PARTS)


def test_programs_get_json(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--functions", "10", "--over-all", "--json", "--price", "shard_hour=100"]
    assert main(["--out", str(results), *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["fleet"]["linger_ms"] for each in found] == [100, 5000]
    assert found[0]["per_second"]["records"] == 100
    assert found[0]["dollars_a_month"]["Kinesis, provisioned"] > 100 * 730
    assert {each["name"] for each in found[0]["quotas"]} == {quota.name for quota in QUOTAS}


@pytest.mark.parametrize(
    "wrong",
    [
        ["--functions", "0"],
        ["--rate", "nan"],
        ["--linger-ms", "7"],
        ["--price", "gold=1"],
        ["--compression", "brotli"],
    ],
)
def test_an_impossible_fleet_is_refused(
    wrong: list[str], results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(results), *wrong]) == 64
    said = capsys.readouterr()
    assert said.err.startswith("bench: ")
    assert not said.out

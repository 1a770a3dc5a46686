"""What the tables of short lives say follows from the runs, and no lost line hides."""

from __future__ import annotations

import random
import statistics
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parents[3]))

from bench.kit import files
from bench.kit.stats import Spread, median_interval
from bench.load import readme
from bench.load.report import Result as LoadResult
from bench.load.report import Row as LoadRow
from bench.load.run import Run
from bench.load.scenario import Load
from bench.short_life import arrival, pages, report, targets
from bench.short_life.arrival import Balance
from bench.short_life.deliveries import INVOCATION, LONE, Delivery
from bench.short_life.pages import Cost, break_even
from bench.short_life.result import Condition, Result, Row, find_losses, merge, spread
from bench.short_life.service import Arrived
from bench.short_life.settings import Settings, Share, choose, is_sure
from bench.short_life.signature import find_fault
from bench.short_life.stage import Figures
from bench.short_life.targets import Judgement
from telemetryd_proto.kinesis import Encoder, RecordId

# -- the arithmetic -------------------------------------------------------------------------------


@given(values=st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_an_interval_holds_the_median_and_is_made_of_values(values: list[float]) -> None:
    found = median_interval(values)
    assert found.median == statistics.median(values)
    assert {found.low, found.high} <= set(values)
    assert found.low <= found.median <= found.high
    assert found.low == found.high or found.low < found.high


@pytest.mark.parametrize(("count", "left_out"), [(1, 0), (5, 0), (6, 0), (7, 0), (9, 1), (15, 3)])
def test_an_interval_leaves_out_what_ninety_five_per_cent_allow(count: int, left_out: int) -> None:
    """The tables of the sign test: at 9 values one on each side, at 15 three."""
    values = [float(value) for value in range(count)]
    random.Random(count).shuffle(values)
    found = median_interval(values)
    assert (found.low, found.high) == (left_out, count - 1 - left_out)


def test_an_interval_is_wide_enough() -> None:
    """In at least 95 of 100 samples it holds the median of what they were drawn from."""
    rng = random.Random(1)
    held = 0
    for _ in range(2000):
        found = median_interval([rng.expovariate(1.0) for _ in range(10)])
        held += found.low <= 0.693147 <= found.high
    assert held / 2000 > 0.94


def test_nothing_has_no_interval() -> None:
    with pytest.raises(ValueError, match="no measurement"):
        median_interval([])


def test_shares_are_read_as_they_are_written() -> None:
    for text in ("7.25", "100", "100:7.25", "29:100"):
        assert Share.parse(text).name == text
    assert Share.parse("100:7.25") == Share(init=100, then=7.25)
    for text in ("0", "101", "7:200", "much"):
        with pytest.raises(ValueError, match=r"share|float"):
            Share.parse(text)


def test_options_name_several_or_none() -> None:
    assert choose(None, "ab", ("x",), str) == ("x",)
    assert choose(["a,b", "a"], "ab", ("x",), str) == ("a", "b", "a")
    with pytest.raises(ValueError, match="c: there is a, b"):
        choose(["c"], "ab", ("x",), str)


def test_what_may_not_lose_a_line_is_measured_ten_times() -> None:
    settings = Settings()
    assert settings.runs_of("3", "7.25", "kinesis") == 10
    assert settings.runs_of("1", "7.25", "kinesis") == 1
    assert settings.runs_of("3", "29", "kinesis") == 1
    assert settings.runs_of("3", "7.25", "emf") == 1
    assert settings.rounds_of("3", "7.25") == 10
    assert settings.rounds_of("burst", "7.25") == 1
    assert Settings(runs=2).runs_of("3", "7.25", "kinesis") == 2
    sure = [
        (life, share, sink)
        for life in ("1", "3", "8", "busy", "burst")
        for share in ("7.25", "29", "100", "100:7.25")
        for sink in ("file", "emf", "kinesis", "logs", "http", "otlp")
        if is_sure(life, share, sink)
    ]
    assert len(sure) == 3 * 2 * 4


# -- what arrived ---------------------------------------------------------------------------------


def event(record: Any, kind: str = "function") -> bytes:

    return msgspec.json.encode({"time": "t", "type": kind, "record": record})


def test_a_line_counts_once_however_often_it_arrives() -> None:
    printed = Counter({arrival.line("a"): 2, arrival.line("b"): 1, "platform.start": 1})
    found = [event("a\n"), event("a\n"), event("a\n"), event({}, "platform.start")]
    balance = arrival.compare(printed, arrival.events_in(found))
    assert balance == Balance(printed=4, arrived=3, lost=1, doubled=1)


def test_lines_that_were_cut_or_changed_did_not_arrive() -> None:
    printed = Counter({arrival.line("a"): 1, arrival.line("b"): 1})
    balance = arrival.compare(printed, arrival.events_in([event("a")[:-3], event("B\n"), b"[]"]))
    assert (balance.lost, balance.doubled) == (2, 1)


def test_what_only_the_log_has_is_not_lost_but_told() -> None:
    printed = Counter({arrival.line("a"): 2})
    balance = arrival.compare(printed, [arrival.line("a")], [arrival.line("a")] * 5)
    assert balance == Balance(printed=2, arrived=2, lost=0, doubled=0, in_log=1)


def test_a_record_that_came_twice_is_one_as_for_a_consumer() -> None:
    encoder = Encoder("ndjson", "gzip")
    data = encoder.encode(event("a") + b"\n", record_id=RecordId(b"p" * 16, 1))
    arrived = Arrived(records=[data, data], messages=[], posted=[], refused=[], connections=1)
    assert list(arrival.lines_of_stream(arrived)) == [event("a")]


def test_reports_are_counted_in_documents_and_nothing_else() -> None:
    documents = [
        b'{"_aws":{},"memory_used_percent":[1,2]}',
        b'{"_aws":{},"memory_used_percent":3}',
        b'{"_aws":{},"init_duration":3}',
        b'{"event":"ledger","memory_used_percent":4}',
        b"memory_used_percent",
    ]
    assert arrival.count_reports(documents) == 3
    assert arrival.compare_reports(5, 3) == Balance(printed=5, arrived=3, lost=2, doubled=0)
    assert arrival.compare_reports(2, 3) == Balance(printed=2, arrived=2, lost=0, doubled=1)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ([b'{"event":"ledger","balanced":true}'], True),
        ([b'{"event":"ledger","balanced":false}'], False),
        ([b'{"event":"ledger","balanced":true}'] * 2, False),
        ([b'{"event":"other","text":"ledger"}', b'no "ledger" json'], False),
        ([], False),
    ],
)
def test_a_ledger_is_one_that_balances(said: list[bytes], found: bool) -> None:
    assert arrival.find_ledger(said) is found


# -- signatures -----------------------------------------------------------------------------------


def signed(body: bytes, **changed: str) -> dict[str, str]:
    """Headers as botocore signs them."""
    request = AWSRequest(
        "POST", "https://localhost:1/", data=body,
        headers={"X-Amz-Target": "Kinesis_20131202.PutRecords", "Host": "localhost:1"},
    )  # fmt: skip
    SigV4Auth(Credentials("key", "secret", "token"), "kinesis", "eu-west-1").add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()} | changed


def fault(headers: dict[str, str], body: bytes) -> str | None:
    return find_fault(headers, body, key="key", secret="secret", service="kinesis")  # noqa: S106


@given(body=st.binary(max_size=200))
def test_what_botocore_signs_is_signed(body: bytes) -> None:
    assert fault(signed(body), body) is None


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"authorization": "none"}, "no signature"),
        ({"x-amz-target": "Kinesis_20131202.Other"}, "does not match"),
        ({"host": "elsewhere"}, "does not match"),
        ({"x-amz-date": "20200101T000000Z"}, "a request of 2020"),
        ({"x-amz-date": "today"}, "x-amz-date"),
    ],
)
def test_what_was_changed_after_it_was_signed_is_not(changed: dict[str, str], told: str) -> None:
    assert told in str(fault(signed(b"body", **changed), b"body"))
    assert fault(signed(b"body"), b"other") == "the signature does not match"


def test_another_client_and_another_service_are_refused() -> None:
    headers = signed(b"")
    for key, secret, service in (
        ("other", "secret", "kinesis"),
        ("key", "other", "kinesis"),
        ("key", "secret", "logs"),
    ):
        assert find_fault(headers, b"", key=key, secret=secret, service=service)


# -- the tables -----------------------------------------------------------------------------------


def figures(lost: int = 0, **keys: Any) -> Figures:
    usual: dict[str, Any] = {
        "lines": Balance(printed=44, arrived=44 - lost, lost=lost, doubled=0),
        "init_ms": 100.0, "first_wait_ms": 2.0, "first_ms": 10.0, "later_ms": 5.0, "cpu_ms": 70.0,
        "rss_mb": 25.0, "ended": True, "ledger": True,
    }  # fmt: skip
    return Figures(**usual | keys)


def condition(
    life: str = "3", share: str = "7.25", *, kinesis: list[Figures] | None = None, **rows: Any
) -> Condition:
    every = {"alone": [figures(init_ms=60.0)], "telemetryd-file": [figures()], **rows}
    if kinesis is not None:
        every["telemetryd-kinesis"] = kinesis
    return Condition(
        life=life,
        share=Share.parse(share),
        subject="layer.zip",
        rows=[
            Row(name=name, title=name, sink=name.partition("-")[2] or "file", runs=runs)
            for name, runs in every.items()
        ],
    )


MACHINE = {"processor": "P", "cores": "2", "system": "S"}


def result(*conditions: Condition) -> Result:
    return Result(machine=MACHINE, conditions=list(conditions))


def test_a_loss_where_none_may_be_is_found() -> None:
    """And nowhere else: other rows only show it."""
    lossy = [figures(), figures(lost=44)]
    assert list(find_losses(result(condition(kinesis=[figures()])))) == []
    (told,) = find_losses(result(condition(kinesis=lossy)))
    assert "44 lines lost in 1 of 2 runs" in told
    for life, share in (("1", "7.25"), ("3", "29"), ("burst", "100"), ("3", "100:7.25")):
        assert list(find_losses(result(condition(life, share, kinesis=lossy)))) == []
    other: dict[str, Any] = {"go-extension": lossy, "telemetryd-emf": lossy}
    others = condition(**other)
    assert list(find_losses(result(others))) == []
    in_init: dict[str, Any] = {"init-kinesis": lossy}
    assert len(list(find_losses(result(condition(**in_init))))) == 1


def test_a_function_that_failed_counts_as_a_loss() -> None:
    (told,) = find_losses(result(condition(kinesis=[figures(failed="Extension.Crash")])))
    assert told.endswith("Extension.Crash")


def test_a_table_shows_what_is_added_by_pairs() -> None:
    alone = [figures(init_ms=value) for value in (50.0, 500.0, 51.0)]
    ours = [figures(init_ms=value, lost=lost) for value, lost in ((60.0, 0), (512.0, 3), (60.0, 4))]
    text = "\n".join(report.table(condition(alone=alone, kinesis=ours)))
    assert "| 60 (60 to 512) | 10 (9 to 12) |" in text
    assert "| 7 in 2 of 3 |" in text
    assert "| 3 of 3 | 3 of 3 |" in text


def test_why_a_function_failed_stands_below_the_table() -> None:
    found = condition(kinesis=[figures(), figures(failed="it broke")])
    assert list(report.table(found))[-1] == "\ntelemetryd-kinesis: it broke"


def test_lines_that_only_the_log_has_are_shown() -> None:
    saved = Balance(printed=44, arrived=44, lost=0, doubled=0, in_log=5)
    text = "\n".join(report.table(condition(kinesis=[figures(lines=saved)])))
    assert "| 0 (5 printed to the log) |" in text


def test_the_page_and_the_chart_show_every_row() -> None:
    found = result(condition(kinesis=[figures()]), condition("1", "100:7.25"))
    text = report.markdown(found)
    assert "### 3 rare invocations, 7.25 % of a CPU" in text
    assert "### 1 rare invocation, 100 % of a CPU until init ends, then 7.25 %" in text
    labels = {element.text for element in ET.fromstring(report.svg(found)).iter()}  # noqa: S314 - ours
    assert "telemetryd-kinesis" in labels


def test_results_are_kept_of_what_was_not_measured_again() -> None:
    before = result(condition("1", "100"), condition("3", "100"))
    again = result(condition("3", "100", kinesis=[figures()]))
    merged = merge(before, again)
    assert [each.life for each in merged.conditions] == ["1", "3"]
    assert merged.conditions[1].row("telemetryd-kinesis") is not None


def test_deliveries_are_compared_with_the_copier_of_their_turn() -> None:
    found = [
        Delivery(kind=LONE, name="copier", title="C", cpu_us=[10.0, 20.0, 10.0]),
        Delivery(kind=LONE, name="file", title="F", cpu_us=[40.0, 80.0, 50.0]),
    ]
    text = "\n".join(report.delivery_table(found))
    assert "| 3 | 50 (40 to 80) | 4.0 (4.0 to 5.0) |" in text
    only = Result(machine=MACHINE, deliveries=found)
    assert "F" in report.svg(only)
    merged = merge(only, Result(machine=MACHINE, deliveries=found[1:]))
    assert [each.name for each in merged.deliveries] == ["copier", "file"]


# -- the pages ------------------------------------------------------------------------------------


def test_the_break_even_is_where_both_cost_the_same() -> None:
    ours, theirs = Cost("o", 80.0, 0.5), Cost("t", 20.0, 3.0)
    lines = break_even(ours, theirs)
    assert lines is not None
    assert lines == pytest.approx(24_000)
    cost = [1000 * each.environment_ms + each.line_us * lines for each in (ours, theirs)]
    assert cost[0] == pytest.approx(cost[1])
    assert break_even(theirs, ours) is None or break_even(theirs, ours) == 0
    assert break_even(Cost("o", 80.0, 3.0), Cost("t", 20.0, 3.0)) is None
    assert break_even(Cost("o", 10.0, 0.5), Cost("t", 20.0, 3.0)) == 0


def per_line(name: str, **rows: float) -> LoadResult:
    run = Run(lines=1_000_000, bytes=1, seconds=1.0)
    return LoadResult(
        scenario=name,
        settings=Load(title="t"),
        machine=MACHINE,
        rows=[
            LoadRow(receiver=receiver, title=receiver, runs=[replace(run, cpu_seconds=cpu)])
            for receiver, cpu in rows.items()
        ],
    )


def write_all(folder: Path, now: Result) -> None:
    rows = {"telemetryd": 0.5, "rust": 2.0, "go-extension": 3.0}
    of_files = per_line("ingest-file", **rows)
    files.write("ingest-file", folder, json=of_files, markdown="", svg="")
    of_streams = per_line("kinesis", **{"ndjson + zstd": 1.0})
    files.write("kinesis", folder, json=of_streams, markdown="", svg="")
    files.write(report.NAME, folder, json=now, markdown="", svg="")


def test_a_page_shows_environments_beside_lines(tmp_path: Path) -> None:
    peers = {"rust": [figures(cpu_ms=5.0)], "go-extension": [figures(cpu_ms=20.0)]}
    kinesis = [figures(cpu_ms=300.0, lost=44)]
    now = result(
        condition("1", "100", kinesis=kinesis, **peers),
        condition("1", "7.25", kinesis=kinesis, **peers),
        condition("3", "7.25", kinesis=kinesis, **peers),
    )
    write_all(tmp_path, now)
    text = "a\n<!-- bench:short-life -->\nold\n<!-- /bench -->\nz\n"
    made = readme.filled(text, tmp_path)
    assert "| telemetryd-file | 70.0 | 0.50 | 25 | 40 | 0 | 0 | 0 of 44 |" in made
    assert "| telemetryd-kinesis | 300.0 | 1.00 | 25 | 40 | 0 | 0 | 44 of 44 |" in made
    assert "telemetryd-file, in lines per environment: 43,333 (rust), 20,000 (go-ext" in made
    assert "old" not in made
    assert readme.filled(made, tmp_path) == made


def test_a_page_shows_a_row_of_the_small_function_only(tmp_path: Path) -> None:
    """It has no CPU of a life with a whole CPU, and so no break-even."""
    rows: dict[str, Any] = {"init-file": [figures(init_ms=70.0)]}
    write_all(tmp_path, result(condition("1", "7.25", **rows)))
    lines = pages.fill(pages.PART, tmp_path)
    assert "| init-file |  | 0.50 | 25 | 10 | 0 | 0 |  |" in lines
    assert not any("Break-even" in line for line in lines)


def test_a_page_shows_what_changed(tmp_path: Path) -> None:
    """Against the layer before, of the same turns."""
    rows: dict[str, Any] = {"before-kinesis": [figures(lost=44, cpu_ms=300.0, init_ms=160.0)]}
    write_all(tmp_path, result(condition(kinesis=[figures(cpu_ms=90.0)], **rows)))
    lines = pages.fill(pages.CHANGES, tmp_path)
    assert len(lines) == 2 + 1
    assert "44 of 44 -> 0 of 44 | 100 -> 40 |" in lines[2]
    assert "300 -> 90" in lines[2]


def test_a_page_shows_the_losses_of_every_life_and_share(tmp_path: Path) -> None:
    """A cell that was not measured is empty; the lines of several runs are added."""
    emf: dict[str, Any] = {"telemetryd-emf": [figures(lost=2), figures()]}
    late = condition("burst", "100:7.25", kinesis=[figures(lost=1)])
    write_all(tmp_path, result(condition("3", "29", kinesis=[], **emf), late))
    head, _, *rows = pages.fill(pages.LOSSES, tmp_path)
    assert head == "| lines lost | runs | telemetryd-file | telemetryd-emf | telemetryd-kinesis |"
    assert [row.split(" | ")[1:] for row in rows] == [
        ["2 or 1", "0 of 44", "2 of 88", " |"],
        ["1", "0 of 44", "", "1 of 44 |"],
    ]
    assert rows[0].startswith("| 3 rare invocations, 29 % of a CPU |")


def test_each_part_has_a_table_of_its_own(tmp_path: Path) -> None:
    lone = [
        Delivery(kind=LONE, name="file", title="F", cpu_us=[40.0]),
        Delivery(kind=LONE, name="before-file", title="B", cpu_us=[80.0]),
    ]
    now = msgspec.structs.replace(result(condition()), deliveries=lone)
    write_all(tmp_path, now)
    assert "F" in pages.fill(pages.DELIVERIES, tmp_path)[2]
    assert "lone delivery" in pages.fill(pages.TARGETS, tmp_path)[3]


# -- targets --------------------------------------------------------------------------------------


def test_a_target_is_met_if_the_interval_includes_it() -> None:
    assert Judgement("w", 10.0, [9.0, 20.0, 30.0]).met
    assert not Judgement("w", 8.0, [9.0, 20.0, 30.0]).met
    (line,) = list(targets.table([Judgement("w", 8.0, [9.0, 20.0, 30.0])]))[2:]
    assert line == "| w | 8 | 20 (9 to 30) | 3 | MISSED |"


def judged(*conditions: Condition, deliveries: list[Delivery] | None = None) -> dict[str, float]:
    found = Result(machine=MACHINE, conditions=list(conditions), deliveries=deliveries or [])
    return {each.what: each.measured.median for each in targets.judge(found)}


def test_targets_are_of_pairs_and_only_of_what_was_measured() -> None:
    assert judged() == {}
    rows: dict[str, Any] = {
        "before-file": [figures(cpu_ms=140.0, init_ms=390.0)],
        "rust": [figures(init_ms=80.0)],
        "init-file": [figures(init_ms=90.0, first_wait_ms=7.0)],
    }
    kinesis = [figures(cpu_ms=95.0, rss_mb=30.0)]
    found = judged(
        condition("1", "100", kinesis=kinesis, **rows),
        condition("1", "7.25", kinesis=kinesis, **rows),
        condition("3", "100", kinesis=[figures(lost=3)]),
        deliveries=[
            Delivery(kind=LONE, name="file", title="", cpu_us=[130.0]),
            Delivery(kind=LONE, name="before-file", title="", cpu_us=[200.0]),
            Delivery(kind=INVOCATION, name="telemetryd-file", title="", cpu_us=[600.0]),
            Delivery(kind=INVOCATION, name="before-file", title="", cpu_us=[800.0]),
        ],
    )
    by_words = {
        "lines lost": 3.0,
        "CPU of a life with Kinesis above that with a file, ms, a whole CPU": 25.0,
        "CPU of a life with Kinesis above that with a file, ms, 7.25 %": 25.0,
        "memory with Kinesis above": 5.0,
        "added to init beyond 1.3 times what Rust adds, ms, 7.25 %": 40.0 - 1.3 * 20.0,
        "the first caller waits longer, ms, 7.25 %": 0.0,
        "init and first billed": 110.0 / 400.0,
        "CPU of a life with a file against before": 0.5,
        "memory with a file": 25.0,
        "memory with Kinesis, MB": 30.0,
        "added to a later rare": 0.0,
        "CPU of a lone delivery": 0.65,
        "CPU of a rare invocation": 0.75,
    }
    assert len(found) == len(by_words)
    for words, value in by_words.items():
        what = words if words in found else next(each for each in found if each.startswith(words))
        assert found[what] == pytest.approx(value), what


def test_spreads_have_an_interval_where_there_are_several() -> None:
    assert spread([], 0) == ""
    assert spread([3.0], 1) == "3.0"
    assert spread([1.0, 2.0, 9.0], 0) == "2 (1 to 9)"
    assert spread([-0.3], 0) == "0"
    assert median_interval([1.0, 2.0, 9.0]) == Spread(2.0, 1.0, 9.0)

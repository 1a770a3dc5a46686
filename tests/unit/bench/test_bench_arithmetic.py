"""The load-test harness's own arithmetic: what its tables say must follow from its runs."""

from __future__ import annotations

import random
import sys
from collections import Counter
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[3]))

from bench.cli import main
from bench.kit import chart, files
from bench.kit.lines import mixed_block
from bench.kit.stats import Spread, highest_rate, paired_ratio, percentile, slope
from bench.load import check, printed, rate, readme, report, scenario
from bench.load.kinesis_service import Record, decoded, differences
from bench.load.pace import TICK_SECONDS, Schedule
from bench.load.rate import Point, RateResult
from bench.load.report import Result, Row
from bench.load.run import Latency, Run
from bench.load.scenario import FOLDER, Load, Rate, Size, Source, Target, Variant
from bench.load.send import DISTINCT_BLOCKS, Traffic, block_of
from telemetryd_proto.kinesis import Encoder, RecordId

VALUES = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=200)


@given(values=VALUES, share=st.floats(0.01, 1.0))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) < share * len(values) + 1e-6


def test_percentiles_of_a_hundred() -> None:
    values = [float(value) for value in range(1, 101)]
    random.Random(1).shuffle(values)
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]


def test_a_spread_is_the_median_between_its_ends() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    with pytest.raises(ValueError, match="no measurement"):
        Spread.of([])


def test_a_ratio_is_that_of_pairs_so_a_slow_moment_of_both_does_not_count() -> None:
    assert paired_ratio([2.0, 20.0, 2.0], [1.0, 10.0, 1.0]) == 2.0
    with pytest.raises(ValueError, match="argument"):
        paired_ratio([1.0], [1.0, 2.0])


@given(start=st.floats(-100, 100), step=st.floats(-5, 5), count=st.integers(2, 50))
def test_the_slope_of_a_line_is_its_step(start: float, step: float, count: int) -> None:
    values = [start + at * step for at in range(count)]
    assert slope(values) == pytest.approx(step, abs=1e-9)
    assert slope(values[:1]) == 0.0


@given(limit=st.integers(5_000, 3_000_000))
def test_the_search_comes_near_the_rate_at_which_it_breaks(limit: int) -> None:
    asked: list[int] = []

    def holds(rate: int) -> bool:
        asked.append(rate)
        return rate <= limit

    found = highest_rate(holds, 50_000, 4_000_000, 4)
    assert found <= limit
    assert found >= limit * 0.9
    assert len(asked) <= 16


def test_the_search_ends_where_nothing_holds_and_where_everything_does() -> None:
    assert highest_rate(lambda _: False, 50_000, 4_000_000, 4) == 0
    assert highest_rate(lambda _: True, 50_000, 4_000_000, 4) == 3_200_000


def test_latencies_are_told_in_milliseconds_and_drift_by_quarters() -> None:
    latency = Latency.of([0.001] * 50 + [0.002] * 49 + [0.1])
    assert (latency.p50, latency.p95, latency.p99, latency.max) == (1.0, 2.0, 2.0, 100.0)
    assert (latency.early_p99, latency.late_p99) == (1.0, 100.0)


def run(cpu: float, lines: int = 1_000_000, **keys: object) -> Run:
    given = {"lines": lines, "bytes": 290 * lines, "seconds": 0.5, "peak_mib": 40.0} | keys
    return Run(cpu_seconds=cpu, **given)  # type: ignore[arg-type]


Runs = tuple[list[float], list[float]]
"""CPU per line of each run: telemetryd's, the raw copier's."""


def result(ours: list[float], raw: list[float], **settings: object) -> Result:
    rows = [
        Row(receiver="telemetryd", title="telemetryd", runs=[run(cpu) for cpu in ours]),
        Row(receiver="copier", title="copier", kind="ceiling", runs=[run(cpu) for cpu in raw]),
        Row(receiver="gone", title="gone", kind="peer", absent="gone not found"),
        Row(receiver="generator", title="generator", kind="generator", runs=[run(0.0)]),
    ]
    load = Load(title="<a title>", repeat=max(len(ours), 1), **settings)  # type: ignore[arg-type]
    machine = dict.fromkeys(("processor", "cores", "system", "python"), "2")
    return Result(scenario="s", settings=load, machine=machine, rows=rows)


def test_the_table_tells_what_a_line_costs_and_what_is_absent() -> None:
    text = report.markdown(result([0.3, 0.2, 0.4], [0.1, 0.1, 0.1]))
    assert "| telemetryd | 0.300 (0.200 to 0.400) | 3.00 | 2,000,000 | 580 | 40 |" in text
    assert "| gone | absent: gone not found |" in text
    assert "The generator alone sends 2,000,000 lines/s" in text
    assert "cores 2" in text


def test_columns_are_there_where_something_was_measured() -> None:
    plain = report.markdown(result([0.3], [0.1]))
    assert not any(column in plain for column in ("p99 ms", "Kinesis records", "dropped"))
    latency = Latency.of([0.001, 0.004])
    full = run(0.2, latency=latency, records=7, record_bytes=9_000_000, drops={"a: full": 5})
    row = Row(receiver="telemetryd", title="telemetryd", runs=[full])
    text = report.markdown(msgspec.structs.replace(result([0.3], [0.1]), rows=[row]))
    assert "| 1.00 | 4.00 | 4.00 | 4.00 | 1.00, 4.00 | 7 | 9 | 5 (a: full) |" in text


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        (Target(over=("copier",), at_most=3.0), 3.0, True),
        (Target(over=("copier",), at_most=2.9), 3.0, False),
        (Target(over=("copier", "copier"), at_most=1.5), 1.5, True),
        (Target(row="copier", over=("telemetryd",), at_least=0.34), 1 / 3, False),
        (Target(at_most=0.7), 0.3, True),
        (Target(measure="lines_per_second", at_least=2e6), 2e6, True),
        (Target(over=("gone",), at_most=1.0), None, None),
        (Target(row="gone", at_most=1.0), None, None),
    ],
)
def test_a_target_is_judged_by_medians_and_ratios_of_pairs(
    target: Target, value: float | None, met: bool | None
) -> None:
    (judgement,) = report.judged(result([0.3, 0.2, 0.4], [0.1, 0.1, 0.1], target=(target,)))
    assert judgement.value == (None if value is None else pytest.approx(value))
    assert judgement.met is met


def test_the_table_says_which_targets_are_missed() -> None:
    targets = (Target(over=("copier",), at_most=2.0), Target(over=("gone",), at_most=2.0))
    text = report.markdown(result([0.3], [0.1], target=targets))
    assert "| CPU µs/line, over that of copier | at most 2 | 3 | MISSED |" in text
    assert "| CPU µs/line, over that of gone | at most 2 | not measured | |" in text


def test_a_target_has_one_bound() -> None:
    with pytest.raises(ValueError, match="at_most"):
        Target()
    with pytest.raises(ValueError, match="at_most"):
        Target(at_most=1.0, at_least=0.5)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter() if element.text]  # noqa: S314 - ours


def test_the_chart_shows_the_measured_and_escapes_titles() -> None:
    svg = report.svg(result([0.3], [0.1]))
    shown = texts(svg)
    assert "<a title>" in shown
    assert {"telemetryd", "copier", "0.3", "0.1"} <= set(shown)
    assert not {"gone", "generator"} & set(shown)
    assert svg == report.svg(result([0.3], [0.1]))


def test_curves_are_drawn_and_named() -> None:
    svg = chart.curves("t", "lines/s", "ms", [chart.Curve("p99", [1.0, 2.0], [1.0, 5.0])])
    assert {"p99", "lines/s", "ms"} <= set(texts(svg))


def test_bars_within_bars_show_every_value() -> None:
    panels = [chart.Panel("warm", ["a", "b"], {"next": [1.0, 2.0], "up": [3.0, 4.5]})]
    assert {"warm", "a", "b", "next", "up", "1.0 / 3.0", "2.0 / 4.5"} <= set(
        texts(chart.nested_bars("t", "ms", panels))
    )


def test_a_search_is_told_as_a_table_and_a_chart() -> None:
    runs = [run(0.2, latency=Latency.of([0.001, 0.002])) for _ in range(3)]
    found = RateResult(
        scenario="latency", settings=Rate(title="by load"), machine={"cores": "2"}, seconds=3.0,
        highest=800_000, curve=[Point(load=0.5, rate=400_000, runs=runs)],
    )  # fmt: skip
    text = rate.markdown(found)
    assert "**800,000 lines/s** (232 MB/s)" in text
    assert "| 50% | 400,000 | 1.00 | 2.00 | 2.00 | 2.00 | 0.200 |" in text
    assert "by load" in texts(rate.svg(found))


def test_results_read_back_as_they_were_written(tmp_path: Path) -> None:
    written = result([0.3], [0.1])
    files.write("s", tmp_path, json=written, markdown="text", svg="<svg/>")
    assert report.read(tmp_path / "s.json") == written
    assert (tmp_path / "s.md").read_text() == "text"
    assert (tmp_path / "s.svg").read_text() == "<svg/>"


@pytest.mark.parametrize(
    ("after", "raw", "worse", "told"),
    [
        ([0.30], [0.10], False, "the same"),
        ([0.60], [0.20], False, "the same"),  # a slower machine, not a slower program
        ([0.36], [0.10], True, "WORSE"),
        ([0.20], [0.10], False, "better"),
    ],
)
def test_a_comparison_is_of_ratios(
    after: list[float], raw: list[float], worse: bool, told: str
) -> None:
    found = report.compare(result([0.3], [0.1]), result(after, raw), 0.15)
    assert (found.compared, found.worse) == (1, worse)
    assert found.text.endswith(told)


def test_results_of_other_lines_do_not_compare() -> None:
    text, compared, worse = report.compare(
        result([0.3], [0.1]), result([0.9], [0.1], source=Source(lines=5)), 0.15
    )
    assert (compared, worse) == (0, 0)
    assert "other lines were sent" in text


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (([0.3], [0.1]), ([], [0.1]), "on one occasion only"),
        (([], [0.1]), ([0.3], [0.1]), "on one occasion only"),
        (([0.3], [0.1]), ([0.3], []), "no copier"),
        (([0.3], [0.1]), ([0.3], [0.0]), "clock did not tick"),
        (([0.0], [0.1]), ([0.3], [0.1]), "clock did not tick"),
    ],
)
def test_what_can_not_be_compared_is_not_the_same(before: Runs, after: Runs, told: str) -> None:
    text, compared, worse = report.compare(result(*before), result(*after), 0.15)
    assert (compared, worse) == (0, 0)
    assert told in text


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        ({"s": ([0.3], [0.1])}, {"s": ([0.3], [0.1])}, 0),
        ({"s": ([0.3], [0.1])}, {"s": ([0.9], [0.1])}, 1),
        ({"s": ([0.3], [0.1])}, {"s": ([0.3], [])}, 64),
        ({"s": ([0.3], [0.1])}, {"other": ([0.3], [0.1])}, 64),
        ({"s": ([0.3], [0.1]), "gone": ([0.3], [0.1])}, {"s": ([0.3], [0.1])}, 0),
    ],
)
def test_the_status_of_a_comparison_tells_whether_there_was_one(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    before: dict[str, Runs],
    after: dict[str, Runs],
    status: int,
) -> None:
    for folder, results in (("before", before), ("after", after)):
        (tmp_path / folder).mkdir()
        for name, runs in results.items():
            files.write(name, tmp_path / folder, json=result(*runs), markdown="", svg="")
    assert main(["compare", str(tmp_path / "before"), str(tmp_path / "after")]) == status
    said = capsys.readouterr()
    for name in before.keys() ^ after.keys():
        assert f"{name}.json: not compared: only in" in said.out
    assert ("could be compared" in said.err) is (status == 64)


def test_a_row_of_other_lines_has_no_ratio_to_the_copier() -> None:
    own = Variant(name="telemetryd", source=Source(sizes=(Size(bytes=1024),)))
    alike = Variant(name="telemetryd")
    for variant, shown in ((own, False), (alike, True)):
        found = result([0.3], [0.1], variant=(variant,))
        assert ("| 3.00 |" in report.markdown(found)) is shown
        assert ("times the copier" in report.compare(found, found, 0.15)[0]) is shown


@pytest.mark.parametrize("page", readme.PAGES, ids=lambda page: page.name)
def test_a_page_shows_the_results_that_are_in_the_repository(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<!-- bench:" in text
    assert readme.filled(text, FOLDER.parent / "results", readme.PAGES[page]) == text


def test_a_part_of_the_readme_is_made_anew(tmp_path: Path) -> None:
    files.write("s", tmp_path, json=result([0.3], [0.1]), markdown="", svg="")
    text = "before\n<!-- bench:s -->\nold\n<!-- /bench -->\nafter\n"
    made = readme.filled(text, tmp_path)
    assert "old" not in made
    assert "| telemetryd | 0.300" in made
    assert made.startswith("before\n<!-- bench:s -->\n")
    assert made.endswith("<!-- /bench -->\nafter\n")
    assert readme.filled(made, tmp_path) == made


# -- what is sent ---------------------------------------------------------------------------------


def test_lines_have_the_sizes_and_the_kinds_that_were_asked_for() -> None:
    sizes = (Size(bytes=200, share=0.8), Size(bytes=1000, share=0.2))
    source = Source(sizes=sizes, platform_events=0.3, json_logs=0.25, seed=7)
    lines = block_of(source).splitlines(keepends=True)
    long = [line for line in lines if len(line) > 450]
    assert len(long) / len(lines) == pytest.approx(0.2, abs=0.05)
    assert sum(map(len, lines)) / len(lines) == pytest.approx(source.mean_bytes, rel=0.1)
    platform = [line for line in lines if b'"type":"platform.' in line]
    assert len(platform) / len(lines) == pytest.approx(0.3, abs=0.05)
    objects = [line for line in lines if b'"record":{"timestamp"' in line]
    assert len(objects) / (len(lines) - len(platform)) == pytest.approx(0.25, abs=0.05)
    block = mixed_block([(200, 0.8), (1000, 0.2)], platform_events=0.3, json_logs=0.25, seed=7)
    assert block_of(source) == block
    assert block_of(source) != block_of(msgspec.structs.replace(source, seed=8))


def test_lines_tell_of_invocations_none_of_which_comes_again_soon() -> None:
    """A sink that counts each invocation once must count all of them."""
    traffic = Traffic(Source(lines=1_000_000))
    assert len(traffic.blocks) == DISTINCT_BLOCKS
    reported: list[str] = []
    for block in traffic.blocks:
        events = [msgspec.json.decode(line) for line in block.splitlines()]
        life = [event for event in events if event["type"] != "function"]
        kinds = [event["type"] for event in life]
        assert kinds[:4] == [
            "platform.start", "platform.runtimeDone", "platform.report", "platform.start",
        ]  # fmt: skip
        for at in range(0, len(life) - 2, 3):
            assert len({event["record"]["requestId"] for event in life[at : at + 3]}) == 1
        reported += [
            each["record"]["requestId"] for each in life if each["type"] == "platform.report"
        ]
    assert len(set(reported)) == len(reported) > 4000
    assert {len(block) for block in traffic.blocks} == {len(traffic.blocks[0])}


def test_traffic_is_what_each_connection_sends() -> None:
    traffic = Traffic(Source(lines=500_000, connections=2))
    blocks = list(traffic.in_turn())
    assert blocks[DISTINCT_BLOCKS] == blocks[0] != blocks[1]
    assert b"".join(traffic.lines()) == b"".join(blocks)
    assert traffic.sent.lines == 2 * len(traffic.lines())
    assert traffic.sent.bytes == 2 * sum(map(len, blocks))
    assert b'"type":"function"' in traffic.first()


@pytest.mark.parametrize(("lines", "connections"), [(1, 1), (10, 1), (4000, 3), (999, 16), (5, 64)])
def test_as_many_lines_are_sent_as_the_scenario_says(lines: int, connections: int) -> None:
    source = Source(lines=lines, connections=connections)
    traffic = Traffic(source)
    each = list(traffic.in_turn())
    assert b"".join(each) == b"".join(traffic.lines())
    assert len(traffic.lines()) == source.lines_each == max(round(lines / connections), 1)
    assert traffic.sent.lines == source.lines_each * connections
    assert traffic.sent.bytes == sum(map(len, each)) * connections


@pytest.mark.parametrize("burst", [1, 100, 5000, 20_000])
def test_bursts_are_of_as_many_lines_as_the_scenario_says(burst: int) -> None:
    traffic = Traffic(Source(lines=12_345, burst_lines=burst))
    counts = [part.count(b"\n") for part in traffic.bursts(burst)]
    assert set(counts[:-1]) <= {burst}
    assert counts[-1] <= burst
    assert b"".join(traffic.bursts(burst)) == b"".join(traffic.in_turn())


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"sizes": (Size(bytes=200, share=0.8),)}, "shares"),
        ({"rate": 5, "connections": 2}, "one connection"),
        ({"rate": 5, "burst_lines": 2}, "one connection"),
        ({"freeze": True}, "freeze"),
    ],
)
def test_a_source_that_can_not_be_is_refused(keys: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Source(**keys)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [200, 1000, 50_000])
@pytest.mark.parametrize("sizes", [(Size(bytes=1024),), (Size(bytes=130), Size(bytes=9000))])
def test_a_rate_changes_neither_sizes_nor_kinds_of_lines(
    rate: int, sizes: tuple[Size, ...]
) -> None:
    sizes = tuple(msgspec.structs.replace(size, share=1 / len(sizes)) for size in sizes)
    source = Source(rate=rate, seconds=2000 / rate, sizes=sizes, platform_events=0.25)
    schedule = Schedule(source)
    sent = [line for at in range(schedule.ticks) for line in BytesIO(schedule.lines(at)[1])]
    flat = b"".join(Traffic(msgspec.structs.replace(source, rate=0, lines=2000)).in_turn())
    plain = flat.splitlines(keepends=True)
    assert list(map(len, sent)) == list(map(len, plain))
    stamp = slice(len('{"time":"'), len('{"time":"2027-01-01T00:00:00.000Z'))
    for line, original in zip(sent, plain, strict=True):
        assert line[: stamp.start] + original[stamp] + line[stamp.stop :] == original
    marked = [line for line in sent if line[stamp].startswith(b"2027-")]
    assert len(marked) >= 0.6 * min(schedule.ticks, 2000)
    assert all(b'"type":"function"' in line for line in marked)


@given(rate=st.integers(1, 1_000_000), seconds=st.floats(0.005, 0.02))
def test_a_schedule_sends_what_the_rate_makes_of_the_time(rate: int, seconds: float) -> None:
    schedule = Schedule(Source(rate=rate, seconds=seconds))
    sent = 0
    for tick in range(schedule.ticks):
        count, data = schedule.lines(tick)
        assert data.count(b"\n") == count
        assert schedule.lines(tick) == (count, data)
        sent += count
        assert sent == int((tick + 1) * rate * TICK_SECONDS)


# -- what is measured -----------------------------------------------------------------------------


def records(lines: list[bytes], each: int) -> list[Record]:
    encoder = Encoder("ndjson", "gzip")
    starts = range(0, len(lines), each)
    return [
        Record(
            encoder.encode(b"".join(lines[at : at + each]), record_id=RecordId(b"p" * 16, at)), 0.0
        )
        for at in starts
    ]


def wrong(found: list[Record], sent: list[bytes]) -> str | None:
    return differences((lines for _, lines in decoded(found)), Counter(sent))


def test_what_is_in_a_stream_is_compared_with_what_was_sent() -> None:
    block = block_of(Source())
    lines = block.splitlines(keepends=True)
    sent = [lines[0], *lines, *lines]
    whole = records(sent, 500)
    assert wrong(whole, sent) is None
    assert wrong(whole[::-1], sent) is None  # shards have no common order
    assert wrong([*whole, whole[3]], sent) is None  # the same id: the same
    assert "500 lines are missing" in str(wrong(whole[:3] + whole[4:], sent))
    assert "in it twice" in str(wrong(whole, sent[1:]))
    other = records([*sent[:-1], b'{"time":"","type":"function","record":"x"}\n'], 500)
    assert "was not sent" in str(wrong(other, sent))


def test_a_line_is_timed_from_when_it_was_due_to_the_answer_that_it_is_there() -> None:
    schedule = Schedule(Source(rate=3000, seconds=0.004))
    schedule.began = 100.0
    sent = [line for tick in range(4) for line in schedule.lines(tick)[1].splitlines()]
    assert sum(schedule.counts().values()) == len(sent) == 12
    found = schedule.latencies([(100.01, sent[:6]), (100.02, sent[6:])])
    assert found == pytest.approx([0.010, 0.009, 0.018, 0.017])


def test_printed_metrics_are_counted_against_the_reports_that_were_sent(tmp_path: Path) -> None:
    lines = block_of(Source(platform_events=0.3)).splitlines(keepends=True)
    count = printed.reports(lines)
    assert count == pytest.approx(len(lines) / 10, rel=0.2)
    documents = [{"duration": [1.0] * (count - 1)}, {"duration": 2.0}, {"invocations": 3}]
    path = tmp_path / "printed"
    path.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in documents))
    assert printed.differences(path, lines) is None
    assert "reports were sent" in str(printed.differences(path, lines[:-100]))


def test_rows_are_the_scenario_with_what_a_variant_says() -> None:
    load = Load(
        title="t", daemon={"a": 1}, source=Source(lines=5),
        variant=(Variant(name="one"), Variant(name="two", daemon={"b": 2})),
    )  # fmt: skip
    assert [(name, row.daemon, row.source.lines) for name, row in load.rows()] == [
        ("one", {"a": 1}, 5), ("two", {"b": 2}, 5),
    ]  # fmt: skip
    assert [name for name, _ in msgspec.structs.replace(load, variant=()).rows()] == ["telemetryd"]


FILE = '[daemon.sinks.out]\ntype = "file"\npath = "{output}"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[daemon.sinks.out]\ntype = "null"\n', "set `path = "),
        (FILE + '[daemon.sinks.two]\ntype = "flie"\n', "sinks.two"),
        (FILE + "[daemon.telemetry]\nprot = 5\n", "prot"),
        (FILE + "[expect]\nstream = true\n", "endpoint_url"),
        (FILE + '[expect]\ndelivered = ["otu"]\n', "'otu'; there is: out"),
        (FILE + '[[target]]\nrow = "rsyslog"\nat_most = 1.0\n', "no row 'rsyslog'"),
        (FILE + '[[variant]]\nname = "a"\n[[variant]]\nname = "a"\n', "`name` of its own"),
        (FILE + "[source]\nrate = 5\n[expect]\nmetrics = true\n", "without a `rate`"),
    ],
)
def test_what_is_wrong_with_a_scenario_is_told_before_it_is_run(
    tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('kind = "load"\ntitle = "mine"\n' + text)
    (problem,) = check.problems(scenario.load(path))
    assert told in problem


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[sinks.out]\ntype = "file"\n', "no scenario"),
        ('kind = "load"\ntitle = "t"\nconfig = "none.toml"\n', "none.toml"),
        ('kind = "load"\ntitle = "t"\nconfig = "t.toml"\n' + FILE, "not both"),
        ('kind = "load"\ntitle = "t"\nrepeat = 0\n', "repeat"),
        ('kind = "laod"\ntitle = "t"\n', "laod"),
        ('kind = "load"\ntitle = "t"\n[source]\nliens = 5\n', "liens"),
    ],
)
def test_a_file_that_is_no_scenario_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=told):
        scenario.load(path)


def test_a_configuration_of_ones_own_can_be_load_tested(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('kind = "load"\ntitle = "mine"\nconfig = "t.toml"\n')
    (tmp_path / "t.toml").write_text('[sinks.out]\ntype = "null"\n')
    found = scenario.load(tmp_path / "mine.toml")
    assert isinstance(found, Load)
    assert found.daemon == {"sinks": {"out": {"type": "null"}}}


@pytest.mark.parametrize("name", scenario.names())
def test_every_scenario_is_one_that_telemetryd_understands(name: str) -> None:
    assert list(check.problems(scenario.load(FOLDER / f"{name}.toml"))) == []

"""What the harness says an invocation costs follows from its runs; none counts that lost a line."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from typing import Literal

from bench import invoke
from bench.invoke import ALONE, LEAST, Result, Row, Settings
from bench.invoke.environment import Run
from bench.kit.errors import LossError
from bench.kit.stats import Spread

BRIEF = Settings(repeat=1, busy=3, rare=0, lines=4, strategies=("continuous",))


def row(
    subject: str, *runs: tuple[list[float], list[float]], load: Literal["busy", "rare"] = "busy"
) -> Row:
    return Row(
        load=load,
        subject=subject,
        runs=[Run(added_ms=added, caller_ms=caller) for added, caller in runs],
    )


def result(*rows: Row) -> Result:
    return Result(settings=Settings(), machine={"cores": "2"}, rows=list(rows))


def test_a_row_is_the_median_of_its_runs_medians() -> None:
    """One long run does not outweigh the others, one slow invocation does not show but in max."""
    found = row("auto", ([1, 2, 90], [5]), ([4, 4], [7, 8, 9]), ([3], [6]))
    assert found.added_ms == Spread(3, 2, 4)
    assert found.caller_ms == Spread(6, 5, 8)
    assert found.all_added_ms == [1, 2, 90, 4, 4, 3]


def test_what_the_caller_waits_longer_is_the_difference_of_pairs() -> None:
    """A slow moment of the machine, which both runs of a pair had, is not the extension's."""
    alone = row(ALONE, ([0], [1]), ([0], [11]), ([0], [1]))
    ours = row("auto", ([0], [3]), ([0], [12]), ([0], [2]))
    assert ours.longer_ms(alone) == Spread(1, 1, 2)
    with pytest.raises(ValueError, match="argument"):
        ours.longer_ms(row(ALONE, ([0], [1])))


def test_the_table_and_the_chart_show_every_row() -> None:
    """Each load by itself, against its own function without an extension."""
    found = result(
        row(ALONE, ([0.1], [1.0])),
        row("auto", ([0.3, 0.5], [1.5])),
        row(ALONE, ([0.2], [4.0]), load="rare"),
        row("auto", ([30.0], [4.0]), load="rare"),
    )
    text = invoke.markdown(found)
    assert "| auto | 0.40 (0.40 to 0.40) | 0.40 | 0.50 | 1.50 (1.50 to 1.50) | 0.50 (" in text
    assert "| auto | 30.00 (30.00 to 30.00) | 30.00 | 30.00 | 4.00 (4.00 to 4.00) | 0.00 (" in text
    assert f"| {ALONE} | 0.10 (0.10 to 0.10) | 0.10 | 0.10 | 1.00 (1.00 to 1.00) |  |" in text
    assert "cores 2" in text
    svg = invoke.svg(found)
    labels = {f"{row.load}, {row.subject}" for row in found.rows}
    assert labels <= {element.text for element in ET.fromstring(svg).iter()}  # noqa: S314 - ours
    assert "rare, auto" in svg


def test_a_function_that_is_not_measured_has_no_table() -> None:
    text = invoke.markdown(result(row(ALONE, ([0.1], [1.0]))))
    assert "A busy function" in text
    assert "A rare function" not in text


def test_every_strategy_is_measured_and_the_figures_read_back(tmp_path: Path) -> None:
    """All that is configurable, beside both functions without telemetryd."""
    steps = []
    settings = msgspec.structs.replace(BRIEF, strategies=invoke.STRATEGIES)
    found = invoke.measure_all(settings, progress=lambda *step: steps.append(step))
    subjects = [ALONE, LEAST, "auto", "invocation", "continuous", "interval"]
    assert [each.subject for each in found.rows] == subjects
    for each in found.rows:
        assert len(each.runs) == 1
        assert len(each.runs[0].added_ms) == len(each.runs[0].caller_ms) == 3
        assert all(value > 0 for value in each.runs[0].caller_ms)
    assert [(done, total) for done, total, _ in steps] == [(done, 6) for done in range(1, 7)]
    invoke.write(found, tmp_path)
    assert msgspec.json.decode((tmp_path / "invoke.json").read_bytes(), type=Result) == found
    assert (tmp_path / "invoke.md").read_text() == invoke.markdown(found)
    assert (tmp_path / "invoke.svg").read_text() == invoke.svg(found)


def test_rare_invocations_are_measured_too() -> None:
    settings = msgspec.structs.replace(BRIEF, busy=0, rare=1, strategies=("auto",))
    found = invoke.measure_all(settings)
    assert [(each.load, each.subject) for each in found.rows] == [
        ("rare", ALONE),
        ("rare", LEAST),
        ("rare", "auto"),
    ]
    assert all(len(each.runs[0].added_ms) == 1 for each in found.rows)


LOSSY = {
    "sends no function lines": ({"TYPES": "platform"}, "lines .* are missing"),
    "sends no platform events": ({"TYPES": "function"}, "platform events missing"),
    "can't write": ({"PATH": "{file}/below"}, "missing"),
}


@pytest.mark.parametrize("how", LOSSY)
def test_a_run_that_lost_a_line_does_not_count(tmp_path: Path, how: str) -> None:
    """However little it added."""
    keys, told = LOSSY[how]
    (tmp_path / "file").touch()
    variables = {
        f"TELEMETRYD_SINKS__OUT__{key}": value.format(file=tmp_path / "file")
        for key, value in keys.items()
    }
    with pytest.raises(LossError, match=told):
        invoke.measure_all(BRIEF, variables=variables)


def extension(directory: Path, program: str) -> Path:
    path = directory / "telemetryd"
    path.write_text(f"#!/bin/sh\n{program}\n")
    path.chmod(0o755)
    return path


REAL = Path(sys.prefix, "bin", "telemetryd")
FORGER = """import json, subprocess, sys
for line in subprocess.run(["{real}"], stderr=subprocess.PIPE).stderr.splitlines():
    record = json.loads(line)
    if record["event"] == "ledger":
        {forge}
    print(json.dumps(record))
"""
FORGED = {
    "unbalanced": "record['balanced'] = False",
    "of fewer lines": "record['sinks']['out']['delivered']['lines'] -= 1",
}


@pytest.mark.parametrize("forged", FORGED)
def test_nor_does_one_whose_ledger_says_something_else_than_its_file(
    tmp_path: Path, forged: str
) -> None:
    """All arrived, but the books don't show it."""
    (tmp_path / "forger.py").write_text(FORGER.format(real=REAL, forge=FORGED[forged]))
    program = f"exec {sys.executable} {tmp_path}/forger.py"
    with pytest.raises(LossError, match="ledger does not balance"):
        invoke.measure_all(BRIEF, extension=extension(tmp_path, program))


def test_nor_one_without_a_ledger(tmp_path: Path) -> None:
    """It may have been killed."""
    with pytest.raises(LossError, match="0 ledgers of one process"):
        invoke.measure_all(BRIEF, extension=extension(tmp_path, f"exec {REAL} 2>/dev/null"))


def test_an_invocation_that_fails_is_no_measurement(tmp_path: Path) -> None:
    """The environment's end is what is timed then."""
    with pytest.raises(LossError, match=r"ended in error: .*Extension\.Crash"):
        invoke.measure_all(BRIEF, extension=extension(tmp_path, "exit 3"))

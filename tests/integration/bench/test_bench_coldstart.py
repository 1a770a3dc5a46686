"""The measurement of cold starts measures real starts, and says what it could not measure."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from bench import coldstart
from bench.coldstart import report as coldstart_report
from bench.coldstart.report import Coldstart, Options
from bench.coldstart.start import NoStartError, run
from bench.coldstart.subjects import Subject

ROOT = Path(__file__).parents[3]
LITTLE = Options(
    layer=Path("no/layer.zip"),
    only=("layer", "venv"),
    runs=1,
    shares=(None,),
    caches=(False,),
    kinesis=False,
    instructions=False,
)


@pytest.fixture(scope="module")
def result() -> Coldstart:
    """The virtual environment's start and init; there is no layer."""
    return coldstart.measure_all(LITTLE)


def test_a_start_is_stamped_in_its_order(result: Coldstart) -> None:
    """`register`, `next`, up: and the function's init knows of it."""
    (condition,) = result.conditions
    (row,) = condition.rows
    (start,) = row.starts
    assert 0 < start.register_ms < start.next_ms < start.up_ms
    assert 0 < start.next_cpu_ms < start.up_cpu_ms
    assert 10 < start.rss_mb < 100
    assert len(row.inits) == len(condition.alone) == 1
    assert result.absent == {"layer": "no/layer.zip is missing: `make layer` builds it"}


def test_results_are_written_for_people_and_programs(result: Coldstart, tmp_path: Path) -> None:
    """JSON that reads back as what was written, a table, a chart that is well-formed."""
    coldstart_report.write(result, tmp_path)
    assert coldstart_report.read(tmp_path / "coldstart.json") == result
    table = (tmp_path / "coldstart.md").read_text()
    assert "### Whole CPU, warm page cache" in table
    assert "\n| no extension | " in table
    assert "no figure for layer" in table
    chart = ET.parse(tmp_path / "coldstart.svg").getroot()  # noqa: S314 - our own
    assert "virtual environment" in "".join(chart.itertext())


def test_a_program_that_does_not_start_is_no_figure(tmp_path: Path) -> None:
    """What it said is told."""
    program = tmp_path / "telemetryd"
    program.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    program.chmod(0o755)
    for ours in (True, False):
        with pytest.raises(NoStartError, match="broken"):
            run(Subject("t", program, [], {}, ours=ours), tmp_path / "out")


def test_an_unknown_subject_is_told_with_those_there_are() -> None:
    """Before anything is measured."""
    command = [sys.executable, "-m", "bench.coldstart", "--only", "nothing"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nothing; there is: layer, " in done.stderr

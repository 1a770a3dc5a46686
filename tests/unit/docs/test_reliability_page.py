"""docs/reliability.md: what it names exists, and its table is the one that is measured."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from bench.reliability import HEADER, SITUATIONS
from telemetryd.exposition.catalogue import FAMILIES
from telemetryd.exposition.guide import FIGURES
from telemetryd.sinks.emf.catalogue import METRICS
from telemetryd.spool import sink_spool as spool

PAGE = Path(__file__).parents[3] / "docs" / "reliability.md"
TEXT = PAGE.read_text()


def test_its_table_has_every_situation_and_every_promise_was_kept() -> None:
    """A new situation needs new measurements."""
    _, _, table = TEXT.partition(HEADER + "\n")
    rows = list(itertools.takewhile(lambda row: row.startswith("|"), table.splitlines()))
    for row, situation in zip(rows, SITUATIONS.values(), strict=True):
        assert row.startswith(f"| {str(situation.__doc__).rstrip('.')} ")
        assert ": kept" in row
        assert "BROKEN" not in row


def test_every_metric_it_names_exists() -> None:
    """Of Prometheus, CloudWatch and the ledger."""
    known = {family.full_name for family in FAMILIES} | {info.name for info in METRICS}
    named = set(re.findall(r"`(telemetryd_\w+|telemetry_lines_\w+)", TEXT))
    assert len(named) > 15
    assert named <= known
    figures = {name.rpartition(".")[2] for names in FIGURES for name in names.split(", ")}
    assert figures >= {"paused_ms", "pauses", "oldest_ms", "queue_peak_bytes", "errors"}


def test_the_reasons_it_names_are_those_that_are_counted() -> None:
    """Of lines that a spool loses."""
    named = set(re.findall(r"`(spool_\w+)`", TEXT))
    assert named >= {spool.FULL, spool.FAILED, spool.EXPIRED, spool.DAMAGED}


def test_its_links_lead_somewhere() -> None:
    """Files, and headings within them."""
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        file, _, heading = target.partition("#")
        page = (PAGE.parent / file if file else PAGE).read_text()
        headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
        assert not heading or heading in anchors, target

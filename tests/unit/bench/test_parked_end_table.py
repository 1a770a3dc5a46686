"""The table of ends while parked: what was not ended well is not among the first figure."""

from __future__ import annotations

from bench.coldstart.parked_end import End, table


def test_each_case_has_a_row() -> None:
    """How many ended well, by whom, what was lost, and the spread of the time."""
    good, bad = End(True, "launcher", 0, 0.1), End(False, "", 4, 2.0)
    text = table({"quiet": [good, good, good], "line": [good._replace(by="interpreter"), bad]})
    assert "| quiet | 3 of 3 | 3 | 0 | 0.10 (0.10 to 0.10) |" in text
    assert "| line | 1 of 2 | 0 | 4 | 1.05 (0.10 to 2.00) |" in text

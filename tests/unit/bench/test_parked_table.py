"""The table of the parked start: differences within a turn, not of medians."""

from __future__ import annotations

from bench.coldstart.parked import Life, table


def test_differences_are_those_within_a_turn() -> None:
    """The median of them, the least and the most; a subject that was not measured has no row."""
    none = Life(100, 1, 2, 0)
    turns = [
        {"none": none, "init": Life(500 + n, 5, 50, 80), "park": Life(110, 1, 300, 80)}
        for n in (0, 10, 40)
    ]
    text = table(turns)
    assert "| init - none | +410 (+400 to +440) | +4 (+4 to +4) |" in text
    assert "| park - init | -400 (-430 to -390) |" in text
    assert "rust" not in text

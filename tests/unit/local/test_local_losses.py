"""What `--lose` understands, and which event of which invocation it hits."""

from __future__ import annotations

from pathlib import Path

import pytest

from telemetryd.local.config import ConfigError, LocalConfig
from telemetryd.local.events import platform_event
from telemetryd.local.losses import HOWS, How, LossError, Losses, LossPlan


def test_an_event_is_named_with_or_without_its_prefix() -> None:
    """And is dropped, in every invocation, unless something else is said."""
    for text in ("runtimeDone", "platform.runtimeDone"):
        losses = Losses.parse([text])
        assert losses.fate("platform.runtimeDone", 1) == "drop"
        assert losses.fate("platform.runtimeDone", 99) == "drop"
        assert losses.fate("platform.start", 1) is None


def test_lines_of_extensions_are_not_the_event_of_that_name() -> None:
    """`extension` is what they print; the event needs its prefix."""
    assert Losses.parse(["extension"]).fate("platform.extension", 0) is None
    assert Losses.parse(["extension"]).fate("extension", 1) == "drop"
    assert Losses.parse(["platform.extension"]).fate("platform.extension", 0) == "drop"


@pytest.mark.parametrize(
    ("when", "hit"),
    [("2", {2}), ("2,4", {2, 4}), ("2-4", {2, 3, 4}), ("4-", {4, 5}), ("0,3-4", {0, 3, 4})],
)
def test_invocations_are_numbers_and_ranges(when: str, hit: set[int]) -> None:
    """Of the invocations 0 to 5 those are hit which are named."""
    losses = Losses.parse([f"start@{when}"])
    assert {number for number in range(6) if losses.fate("platform.start", number)} == hit


def test_the_first_loss_that_fits_decides() -> None:
    """So an exception stands before its rule."""
    losses = Losses.parse(["runtimeDone:late@2", "*:garble"])
    assert losses.fate("platform.runtimeDone", 2) == "late"
    assert losses.fate("platform.runtimeDone", 3) == "garble"


@pytest.mark.parametrize("how", HOWS)
def test_every_way_to_lose_can_be_written(how: How) -> None:
    """For any event."""
    assert Losses.parse([f"function:{how}@1"]).fate("function", 1) == how


def test_the_connection_can_be_what_is_lost() -> None:
    """Then no event is, since none is sent."""
    assert Losses.parse([]).makes_connection
    losses = Losses.parse(["connection"])
    assert not losses.makes_connection
    assert losses.fate("platform.start", 1) is None


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "WHAT[:HOW][@INVOCATIONS]"),
        ("runtimeDone:", "WHAT[:HOW][@INVOCATIONS]"),
        ("runtimeDone@x", "WHAT[:HOW][@INVOCATIONS]"),
        ("runtimeDone@1-2-3", "WHAT[:HOW][@INVOCATIONS]"),
        ("end", "runtimeDone"),
        ("runtimedone", "runtimeDone"),
        ("start:lost", "stall"),
        ("connection:close", "*:close@2"),
        ("connection@2", "*:close@2"),
        ("runtimeDone@0", "the first is 1"),
        ("platform.start:late@0,0", "the first is 1"),
        ("report@0-0", "the first is 1"),
        ("function@5-2", "2-5"),
        ("function@1-0", "0-1"),
    ],
)
def test_what_is_not_understood_says_what_would_be(text: str, word: str, tmp_path: Path) -> None:
    """As a loss, and as a field of the configuration."""
    with pytest.raises(LossError) as error:
        Losses.parse([text])
    assert word in str(error.value)
    with pytest.raises(ConfigError, match="lose"):
        LocalConfig(bootstrap=["true"], task_root=tmp_path, lose=[text])


def test_an_event_belongs_to_the_invocation_it_names() -> None:
    """Concurrent invocations are counted by their start; lines go with the last one begun."""
    plan = LossPlan(Losses.parse(["report@1", "function@2"]))

    def event(name: str, request_id: str) -> How | None:
        return plan.of_event(platform_event(f"platform.{name}", {"requestId": request_id}))

    assert plan.of("function") is None
    assert event("start", "a") is None
    assert plan.of("function") is None
    assert event("start", "b") is None
    assert plan.of("function") == "drop"
    assert event("report", "b") is None
    assert event("report", "a") == "drop"

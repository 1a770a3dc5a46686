"""Memory stays within its bounds whatever sinks do: many, each in another mood, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.daemon import PEAK_RSS_KIB
from helpers.lifecycle import settings, third_party
from helpers.scripted_platform import ScriptedPlatform, line

MIB = 1 << 20
MOODS = (
    "hangs", "crawls", "is_down", "asks_to_wait", "refuses", "dislikes_each", "dislikes_half",
    "puts_off_half", "breaks", "talks_nonsense", "cancels_itself", "is_fine",
)  # fmt: skip
BURST = b"".join(map(line, range(14_000)))
BURSTS = 160
"""Of some 1.2 MB each: ten times what the queues may hold."""


@pytest.mark.parametrize(("policy", "spool"), [("drop_oldest", False), ("drop_newest", True)])
def test_it_is_bounded_and_every_line_is_counted(
    tmp_path: Path, policy: str, *, spool: bool
) -> None:
    """A function of 128 MB, of which all queues together may take an eighth."""
    variables = third_party(tmp_path / "p", "Moody", PATH=tmp_path / "out", EXCLUDE="^")
    variables["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] = "128"
    for name in MOODS:
        keys = {"TYPE": "probe", "PATH": tmp_path / "out", "OVERFLOW": policy}
        if spool:
            keys |= {"SPOOL__PATH": tmp_path / "spool", "SPOOL__MAX_BYTES": 4 * MIB}
        variables |= settings(**{f"SINKS__{name}__{key}": value for key, value in keys.items()})
    with ScriptedPlatform(variables) as platform:
        telemetry, following = platform.begin()
        for _ in range(BURSTS):
            telemetry.sendall(BURST)
        following.shutdown(4.0)
        platform.finish()
        ledger = platform.ledger()
    assert ledger["received"]["lines"] == BURSTS * 14_000
    assert ledger["figures"]["peak_rss_bytes"] < PEAK_RSS_KIB * 1024
    for name in MOODS:
        page = ledger["sinks"][name]
        assert page["enqueued"]["lines"] == BURSTS * 14_000
        assert page["pending"]["lines"] == page["spooled"]["lines"] == 0
        held = ledger["figures"]["sinks"][name]["queue_peak_bytes"]
        assert held <= ledger["figures"]["sinks"][name]["queue_capacity_bytes"]
    reasons = ledger["sinks"]["is_fine"]["dropped"].keys()
    assert reasons <= {"spool_full" if spool else "queue_full"}

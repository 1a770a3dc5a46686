"""Everything that one may ask of a line and of the life cycle at once, on the local Lambda."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.features import EVENT, features
from helpers.lifecycle import Stage, play, statuses


@pytest.mark.parametrize("mode", ["on-demand", "managed-instances"])
def test_each_line_is_what_it_should_be_everywhere(tmp_path: Path, mode: str) -> None:
    stage = Stage(tmp_path)
    with features(tmp_path) as wanted:
        patient = {"timeout": 60.0, "init_timeout": 120.0, "shutdown_budget": 60.0}
        config = stage.config(wanted.variables, sink=False, mode=mode, **patient)
        results, env = play(config, EVENT, EVENT, EVENT)
        (ledger,) = stage.ledgers()
        lines = wanted.check(ledger, 3)
        metrics = {metric.name for metric in wanted.otlp.metrics}
    assert statuses(results) == ["success"] * 3
    stage.assert_clean_exits(env)
    assert {line["function"] for line in lines} == {"function"}
    called = wanted.calls()
    assert (called[0], called[-1]) == ("init", "shutdown")
    assert called.count("report") == 3
    assert called.count("invoke") == (3 if mode == "on-demand" else 0)
    has_figures = mode == "on-demand"
    assert ("aws.lambda.system.memory.used" in metrics) == has_figures
    documents = [line for _, line in stage.printed if '"_aws"' in line]
    assert any('"system_memory_used"' in line for line in documents) == has_figures
    assert documents

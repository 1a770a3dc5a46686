"""Hooks in the life cycle of a Lambda: each call, in order, and none that a freeze interrupts."""

from __future__ import annotations

from pathlib import Path

from helpers.lifecycle import Stage, TimesOut, play, statuses, with_hook


def diary(directory: Path) -> list[str]:
    return (directory / "diary").read_text().splitlines()


def test_a_hook_follows_invocations(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    hook = with_hook(tmp_path / "package", "Diary", budget_ms=20_000)
    config = stage.config(hook | {"TELEMETRYD_FLUSH__MAX_ADDED_MS": "20000"})
    results, env = play(config, {"print": 2}, {"print": 1})
    assert statuses(results) == ["success", "success"]
    first, second = (result.request_id for result in results)
    noted = [line for line in diary(tmp_path / "package") if not line.startswith("events")]
    assert noted[0] == "init probe function True"
    assert noted[-1] == "shutdown spindown"
    for request in (first, second):
        calls = [line.split()[0] for line in noted if request in line]
        assert sorted(calls) == ["invoke", "report", "runtime_done"]
        assert calls.index("runtime_done") < calls.index("report")
    printed = [line for line in diary(tmp_path / "package") if line.startswith("events")]
    told = sum(line.split().count("function") for line in printed)
    assert told == len(stage.arrived("function"))
    stage.assert_nothing_lost(env)
    stage.assert_clean_exits(env)


def test_what_a_hook_prints_is_output_of_the_extension(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    hook = with_hook(tmp_path / "package", "Printing", budget_ms=20_000)
    results, _ = play(stage.config(hook | {"TELEMETRYD_FLUSH__MAX_ADDED_MS": "20000"}), {}, {})
    assert [line for _, line in stage.printed if line.startswith("the hook saw")] == [
        f"the hook saw {result.request_id}" for result in results
    ]


def test_a_hook_that_hangs_delays_no_invocation_beyond_its_budget(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    config = stage.config(with_hook(tmp_path / "package", "Sleeping", budget_ms=50))
    results, env = play(config, {"print": 1}, {"print": 1}, {"print": 1})
    assert statuses(results) == ["success"] * 3
    stage.assert_nothing_lost(env)
    stage.assert_clean_exits(env)
    (off,) = stage.log("hook_off")
    assert off["reason"] == "too_slow"


def test_a_method_that_always_raises_is_not_excused_by_another(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    hook = with_hook(tmp_path / "package", "Moody", budget_ms=20_000)
    flush = {"TELEMETRYD_FLUSH__STRATEGY": "invocation", "TELEMETRYD_FLUSH__MAX_ADDED_MS": "20000"}
    results, env = play(stage.config(hook | flush), *[{"print": 1}] * 4)
    assert statuses(results) == ["success"] * 4
    stage.assert_nothing_lost(env)
    (off,) = stage.log("hook_off")
    assert (off["reason"], off["error"]) == ("failures", "3 calls in a row failed")
    assert diary(tmp_path / "package") == ["events"] * 3


def test_a_reset_has_a_hook_of_its_own(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    hook = with_hook(tmp_path / "package", "Diary", budget_ms=20_000)
    results, _ = play(stage.config(hook), TimesOut({"sleep": 60}), {"print": 1})
    assert statuses(results) == ["timeout", "success"]
    noted = [
        line for line in diary(tmp_path / "package") if line.split()[0] in ("init", "shutdown")
    ]
    assert [line.split()[0] for line in noted] == ["init", "shutdown"] * 2
    assert noted[1] == "shutdown timeout"

"""Fail open: whatever is wrong with telemetryd, the function answers and the log names it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.lifecycle import (
    IN_TIME,
    SHORT_END,
    Stage,
    play,
    settings,
    statuses,
    third_party,
)
from telemetryd.local import InvokeResult, LocalLambda


def broken_file(tmp_path: Path, text: str) -> dict[str, str]:
    file = tmp_path / "telemetryd.toml"
    file.write_text(text)
    return {"TELEMETRYD_CONFIG": str(file)}


BROKEN: dict[str, tuple[Callable[[Path], dict[str, str]], str]] = {
    "unknown key": (
        lambda tmp: broken_file(tmp, '[sinks.file]\ntype = "file"\nptah = "x"'),
        "sinks.file.ptah",
    ),
    "unknown section": (lambda tmp: broken_file(tmp, "[sink.file]\npath = 'x'"), "sink"),
    "bad port": (lambda _: settings(TELEMETRY__PORT="99999"), "telemetry.port"),
    "bad types": (lambda _: settings(TELEMETRY__TYPES="logs"), "telemetry.types"),
    "protocol": (lambda _: settings(TELEMETRY__PROTOCOL="udp"), "telemetry.protocol"),
    "buffering": (lambda _: settings(TELEMETRY__BUFFERING__TIMEOUT_MS=3), "timeout_ms"),
    "unknown sink": (lambda _: settings(SINKS__FILE__TYPE="flie"), "flie"),
    "loop": (
        lambda _: settings(TELEMETRY__TYPES="extension", SINKS__OUT__TYPE="stdout"),
        "stdout",
    ),
    "fail_closed alone": (lambda _: settings(FAIL_CLOSED="true"), "lambda.next"),
    "invalid TOML": (lambda tmp: broken_file(tmp, "[telemetry\nport = 1"), "telemetryd.toml"),
    "not UTF-8": (lambda tmp: {"TELEMETRYD_CONFIG": f"{tmp}/\udcff"}, "TELEMETRYD_CONFIG"),
    "missing file": (lambda tmp: {"TELEMETRYD_CONFIG": f"{tmp}/none.toml"}, "none.toml"),
    "a directory": (lambda tmp: {"TELEMETRYD_CONFIG": str(tmp)}, "TELEMETRYD_CONFIG"),
}
UNREAD = ("not UTF-8", "missing file", "a directory")
"""No file at the path that is named."""


@pytest.mark.parametrize("case", BROKEN)
def test_with_a_broken_configuration_the_function_answers(tmp_path: Path, case: str) -> None:
    """One log line names the fault; what is right is used, and a good sink loses nothing."""
    make_variables, named = BROKEN[case]
    stage = Stage(tmp_path)
    config = stage.config(make_variables(tmp_path))
    results, env = play(config, {"print": 5}, {"raise": "x"})
    assert [result.function_error for result in results] == [None, "Unhandled"]
    (line,) = stage.log("configuration_invalid")
    assert any(named in problem for problem in line["problems"])
    assert line["level"] == "error"
    if case == "unknown sink":  # the only one: its lines have nowhere to go
        assert stage.lines() == []
        assert stage.told("received") == sum(account.sent for account in env.stats) > 0
        assert stage.told("unrouted") == stage.told("received")
    elif case in UNREAD:  # it may have rules of `redact`: no line leaves unmasked
        assert stage.lines() == []
        assert stage.log("configuration_repaired")[0]["left_out"] == ["file"]
        assert any("redact" in problem for problem in line["problems"])
        assert stage.told("received") == sum(account.sent for account in env.stats) > 0
        assert stage.told("unrouted") == stage.told("received")
    elif case == "loop":  # what telemetryd itself prints comes back, and goes nowhere
        assert stage.told("sinks.file.delivered") == stage.told("framed")
        assert stage.told("rejected.own_log") > 0
    else:
        stage.assert_nothing_lost(env)
    stage.assert_clean_exits(env)


def test_rules_of_a_variable_stand_in_for_a_file_that_is_missing(tmp_path: Path) -> None:
    """The sinks of other variables get what it lets them have; the fault is named all the same."""
    stage = Stage(tmp_path)
    rules = '[{name = "mark", pattern = "i=1"}]'
    missing = {"TELEMETRYD_CONFIG": str(tmp_path / "none.toml"), "TELEMETRYD_REDACT": rules}
    results, env = play(stage.config(missing), {"print": 3})
    assert statuses(results) == ["success"]
    (line,) = stage.log("configuration_invalid")
    assert "none.toml" in str(line["problems"])
    assert stage.log("configuration_repaired")[0]["left_out"] == []
    stage.assert_sent_is_delivered(env)
    printed = [str(each) for each in stage.records("function")][-3:]
    assert [each.split()[-1] for each in printed] == ["i=0", "***", "i=2"]
    stage.assert_clean_exits(env)


def test_without_readable_rules_no_other_way_out_is_left(tmp_path: Path) -> None:
    """Neither what is printed in the end, nor the dead letter of lines that are refused."""
    stage = Stage(tmp_path)
    dead_letter = tmp_path / "dead"
    variables = settings(
        LAMBDA__LAST_RESORT="print",
        DEAD_LETTER__PATH=dead_letter,
        TELEMETRY__MAX_LINE_BYTES=1024,
    )
    missing = {"TELEMETRYD_CONFIG": str(tmp_path / "none.toml")}
    results, env = play(stage.config(variables | missing), {"print": 3, "text": "x" * 3000})
    assert statuses(results) == ["success"]
    (ledger,) = stage.ledgers()
    assert ledger["rejected"]["too_long"]["lines"] == 3
    assert stage.lines() == []
    assert not dead_letter.exists()
    stage.assert_clean_exits(env)


def test_a_variable_that_names_no_key_is_a_warning(tmp_path: Path) -> None:
    """It may be somebody else's: the platform's, or a service's in Kubernetes."""
    stage = Stage(tmp_path)
    results, env = play(stage.config(settings(SINKS__FILE__PTAH="x")), {"print": 5})
    assert statuses(results) == ["success"]
    (line,) = stage.log("configuration_warning")
    assert "sinks.file.ptah" in str(line["details"])
    stage.assert_nothing_lost(env)


def test_it_is_one_beside_a_fault_too(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    variables = settings(SINKS__FILE__PTAH="x", LOG__LEVEL="loud")
    results, env = play(stage.config(variables), {"print": 5})
    assert statuses(results) == ["success"]
    (fault,) = stage.log("configuration_invalid")
    assert "log.level" in str(fault["problems"])
    assert "ptah" not in str(fault["problems"])
    (line,) = stage.log("configuration_warning")
    assert "sinks.file.ptah" in str(line["details"])
    stage.assert_nothing_lost(env)


def test_every_fault_of_a_configuration_is_named(tmp_path: Path) -> None:
    """In one line, which no rate limit can shorten."""
    stage = Stage(tmp_path)
    variables = settings(LOG__LEVEL="x", TELEMETRY__PORT="99999", FLUSH__STRATEGY="never")
    results, _ = play(stage.config(variables), {})
    assert statuses(results) == ["success"]
    (line,) = stage.log("configuration_invalid")
    assert len(line["problems"]) == 3


def test_a_path_that_cannot_be_written_costs_telemetry_only(tmp_path: Path) -> None:
    """The sink fails, each loss has its reason, the function does not notice."""
    stage = Stage(tmp_path)
    (tmp_path / "occupied").write_text("")
    variables = settings(SINKS__FILE__PATH=tmp_path / "occupied" / "t.ndjson") | IN_TIME
    results, env = play(stage.config(variables, **SHORT_END), {"print": 5}, {"print": 5})
    assert statuses(results) == ["success", "success"]
    (ledger,) = stage.ledgers()
    dropped = ledger["sinks"]["file"]["dropped"]
    assert sum(count["lines"] for count in dropped.values()) == env.stats[0].sent
    assert "shutdown" not in dropped
    assert any("occupied" in str(line) for line in stage.log("write_failed"))
    stage.assert_clean_exits(env)


def test_an_import_error_after_register_degrades(tmp_path: Path) -> None:
    """A library that can't be loaded: the rest is a loop which counts, discards and polls."""
    stage = Stage(tmp_path)
    for module in ("msgspec", "uvloop"):
        (tmp_path / "shadow" / module).mkdir(parents=True)
        (tmp_path / "shadow" / module / "__init__.py").write_text("raise SystemExit('not for us')")
    config = stage.config({"PYTHONPATH": str(tmp_path / "shadow")})
    results, env = play(config, {"print": 500}, {"print": 500}, {"raise": "x"})
    assert [result.function_error for result in results] == [None, None, "Unhandled"]
    assert stage.lines() == []
    (degraded,) = stage.log("degraded")
    assert "not for us" in degraded["error"]
    (ledger,) = stage.ledgers()
    assert ledger["degraded"] is True
    assert stage.told("received") == sum(account.sent for account in env.stats) > 1000
    stage.assert_clean_exits(env)


def shim(tmp_path: Path, code: str) -> dict[str, str]:
    """A bug in telemetryd itself, injected when its process starts."""
    directory = tmp_path / "shim"
    directory.mkdir()
    (directory / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": str(directory)}


INJECTED = {
    "every read": "import telemetryd.ingest.pipeline as m\n"
    "def on_framed(self, parts): raise ZeroDivisionError('injected')\n"
    "m.Pipeline.on_framed = on_framed\n",
    "a worker": "import telemetryd.delivery.steps as m\n"
    "async def pack(self): raise ZeroDivisionError('injected')\n"
    "m.Steps._pack = pack\n"
    "import telemetryd.core.delivery as d\n"
    "d.Delivery.may_write_direct = lambda self, size: False\n",  # else nothing may need packing
    "every invocation": "import telemetryd.core.lifecycle as m\n"
    "def on_invoke(self, now): raise ZeroDivisionError('injected')\n"
    "m.Pacer.on_invoke = on_invoke\n",
    "the start": "import telemetryd.app as m\n"
    "async def start(self, *_): raise ZeroDivisionError('injected')\n"
    "m.Daemon.start = start\n",
    "the end": "import telemetryd.app as m\n"
    "async def stop(self, **_): raise ZeroDivisionError('injected')\n"
    "m.Daemon.stop = stop\n",
    "between events": "import telemetryd.app as m\n"
    "def release_writes(self): raise ZeroDivisionError('injected')\n"
    "m.Daemon.release_writes = release_writes\n",
}


@pytest.mark.parametrize("place", INJECTED)
def test_a_bug_of_our_own_is_not_the_functions(tmp_path: Path, place: str) -> None:
    """The function answers, the bug is named once, the process ends with status 0."""
    stage = Stage(tmp_path)
    variables = shim(tmp_path, INJECTED[place]) | settings(FLUSH__STRATEGY="invocation")
    results, env = play(stage.config(variables), *({"print": 5} for _ in range(3)))
    assert statuses(results) == ["success"] * 3
    errors = [line for line in stage.log() if "ZeroDivisionError" in str(line.get("error"))]
    assert len(errors) == 1
    stage.assert_clean_exits(env)
    (ledger,) = stage.log("ledger")
    # one bug is in the counting itself: then the ledger has to say so
    assert ledger["balanced"] is (place != "every read")


@pytest.mark.parametrize(("sink", "reason"), [("BrokenPack", "bug")])
def test_a_bug_of_a_sink_costs_its_own_lines_only(tmp_path: Path, sink: str, reason: str) -> None:
    """The other sink gets everything; the function does not notice."""
    stage = Stage(tmp_path)
    variables = third_party(tmp_path / "packages", sink, PATH=tmp_path / "probe")
    results, env = play(stage.config(variables), {"print": 50}, {"print": 50})
    assert statuses(results) == ["success", "success"]
    stage.assert_nothing_lost(env)
    (ledger,) = stage.ledgers()
    assert ledger["sinks"]["probe"]["dropped"][reason]["lines"] == len(stage.lines())
    assert stage.log("sink_bug")
    stage.assert_clean_exits(env)


def test_a_sink_that_cannot_be_made_costs_its_own_lines_only(tmp_path: Path) -> None:
    """A bug in a third-party constructor: the log names it, the other sink gets everything."""
    stage = Stage(tmp_path)
    variables = third_party(tmp_path / "packages", "BrokenMaker", PATH=tmp_path / "probe")
    results, env = play(stage.config(variables), {"print": 50}, {"print": 50})
    assert statuses(results) == ["success", "success"]
    assert stage.log("sink_bug")
    stage.assert_nothing_lost(env)
    (ledger,) = stage.ledgers()
    assert ledger["sinks"]["probe"]["dropped"]["bug"]["lines"] == len(stage.lines())
    stage.assert_clean_exits(env)


@pytest.mark.parametrize(
    ("variables", "error_type", "named"),
    [
        (settings(FLUSH__STRATEGY="never"), "Extension.ConfigInvalid", "flush.strategy"),
        (settings(SINKS__FILE__TYPE="flie"), "Extension.ConfigInvalid", "flie"),
    ],
)
def test_fail_closed_fails_the_init(
    tmp_path: Path, variables: dict[str, str], error_type: str, named: str
) -> None:
    """With `lambda.next = "ready"` the environment never serves: the caller is told why."""
    stage = Stage(tmp_path)
    ready = settings(FAIL_CLOSED="true", LAMBDA__NEXT="ready")
    results, env = play(stage.config(variables | ready), {"print": 5})
    assert results[0].function_error == "Unhandled"
    assert json.loads(results[0].payload)["errorType"] == error_type
    assert named in json.loads(results[0].payload)["errorMessage"]
    assert [e.record["state"] for e in env.events if e.type == "platform.extension"] == [
        "InitError"
    ] * env.generation
    assert stage.lines() == []


def test_fail_closed_covers_what_is_no_configuration(tmp_path: Path) -> None:
    """An import error fails the init just the same."""
    stage = Stage(tmp_path)
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "uvloop.py").write_text("raise ImportError('no uvloop here')")
    variables = settings(FAIL_CLOSED="true", LAMBDA__NEXT="ready")
    config = stage.config(variables | {"PYTHONPATH": str(tmp_path / "shadow")})
    results, _ = play(config, {"print": 5})
    assert json.loads(results[0].payload)["errorType"] == "Extension.StartFailed"
    assert stage.log("start_failed")
    assert stage.log("degraded") == []


def test_fail_closed_with_a_good_configuration_changes_nothing(tmp_path: Path) -> None:
    """`next` comes once all is ready, and the function runs."""
    stage = Stage(tmp_path)
    variables = settings(FAIL_CLOSED="true", LAMBDA__NEXT="ready")
    results, env = play(stage.config(variables), {"print": 5}, {"print": 5})
    assert statuses(results) == ["success", "success"]
    stage.assert_nothing_lost(env)
    stage.assert_clean_exits(env)


def test_a_host_that_cannot_be_bound_is_replaced(tmp_path: Path) -> None:
    """Telemetry comes over loopback in any case."""
    stage = Stage(tmp_path)
    variables = settings(TELEMETRY__HOST="203.0.113.7", TELEMETRY__PORT=5678)
    results, env = play(stage.config(variables), {"print": 5})
    assert statuses(results) == ["success"]
    assert stage.log("port_not_available")[0]["host"] == "203.0.113.7"
    stage.assert_nothing_lost(env)


def test_where_there_is_no_telemetry_the_function_is_not_held_up(tmp_path: Path) -> None:
    """202 is no subscription: nothing is waited for, nothing arrives, the ledger is empty."""
    stage = Stage(tmp_path)
    config = stage.config(
        settings(FLUSH__STRATEGY="invocation", FLUSH__MARGIN_MS=0),
        telemetry="unsupported",
        timeout=3,
    )
    results, env = play(config, {"print": 5}, {"print": 5})
    assert statuses(results) == ["success", "success"]
    assert stage.lines() == []
    assert stage.log("subscription_refused")[0]["status"] == 202
    assert stage.told("received") == 0
    assert stage.log("started")[0]["subscribed"] is False
    stage.assert_clean_exits(env)


@pytest.mark.parametrize("plain_text", [False, True])
def test_a_subscription_refused_for_good(tmp_path: Path, plain_text: bool) -> None:
    """An older schema is tried once, also where the answer is no JSON; then without telemetry."""
    stage = Stage(tmp_path)
    config = stage.config(
        settings(TELEMETRY__SCHEMA_VERSION="2022-12-13"),
        mode="managed-instances",
        plain_text_errors=plain_text,
    )

    async def scenario() -> tuple[InvokeResult, LocalLambda]:
        async with LocalLambda(config) as env:
            return await env.invoke({"print": 5}), env

    result, env = asyncio.run(scenario())
    assert result.status == "success"
    assert [line["schema_version"] for line in stage.log("subscription_refused")] == [
        "2022-12-13",
        "2022-07-01",
    ]
    assert stage.told("received") == 0
    stage.assert_clean_exits(env)


def test_this_python_runs_the_extension(tmp_path: Path) -> None:
    """The guard of this module's shims: the extension's process does read PYTHONPATH."""
    stage = Stage(tmp_path)
    code = 'import sys\nsys.stderr.write(\'{"event":"shim","logger":"telemetryd"}\\n\')\n'
    play(stage.config(shim(tmp_path, code)), {})
    assert stage.log("shim")
    assert sys.executable


@pytest.mark.parametrize("fail_closed", [True, False])
def test_ready_means_that_the_sinks_are_open(tmp_path: Path, fail_closed: bool) -> None:
    """A destination that can't be opened is known before the first `next`; it may fail the init."""
    stage = Stage(tmp_path)
    (tmp_path / "occupied").write_text("")
    variables = settings(
        SINKS__FILE__PATH=tmp_path / "occupied" / "t.ndjson",
        SINKS__FILE__RETRY_MAX_ELAPSED_MS=0,
        LAMBDA__NEXT="ready",
        FAIL_CLOSED=str(fail_closed).lower(),
    )
    results, env = play(stage.config(variables), {"print": 5})
    assert "occupied" in stage.log("sink_not_open")[0]["error"]
    if fail_closed:
        assert json.loads(results[0].payload)["errorType"] == "Extension.SinkUnavailable"
        assert "occupied" in json.loads(results[0].payload)["errorMessage"]
    else:
        assert statuses(results) == ["success"]
        assert stage.told("received") == env.stats[0].sent
        stage.assert_clean_exits(env)

"""The local Lambda loses what it is told to lose, and the rest arrives."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from extensions.local_kit import HANDLER, Record, install, make
from telemetryd.local import InvokeResult, LocalConfig, LocalLambda, LossError
from telemetryd.local.subscriber import SubscriptionStats

LIMIT = 120


def run(config: LocalConfig, *events: object) -> tuple[list[InvokeResult], LocalLambda]:
    """Invoke with each event; returns the results and the ended environment."""

    async def scenario() -> tuple[list[InvokeResult], LocalLambda]:
        async with LocalLambda(config) as env:
            return [await env.invoke(event) for event in events], env

    return asyncio.run(scenario())


def requests(record: Record, event_type: str) -> list[str]:
    """Whose events of this type arrived."""
    return [item["requestId"] for item in record.records(event_type)]


def account(env: LocalLambda) -> SubscriptionStats:
    """The account of the only subscription, which adds up."""
    (found,) = env.stats
    assert found.offered == found.sent + found.dropped + found.undelivered + found.lost
    return found


def test_an_event_of_one_invocation_is_lost(tmp_path: Path) -> None:
    """The others have theirs, and function and extension are none the worse."""
    config, record = make(tmp_path, lose=["runtimeDone@2"])
    results, env = run(config, {}, {}, {})
    ids = [result.request_id for result in results]
    assert [result.status for result in results] == ["success"] * 3
    assert requests(record, "platform.runtimeDone") == [ids[0], ids[2]]
    assert requests(record, "platform.report") == ids
    assert account(env).lost == 1


def test_a_late_end_comes_with_the_next_invocation(tmp_path: Path) -> None:
    """Before its start."""
    config, record = make(tmp_path, lose=["runtimeDone:late@1"])
    results, env = run(config, {}, {})
    first, second = [result.request_id for result in results]
    order = [
        (event["type"], event["record"]["requestId"])
        for event in record.telemetry("platform.start", "platform.runtimeDone")
    ]
    start, done = "platform.start", "platform.runtimeDone"
    assert order == [(start, first), (done, first), (start, second), (done, second)]
    types = record.types()
    assert types.index("platform.report") < types.index("platform.runtimeDone")
    assert account(env).lost == 0


def test_lines_that_trail_come_behind_the_end(tmp_path: Path) -> None:
    """Those of one invocation, all of them; none is lost."""
    config, record = make(tmp_path, lose=["function:trail@1"])
    _, env = run(config, {"print": 3}, {"print": 3})
    order = [
        event["type"]
        for event in record.telemetry("platform.start", "platform.runtimeDone", "function")
    ]
    start, done, line = "platform.start", "platform.runtimeDone", "function"
    assert order == [line, start, done, *[line] * 3, start, *[line] * 3, done]
    assert account(env).lost == 0


def test_the_connection_is_closed_in_the_midst_of_a_line(tmp_path: Path) -> None:
    """Half of it arrives, then the end of the stream, and nothing again."""
    config, record = make(tmp_path, lose=["runtimeDone:cut@1"])
    results, env = run(config, {}, {})
    assert [result.status for result in results] == ["success"] * 2
    (broken,) = record.all("broken")
    assert broken["text"].startswith('{"time":')
    assert "\n" not in broken["text"]
    assert [entry["open"] for entry in record.all("connection")] == [True, False]
    assert requests(record, "platform.start") == [results[0].request_id]
    assert account(env).lost > 0


def test_a_batch_is_lost_and_told(tmp_path: Path) -> None:
    """`logsDropped` has the sum."""
    config, record = make(tmp_path, lose=["function:batch@1"])
    _, env = run(config, {"print": 5}, {})
    (notice,) = record.records("platform.logsDropped")
    stats = account(env)
    assert notice["droppedRecords"] == stats.dropped == stats.announced >= 5
    assert len(record.telemetry()) == stats.sent


@pytest.mark.parametrize("protocol", ["TCP", "HTTP"])
def test_a_subscription_that_is_answered_but_never_served(tmp_path: Path, protocol: str) -> None:
    """200, and no connection at all."""
    config, record = make(tmp_path, {"protocol": protocol}, lose=["connection"])
    (result,), env = run(config, {})
    assert result.status == "success"
    assert record.calls("/telemetry") == [(200, "OK")]
    assert record.all("connection") == record.telemetry() == []
    assert account(env).lost == account(env).offered > 0


def test_over_http_an_ended_connection_is_no_further_request(tmp_path: Path) -> None:
    """What came before has arrived."""
    config, record = make(tmp_path, {"protocol": "HTTP"}, lose=["start:cut@2"])
    results, env = run(config, {}, {})
    assert requests(record, "platform.start") == [results[0].request_id]
    assert account(env).lost > 0


def test_losses_begin_and_end_while_it_runs(tmp_path: Path) -> None:
    """And what is not understood changes nothing."""
    config, record = make(tmp_path)

    async def scenario() -> tuple[InvokeResult, LocalLambda]:
        async with LocalLambda(config) as env:
            env.lose("function")
            with pytest.raises(LossError):
                env.lose("everything")
            lossy = await env.invoke({"print": 3, "text": "lost"})
            env.lose()
            await env.invoke({"print": 3, "text": "kept"})
            return lossy, env

    lossy, env = asyncio.run(scenario())
    assert lossy.lines == 3
    lines = [line for line in record.records("function") if line.startswith(("lost", "kept"))]
    assert lines == [f"kept i={number}\n" for number in range(3)]
    assert account(env).lost == 3


def test_the_command_loses_too_and_says_how_much(tmp_path: Path) -> None:
    """`--lose`, repeated; a mistake is named before anything starts."""
    command = [
        sys.executable,
        "-c",
        "import sys; from telemetryd.local.cli import main; sys.exit(main(sys.argv[1:]))",
        *("--handler", "app.handler", "--invoke", "1"),
        *("--extension", str(install(tmp_path / "extensions"))),
        *("--env", f"LISTENER_FILE={tmp_path / 'record.ndjson'}"),
    ]

    def local(*losses: str) -> subprocess.CompletedProcess[str]:
        options = [word for loss in losses for word in ("--lose", loss)]
        return subprocess.run(
            [*command, *options],
            cwd=HANDLER,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )

    wrong = local("end")
    assert wrong.returncode == 64
    assert "'end' is not one of" in wrong.stderr
    record = Record(tmp_path / "record.ndjson")
    assert not record.path.exists()
    done = local("runtimeDone", "function")
    assert done.returncode == 0, done.stderr
    assert "lost on demand" in done.stderr
    assert not {"platform.runtimeDone", "function"} & set(record.types())
    assert "platform.start" in record.types()

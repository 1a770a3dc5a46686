"""What no one can know before: AWS refuses the sink. The log says why, the ledger how much."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from helpers.kinesis_server import Error, KinesisServer
from helpers.lifecycle import IN_TIME, SHORT_END, Stage, play, settings, statuses, until
from telemetryd.local import LocalLambda

REFUSALS = {
    "wrong stream": (
        Error(400, "ResourceNotFoundException", "Stream nonesuch not found."), "not_found",
    ),
    "missing permission": (
        Error(400, "AccessDeniedException", "not authorized: kinesis:PutRecords"), "access_denied",
    ),
    "wrong region": (
        Error(400, "InvalidSignatureException", "should be scoped to a valid region"),
        "credentials_refused",
    ),
}  # fmt: skip


def kinesis(url: str) -> dict[str, str]:
    """A sink `out`, and what AWS tools look for."""
    return {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "eu-west-1",
        **settings(
            SINKS__OUT__TYPE="kinesis", SINKS__OUT__STREAM="nonesuch", SINKS__OUT__ENDPOINT_URL=url
        ),
    }


def assert_all_dropped(stage: Stage, code: str) -> None:
    """Every line that arrived elsewhere is in the sink's books, lost under `code`."""
    (ledger,) = stage.ledgers()
    assert list(ledger["sinks"]["out"]["dropped"]) == [code]
    assert ledger["sinks"]["out"]["dropped"][code]["lines"] == len(stage.lines())


@pytest.mark.parametrize("case", REFUSALS)
def test_a_sink_that_aws_refuses_is_said_once_and_costs_the_function_nothing(
    case: str, tmp_path: Path
) -> None:
    """The other sink gets every line; no attempt is made until a minute later, or the end."""
    refusal, code = REFUSALS[case]
    stage = Stage(tmp_path)
    with KinesisServer() as server:
        server.otherwise = refusal
        results, env = play(stage.config(kinesis(server.url)), *[{"print": 50}] * 4)
        calls = len(server.requests)
    assert statuses(results) == ["success"] * 4
    stage.assert_nothing_lost(env)
    stage.assert_clean_exits(env)
    (opened,) = stage.log("circuit_opened")
    assert (opened["sink"], opened["code"], opened["permanent"]) == ("out", code, True)
    failures = stage.log("write_failed")
    assert {failure["code"] for failure in failures} == {code}
    assert refusal.message in failures[0]["detail"]
    assert 1 <= len(failures) <= calls <= 2  # soon after the first, a second is not said again
    assert_all_dropped(stage, code)


def test_an_endpoint_that_is_not_there_costs_the_function_nothing(tmp_path: Path) -> None:
    """Its lines are lost under what the network said."""
    stage = Stage(tmp_path)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        config = stage.config(kinesis(url) | IN_TIME, freeze=False, **SHORT_END)

        async def scenario() -> tuple[list[Any], LocalLambda]:
            async with LocalLambda(config) as env:
                results = [await env.invoke({"print": 50}) for _ in range(4)]
                await asyncio.to_thread(until, lambda: stage.log("write_failed"))
            return results, env

        results, env = asyncio.run(scenario())
    assert statuses(results) == ["success"] * 4
    stage.assert_nothing_lost(env)
    stage.assert_clean_exits(env)
    failure = stage.log("write_failed")[0]
    assert failure["code"] == "unreachable"
    assert url in failure["detail"]
    assert_all_dropped(stage, "unreachable")

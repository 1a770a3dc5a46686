"""Metrics that wait on disk while the environment's next process is configured otherwise."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from helpers.fake_logs import FakeLogs, fake_logs
from helpers.lifecycle import settings, until
from helpers.scripted_platform import NEXT, ScriptedPlatform

AT = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
"""Log events of long ago are refused."""
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "key",
    "AWS_LAMBDA_FUNCTION_NAME": "f",
}
CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "namespace": {"NAMESPACE": "After"},
    "dimensions": {"DIMENSIONS": '[["function_name","function_version"]]'},
    "metrics": {"METRICS": '["invocations"]'},
    "properties": {"PROPERTIES": '{"team":"a"}'},
    "resolution": {"RESOLUTION": 1},
    "all": {
        "NAMESPACE": "After",
        "DIMENSIONS": '[["team"]]',
        "METRICS": '["invocations","duration"]',
        "PROPERTIES": '{"team":"a"}',
        "RESOLUTION": 1,
    },
}


def told(kind: str, **record: object) -> bytes:
    return json.dumps({"time": AT, "type": kind, "record": record}).encode() + b"\n"


def invocation(request_id: str) -> bytes:
    metrics = {"durationMs": 3.5, "billedDurationMs": 4}
    return (
        told("platform.start", requestId=request_id, version="1")
        + told("platform.runtimeDone", requestId=request_id, status="success")
        + told("platform.report", requestId=request_id, status="success", metrics=metrics)
        + b'{"time":"%s","type":"function","record":"no metric"}\n' % AT.encode()
    )


def process(tmp_path: Path, logs: FakeLogs, **keys: object) -> ScriptedPlatform:
    """A process of the environment whose metrics go to `logs`, with a spool."""
    emf = {
        "TYPE": "emf", "DELIVERY": "logs", "LOG_GROUP": "/g", "REGION": "eu-west-1",
        "ENDPOINT_URL": logs.url, "SPOOL__PATH": tmp_path / "spool", "SELF_METRICS": "false",
        "METRICS": '["invocations","errors","duration"]', "LINGER_MS": 0,
        "WRITE_TIMEOUT_MS": 500, "NAMESPACE": "Before",
    } | keys  # fmt: skip
    sink = {f"SINKS__M__{key}": value for key, value in emf.items()}
    return ScriptedPlatform(settings(FLUSH__STRATEGY="continuous", **sink) | CREDENTIALS)


def sums(documents: list[dict[str, Any]]) -> dict[tuple[str, str], float]:
    """The sum of each metric, by namespace and name: as CloudWatch would have it."""
    found: dict[tuple[str, str], float] = defaultdict(float)
    for document in documents:
        for directive in document["_aws"]["CloudWatchMetrics"]:
            for metric in directive["Metrics"]:
                value = document[metric["Name"]]
                total = sum(value) if isinstance(value, list) else value
                found[directive["Namespace"], metric["Name"]] += total
            for name in (name for names in directive["Dimensions"] for name in names):
                assert isinstance(document[name], str)
    return found


@pytest.mark.parametrize("changed", CHANGES.values(), ids=CHANGES.keys())
def test_what_was_measured_before_is_delivered_as_it_was_measured(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    """Once, with the names it had; what comes afterwards has the new ones."""
    with fake_logs() as logs:
        logs.down = True
        with process(tmp_path, logs) as platform:
            telemetry, following = platform.begin()
            following.invoke("r1")
            telemetry.sendall(invocation("r1"))
            platform.expect(NEXT).shutdown(3, reason="timeout")
            platform.finish()
            before = platform.ledger()["sinks"]["m"]
        assert before["delivered"]["lines"] + before["spooled"]["lines"] == 4
        assert before["dropped"] == {}
        assert before["spooled"]["lines"] > 0

        logs.down = False
        with process(tmp_path, logs, **changed) as platform:
            telemetry, following = platform.begin()
            following.invoke("r2")
            telemetry.sendall(invocation("r2"))
            until(lambda: any('"r2"' in each for each in logs.messages()))
            platform.expect(NEXT).shutdown()
            platform.finish()
            after = platform.ledger()["sinks"]["m"]
        assert after["recovered"] == before["spooled"]
        assert after["spooled"]["lines"] == 0
        assert after["dropped"] == {}
        assert (
            after["delivered"]["lines"] == before["spooled"]["lines"] + after["enqueued"]["lines"]
        )
        documents = [json.loads(each) for each in logs.messages()]

    namespace = changed.get("NAMESPACE", "Before")
    expected: dict[tuple[str, str], float] = defaultdict(float)
    for name, value in (("invocations", 1), ("duration", 3.5)):
        expected["Before", name] += value
        if name in changed.get("METRICS", name):
            expected[namespace, name] += value
    assert {key: value for key, value in sums(documents).items() if value} == expected

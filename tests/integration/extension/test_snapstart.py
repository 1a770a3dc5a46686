"""A snapshot is restored under a running extension: what was unique is drawn again."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from helpers.fake_logs import fake_logs
from helpers.lifecycle import settings, until
from helpers.scripted_platform import NEXT, ScriptedPlatform, line


def event(kind: str, record: dict[str, str]) -> bytes:
    """A platform event of this moment: CloudWatch Logs refuses old ones."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": now, "type": kind, "record": record}).encode() + b"\n"


def restored() -> bytes:
    return event("platform.restoreStart", {"initializationType": "snap-start", "phase": "restore"})


def written(directory: Path) -> dict[str, bytes]:
    """Lines by the instance in the file's name."""
    return {path.stem: path.read_bytes() for path in directory.glob("*.ndjson")}


def test_files_streams_and_fields_are_of_the_new_instance(tmp_path: Path) -> None:
    """Lines read before stay where they are, those after go elsewhere, and all are accounted for.

    Two environments that started from one snapshot would otherwise write into the same places.
    """
    with fake_logs() as logs:
        variables = settings(
            SINKS__FILE__TYPE="file",
            SINKS__FILE__PATH=tmp_path / "{instance}.ndjson",
            SINKS__FILE__FIELDS="instance",
            SINKS__METRICS__TYPE="emf",
            SINKS__METRICS__DELIVERY="logs",
            SINKS__METRICS__LOG_GROUP="/telemetryd/f",
            SINKS__METRICS__ENDPOINT_URL=logs.url,
            SINKS__METRICS__REGION="eu-west-1",
            FLUSH__STRATEGY="invocation",
        ) | {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}
        with ScriptedPlatform(variables) as platform:
            telemetry, first = platform.begin()
            telemetry.sendall(line(1))
            until(lambda: b"line 1" in b"".join(written(tmp_path).values()))
            (before,) = written(tmp_path)
            until(lambda: logs.groups.get("/telemetryd/f"))
            telemetry.sendall(restored() + line(2))
            until(lambda: len(written(tmp_path)) == 2)
            first.invoke("r1")
            started = event("platform.start", {"requestId": "r1", "version": "1"})
            ended = event("platform.runtimeDone", {"requestId": "r1", "status": "success"})
            telemetry.sendall(started + line(3) + ended)
            platform.expect(NEXT).shutdown()
            platform.finish()
            pages = platform.ledger()["sinks"]
            assert pages["file"]["delivered"]["lines"] == 6
            assert pages["metrics"]["dropped"] == {}
            assert platform.log("restored")
        after = (written(tmp_path).keys() - {before}).pop()
        assert written(tmp_path)[before].count(b"\n") == 1
        told = [json.loads(each) for each in written(tmp_path)[after].splitlines()]
        assert {event["instance"] for event in told} == {after}
        assert before != after
        streams = logs.groups["/telemetryd/f"]
        assert streams.keys() == {f"telemetryd/{before}", f"telemetryd/{after}"}
        assert streams[f"telemetryd/{before}"] == []
        assert len(streams[f"telemetryd/{after}"]) >= 1

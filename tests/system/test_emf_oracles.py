"""EMF documents before judges that are not ours: AWS's schema and AWS's own client library.

The schema is in the wheel of `aws-lambda-powertools` 1.10.0 (MIT-0), which is downloaded once and
only read; it is older than sets of 30 dimensions. What both judges miss is checked here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from aws_embedded_metrics import validator
from aws_embedded_metrics.exceptions import InvalidDimensionError, InvalidTimestampError
from aws_embedded_metrics.storage_resolution import StorageResolution

from helpers.emf_streams import Document, done, event, packed, report, sink, start, stream
from telemetryd.log import utc_timestamp
from telemetryd_proto.timestamps import parse_time

pytestmark = pytest.mark.system

MINDS = (jsonschema.ValidationError, InvalidDimensionError, InvalidTimestampError, AssertionError,
         KeyError)  # fmt: skip
WHEEL = "aws_lambda_powertools-1.10.0-py3-none-any.whl"
STREAMS = sorted(
    path.stem for path in (Path(__file__).parents[2] / "examples" / "streams").glob("*.ndjson")
)


OWN_FIGURES = """
import asyncio, socket
from telemetryd.app import Daemon, Identity
from telemetryd.config import load
from telemetryd.log import Log

async def main():
    config = load({"TELEMETRYD_SINKS__M__TYPE": "emf", "TELEMETRYD_SINKS__M__METRICS": "*"},
                  default_paths=()).config
    listening = socket.create_server(("127.0.0.1", 0))
    daemon = Daemon(config, listening, mode="lambda", memory_bytes=1 << 24,
                    identity=Identity({}), log=Log(), on_bug=print)
    await daemon.start()
    daemon.stats.count_wait(0.02)
    now = asyncio.get_running_loop().time()
    await daemon.stop(quiet=0, read_until=now, deadline=now + 10, reason="spindown")

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """AWS's EMF schema, with the number of dimensions CloudWatch takes today."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "telemetryd-tests"
    wheel = cache / WHEEL
    if not wheel.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest",
                   str(cache), "aws-lambda-powertools==1.10.0"]  # fmt: skip
        subprocess.run(command, check=True)
    with zipfile.ZipFile(wheel) as archive:
        found: dict[str, Any] = json.loads(
            archive.read("aws_lambda_powertools/metrics/schema.json")
        )
    directive = found["properties"]["_aws"]["properties"]["CloudWatchMetrics"]["items"]
    sets = directive["properties"]["Dimensions"]["items"]
    assert sets["maxItems"] == 9
    sets["maxItems"] = 30
    return found


def recent(lines: list[bytes]) -> list[bytes]:
    """The events of a stream, as if the last one happened just now."""
    events = [json.loads(line) for line in lines]
    shift = time.time() - max(parse_time(each["time"]) for each in events)
    for each in events:
        each["time"] = utc_timestamp(parse_time(each["time"]) + shift)
    return [json.dumps(each).encode() + b"\n" for each in events]


def judge(document: Document, schema: dict[str, Any]) -> None:
    """Raises what the first judge that minds has to say."""
    jsonschema.Draft7Validator(schema).validate(document)  # later drafts mind its `$id`s
    at = datetime.fromtimestamp(document["_aws"]["Timestamp"] / 1000, UTC).replace(tzinfo=None)
    validator.validate_timestamp(at)
    assert len(json.dumps(document, separators=(",", ":"))) < 200_000
    for directive in document["_aws"]["CloudWatchMetrics"]:
        validator.validate_namespace(directive["Namespace"])
        for names in directive["Dimensions"]:
            validator.validate_dimension_set({name: document[name] for name in names})
        assert 1 <= len(directive["Metrics"]) <= 100
        names_and_resolutions: dict[str, StorageResolution] = {}
        for definition in directive["Metrics"]:
            name = definition["Name"]
            assert name not in names_and_resolutions
            resolution = StorageResolution(definition.get("StorageResolution", 60))
            value = document[name]
            values = value if isinstance(value, list) else [value]
            assert 1 <= len(values) <= 100
            for number in values:
                assert isinstance(number, int | float)
                assert not isinstance(number, bool)
                validator.validate_metric(
                    name, number, definition["Unit"], resolution, names_and_resolutions
                )
            names_and_resolutions[name] = resolution


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("resolution", [60, 1])
def test_the_sample_streams_pass(schema: dict[str, Any], name: str, resolution: int) -> None:
    lines = recent(stream(name))
    whole = packed(sink(resolution=resolution, count_log_errors=True), lines)
    single = packed(sink(resolution=resolution), *([line] for line in lines))
    assert whole
    assert single
    for document in (*whole, *single):
        judge(document, schema)


def busy_minute() -> Iterator[bytes]:
    now = utc_timestamp(time.time())
    for i in range(1000):
        yield start(f"{i}", now, version=f"{i % 3}")
        if i % 10 == 0:
            kind = "Runtime.ExitError" if i % 20 else "Sandbox.Timedout" + "x" * 1000
            yield done(f"{i}", now, status="timeout" if i % 20 else "error", errorType=kind)
        else:
            yield done(f"{i}", now)
        yield report(f"{i}", now)
    yield event("platform.logsDropped", {"droppedRecords": 7}, now)


def test_a_thousand_invocations_with_30_dimensions_pass(schema: dict[str, Any]) -> None:
    properties = {f"property-{i}" + "n" * 230: "v" * 1024 for i in range(29)}
    subject = sink(properties=properties, dimensions=[["function_name", *properties]],
                   namespace="n" * 255)  # fmt: skip
    found = packed(subject, list(busy_minute()))
    assert len(found) == 12  # three versions, 334 invocations each, 100 values in a document
    for document in found:
        judge(document, schema)


def test_names_from_the_stream_that_cloudwatch_would_not_take_pass(schema: dict[str, Any]) -> None:
    now = utc_timestamp(time.time())
    init = {"functionName": "ß\n" + "x" * 2000, "functionVersion": "  "}
    for document in packed(sink(), [event("platform.initStart", init, now), start("a", now)]):
        judge(document, schema)


def test_what_telemetryd_tells_of_itself_passes(schema: dict[str, Any]) -> None:
    """Its document is that of a real daemon, with figures of its own."""
    done = subprocess.run(
        [sys.executable, "-c", OWN_FIGURES], check=True, capture_output=True, text=True
    )
    (document,) = map(json.loads, done.stdout.splitlines())
    assert document["telemetryd"]["sinks"].keys() == {"m"}
    judge(document, schema)


def test_the_judges_mind(schema: dict[str, Any]) -> None:
    (good,) = packed(sink(), [start("a", utc_timestamp(time.time()))])
    judge(good, schema)
    for broken in (
        good | {"invocations": [1] * 101},
        good | {"invocations": "1"},
        good | {"function_name": " "},
        good | {"function_name": "é"},
        {key: value for key, value in good.items() if key != "invocations"},
        good | {"_aws": good["_aws"] | {"Timestamp": 1.5}},
        good | {"_aws": good["_aws"] | {"Timestamp": 1}},
    ):
        with pytest.raises(MINDS):
            judge(broken, schema)

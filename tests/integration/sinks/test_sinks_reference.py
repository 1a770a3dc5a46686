"""The examples of docs/sinks-reference.md, each run as it is printed there.

Only what a test can't have as it is printed is set by a variable: the address of the destination.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from helpers.collector_server import CollectorServer
from helpers.daemon import Daemon, Outcome, Settings, leaf_of, sink
from helpers.kinesis_server import KinesisServer
from helpers.lines import events
from helpers.otlp_server import OtlpServer
from helpers.vendor_servers import (
    CloudWatchServer,
    DatadogServer,
    ElasticServer,
    HoneycombServer,
    LokiServer,
    NewRelicServer,
    SplunkServer,
    VendorServer,
)
from telemetryd_proto.kinesis import decode

PAGE = Path(__file__).parents[3] / "docs" / "sinks-reference.md"
SECTION = re.compile(r'^## `type = "(\w+)"`\n(.*?)(?=^## |\Z)', re.MULTILINE | re.DOTALL)
TOML = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = {
    f"{name}-{number}": example
    for name, text in SECTION.findall(PAGE.read_text())
    for number, example in enumerate(TOML.findall(text), 1)
}
TESTED = set[str]()
"""The examples that have a test."""
LINES = events(100)
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
AWS = {**KEYS, "AWS_REGION": "eu-west-1", "AWS_EC2_METADATA_DISABLED": "true"}
INVOCATION = b"".join(
    json.dumps({"time": "2026-03-14T10:15:30.123Z", "type": f"platform.{kind}", "record": record})
    .encode() + b"\n"
    for kind, record in (
        ("start", {"requestId": "r-1", "version": "$LATEST"}),
        ("runtimeDone", {"requestId": "r-1", "status": "success"}),
        (
            "report",
            {
                "requestId": "r-1", "status": "success",
                "metrics": {
                    "durationMs": 12.5, "billedDurationMs": 13, "memorySizeMB": 128,
                    "maxMemoryUsedMB": 64, "initDurationMs": 100.5,
                },
            },
        ),
    )
)  # fmt: skip


class Example:
    """One example in a file, and its run."""

    def __init__(self, tmp_path: Path, text: str) -> None:
        self.tmp_path = tmp_path
        self.file = tmp_path / "telemetryd.toml"
        self.file.write_text(text)
        (self.name,) = tomllib.loads(text)["sinks"]

    def run(
        self, lines: bytes = LINES, foreign: dict[str, str] | None = None, **keys: object
    ) -> Outcome:
        """Send `lines` to a daemon with it; `keys` are those of its sink."""
        settings: Settings = sink(self.name, **keys)
        with Daemon(self.tmp_path, foreign=foreign or {}, CONFIG=self.file, **settings) as daemon:
            daemon.send(lines)
            outcome = daemon.stop()
        assert outcome.sink(self.name)["delivered"] == leaf_of(lines)
        return outcome


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Example:
    """The example that the test's mark names."""
    return Example(tmp_path, EXAMPLES[request.param])


def of(*keys: str) -> pytest.MarkDecorator:
    """Run the test with these examples."""
    TESTED.update(keys)
    return pytest.mark.parametrize("example", keys, indirect=True)


@of("file-1")
def test_file(example: Example) -> None:
    example.run(PATH=example.tmp_path / "out")
    assert (example.tmp_path / "out").read_bytes() == LINES


@of("stdout-1")
def test_stdout(example: Example) -> None:
    assert example.run().stdout == LINES


@of("null-1")
def test_null(example: Example) -> None:
    assert example.run().stdout == b""


@of("http-1")
def test_http(example: Example) -> None:
    with CollectorServer() as server:
        server.token = "change-me"  # noqa: S105 - opens nothing
        example.run(URL=server.url)
        assert server.lines == LINES
        assert server.violations == []


VENDORS: dict[str, type[VendorServer]] = {
    "cloudwatch": CloudWatchServer,
    "datadog": DatadogServer,
    "elastic_bulk": ElasticServer,
    "honeycomb": HoneycombServer,
    "loki": LokiServer,
    "new_relic": NewRelicServer,
    "splunk_hec": SplunkServer,
}


@of(*(f"http-{number}" for number in range(2, 2 + len(VENDORS))))
def test_a_preset(example: Example) -> None:
    name = tomllib.loads(example.file.read_text())["sinks"][example.name]["preset"]
    with VENDORS[name]() as server:
        server.token = "change-me"  # noqa: S105 - opens nothing
        more: Settings = {"LABELS": '{dataset = "orders"}'} if name == "honeycomb" else {}
        example.run(URL=server.url, **more)
        assert server.lines == LINES
        assert server.violations == []


@of("kinesis-1")
def test_kinesis(example: Example) -> None:
    with KinesisServer() as server:
        example.run(foreign=AWS | {"AWS_ENDPOINT_URL_KINESIS": server.url})
        arrived = [line for put in server.accepted for line in decode(put.data).lines]
        assert arrived == LINES.splitlines()
        assert {request.put.stream_name for request in server.requests} == {"telemetry"}
        assert server.violations == []


@of("otlp-1")
def test_otlp(example: Example) -> None:
    with OtlpServer() as server:
        example.run(ENDPOINT=server.base)
        bodies = [record.body.string_value for record in server.records]
        assert bodies == [json.loads(line)["record"] for line in LINES.splitlines()]
        assert server.violations == []


@of("emf-1")
def test_emf(example: Example) -> None:
    """What it prints are documents of embedded metric format."""
    printed = example.run(INVOCATION).stdout.splitlines()
    directives = [json.loads(line)["_aws"]["CloudWatchMetrics"][0] for line in printed]
    assert {directive["Namespace"] for directive in directives} == {"telemetryd"}
    names = {metric["Name"] for directive in directives for metric in directive["Metrics"]}
    assert {"cold_starts", "init_duration", "memory_used_percent"} <= names


def test_each_example_of_the_page_is_run() -> None:
    assert EXAMPLES.keys() == TESTED

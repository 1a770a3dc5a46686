"""A real VictoriaLogs reads what the presets of the http sink send, and its recipe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from helpers.daemon import Daemon, leaf_of, sink
from helpers.recipes import recipe
from helpers.victoria_logs import BUILD_LIMIT, build, running, stored

pytestmark = [pytest.mark.peers, pytest.mark.timeout(BUILD_LIMIT + 120)]

LINES = 3000
PRESETS = {
    "loki": "/insert/loki/api/v1/push?disable_message_parsing=1",
    "splunk_hec": "/insert/splunk/services/collector/event",
    "elastic_bulk": "/insert/elasticsearch/_bulk?_time_field=@timestamp&_msg_field=record",
    "datadog": "/insert/datadog/api/v2/logs",
}


@pytest.fixture(scope="module")
def program() -> Path:
    """VictoriaLogs, built."""
    return build()


@pytest.fixture
def url(program: Path, tmp_path: Path) -> Iterator[str]:
    """One that holds nothing."""
    with running(program, tmp_path / "victoria") as url:
        yield url


def made_lines() -> tuple[list[str], bytes]:
    """Times of the last minute, one a line, and the lines."""
    start = datetime.now(UTC) - timedelta(minutes=1)
    times = [
        (start + timedelta(milliseconds=number)).isoformat(timespec="milliseconds")[:23] + "Z"
        for number in range(LINES)
    ]
    lines = (
        f'{{"time":"{time}","type":"function","record":"line {number} \\u00e9 \\"quoted\\""}}\n'
        for number, time in enumerate(times)
    )
    return times, "".join(lines).encode()


def send(tmp_path: Path, data: bytes, **keys: Any) -> None:
    settings = sink("victoria", type="http", **keys)
    with Daemon(tmp_path, **settings) as daemon:
        daemon.send(data)
        outcome = daemon.stop()
    assert outcome.sink("victoria")["delivered"] == leaf_of(data)


def milliseconds(time: str) -> str:
    """The time with three digits, as it was sent."""
    second, _, fraction = time.rstrip("Z").partition(".")
    return f"{second}.{fraction[:3].ljust(3, '0')}Z"


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_every_line_arrives_with_its_time(
    url: str, tmp_path: Path, preset: str, compression: str
) -> None:
    times, data = made_lines()
    send(tmp_path, data, url=f"{url}{PRESETS[preset]}", preset=preset, compression=compression)
    entries = stored(url, LINES)
    assert sorted(milliseconds(entry["_time"]) for entry in entries) == times
    texts = {value for entry in entries for value in entry.values()}
    records = [json.loads(line)["record"] for line in data.splitlines()]
    whole = {line.decode() for line in data.splitlines()}
    assert texts >= set(records) or texts >= whole


def test_the_recipe_of_the_page_works(url: str, tmp_path: Path) -> None:
    times, data = made_lines()
    keys = recipe("victorialogs")
    keys["url"] = keys["url"].replace("http://victorialogs.internal:9428", url)
    send(tmp_path, data, **keys)
    entries = stored(url, LINES)
    assert sorted(milliseconds(entry["_time"]) for entry in entries) == times
    assert {entry["_msg"] for entry in entries} == {
        json.loads(line)["record"] for line in data.splitlines()
    }
    assert {entry["_stream"] for entry in entries} == {'{type="function"}'}

"""A real Grafana Loki: what it takes of the preset, what it refuses, and in which words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from helpers.loki import BUILD_LIMIT, build, running, stored
from telemetryd.sinks.http.config import HttpConfig
from telemetryd.sinks.http.sink import HttpSink
from telemetryd.testing import LogBook, Rig, block, context

pytestmark = [pytest.mark.peers, pytest.mark.timeout(BUILD_LIMIT + 300)]

QUERY = '{service_name="orders", env="test"}'


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A Loki that holds nothing."""
    with running(build(), tmp_path / "loki") as url:
        yield url


def line(record: str, age: timedelta) -> bytes:
    time = (datetime.now(UTC) - age).isoformat(timespec="milliseconds")[:23]
    return b'{"time":"%bZ","type":"function","record":"%b"}' % (time.encode(), record.encode())


def deliver(url: str, lines: list[bytes]) -> Rig:
    given = {
        "type": "http", "preset": "loki", "url": url, "linger_ms": 0, "compression": "gzip",
        "labels": {"env": "test"},
    }  # fmt: skip
    config = msgspec.convert(given, HttpConfig)
    log = LogBook()
    rig = Rig(HttpSink(config, context(log)), config, log=log)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer([block(*lines[:300]), block(*lines[300:])])
        await rig.flush()
        await rig.stop()

    asyncio.run(scenario())
    rig.check_end()
    return rig


def test_lines_are_stored_once_and_what_is_refused_has_loki_s_reason(url: str) -> None:
    lines = [line(f"line {number}", timedelta(seconds=60)) for number in range(500)]
    bad = {
        100: line("old", timedelta(days=30)),
        200: line("new", -timedelta(hours=5)),
        350: line("x" * 300_000, timedelta()),
        # so far behind what the stream has already that it is out of order
        450: line("behind", timedelta(hours=20)),
    }
    good = [text for number, text in enumerate(lines) if number not in bad]
    rig = deliver(url, [bad.get(number, text) for number, text in enumerate(lines)])
    assert rig.lines() == {
        "delivered": 496, "dropped.too_old": 1, "dropped.too_new": 1,
        "dropped.line_too_long": 1, "dropped.out_of_order": 1,
    }  # fmt: skip
    found = stored(url, QUERY, 500)
    assert sorted(text for _, text in found) == sorted(text.decode() for text in good)
    for time, text in found:
        sent = datetime.fromisoformat(text[9:33])
        assert int(time) == round(sent.timestamp() * 1000) * 1_000_000

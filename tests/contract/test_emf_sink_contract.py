"""The EMF sink under the Sink contract, printing and calling CloudWatch Logs.

The suite's numbered lines are no events of the platform and make no document, so its failures meet
the bookkeeping only. The tests after it deliver invocations through a worker and read back what
arrived: in a pipe, and in a server that enforces the limits of PutLogEvents.
"""

# ruff: noqa: D101, D102 - the base class says it
from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.test_stdout_sink_contract import full_stdout, stdout_as_pipe
from helpers.emf_streams import block, done, metrics, report, start
from helpers.fake_logs import TAKE, FakeLogs, fake_logs
from telemetryd.log import utc_timestamp
from telemetryd.sinks.base import SinkConfig
from telemetryd.sinks.emf.config import EmfConfig
from telemetryd.sinks.emf.sink import EmfSink
from telemetryd.testing import (
    LOOPS,
    LogBook,
    LoopFactory,
    Rig,
    SinkContract,
    context,
    dead_letter_at,
    run,
)
from telemetryd_proto.framing import Block


def emf_config(**keys: object) -> EmfConfig:
    every = {"type": "emf", "linger_ms": 0, "metrics": ["*"], "count_log_errors": False}
    return msgspec.convert({**every, **keys}, EmfConfig)


class TestEmfSink(SinkContract):
    sink_class = EmfSink
    patience_seconds = 60.0  # a busy machine's

    def config(self, directory: Path, **keys: object) -> SinkConfig:
        return emf_config(**keys)


class TestEmfSinkThroughLogs(SinkContract):
    sink_class = EmfSink
    patience_seconds = 60.0  # a busy machine's

    @pytest.fixture(autouse=True)
    def _server(self, server: FakeLogs) -> None:
        self.server = server

    def config(self, directory: Path, **keys: object) -> SinkConfig:
        return emf_config(delivery="logs", endpoint_url=self.server.url, region="eu-west-1", **keys)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeLogs]:
    with fake_logs() as running:
        yield running


# -- documents that arrive -------------------------------------------------------------------

Arrived = Callable[[], list[dict[str, Any]]]


class Through:
    """One way of delivery: how to configure it, what arrived, and how to break it."""

    def __init__(
        self,
        keys: Mapping[str, object],
        arrived: Arrived,
        outage: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self.keys = keys
        self.arrived = arrived
        self.outage = outage

    def rig(self, *, log: LogBook | None = None, **more: Any) -> Rig:
        config = emf_config(**self.keys)
        book = log or LogBook()
        return Rig(EmfSink(config, context(book)), config, log=book, **more)

    def total(self, metric: str) -> float:
        return sum(sum(metrics(document).get(metric, [])) for document in self.arrived())


@contextmanager
def printed(directory: Path) -> Iterator[Through]:
    with stdout_as_pipe() as reader:

        def arrived() -> list[dict[str, Any]]:
            data = reader.everything(1)
            assert data.endswith(b"\n")
            return [json.loads(line) for line in data.splitlines()]

        yield Through({}, arrived, full_stdout)


@contextmanager
def through_logs(directory: Path) -> Iterator[Through]:
    with fake_logs() as server:

        @contextmanager
        def outage() -> Iterator[None]:
            server.down = True
            yield
            server.down = False

        keys = {"delivery": "logs", "endpoint_url": server.url, "region": "eu-west-1"}
        yield Through(keys, lambda: [json.loads(m) for m in server.messages()], outage)


DELIVERIES = pytest.mark.parametrize("way", [printed, through_logs])


def invocations(first: int, count: int) -> list[Block]:
    """A block for each invocation, of this minute: CloudWatch Logs refuses old events."""
    now = utc_timestamp(time.time())
    return [
        block([start(f"{i}", now), done(f"{i}", now), report(f"{i}", now)])
        for i in range(first, first + count)
    ]


@LOOPS
@DELIVERIES
def test_every_invocation_arrives_once(
    tmp_path: Path, loop_factory: LoopFactory, way: Callable[[Path], Any]
) -> None:
    with way(tmp_path) as through:
        rig = through.rig()

        async def scenario() -> None:
            rig.worker.start()
            for first in range(0, 500, 125):
                rig.offer(invocations(first, 125))
                assert await rig.flush()
                rig.check_balance()
            await rig.stop()

        run(loop_factory, scenario())
        rig.check_end()
        assert rig.lines() == {"delivered": 1500}
        assert through.total("invocations") == 500
        assert through.total("duration") == 500 * 12.5
        assert {d["function_name"] for d in through.arrived()} == {"orders"}


@LOOPS
@DELIVERIES
def test_after_an_outage_everything_arrives_once(
    tmp_path: Path, loop_factory: LoopFactory, way: Callable[[Path], Any]
) -> None:
    with way(tmp_path) as through:
        rig = through.rig()

        async def scenario() -> None:
            rig.worker.start()
            rig.offer(invocations(0, 5))
            assert await rig.flush()
            failed = asyncio.Event()
            rig.log.on_event["write_failed"] = failed.set
            with through.outage():
                rig.offer(invocations(5, 5))
                await failed.wait()
                rig.check_balance()
            rig.offer(invocations(10, 5))
            assert await rig.flush()
            await rig.stop()

        run(loop_factory, scenario())
        rig.check_end()
        assert rig.lines() == {"delivered": 45}
        assert through.total("invocations") == 15


@LOOPS
def test_rejected_log_events_are_lost_with_their_reason(
    tmp_path: Path, loop_factory: LoopFactory
) -> None:
    with through_logs(tmp_path) as through:
        letters = tmp_path / "dead-letter.ndjson"
        dead_letter = dead_letter_at(letters)
        rig = through.rig(dead_letter=dead_letter)
        old = [start("old", "2020-03-14T10:15:30.000Z"), done("old", "2020-03-14T10:15:31.000Z")]

        async def scenario() -> None:
            rig.worker.start()
            rig.offer([*invocations(0, 2), block(old)])
            assert await rig.flush()
            await rig.stop()

        run(loop_factory, scenario())
        dead_letter.close()
        rig.check_end()
        assert rig.lines() == {"delivered": 6, "dead_lettered": 2}
        assert "too_old" in letters.read_text()
        assert through.total("invocations") == 2


@LOOPS
def test_throttling_and_errors_between_calls_cost_nothing(
    tmp_path: Path, loop_factory: LoopFactory
) -> None:
    with fake_logs() as server:
        server.script = [
            ("ThrottlingException", 400), ("ServiceUnavailableException", 503), TAKE,
            ("InternalFailure", 500),
        ]  # fmt: skip
        config = emf_config(delivery="logs", endpoint_url=server.url, region="eu-west-1")
        log = LogBook()
        rig = Rig(EmfSink(config, context(log)), config, log=log)

        async def scenario() -> None:
            rig.worker.start()
            for first in (0, 3, 6):
                rig.offer(invocations(first, 3))
                assert await rig.flush()
            await rig.stop()

        run(loop_factory, scenario())
        rig.check_end()
        assert rig.lines() == {"delivered": 27}
        total = sum(json.loads(message)["invocations"] for message in server.messages())
        assert total == 9


@LOOPS
def test_without_permission_lines_are_lost_with_one_clear_reason(
    tmp_path: Path, loop_factory: LoopFactory
) -> None:
    with fake_logs() as server:
        server.denied.update({"CreateLogStream", "PutLogEvents"})
        config = emf_config(delivery="logs", endpoint_url=server.url, region="eu-west-1")
        log = LogBook()
        rig = Rig(EmfSink(config, context(log)), config, log=log)

        async def scenario() -> None:
            rig.worker.start()
            rig.offer(invocations(0, 2))
            await rig.flush()
            await rig.stop()

        run(loop_factory, scenario())
        rig.check_end()
        assert rig.lines() == {"dropped.access_denied": 6}
        (failed,) = rig.log.facts("write_failed")
        assert "CreateLogStream" in failed["detail"]

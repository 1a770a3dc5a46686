"""PutLogEvents within its limits: what is planned, what the service rejects, what becomes of it."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator

import pytest

from helpers.fake_logs import TAKE, FakeLogs, fake_logs
from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.sinks.aws.logs import (
    EVENT_OVERHEAD,
    MAX_CALL_BYTES,
    MAX_EVENTS,
    MAX_MESSAGE_BYTES,
    LogEvent,
    LogsDelivery,
    plan,
    rejections,
)
from telemetryd.sinks.base import ClientName, Failure, WriteResult
from telemetryd.testing import LOOPS, LoopFactory, context, run

CLIENT: ClientName = "auto"
DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def server() -> Iterator[FakeLogs]:
    with fake_logs() as running:
        yield running


@pytest.fixture(autouse=True, params=["aiobotocore", "lean"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is true of both clients."""
    monkeypatch.setattr(sys.modules[__name__], "CLIENT", request.param)


def delivery(server: FakeLogs) -> LogsDelivery:
    return LogsDelivery(
        "/my/group", "stream", context(), client=CLIENT, region="eu-west-1",
        endpoint_url=server.url,
    )  # fmt: skip


def now_ms() -> int:
    import time

    return int(time.time() * 1000)


def events(*ages_ms: int) -> list[LogEvent]:
    now = now_ms()
    return [LogEvent(now - age, b"event %d" % index) for index, age in enumerate(ages_ms)]


def write(
    loop_factory: LoopFactory, subject: LogsDelivery, *batches: list[LogEvent]
) -> list[WriteResult | SinkError]:
    """The result of each batch, or the error it raised."""

    async def scenario() -> list[WriteResult | SinkError]:
        results: list[WriteResult | SinkError] = []
        for batch in batches:
            try:
                results.append(await subject.write(batch))
            except SinkError as error:
                results.append(error)
        await subject.close()
        await subject.close()
        return results

    return run(loop_factory, scenario())


# -- planning --------------------------------------------------------------------------------


def test_calls_are_in_order_of_time_and_equal_times_keep_theirs() -> None:
    times = [5, 1, 5, 3, 1]
    (call,) = plan([LogEvent(at, b"x") for at in times])
    assert call == [1, 4, 3, 0, 2]


def test_a_call_has_at_most_10_000_events() -> None:
    sizes = [len(call) for call in plan([LogEvent(0, b"x")] * (2 * MAX_EVENTS + 1))]
    assert sizes == [MAX_EVENTS, MAX_EVENTS, 1]


def test_a_call_is_filled_to_its_last_byte_and_not_beyond() -> None:
    half = MAX_CALL_BYTES // 2 - EVENT_OVERHEAD
    assert [len(c) for c in plan([LogEvent(0, b"x" * half)] * 2)] == [2]
    longer = [LogEvent(0, b"x" * half), LogEvent(0, b"x" * (half + 1))]
    assert [len(c) for c in plan(longer)] == [1, 1]


def test_a_message_of_the_largest_size_goes_alone_and_a_larger_one_nowhere() -> None:
    largest = LogEvent(0, b"x" * MAX_MESSAGE_BYTES)
    larger = LogEvent(0, b"x" * (MAX_MESSAGE_BYTES + 1))
    assert list(plan([largest, larger, LogEvent(0, b"x")])) == [[0], [2]]


def test_a_call_spans_less_than_a_day() -> None:
    calls = list(plan([LogEvent(at, b"x") for at in (0, DAY_MS - 1, DAY_MS, DAY_MS + 1)]))
    assert calls == [[0, 1], [2, 3]]


def test_any_plan_holds_each_event_once_and_keeps_every_limit() -> None:
    rng = random.Random(7)
    some = [
        LogEvent(rng.randrange(4 * DAY_MS), b"x" * rng.choice((1, 500, 300_000)))
        for _ in range(400)
    ]
    calls = list(plan(some))
    assert sorted(index for call in calls for index in call) == list(range(400))
    for call in calls:
        times = [some[index].timestamp for index in call]
        assert times == sorted(times)
        assert times[-1] - times[0] < DAY_MS
        assert sum(len(some[i].message) + EVENT_OVERHEAD for i in call) <= MAX_CALL_BYTES


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (None, []),
        ({}, []),
        ({"tooNewLogEventStartIndex": 3}, [(3, "too_new"), (4, "too_new")]),
        ({"tooNewLogEventStartIndex": 0}, [(i, "too_new") for i in range(5)]),
        ({"tooOldLogEventEndIndex": 1}, [(0, "too_old")]),
        (
            {"tooOldLogEventEndIndex": 1, "expiredLogEventEndIndex": 2},
            [(0, "too_old"), (1, "expired")],
        ),
        ({"tooOldLogEventEndIndex": 99}, [(i, "too_old") for i in range(5)]),
        ({"expiredLogEventEndIndex": "2"}, []),
    ],
)
def test_rejected_positions_are_named_once_each(
    info: dict[str, object] | None, expected: list[tuple[int, str]]
) -> None:
    assert list(rejections(info, 5)) == expected


# -- against a server ------------------------------------------------------------------------


@LOOPS
def test_group_and_stream_are_made_once(server: FakeLogs, loop_factory: LoopFactory) -> None:
    results = write(loop_factory, delivery(server), events(3, 2), events(1))
    assert results == [WriteResult(), WriteResult()]
    assert server.calls == [
        "CreateLogStream", "CreateLogGroup", "CreateLogStream", "PutLogEvents", "PutLogEvents",
    ]  # fmt: skip
    assert list(server.groups) == ["/my/group"]
    assert server.messages() == ["event 0", "event 1", "event 0"]


@LOOPS
def test_a_stream_that_exists_is_used(server: FakeLogs, loop_factory: LoopFactory) -> None:
    server.groups["/my/group"] = {"stream": []}
    server.denied.add("CreateLogGroup")
    assert write(loop_factory, delivery(server), events(1)) == [WriteResult()]
    assert server.calls == ["CreateLogStream", "PutLogEvents"]


@LOOPS
def test_a_stream_deleted_meanwhile_is_made_again(
    server: FakeLogs, loop_factory: LoopFactory
) -> None:
    subject = delivery(server)

    async def scenario() -> None:
        await subject.open()
        server.groups.clear()
        with pytest.raises(TransientSinkError) as caught:
            await subject.write(events(1))
        assert caught.value.code == "log_stream_missing"
        assert await subject.write(events(1)) == WriteResult()
        await subject.close()

    run(loop_factory, scenario())
    assert server.messages() == ["event 0"]


@LOOPS
def test_events_outside_the_window_are_refused_one_by_one(
    server: FakeLogs, loop_factory: LoopFactory
) -> None:
    batch = events(0, 15 * DAY_MS, -3 * 3600 * 1000, 1)
    (result,) = write(loop_factory, delivery(server), batch)
    assert isinstance(result, WriteResult)
    assert set(result.failures) == {
        Failure(1, "too_old", retryable=False), Failure(2, "too_new", retryable=False),
    }  # fmt: skip
    assert server.messages() == ["event 3", "event 0"]


# aiohttp warns of bodies over 1 MiB, which 10,000 events can reach; no one sees it in production
@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
@LOOPS
def test_many_large_old_and_new_events_keep_every_limit(
    server: FakeLogs, loop_factory: LoopFactory
) -> None:
    now = now_ms()
    batch = [LogEvent(now - age * DAY_MS // 4, b"x" * 90_000) for age in (*range(40), *range(40))]
    batch += [LogEvent(now, b"y")] * 10_500 + [LogEvent(now, b"z" * (MAX_MESSAGE_BYTES + 1))]
    (result,) = write(loop_factory, delivery(server), batch)
    assert result == WriteResult((Failure(len(batch) - 1, "too_large", retryable=False),))
    assert len(server.messages()) == len(batch) - 1


@LOOPS
@pytest.mark.parametrize(
    ("code", "status", "retryable"),
    [
        ("ThrottlingException", 400, True),
        ("ServiceUnavailableException", 500, True),
        ("InvalidParameterException", 400, False),
        ("AccessDeniedException", 400, False),
    ],
)
def test_an_error_of_the_first_call_is_one_of_the_batch(
    server: FakeLogs, loop_factory: LoopFactory, code: str, status: int, retryable: bool
) -> None:
    server.script = [(code, status)]
    error, after = write(loop_factory, delivery(server), events(1), events(1))
    assert isinstance(error, TransientSinkError if retryable else PermanentSinkError)
    assert after == WriteResult()


@LOOPS
def test_an_error_of_a_later_call_leaves_what_was_accepted(
    server: FakeLogs, loop_factory: LoopFactory
) -> None:
    server.script = [TAKE, ("ThrottlingException", 400)]
    batch = events(0, 25 * 3600 * 1000, 50 * 3600 * 1000)
    (result,) = write(loop_factory, delivery(server), batch)
    assert isinstance(result, WriteResult)
    assert result.failures == (
        Failure(1, "throttled", retryable=True), Failure(0, "throttled", retryable=True),
    )  # fmt: skip
    assert server.messages() == ["event 2"]


@LOOPS
def test_without_permission_to_make_the_stream_there_is_one_clear_error(
    server: FakeLogs, loop_factory: LoopFactory
) -> None:
    server.denied.add("CreateLogStream")
    (error,) = write(loop_factory, delivery(server), events(1))
    assert isinstance(error, PermanentSinkError)
    assert error.code == "access_denied"
    assert "CreateLogStream" in error.detail


@LOOPS
def test_a_server_that_hangs_up_is_a_transient_error(
    server: FakeLogs, loop_factory: LoopFactory
) -> None:
    server.down = True
    (error,) = write(loop_factory, delivery(server), events(1))
    assert isinstance(error, TransientSinkError)

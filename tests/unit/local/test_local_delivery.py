"""One subscription on a real socket: batches, back-pressure, drops, freeze, and its account."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Container, Sequence

import pytest

from telemetryd.local.events import PlatformEvent
from telemetryd.local.losses import How
from telemetryd.local.senders import TcpSender
from telemetryd.local.subscriber import SLOW, Buffering, Subscription, SubscriptionStats

BIG = Buffering(max_items=10_000, max_bytes=1 << 20, timeout_ms=30_000)
LIMIT = 60


@contextlib.asynccontextmanager
async def subscribed(
    buffering: Buffering = BIG,
    types: Sequence[str] = ("platform", "function"),
    stall_timeout: float = 0.05,
    lost: Container[str] = (),
) -> AsyncIterator[tuple[Subscription, socket.socket, list[PlatformEvent]]]:
    """A subscription, the reading end of its socket, and what it reported."""
    reading, writing = socket.socketpair()
    writing.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    for end in (reading, writing):
        end.setblocking(False)
    reports: list[PlatformEvent] = []
    subscription = Subscription(
        sender=TcpSender(writing),
        types=types,
        schema="2025-01-29",
        buffering=buffering,
        stall_timeout=stall_timeout,
        stats=SubscriptionStats("test", 1),
        on_pressure=lambda: None,
        on_dropped=reports.append,
        loses=lambda event_type: "drop" if event_type in lost else None,
    )
    try:
        yield subscription, reading, reports
    finally:
        await subscription.close()
        reading.close()


async def receive(reading: socket.socket, lines: int) -> list[bytes]:
    """Read until so many lines have arrived."""
    data = b""
    async with asyncio.timeout(LIMIT):
        while data.count(b"\n") < lines:
            data += await asyncio.get_running_loop().sock_recv(reading, 65_536)
    return data.split(b"\n")[:-1]


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until something is so."""
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110 - the subject has no event for it
            await asyncio.sleep(0.001)


def events(count: int, size: int = 10) -> list[bytes]:
    """Distinguishable events."""
    return [f'{{"n":{number},"pad":"{"x" * size}"}}'.encode() for number in range(count)]


def test_max_items_cuts_one_offer_into_batches() -> None:
    """2,500 events at 1,000 a batch: two go, 500 wait for the timer."""

    async def scenario() -> SubscriptionStats:
        async with subscribed(Buffering(1_000, 1 << 20, 30_000)) as (subscription, reading, _):
            offered = events(2_500)
            subscription.offer(offered)
            assert await receive(reading, 2_000) == offered[:2_000]
            await until(lambda: subscription.stats.batches == 2)
        return subscription.stats

    stats = asyncio.run(scenario())
    assert (stats.offered, stats.sent, stats.undelivered) == (2_500, 2_000, 500)


def test_the_timer_sends_what_is_there() -> None:
    """A single event goes after `timeoutMs`, counted from the first of its batch."""

    async def scenario() -> list[bytes]:
        async with subscribed(Buffering(1_000, 1 << 20, 25)) as (subscription, reading, _):
            subscription.offer(events(1))
            return await receive(reading, 1)

    assert asyncio.run(scenario()) == events(1)


def test_a_slow_consumer_blocks_before_it_drops() -> None:
    """With a batch in flight and one waiting the source has to pause; reading releases it."""

    async def scenario() -> SubscriptionStats:
        buffering = Buffering(1_000, 1 << 20, 30_000)
        async with subscribed(buffering, stall_timeout=LIMIT) as (subscription, reading, _):
            offered = events(3_000, size=200)
            subscription.offer(offered[:1_000])
            await asyncio.sleep(0)
            subscription.offer(offered[1_000:])
            await until(lambda: subscription.is_blocked)
            assert await receive(reading, 3_000) == offered
            await until(lambda: not subscription.is_blocked and subscription.stats.batches == 3)
        return subscription.stats

    stats = asyncio.run(scenario())
    assert (stats.sent, stats.dropped, stats.stalls) == (3_000, 0, 0)
    assert stats.blocked > 0


def test_a_stalled_consumer_loses_whole_batches_and_is_told_when_it_reads() -> None:
    """Everything but the batch in flight; then `platform.logsDropped` with the sum comes first."""

    async def scenario() -> tuple[SubscriptionStats, bool, list[bytes], list[PlatformEvent]]:
        buffering = Buffering(1_000, 1 << 20, 25)
        async with subscribed(buffering) as (subscription, reading, reports):
            offered = events(1_000, size=200)
            subscription.offer(offered)
            subscription.offer(offered)
            await until(lambda: subscription.stats.stalls == 1)
            assert not subscription.is_blocked
            subscription.offer(offered)
            assert subscription.stats.dropped == 2_000
            assert reports == []
            first = await receive(reading, 1_000)
            subscription.offer([b'{"after":1}'])
            rest = await receive(reading, 2)
        return subscription.stats, first == offered, rest, reports

    stats, whole, rest, (told,) = asyncio.run(scenario())
    assert whole
    assert told.record == {
        "droppedRecords": 2_000,
        "droppedBytes": stats.dropped_bytes,
        "reason": SLOW,
    }
    assert rest[0] == told.encode("2025-01-29")
    assert rest[1] == b'{"after":1}'
    assert stats.announced == stats.dropped == 2_000
    assert stats.offered == stats.sent + stats.dropped + stats.undelivered


def test_without_platform_events_the_loss_is_not_told() -> None:
    """A subscription to `function` gets no logsDropped; the account knows."""

    async def scenario() -> tuple[SubscriptionStats, list[bytes]]:
        async with subscribed(Buffering(1_000, 1 << 20, 25), ("function",)) as (
            subscription,
            reading,
            reports,
        ):
            offered = events(1_000, size=200)
            subscription.offer(offered)
            subscription.offer(offered)
            await until(lambda: subscription.stats.stalls == 1)
            await receive(reading, 1_000)
            await until(lambda: reports)
            subscription.offer([b'{"after":1}'])
            return subscription.stats, await receive(reading, 1)

    stats, rest = asyncio.run(scenario())
    assert rest == [b'{"after":1}']
    assert stats.announced == 1_000


def test_frozen_means_no_byte_and_no_timer() -> None:
    """Neither a waiting batch nor a running timer goes; after the thaw both do."""

    async def scenario() -> tuple[bytes, int, list[bytes]]:
        async with subscribed(Buffering(1_000, 1 << 20, 25)) as (subscription, reading, _):
            subscription.offer(events(1))
            subscription.freeze()
            subscription.offer(events(1_000))
            # Time has to pass for the timer to have had its chance.
            await asyncio.sleep(0.1)
            try:
                early = reading.recv(1)
            except BlockingIOError:
                early = b""
            sent = subscription.stats.sent
            subscription.thaw()
            return early, sent, await receive(reading, 1_001)

    early, sent, received = asyncio.run(scenario())
    assert (early, sent) == (b"", 0)
    assert received == events(1) + events(1_000)


def test_a_freeze_stops_the_buffer_timer_too() -> None:
    """What comes after the freeze still joins the batch that was begun before it."""

    async def scenario() -> int:
        async with subscribed(Buffering(1_000, 1 << 20, 50)) as (subscription, reading, _):
            first, second = events(2)
            subscription.offer([first])
            subscription.freeze()
            # Time has to pass for the timer to have had its chance.
            await asyncio.sleep(0.15)
            subscription.thaw()
            subscription.offer([second])
            assert await receive(reading, 2) == [first, second]
            await until(lambda: subscription.stats.sent == 2)
            return subscription.stats.batches

    assert asyncio.run(scenario()) == 1


def test_a_frozen_consumer_is_not_stalled() -> None:
    """It cannot read: the time of a freeze does not count."""

    async def scenario() -> int:
        async with subscribed(Buffering(1_000, 1 << 20, 25)) as (subscription, reading, _):
            subscription.offer(events(1_000, size=200))
            await asyncio.sleep(0.01)
            subscription.freeze()
            before = subscription.stats.stalls  # on a busy machine that was longer than meant
            await asyncio.sleep(0.1)
            stalls = subscription.stats.stalls
            subscription.thaw()
            await receive(reading, 1_000)
            return stalls - before

    assert asyncio.run(scenario()) == 0


def test_a_closed_connection_drops_every_later_batch() -> None:
    """No reconnection: as AWS's emulator does. The function is not delayed."""

    async def scenario() -> tuple[SubscriptionStats, list[PlatformEvent]]:
        async with subscribed(Buffering(1_000, 1 << 20, 25)) as (subscription, reading, reports):
            reading.close()
            for _ in range(3):
                subscription.offer(events(1_000))
                await until(lambda: not subscription.is_blocked)
            await until(lambda: subscription.stats.dropped == 3_000)
            return subscription.stats, reports

    stats, reports = asyncio.run(scenario())
    assert (stats.sent, stats.dropped, reports) == (0, 3_000, [])


def test_what_is_left_at_the_end_is_accounted_for() -> None:
    """Of an interrupted write, the events that left wholly count as sent."""

    async def scenario() -> tuple[SubscriptionStats, int]:
        async with subscribed(stall_timeout=LIMIT) as (subscription, reading, _):
            subscription.offer(events(5_000, size=500))
            await until(lambda: reading.recv(1, socket.MSG_PEEK) if _readable(reading) else False)
            await subscription.close()
            received = b""
            while chunk := reading.recv(1 << 20):
                received += chunk
            return subscription.stats, received.count(b"\n")

    stats, received = asyncio.run(scenario())
    assert stats.sent == received
    assert stats.undelivered == 5_000 - received
    assert 0 < received < 5_000


def _readable(reading: socket.socket) -> bool:
    try:
        return bool(reading.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_events_lost_on_demand_do_not_come_and_are_counted() -> None:
    """The others do, in their order."""

    async def scenario() -> None:
        async with subscribed() as (subscription, reading, _):
            first, lost, last = events(3)
            subscription.offer([first])
            subscription.offer([lost], "drop")
            subscription.offer([last])
            subscription.hurry()
            assert await receive(reading, 2) == [first, last]
        assert (subscription.stats.sent, subscription.stats.lost) == (2, 1)

    asyncio.run(scenario())


def test_late_events_come_when_they_are_released() -> None:
    """Behind what was offered before; what never is released is lost."""

    async def scenario() -> None:
        async with subscribed() as (subscription, reading, _):
            late, on_time, never = events(3)
            subscription.offer([late], "late")
            subscription.offer([on_time])
            subscription.release()
            subscription.hurry()
            assert await receive(reading, 2) == [on_time, late]
            subscription.offer([never], "late")
        assert (subscription.stats.sent, subscription.stats.lost) == (2, 1)

    asyncio.run(scenario())


def test_trailing_events_come_in_a_batch_of_their_own() -> None:
    """Behind the one that was being filled, which goes at once; what never may trail is lost."""

    async def scenario() -> None:
        async with subscribed() as (subscription, reading, _):
            trailing, on_time, never = events(3)
            subscription.trail()
            subscription.offer([trailing], "trail")
            subscription.offer([on_time])
            subscription.release()
            subscription.trail()
            assert await receive(reading, 1) == [on_time]
            subscription.hurry()
            assert await receive(reading, 1) == [trailing]
            subscription.offer([never], "trail")
        assert (subscription.stats.sent, subscription.stats.lost) == (2, 1)
        assert subscription.stats.batches == 2

    asyncio.run(scenario())


def test_a_garbled_line_is_half_of_itself_and_the_next_is_whole() -> None:
    """Both are sent."""

    async def scenario() -> None:
        async with subscribed() as (subscription, reading, _):
            broken, whole = events(2)
            subscription.offer([broken], "garble")
            subscription.offer([whole])
            subscription.hurry()
            assert await receive(reading, 2) == [broken[: len(broken) // 2], whole]
        assert (subscription.stats.sent, subscription.stats.garbled) == (2, 1)

    asyncio.run(scenario())


def test_a_lost_batch_is_told_in_the_next_one() -> None:
    """Whole, the events around the one that was meant included."""

    async def scenario() -> None:
        async with subscribed() as (subscription, reading, reports):
            batch = events(3)
            subscription.offer(batch[:1])
            subscription.offer(batch[1:2], "batch")
            subscription.offer(batch[2:])
            subscription.hurry()
            subscription.hurry()
            (notice,) = await receive(reading, 1)
            assert b'"droppedRecords":3' in notice
            assert notice == reports[0].encode("2025-01-29")
        stats = subscription.stats
        assert (stats.offered, stats.sent, stats.dropped, stats.announced) == (4, 1, 3, 3)

    asyncio.run(scenario())


def test_the_notice_of_a_lost_batch_can_be_lost_too() -> None:
    """Then only the account reports it."""

    async def scenario() -> None:
        async with subscribed(lost=("platform.logsDropped",)) as (subscription, reading, _):
            batch, after = events(2)
            subscription.offer([batch], "batch")
            subscription.hurry()
            subscription.offer([after])
            subscription.hurry()
            assert await receive(reading, 1) == [after]
        assert (subscription.stats.dropped, subscription.stats.lost) == (1, 1)

    asyncio.run(scenario())


@pytest.mark.parametrize(("how", "rest"), [("close", 0), ("cut", 1), ("stall", 1)])
def test_delivery_ends_at_an_event_on_demand(how: How, rest: int) -> None:
    """What was before it comes whole; then half a line or nothing; then EOF or silence."""

    async def scenario() -> None:
        async with subscribed() as (subscription, reading, _):
            before, event, after = events(3)
            subscription.offer([before])
            subscription.offer([event], how)
            subscription.offer([after])
            subscription.hurry()
            half = event[: len(event) // 2] * rest
            expected = before + b"\n" + half
            data = b""
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(LIMIT):
                while len(data) < len(expected):
                    data += await loop.sock_recv(reading, 65_536)
                assert data == expected
                if how == "stall":
                    with pytest.raises(BlockingIOError):
                        reading.recv(1)
                else:
                    assert await loop.sock_recv(reading, 1) == b""
        stats = subscription.stats
        assert (stats.offered, stats.sent, stats.lost) == (3, 1, 2)

    asyncio.run(scenario())

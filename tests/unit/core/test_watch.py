"""The byte search for life-cycle events: finds all, and nothing that only looks like one."""

import pytest

from helpers.scanner import each_scanner  # noqa: F401 - each test runs with each
from telemetryd.core.watch import LIFE_CYCLE, LOSSES, EventWatch
from telemetryd_proto.envelope import Envelope


def watched_events(data: bytes) -> list[Envelope]:
    return EventWatch(LIFE_CYCLE).find(data)


def event(kind: str, record: str = "{}") -> bytes:
    return f'{{"time":"2026-03-14T10:15:29.671Z","type":"{kind}","record":{record}}}\n'.encode()


@pytest.mark.parametrize("kind", sorted(LIFE_CYCLE))
def test_each_watched_type_is_found_wherever_it_stands(kind: str) -> None:
    noise = event("function", '"x"')
    for data in (event(kind) + noise, noise + event(kind), noise + event(kind) + noise):
        assert [found.type for found in watched_events(data)] == [kind]


def test_order_is_kept_and_none_is_missed() -> None:
    kinds = ["platform.runtimeDone", "platform.report", "platform.logsDropped"]
    data = b"".join(event(kind) for kind in kinds * 3)
    assert [found.type for found in watched_events(data)] == kinds * 3


def test_the_record_comes_with_the_event() -> None:
    (found,) = watched_events(event("platform.report", '{"requestId":"r-1"}'))
    assert bytes(found.record) == b'{"requestId":"r-1"}'


def test_other_platform_events_are_passed_over() -> None:
    assert watched_events(event("platform.initStart") + event("platform.reportX")) == []


@pytest.mark.parametrize(
    "record",
    [
        r'"they said \"platform.report\" aloud"',
        '{"message":"platform.report"}',
        '{"type":"platform.report"}',
        '["platform.runtimeDone"]',
    ],
)
def test_text_that_only_mentions_an_event_is_not_one(record: str) -> None:
    assert watched_events(event("function", record)) == []


def test_an_event_whose_record_mentions_another_is_found_once() -> None:
    data = event("platform.report", '{"requestId":"platform.report"}')
    assert len(watched_events(data)) == 1


def test_key_order_and_spaces_do_not_matter() -> None:
    data = b'{"record": {"note": "platform.x"}, "type": "platform.report", "time": ""}\n'
    assert [found.type for found in watched_events(data)] == ["platform.report"]


def test_a_broken_candidate_costs_nothing_but_itself() -> None:
    data = b'{"type":"platform.report",\n' + event("platform.report") + b'"platform.report"\n'
    assert [found.type for found in watched_events(data)] == ["platform.report"]


def test_one_type_alone_is_watched_the_same_way() -> None:
    data = event("platform.report") + event("platform.logsDropped") + event("platform.logs")
    assert [found.type for found in EventWatch(LOSSES).find(data)] == ["platform.logsDropped"]


def test_a_name_that_no_line_has_as_its_type_ends_the_search() -> None:
    """Lines that only look like events are passed over, however many there are."""
    data = b'{"type":"platform.start","record":{}}\n' + b'["platform.start",1]\n' * 100
    watch = EventWatch(LIFE_CYCLE)
    assert [found.type for found in watch.find(data)] == ["platform.start"]
    assert [found.type for found in watch.find(data + data)] == ["platform.start"] * 2
    assert watch.undecodable == 0


def test_a_byte_that_the_name_has_does_not_hide_it() -> None:
    """A type that is looked for by its rarest byte is found behind many others of that byte."""
    data = b"D" * 1000 + b"\n" + b'{"type":"platform.runtimeDone","record":{}}\n'
    data += b"D" * 1000 + b"\n"
    watch = EventWatch(frozenset({"platform.runtimeDone"}))
    assert [found.type for found in watch.find(data)] == ["platform.runtimeDone"]

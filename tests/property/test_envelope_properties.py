"""Decoding under any input: every line gets its own entry, and only protocol errors come out."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from telemetryd.core.watch import LIFE_CYCLE, EventWatch
from telemetryd_proto.envelope import Envelope, decode_block, decode_line
from telemetryd_proto.errors import MalformedAnswer, MalformedRecord, ProtocolError
from telemetryd_proto.events import RECORD_TYPES, decode_record
from telemetryd_proto.extensions_api import decode_next, error_type
from telemetryd_proto.loose import has_huge_number
from telemetryd_proto.timestamps import parse_time

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
EVENTS = st.fixed_dictionaries(
    {"time": st.text(), "type": st.text(), "record": JSON_VALUES},
    optional={"other": JSON_VALUES},
)
EVENT_LINES = st.builds(
    lambda event, ascii_only: json.dumps(event, ensure_ascii=ascii_only).encode(),
    EVENTS,
    st.booleans(),
)
ANY_LINES = st.binary().map(lambda line: line.replace(b"\n", b"\r"))
# Pieces that fit together to events, halves of events, and several events on a line.
PIECES = st.sampled_from(
    [
        '{"type":"a"}',
        '{"time":"t","type":"b","record":{"n":1}}',
        '{"type":"c","record":',
        '{"type":"d"',
        '{"record":[',
        "{}",
        "}",
        "]",
        ",",
        '"type":"e"',
        "1",
        " ",
        "\r",
        "x",
    ]
)
PUZZLE_LINES = st.lists(PIECES, max_size=4).map(lambda pieces: "".join(pieces).encode())


def block_of(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def is_event(line: bytes) -> bool:
    try:
        value = json.loads(line)
    except ValueError:
        return False
    return isinstance(value, dict) and isinstance(value.get("type"), str)


def failure_of(call: Callable[[], object]) -> str | None:
    """The code of the protocol error that `call` raises; any other error fails the test."""
    try:
        call()
    except ProtocolError as error:
        return error.code
    return None


@given(st.lists(EVENTS, max_size=8), st.booleans())
def test_events_come_out_as_they_went_in(sent: list[dict[str, object]], ascii_only: bool) -> None:
    block = block_of([json.dumps(event, ensure_ascii=ascii_only).encode() for event in sent])
    for event, envelope in zip(sent, decode_block(block, len(sent)), strict=True):
        assert envelope is not None
        assert (envelope.time, envelope.type) == (event["time"], event["type"])
        assert json.loads(bytes(envelope.record)) == event["record"]


@given(st.lists(EVENT_LINES | ANY_LINES | PUZZLE_LINES, max_size=12))
def test_a_block_decodes_as_its_lines_do_each_alone(lines: list[bytes]) -> None:
    assert decode_block(block_of(lines), len(lines)) == [decode_line(line) for line in lines]


@given(st.lists(PUZZLE_LINES, max_size=12))
@example([b'{"type":"a"}{"type":"a"}', b'{"type":"c","record":', b"{}}"])
def test_a_line_is_an_event_exactly_if_it_is_one_object_with_a_type(lines: list[bytes]) -> None:
    found = [envelope is not None for envelope in decode_block(block_of(lines), len(lines))]
    assert found == [is_event(line) for line in lines]


@given(
    st.sampled_from(sorted(RECORD_TYPES)) | st.text(),
    JSON_VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(min_size=1),
)
def test_decoding_a_record_raises_nothing_but_malformed_record(type_: str, raw: bytes) -> None:
    envelope = Envelope(type=type_, record=msgspec.Raw(raw))
    assert failure_of(lambda: decode_record(envelope)) in {None, *MalformedRecord.CODES}


ODD_TEXTS = st.one_of(
    JSON_VALUES.map(json.dumps),
    st.sampled_from(
        ["NaN", "-Infinity", "1e999", "1" + "0" * 400, '"\\ud83d"', '"\x01"', '"7"', "7.5"]
    ),
)
"""JSON as peers write it: also what is no JSON."""


def object_of(members: dict[str, str]) -> bytes:
    return ("{" + ",".join(f'"{name}":{text}' for name, text in members.items()) + "}").encode()


@given(
    st.sampled_from(["platform.start", "platform.runtimeDone", "platform.report"]),
    st.dictionaries(
        st.sampled_from(
            ["status", "errorType", "version", "tracing", "spans", "metrics", "tenantId", "other"]
        ),
        ODD_TEXTS,
    ),
    ODD_TEXTS,
)
def test_odd_members_cost_no_event_of_the_life_cycle(
    type_: str, members: dict[str, str], time: str
) -> None:
    """Found on the way that the daemon takes: search, envelope, record."""
    record = object_of({"requestId": '"r"', **members})
    line = object_of({"time": time, "record": record.decode(), "type": f'"{type_}"'}) + b"\n"
    (envelope,) = EventWatch(LIFE_CYCLE).find(line)
    found = decode_record(envelope, lenient=True)
    assert isinstance(found, RECORD_TYPES[type_])
    assert found.request_id == "r"  # type: ignore[union-attr]


@given(
    st.dictionaries(
        st.sampled_from(
            ["requestId", "deadlineMs", "tracing", "invokedFunctionArn", "shutdownReason", "other"]
        ),
        ODD_TEXTS,
    ),
    st.sampled_from(["INVOKE", "SHUTDOWN"]),
)
def test_odd_members_cost_no_answer(members: dict[str, str], kind: str) -> None:
    """Each reads as what it should be, or as none; those that fit are kept."""
    body = object_of({**members, "eventType": f'"{kind}"'})
    event = decode_next(body, lenient=True)
    assert event.event_type == kind
    assert event.deadline_ms is None or type(event.deadline_ms) is int
    assert event.request_id is None or type(event.request_id) is str
    if failure_of(lambda: decode_next(body)) is None and not has_huge_number(body):
        assert event == decode_next(body)
    whole = decode_next(
        object_of({**members, "eventType": f'"{kind}"', "requestId": '"r"'}), lenient=True
    )
    assert whole.request_id == "r"
    whole = decode_next(
        object_of({**members, "eventType": f'"{kind}"', "deadlineMs": "5"}), lenient=True
    )
    assert whole.deadline_ms == 5


@given(
    st.datetimes(timezones=st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))),
    st.integers(0, 9),
)
def test_a_time_stamp_is_read_back(moment: datetime, digits: int) -> None:
    moment = moment.replace(microsecond=0)
    fraction = f".{123456789:09d}"[: digits + 1] if digits else ""
    text = moment.strftime("%Y-%m-%dT%H:%M:%S").zfill(19) + fraction + moment.strftime("%z")
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() + float(f"0{fraction}")
    assert parse_time(text) == pytest.approx(expected, abs=1e-4)


@given(st.text() | st.text(alphabet="0123456789-:.TZ+", max_size=30))
def test_a_time_stamp_is_read_or_refused(text: str) -> None:
    assert failure_of(lambda: parse_time(text)) in {None, "bad_time"}


@given(st.binary() | st.binary().map(lambda tail: b'{"errorType":"' + tail))
def test_any_body_has_an_error_type_or_none(body: bytes) -> None:
    assert len(error_type(body)) <= 128
    for lenient in (False, True):
        assert failure_of(lambda: decode_next(body, lenient=lenient)) in {  # noqa: B023 - at once
            None,
            *MalformedAnswer.CODES,
        }

"""Objects in records and in texts: where they begin, which level and which ids they tell."""

from __future__ import annotations

import json

import pytest

from telemetryd.core.log_level import rank_of, rank_of_object
from telemetryd.core.record import look_into, rank_of_line
from telemetryd.core.request_id import ids_of_object
from telemetryd_proto.envelope import decode_line


def text(value: str) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


@pytest.mark.parametrize("before", ["", " \t\r\n", "\ufeff", " \ufeff "])
def test_an_object_may_stand_behind_blanks_and_a_byte_order_mark(before: str) -> None:
    assert look_into(text(before + '{"level":"warn"}')) == ("", b'{"level":"warn"}')


@pytest.mark.parametrize("value", [" no object", "\ufeff", " [1]"])
def test_a_text_that_begins_as_if_there_were_one_stays_a_text(value: str) -> None:
    assert look_into(text(value)) == (value, b"")


@pytest.mark.parametrize("raw", [b"7", b"null", b'"cut', b"", b"[1]"])
def test_what_is_neither_text_nor_object_has_neither(raw: bytes) -> None:
    assert look_into(raw) == ("", b"")


def test_the_runtimes_layout_with_no_level_of_ours_is_read_as_any_text() -> None:
    line = (
        b'{"time":"t","type":"function","record":"[NOTHING]\\t2026-03-14\\t7\\t[error] it broke"}\n'
    )
    envelope = decode_line(line)
    assert envelope is not None
    assert rank_of_line(line, envelope) == rank_of("error")


@pytest.mark.parametrize(
    ("record", "level"),
    [
        (b'{"level":3}', None),  # syslog's to some, the opposite to others
        (b'{"level":30}', "info"),  # pino
        (b'{"level":400}', "error"),  # Monolog
        (b'{"level":40000}', "error"),  # log4js
        (b"no object", None),
        (b'{"Log.Level":"nothing","SEVERITY_TEXT":"error"}', "error"),
        (b'{"Log.Level":[],"message":"m"}', None),
    ],
)
def test_a_level_by_number_and_by_other_spellings(record: bytes, level: str | None) -> None:
    assert rank_of_object(record) == (rank_of(level) if level else None)


def test_an_id_in_the_object_that_a_message_holds() -> None:
    inner = json.dumps({"requestId": "r-2"})
    assert set(ids_of_object(json.dumps({"message": inner}).encode())) == {"r-2"}


@pytest.mark.parametrize("data", [b"[1]", b'"requestId"', b'{"requestId":'])
def test_what_is_no_object_names_no_request(data: bytes) -> None:
    assert list(ids_of_object(data)) == []

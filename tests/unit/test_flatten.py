"""`telemetryd.flatten`: rows from lines of either format, with ids that deduplication can use."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.flat_lines import LINES, TAGS, flat_rows
from telemetryd.flatten import ForeignLine, rows_of
from telemetryd_proto.flat import FlatLine
from telemetryd_proto.kinesis import Decoded

ID = "ab" * 16 + "-7"
UUID = "5e0f8c2a-1111-4222-8333-944455566677"
EVENT = {"time": "2026-03-14T10:15:29.012Z", "type": "function", "record": "one\n"}


def flatten(*lines: bytes, record_id: str | None = ID, place: str = "0:1") -> list[FlatLine]:
    rows = rows_of(Decoded(record_id, list(lines)), place=place, received_at=1.5)
    for row in rows:
        decoded = json.loads(row.data)
        assert decoded == {name: getattr(row.line, name) for name in decoded}
    return [row.line for row in rows]


def event(**more: Any) -> bytes:
    return json.dumps({**EVENT, **more}).encode()


@settings(deadline=None, max_examples=150)
@given(st.lists(LINES, min_size=1, max_size=20), TAGS)
def test_rows_stay_and_raw_lines_become_the_same_but_for_what_the_sender_knows(
    lines: list[bytes], tags: dict[str, str | int]
) -> None:
    rows = [row.removesuffix(b"\n") for row in flat_rows(lines, tags)[0]]
    kept = rows_of(Decoded(None, rows), place="", received_at=0)
    assert [row.data for row in kept] == rows
    made = flatten(*lines)
    for row, expected in zip(made, flat_rows(lines, {}, one_at_a_time=False)[1], strict=True):
        for name in ("type", "level", "message", "duration_ms", "status", "attributes"):
            assert getattr(row, name) == expected[name]
    assert len({row.record_id for row in made}) == len(lines)


def test_ids_come_from_the_record_or_else_from_its_place() -> None:
    lines = (event(), b"text", event())
    assert flatten(*lines) == flatten(*lines, place="another")
    assert flatten(event(), record_id=None) == flatten(event(), record_id=None)
    places = {flatten(event(), record_id=None, place=str(at))[0].record_id for at in range(9)}
    assert len(places) == 9


def test_fields_in_a_line_fill_its_columns() -> None:
    names = ("function", "version", "instance", "request_id", "trace_id", "tenant_id")
    (row,) = flatten(event(**{name: f"a-{name}" for name in names}))
    assert [getattr(row, name) for name in names] == [f"a-{name}" for name in names]
    (row,) = flatten(event(**dict.fromkeys(names, 7)))
    assert [getattr(row, name) for name in names] == ["", "", "ab" * 16, None, None, None]


def test_only_an_id_in_the_line_names_its_invocation() -> None:
    start = event(type="platform.start", record={"requestId": UUID})
    rows = flatten(start, event(), event(record=f"RequestId: {UUID} x"))
    assert [row.request_id for row in rows] == [UUID, None, UUID]


def test_a_line_without_a_time_has_one_that_a_copy_of_the_record_has_too() -> None:
    assert [row.time for row in flatten(b"text", event())] == [EVENT["time"]] * 2
    assert [row.time for row in flatten(b"text")] == ["1970-01-01T00:00:01.500Z"]


@pytest.mark.parametrize("line", [b"hello", b"", b"[]", b"{}", b'{"time":"now","type":"x"}'])
def test_a_line_is_foreign_only_in_a_record_without_an_id(line: bytes) -> None:
    assert len(flatten(event(), line)) == 2
    with pytest.raises(ForeignLine, match="no row and no event"):
        flatten(event(), line, record_id=None)


def test_a_user_record_of_several_lines_is_foreign() -> None:
    with pytest.raises(ForeignLine, match="no single line"):
        flatten(event() + b"\n" + event())

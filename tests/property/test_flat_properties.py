"""The flat format: whatever a line is, its row has exactly the schema, and nothing is lost."""

from __future__ import annotations

import json
import math
from io import BytesIO
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.flat_lines import (
    IDENTITY,
    KINDS,
    LINES,
    NOW,
    RECORDS,
    TAGS,
    TYPES,
    USUAL_EVENTS,
    dumped,
    flat_rows,
)
from telemetryd.core import flat, record
from telemetryd.core.fields import FieldAdder, RequestTracker
from telemetryd.core.line_filter import LineFilter
from telemetryd.core.log_level import LEVELS
from telemetryd.core.record import rank_of_line
from telemetryd.core.router import OpenBlock, RouteRules, reader_for
from telemetryd_proto.flat import COLUMNS, FlatLine
from telemetryd_proto.framing import Block


@given(st.lists(LINES, min_size=1, max_size=5), TAGS, st.booleans())
def test_each_line_becomes_a_row_of_exactly_the_schema(
    lines: list[bytes], tags: dict[str, str | int], one_at_a_time: bool
) -> None:
    rows, found = flat_rows(lines, tags, one_at_a_time=one_at_a_time)
    assert len(rows) == len(lines)
    for number, (row, values) in enumerate(zip(rows, found, strict=True), 1):
        assert row == msgspec.json.encode(msgspec.json.decode(row)) + b"\n"
        assert tuple(values) == COLUMNS
        assert all(value is None or type(value) is TYPES[key] for key, value in values.items())
        msgspec.json.decode(row, type=FlatLine)
        assert values["record_id"] == f"{IDENTITY['instance']}-{number}"
        assert json.loads(values["tags"] or "{}") == tags
        if values["attributes"] is not None:
            assert isinstance(strict(values["attributes"]), dict)


@given(st.lists(LINES | USUAL_EVENTS, min_size=1, max_size=8), st.booleans())
def test_events_say_the_same_whether_they_are_decoded_once_or_in_turn(
    lines: list[bytes], one_at_a_time: bool
) -> None:
    rows = flat_rows(lines, {}, one_at_a_time=one_at_a_time)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flat._Pass, "_add_usual_event", lambda *_: False)
        assert flat_rows(lines, {}, one_at_a_time=one_at_a_time)[0] == rows


def strict(text: str) -> Any:
    """The value of JSON that every reader takes."""
    text.encode()
    return msgspec.json.decode(text.encode(), type=dict[str, msgspec.Raw])


@given(st.lists(LINES, min_size=1, max_size=4))
def test_level_and_request_are_what_filters_and_fields_find(lines: list[bytes]) -> None:
    begin = [b'{"type":"platform.start","record":{"requestId":"r-1"}}']
    found = flat_rows(begin + lines, {})[1]
    data = b"".join(line + b"\n" for line in begin + lines)
    adder = FieldAdder(["request_id"], {})
    block = Block(data, len(lines) + 1, 1, 0, 0.0)
    reader = reader_for([RouteRules(LineFilter(), adder)])
    opened = OpenBlock(block, RequestTracker(one_at_a_time=True), reader=reader)
    requests = [str(origin) or None for origin in opened.origins]
    assert [values["request_id"] for values in found] == requests
    with pytest.MonkeyPatch.context() as patch:  # the search finds the same, without the short cut
        patch.setattr(record, "usual_id", lambda _: "")
        searched = OpenBlock(block, RequestTracker(one_at_a_time=True), reader=reader)
        assert [str(origin) or None for origin in searched.origins] == requests
    for line, event, values in zip(BytesIO(data), opened.objects, found, strict=True):
        rank = rank_of_line(line, event) if event is not None else None
        assert values["level"] == (None if rank is None else LEVELS[rank])


@given(RECORDS, st.sampled_from(KINDS[:5]), st.booleans())
def test_a_record_is_its_message_or_its_attributes(value: Any, kind: str, ascii_only: bool) -> None:
    line = dumped({"time": NOW, "type": kind, "record": value}, ascii_only=ascii_only)
    (row,) = flat_rows([line], {})[1]
    assert (row["time"], row["type"]) == (NOW, kind)
    if isinstance(value, str):
        shown = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if shown == value:  # no half of a pair, which becomes U+FFFD or is lost with its half
            assert row["message"] == value.removesuffix("\n")
        assert row["attributes"] is None
    elif isinstance(value, dict):
        whole = row["attributes"]
        assert list(strict(whole)) == list(strict(json.dumps(_clean(value))))
    elif value is None or (isinstance(value, float) and not math.isfinite(value)):
        assert row["message"] is None
    else:
        assert isinstance(row["message"], str)


def _clean(value: Any) -> Any:
    """`value` with no half of a pair in its names: they are not compared."""
    return {"".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in k): 1 for k in value}

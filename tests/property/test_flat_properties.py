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
    IDS,
    KINDS,
    LAYOUTS,
    LINES,
    NOW,
    RECORDS,
    TAGS,
    TYPES,
    USUAL_EVENTS,
    VALUES,
    dumped,
    flat_rows,
)
from helpers.scanner import KINDS as KINDS_OF_SCANNER
from helpers.scanner import compiled, using
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


MESSAGES = (
    st.text(st.characters(codec=None), max_size=40)
    | VALUES
    | st.sampled_from(('{"level":"debug"}', ' {"message":"inside"}', "\ufeff{}", '"{"', "}"))
)
USUAL_LOGS = st.builds(
    lambda kind, record, ascii_only, comma: dumped(
        {"time": NOW, "type": kind, "record": record}, ascii_only=ascii_only
    ).replace(b',"', comma),
    st.sampled_from(("function", "extension")),
    st.builds(str.__mod__, LAYOUTS, IDS)
    | st.builds("[INFO]\tt\tr-1\t{}{}".format, MESSAGES, st.sampled_from(("", "\n")))
    | st.fixed_dictionaries(
        {"level": st.sampled_from(("INFO", "warn")), "requestId": IDS, "message": MESSAGES},
        optional={"errorType": st.text(max_size=2), "more": VALUES},
    ),
    st.booleans(),
    st.sampled_from((b',"', b', "', b',\t"')),
)
"""Logs as Lambda's runtimes write them."""


ODD_LOGS = st.sampled_from(
    [
        b'{"time":"%b","type":"function","record":%b}' % (NOW.encode(), record)
        for record in (
            b'{"level":"INFO","requestId":"r-1","message":5,"more":"\xff is no UTF-8"}',
            b'{"level":"INFO","requestId":"r-1","message":{"level":"DEBUG"}}',
            b'{"level":"INFO","requestId":"r-1","message":"{\\"level\\":\\"DEBUG\\"}"}',
            b'{"level":"INFO","requestId":"r-1","message":" {\\"message\\":\\"inside\\"}"}',
            b'{"level":"INFO","requestId":"r-1","message":"\\ufeff{}"}',
            b'{"level":"INFO","requestId":"r-1","message":"hello \xff and \xed\xa0\x80, bytes"}',
            b'{"level":"INFO","requestId":"r-1","message":"caf\xc3\xa9 and \x7f, seventeen"}',
            b'{"level":"INFO","requestId":"r-1",%b"message":"blanks"}' % b"\t".center(33),
            b'{"level":["INFO"],"requestId":"r-1","message":"x"}',
            b'{"level":"INFO","requestId":["r-1"],"message":"x"}',
            b'{"level":"INFO","requestId":"r-9","message":"x"}',
            b'{"level":"INFO","requestId":"r-1","message":"x","errorType":"E"}',
            b'{"level":"INFO","requestId":"r-1"}',
            b'"[INFO]\\tt\\tr-1\\t{\\"level\\":\\"DEBUG\\"}"',
            b'"[INFO]\\tt\\tr-1\\tends with \\\\n"',
            b'"[INFO]\\tt\\tr-1\\tends with \\\\\\n"',
            b'"[INFO]\\tt\\tr-1\\t\\n"',
            b'"[INFO]\\tt\\tr-1\\t"',
            b'"[INFO]\\tt\\tr-9\\tx"',
            b'"[INFO]\\\\tt\\tr-1\\tr-1\\tx"',
            b'"t\\tr-1\\tINFO\\tcaf\xc3\xa9 and \xff"',
            b'"\\tINFO\\tINFO\\t"',
        )
    ]
)


@pytest.mark.parametrize("kind", KINDS_OF_SCANNER)
@given(st.lists(LINES | USUAL_EVENTS | USUAL_LOGS | ODD_LOGS | ODD_LOGS, min_size=1, max_size=12))
def test_the_compiled_scanner_makes_the_same_rows(kind: str, lines: list[bytes]) -> None:
    begun = [b'{"time":"%b","type":"platform.start","record":{"requestId":"r-1"}}' % NOW.encode()]
    with using(None):
        expected = flat_rows(begun + lines, {})[0]
    with using(compiled(kind)):
        assert flat_rows(begun + lines, {})[0] == expected

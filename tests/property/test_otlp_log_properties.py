"""Log records that we write are those that the protobuf library writes, byte for byte."""

from __future__ import annotations

import base64
import json
from typing import Any

from google.protobuf import json_format
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs

from telemetryd_proto.otlp import values
from telemetryd_proto.otlp.logs import JsonLogs, Origin, ProtobufLogs
from telemetryd_proto.otlp.trace_context import TraceContext
from telemetryd_proto.otlp.values import any_value

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
LONG = st.integers(0, 3000).map(lambda size: "é" * size)
VALUES = st.one_of(
    TEXT, LONG, st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1),
    st.dictionaries(TEXT, st.lists(TEXT, max_size=3), max_size=3),
)  # fmt: skip
PAIRS = st.lists(st.tuples(TEXT, VALUES), max_size=4)
NAMED = st.lists(
    st.tuples(
        st.sampled_from(["service", "cold_start", "n", "größe"]),
        VALUES | st.floats() | st.sampled_from([0, 1, True, False, 1.0, 0.0, -0.0, 1 << 63, ""]),
    ),
    max_size=8,
)
"""Few names with values of all types, some of which are equal to one another."""
TIMES = st.integers(0, (1 << 64) - 1)
TRACES = st.builds(
    TraceContext,
    st.one_of(st.just(b""), st.binary(min_size=16, max_size=16)),
    st.one_of(st.just(b""), st.binary(min_size=8, max_size=8)),
    st.sampled_from([0, 1]),
)
SEVERITIES = st.tuples(st.integers(0, 24), TEXT)
RECORDS = (TIMES, SEVERITIES, VALUES, PAIRS, TEXT)


def oracle(
    origin: Origin, time: int, severity: tuple[int, str], body: Any, pairs: Any, name: str
) -> LogRecord:
    """Return the record as the library has it."""
    record = LogRecord(
        time_unix_nano=time,
        severity_number=severity[0],  # type: ignore[arg-type]
        severity_text=severity[1],
        body=AnyValue.FromString(any_value(body)),
        flags=origin.trace.flags,
        trace_id=origin.trace.trace_id,
        span_id=origin.trace.span_id,
        observed_time_unix_nano=origin.observed,
        event_name=name,
    )
    for key, value in (*pairs, *origin.attributes):
        record.attributes.append(KeyValue(key=key, value=AnyValue.FromString(any_value(value))))
    return record


@given(st.builds(Origin, TIMES, TRACES, PAIRS), *RECORDS)
@example(Origin(0), 0, (0, ""), "", [], "")
def test_a_record_is_written_as_the_library_writes_it(
    origin: Origin, time: int, severity: tuple[int, str], body: Any, pairs: Any, name: str
) -> None:
    made = ProtobufLogs.record(ProtobufLogs.origin(origin), time, severity, body, pairs, name)
    wanted = ScopeLogs(log_records=[oracle(origin, time, severity, body, pairs, name)])
    assert made == wanted.SerializeToString()


@given(st.builds(Origin, TIMES, TRACES, PAIRS), *RECORDS)
def test_a_record_in_json_is_the_same(
    origin: Origin, time: int, severity: tuple[int, str], body: Any, pairs: Any, name: str
) -> None:
    text = JsonLogs.record(JsonLogs.origin(origin), time, severity, body, pairs, name)
    found = json.loads(text.removesuffix(b","))
    for key in ("traceId", "spanId"):  # OTLP has them in hexadecimal, protobuf's JSON in base64
        if key in found:
            found[key] = base64.b64encode(bytes.fromhex(found[key])).decode()
    read = json_format.Parse(json.dumps(found), LogRecord())
    assert read == oracle(origin, time, severity, body, pairs, name)


@given(st.builds(Origin, TIMES, TRACES, PAIRS), TIMES, SEVERITIES, TEXT | LONG, NAMED)
def test_attributes_whose_names_are_known_are_written_as_the_library_writes_them(
    origin: Origin, time: int, severity: tuple[int, str], body: str, pairs: list[tuple[str, Any]]
) -> None:
    names, said = [name for name, _ in pairs], [value for _, value in pairs]
    writes = ProtobufLogs.writes(names)
    record = oracle(origin, time, severity, body, pairs, "")
    wanted = ScopeLogs(log_records=[record]).SerializeToString()
    form = ProtobufLogs.origin(origin)
    for _ in range(2):  # what is kept of the first time must serve for the second
        assert ProtobufLogs.with_written(form, time, severity, body, writes(said)) == wanted
    text = JsonLogs.with_written(
        JsonLogs.origin(origin), time, severity, body, JsonLogs.writes(names)(said)
    )
    assert text == JsonLogs.record(JsonLogs.origin(origin), time, severity, body, pairs)


def test_many_names_of_attributes_are_kept_within_a_bound() -> None:
    origin = ProtobufLogs.origin(Origin(1))
    for number in range(2000):
        name = f"name {number}"
        made = ProtobufLogs.with_written(
            origin, 1, (9, "INFO"), "x", ProtobufLogs.writes([name])([number])
        )
        assert made == ProtobufLogs.record(origin, 1, (9, "INFO"), "x", [(name, number)])
    assert len(values._heads) <= values._MAX_HEADS


def test_many_severities_are_kept_within_a_bound() -> None:
    origin = ProtobufLogs.origin(Origin(1))
    for number in range(3000):
        made = ProtobufLogs.record(origin, 1, (9, f"level {number}"), "x")
        (record,) = ScopeLogs.FromString(made).log_records
        assert record.severity_text == f"level {number}"


def test_what_is_no_unicode_is_sent_as_a_question_mark() -> None:
    bad, origin = "a\ud800", Origin(1, attributes=(("k", "v"),))
    made = ProtobufLogs.record(ProtobufLogs.origin(origin), 1, (9, bad), bad, [(bad, bad)], bad)
    (record,) = ScopeLogs.FromString(made).log_records
    assert record.body.string_value == record.severity_text == record.event_name == "a?"
    text = JsonLogs.record(JsonLogs.origin(origin), 1, (9, bad), bad, [(bad, bad)], bad)
    found = json.loads(text.removesuffix(b","))
    assert found["body"] == {"stringValue": "a?"}
    assert found["severityText"] == found["eventName"] == "a?"

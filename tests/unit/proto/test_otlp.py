"""OTLP by hand: what the wire, the values, the requests, the answers and the ids are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs

from telemetryd_proto.errors import MalformedRecord
from telemetryd_proto.otlp import answers, trace_context, wire
from telemetryd_proto.otlp.logs import JsonLogs, Origin, ProtobufLogs
from telemetryd_proto.otlp.requests import SCHEMA_URL, JsonForm, ProtobufForm, Source
from telemetryd_proto.otlp.values import MAX_DEPTH, any_value, attributes, json_value
from telemetryd_proto.timestamps import parse_nanoseconds

SOURCE = Source({"service.name": "orders", "faas.max_memory": 134217728}, "telemetryd", "1.0")


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, "00"), (127, "7f"), (128, "8001"), (150, "9601"), (16383, "ff7f"), (16384, "808001"),
        (-1, "ffffffffffffffffff01"), ((1 << 64) - 1, "ffffffffffffffffff01"),
    ],
)  # fmt: skip
def test_integers_take_as_many_bytes_as_they_need(number: int, written: str) -> None:
    assert wire.varint(number).hex() == written


def test_a_field_with_its_default_value_is_not_written() -> None:
    assert wire.text(b"\n", "") == wire.number(b"\x10", 0) == wire.fixed64(b"\t", 0) == b""
    record = LogRecord(time_unix_nano=5, severity_number=9, severity_text="INFO")  # type: ignore[arg-type]
    assert (
        wire.fixed64(b"\t", 5) + wire.number(b"\x10", 9) + wire.text(b"\x1a", "INFO")
    ) == record.SerializeToString()


def test_values_that_have_no_counterpart_become_text() -> None:
    assert any_value(1 << 63) == any_value("9223372036854775808")
    assert json_value(1 << 63) == {"stringValue": "9223372036854775808"}
    assert any_value("a\ud800b") == any_value("a?b")
    assert json_value({"\ud800": "\ud800"}) == json_value({"?": "?"})
    assert any_value(None) == b""
    assert json_value(None) == {}
    for make in (any_value, json_value):
        with pytest.raises(TypeError, match="set"):
            make(set())


def test_numbers_that_json_does_not_have_are_names() -> None:
    for value, name in ((float("inf"), "Infinity"), (float("-inf"), "-Infinity")):
        assert json_value(value) == {"doubleValue": name}
    assert json_value(float("nan")) == {"doubleValue": "NaN"}


def test_what_is_nested_deeper_than_readers_go_becomes_its_json() -> None:
    deep: object = {"a": float("nan")}
    for _ in range(60):
        deep = {"b": [deep]}
    value = AnyValue.FromString(any_value(deep))
    assert json_value(deep) == json.loads(json_format.MessageToJson(value))
    for level in range(MAX_DEPTH):
        value = (value.array_value if level % 2 else value.kvlist_value).values[0]
        value = getattr(value, "value", value)
    assert json.loads(value.string_value)["b"]


def test_what_is_nested_without_end_is_named_so() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    value = AnyValue.FromString(any_value(deep))
    for _ in range(MAX_DEPTH):
        value = value.array_value.values[0]
    assert value.string_value == "nested too deeply"


def test_names_are_kept_within_a_bound() -> None:
    for number in range(5000):
        assert attributes(b"\n", [(f"key {number}", 1)]) == attributes(
            b"\n", [(f"key {number}", 1)]
        )


def test_what_surrounds_records_is_kept_within_a_bound() -> None:
    origin = ProtobufLogs.origin(Origin(1))
    for number in range(1100):
        severity, name = (9, f"level {number}"), f"event {number}"
        record = ProtobufLogs.record(origin, 5, severity, "x", (), name)
        (read,) = ScopeLogs.FromString(record).log_records
        assert (read.severity_text, read.event_name) == (severity[1], name)
        frame = ProtobufLogs.frame(origin, severity)
        assert ProtobufLogs.plain(frame, 5, "x") == ProtobufLogs.record(origin, 5, severity, "x")


def test_a_request_in_both_forms_says_the_same() -> None:
    as_protobuf, as_json = ProtobufForm("logs", SOURCE), JsonForm("logs", SOURCE)
    records = [LogRecord(severity_text=str(number)) for number in range(3)]
    items = [as_protobuf.item(record.SerializeToString()) for record in records]
    body = b"".join(as_protobuf.body([items[0] + items[1], items[2]]))
    request = ExportLogsServiceRequest.FromString(body)
    assert body == request.SerializeToString()
    assert len(body) - sum(map(len, items)) <= as_protobuf.surplus
    texts = [as_json.item({"severityText": str(number)}) for number in range(3)]
    text = b"".join(as_json.body([texts[0], texts[1] + texts[2]]))
    assert len(text) - sum(map(len, texts)) <= as_json.surplus
    assert json.loads(text) == json.loads(json_format.MessageToJson(request))
    assert request.resource_logs[0].scope_logs[0].schema_url == SCHEMA_URL


def test_a_request_without_items_says_so_in_both_forms() -> None:
    """As a probe sends it."""
    as_protobuf, as_json = ProtobufForm("logs", SOURCE), JsonForm("logs", SOURCE)
    request = ExportLogsServiceRequest.FromString(b"".join(as_protobuf.body([])))
    (scope,) = request.resource_logs[0].scope_logs
    assert len(scope.log_records) == 0
    said = json.loads(b"".join(as_json.body([])))
    assert said["resourceLogs"][0]["scopeLogs"][0]["logRecords"] == []


def response(rejected: int, message: str) -> ExportLogsServiceResponse:
    answer = ExportLogsServiceResponse()
    answer.partial_success.rejected_log_records = rejected
    answer.partial_success.error_message = message
    return answer


@pytest.mark.parametrize(("rejected", "message"), [(0, ""), (3, ""), (0, "hm"), (300, "zu groß")])
def test_a_partial_success_is_read_in_both_forms(rejected: int, message: str) -> None:
    answer = response(rejected, message)
    wanted = answers.Refusal(rejected, message)
    assert answers.refusal(answer.SerializeToString(), is_json=False) == wanted
    text = json_format.MessageToJson(answer).encode()
    assert answers.refusal(text, is_json=True) == wanted


@pytest.mark.parametrize(
    "partial",
    [
        "null", "3", '{"rejectedLogRecords":"-3"}', '{"rejectedLogRecords":-3}',
        '{"rejectedLogRecords":true}', '{"errorMessage":null}', '{"rejectedSpans":"9e9"}',
        '{"rejectedDataPoints":"%s"}' % ("9" * 5000),
    ],
)  # fmt: skip
def test_a_number_that_is_none_counts_nothing(partial: str) -> None:
    assert answers.refusal(b'{"partialSuccess":%b}' % partial.encode(), is_json=True) == (0, "")


def test_numbers_may_come_as_numbers_and_negative_ones_count_nothing() -> None:
    for name in ("rejectedLogRecords", "rejectedDataPoints", "rejectedSpans"):
        body = b'{"partialSuccess":{"%b":4}}' % name.encode()
        assert answers.refusal(body, is_json=True).items == 4
    assert answers.refusal(response(-4, "").SerializeToString(), is_json=False).items == 0
    assert answers.refusal(b"", is_json=True) == answers.refusal(b"", is_json=False) == (0, "")


def test_fields_that_are_not_known_are_passed_over() -> None:
    known = response(2, "no").SerializeToString()
    unknown = b"\x18\x05" + b"\x21" + bytes(8) + b"\x2d" + bytes(4) + b"\x32\x01x" + b"\x08\x01"
    assert answers.refusal(unknown + known + unknown, is_json=False) == (2, "no")
    inner = b"\x18\x05" + b"\x12\x01n" + b"\x0a\x00"
    body = wire.delimited(b"\n", inner)
    assert answers.refusal(body, is_json=False) == (0, "n")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>", b"ok", b"\n\x7f", b"\x0b", b"\x00\x01", b"\xff" * 11, b"\x80", b"\n",
        b"\x09\x01", b"{}", b"\n\x02\x0b\x00",
    ],
)  # fmt: skip
def test_what_is_no_protobuf_is_no_answer(body: bytes) -> None:
    with pytest.raises(answers.NotAnAnswer):
        answers.refusal(body, is_json=False)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'"ok"', b"{", b'{"a":"\xff"}', b"[" * 99_999])
def test_what_is_no_json_object_is_no_answer(body: bytes) -> None:
    with pytest.raises(answers.NotAnAnswer):
        answers.refusal(body, is_json=True)


XRAY = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
TRACE = bytes.fromhex("5759e988bd862e3fe1be46a994272793")
SPAN = bytes.fromhex("53995c3f42cd8ad8")


@pytest.mark.parametrize(
    ("header", "context"),
    [
        (XRAY, (TRACE, SPAN, 1)),
        (
            XRAY.replace("=1", "=0", 2).replace("Root=0", "Root=1") + ";Lineage=a:b",
            (TRACE, SPAN, 0),
        ),
        ("Sampled=1; Root=1-5759e988-bd862e3fe1be46a994272793", (TRACE, b"", 1)),
        ("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=zz;Sampled=?", (TRACE, b"", 0)),
        ("Root=1-00000000-000000000000000000000000;Sampled=1", (b"", b"", 0)),
        ("Root=1-5759e988;Sampled=1", (b"", b"", 0)),
        ("", (b"", b"", 0)),
        (XRAY + ";" * 5000, (b"", b"", 0)),
    ],
)
def test_the_header_of_x_ray(header: str, context: tuple[bytes, bytes, int]) -> None:
    assert trace_context.from_xray(header) == context


@pytest.mark.parametrize(
    ("header", "context"),
    [
        (f"00-{TRACE.hex()}-{SPAN.hex()}-01", (TRACE, SPAN, 1)),
        (f"00-{TRACE.hex()}-{SPAN.hex()}-02", (TRACE, SPAN, 0)),
        (f"cc-{TRACE.hex()}-{SPAN.hex()}-03-what-follows", (TRACE, SPAN, 1)),
        (f"ff-{TRACE.hex()}-{SPAN.hex()}-01", (b"", b"", 0)),
        (f"00-{'0' * 32}-{SPAN.hex()}-01", (b"", b"", 0)),
        (f"00-{TRACE.hex()}-{'0' * 16}-01", (b"", b"", 0)),
        (f"00-{TRACE.hex().upper()}-{SPAN.hex()}-01", (b"", b"", 0)),
        ("", (b"", b"", 0)),
    ],
)
def test_the_header_of_w3c(header: str, context: tuple[bytes, bytes, int]) -> None:
    assert trace_context.from_traceparent(header) == context


def test_ids_are_hexadecimal_and_not_zero() -> None:
    assert trace_context.trace_id(TRACE.hex().upper()) == TRACE
    assert trace_context.trace_id("1-5759e988-bd862e3fe1be46a994272793") == TRACE
    assert trace_context.span_id(SPAN.hex()) == SPAN
    for text in ("", "0" * 16, "5 995c3f42cd8ad8", "g" * 16, SPAN.hex() + "0", "é" * 16):
        assert trace_context.span_id(text) == b""


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1969-12-31T23:59:59.5Z", -500_000_000),
        ("2024-05-01T12:00:00.123456789Z", 1714564800_123456789),
        ("2024-05-01T14:00:00.1+02:00", 1714564800_100000000),
        ("2024-05-01T14:00:00.1+0200", 1714564800_100000000),
    ],
)
def test_times_are_exact(text: str, nanoseconds: int) -> None:
    assert parse_nanoseconds(text) == nanoseconds


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "2024-05-01T12:00:00", "2024-13-01T12:00:00Z", "2024-05-01X12:00:00.123Z",
        "2024-05-01T25:00:00.123Z", "2024-05-01T12:00:00.12éZ",
    ],
)  # fmt: skip
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(MalformedRecord):
        parse_nanoseconds(text)


@pytest.mark.parametrize("writer", [ProtobufLogs, JsonLogs])
@pytest.mark.parametrize("body", ["", "größe", "x" * 70, "x" * 5000])
def test_a_plain_record_is_the_record_of_a_text_that_has_a_time(
    writer: type[ProtobufLogs | JsonLogs], body: str
) -> None:
    for severity in ((0, ""), (9, "INFO"), (17, "x" * 200)):
        early: Any = writer.origin(Origin(0))
        read: Any = writer.read_at(early, 7)
        assert read == writer.origin(Origin(7))
        frame: Any = writer.frame(read, severity)
        assert writer.plain(frame, 5, body) == writer.record(read, 5, severity, body)


def test_an_origin_without_a_time_is_the_same() -> None:
    assert JsonLogs.read_at({"attributes": []}, 0) == {"attributes": []}

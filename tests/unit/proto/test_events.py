"""Records: every event type of the catalogue, with all that versions may leave out or add."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from telemetryd_proto import errors, events
from telemetryd_proto.envelope import Envelope, decode_line
from telemetryd_proto.events import RECORD_TYPES, decode_lifecycle, decode_record
from telemetryd_proto.records import Fault, LogRecord
from telemetryd_proto.surrogates import without_lone_surrogates
from telemetryd_proto.timestamps import parse_time
from telemetryd_proto.vocabulary import InitializationType, Phase, SpanName, Status

STREAMS = sorted(Path(__file__).parents[3].joinpath("examples/streams").glob("*.ndjson"))

# Members by event type: AWS's event schemas of three versions, and the Logs API's additions.
INIT = "initializationType phase"
OUTCOME = "status errorType spans tracing"
RUNTIME = (
    "runtimeVersion runtimeVersionArn functionName functionVersion "
    "instanceId instanceMaxMemory tracing"
)
MEMBERS = {
    "platform.initStart": f"{INIT} {RUNTIME} functionArn",
    "platform.initRuntimeDone": f"{INIT} {OUTCOME}",
    "platform.initReport": f"{INIT} {OUTCOME} metrics",
    "platform.restoreStart": RUNTIME,
    "platform.restoreRuntimeDone": OUTCOME,
    "platform.restoreReport": f"{OUTCOME} metrics",
    "platform.extension": "name state events errorType",
    "platform.start": "requestId version functionArn tenantId tracing",
    "platform.runtimeDone": f"requestId {OUTCOME} metrics tenantId",
    "platform.report": f"requestId {OUTCOME} metrics tenantId",
    "platform.telemetrySubscription": "name state types",
    "platform.logsSubscription": "name state types",
    "platform.logsDropped": "droppedBytes droppedRecords reason",
    "platform.end": "requestId",
}
SUB_OBJECTS = {
    events.TraceContext: "type value spanId",
    events.Span: "name start durationMs",
    events.InitMetrics: "durationMs billedDurationMs",
    events.RuntimeDoneMetrics: "durationMs producedBytes",
    events.ReportMetrics: (
        "durationMs billedDurationMs memorySizeMB maxMemoryUsedMB "
        "initDurationMs restoreDurationMs billedRestoreDurationMs"
    ),
}
VALUES: dict[str, Any] = {
    "events": ["INVOKE", "SHUTDOWN"],
    "types": ["platform"],
    "spans": [{"name": "responseLatency", "start": "2026-05-07T06:41:12.784Z", "durationMs": 1.5}],
    "tracing": {"type": "X-Amzn-Trace-Id", "value": "Root=1-2-3", "spanId": "2860bdc2f7dd4ee2"},
    "instanceMaxMemory": 4294967296,
    "droppedBytes": 40960,
    "droppedRecords": 320,
    "metrics": {"durationMs": 2.25},
}


def envelope(type_: str, record: object) -> Envelope:
    return Envelope(type=type_, record=msgspec.Raw(json.dumps(record).encode()))


def full_record(type_: str) -> dict[str, Any]:
    return {name: VALUES.get(name, f"a {name}") for name in MEMBERS[type_].split()}


def wire_names(struct: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(struct)}


def test_the_table_of_types_is_complete() -> None:
    assert set(RECORD_TYPES) == {*MEMBERS, "platform.fault", "function", "extension"}


@pytest.mark.parametrize("type_", MEMBERS)
def test_a_record_has_the_members_of_the_catalogue(type_: str) -> None:
    assert wire_names(RECORD_TYPES[type_]) == set(MEMBERS[type_].split())


@pytest.mark.parametrize("struct", SUB_OBJECTS, ids=lambda struct: struct.__name__)
def test_a_sub_object_has_the_members_of_the_catalogue(struct: type[msgspec.Struct]) -> None:
    assert wire_names(struct) == set(SUB_OBJECTS[struct].split())


@pytest.mark.parametrize("type_", MEMBERS)
def test_every_member_is_read(type_: str) -> None:
    wire = full_record(type_)
    record = decode_record(envelope(type_, wire))
    assert type(record) is RECORD_TYPES[type_]
    read = msgspec.json.decode(msgspec.json.encode(record))
    for name, value in wire.items():
        if name == "metrics":
            assert read[name]["durationMs"] == value["durationMs"]
        else:
            assert read[name] == value


@pytest.mark.parametrize("type_", MEMBERS)
@pytest.mark.parametrize("absent", [True, False], ids=["absent", "null"])
def test_all_but_the_request_id_may_be_absent_or_null(type_: str, absent: bool) -> None:
    wire: dict[str, str | None] = {
        name: None for name in MEMBERS[type_].split() if name != "requestId" and not absent
    }
    if "requestId" in MEMBERS[type_].split():
        wire["requestId"] = "r"
    record = decode_record(envelope(type_, wire))
    left = {name: getattr(record, name) for name in record.__struct_fields__}
    left.pop("request_id", None)
    assert set(left.values()) <= {None}


@pytest.mark.parametrize(
    "type_", ["platform.start", "platform.runtimeDone", "platform.report", "platform.end"]
)
@pytest.mark.parametrize("wire", [{}, {"requestId": None}], ids=["absent", "null"])
def test_the_request_id_is_required(type_: str, wire: dict[str, None]) -> None:
    with pytest.raises(errors.MalformedRecord) as caught:
        decode_record(envelope(type_, wire))
    assert caught.value.code == "mismatch"


@pytest.mark.parametrize("type_", MEMBERS)
def test_unknown_members_are_ignored(type_: str) -> None:
    wire = full_record(type_)
    assert decode_record(envelope(type_, wire | {"novelty": {"a": [1]}})) == decode_record(
        envelope(type_, wire)
    )


def test_report_metrics_by_name() -> None:
    metrics = {
        "durationMs": 217.144,
        "billedDurationMs": 780,
        "memorySizeMB": 384,
        "maxMemoryUsedMB": 127,
        "initDurationMs": 562.316,
        "restoreDurationMs": 1.5,
        "billedRestoreDurationMs": 2,
    }
    record = decode_record(envelope("platform.report", {"requestId": "r", "metrics": metrics}))
    assert isinstance(record, events.Report)
    assert record.metrics == events.ReportMetrics(
        duration_ms=217.144,
        billed_duration_ms=780.0,
        memory_size_mb=384,
        max_memory_used_mb=127,
        init_duration_ms=562.316,
        restore_duration_ms=1.5,
        billed_restore_duration_ms=2.0,
    )


def test_numbers_may_be_encoded_the_other_way() -> None:
    wire = (
        b'{"requestId":"r","metrics":{"durationMs":7,"memorySizeMB":192.0,"maxMemoryUsedMB":6e1}}'
    )
    record = decode_record(Envelope(type="platform.report", record=msgspec.Raw(wire)))
    assert isinstance(record, events.Report)
    assert record.metrics is not None
    assert repr(record.metrics.duration_ms) == "7.0"
    assert repr(record.metrics.memory_size_mb) == "192"
    assert repr(record.metrics.max_memory_used_mb) == "60"


def test_memory_may_be_a_string_and_exceed_32_bits() -> None:
    record = decode_record(envelope("platform.restoreStart", {"instanceMaxMemory": "10737418240"}))
    assert isinstance(record, events.RestoreStart)
    assert record.instance_max_memory == 10737418240


def test_words_of_tomorrow_are_kept() -> None:
    wire = {
        "initializationType": "moonbase",
        "phase": "descent",
        "status": "splendid",
        "spans": [{"name": "countdown", "start": "x", "durationMs": 1}],
    }
    record = decode_record(envelope("platform.initRuntimeDone", wire))
    assert isinstance(record, events.InitRuntimeDone)
    assert (record.initialization_type, record.phase) == ("moonbase", "descent")
    assert record.status == "splendid"
    assert record.spans is not None
    assert record.spans[0].name == "countdown"


def test_the_vocabulary_compares_with_what_is_sent() -> None:
    wire = {
        "initializationType": "lambda-managed-instances",
        "phase": "init",
        "status": "timeout",
        "spans": [{"name": "extensionOverhead"}],
    }
    record = decode_record(envelope("platform.initReport", wire))
    assert isinstance(record, events.InitReport)
    assert record.initialization_type == InitializationType.MANAGED_INSTANCES
    assert record.phase == Phase.INIT
    assert record.status == Status.TIMEOUT
    assert record.spans is not None
    assert record.spans[0].name == SpanName.EXTENSION_OVERHEAD


@pytest.mark.parametrize("type_", ["function", "extension"])
@pytest.mark.parametrize("body", ["text\n", {"level": "INFO"}, ["a", 1], 1.5, False, None, ""])
def test_a_log_record_may_be_any_json(type_: str, body: object) -> None:
    assert decode_record(envelope(type_, body)) == events.LogRecord(body=body)


@pytest.mark.parametrize("body", ["RequestId: r Error: x\nRuntime.ExitError\n", {"errorType": "x"}])
def test_a_fault_is_kept_be_it_text_or_not(body: object) -> None:
    assert decode_record(envelope("platform.fault", body)) == events.Fault(body=body)


def test_text_loses_one_newline_at_most() -> None:
    assert events.LogRecord(body="a\n\n").text == "a\n"
    assert events.LogRecord(body="a").text == "a"
    assert events.LogRecord(body={"message": "a"}).text is None


def test_structured_records_name_their_request_and_level() -> None:
    node = events.LogRecord(body={"requestId": "r1", "level": "WARN"})
    python = events.LogRecord(body={"AWSRequestId": "r2", "level": 30})
    text = events.LogRecord(body="[INFO]\t...")
    assert (node.request_id, node.level) == ("r1", "WARN")
    assert (python.request_id, python.level) == ("r2", None)
    assert (text.request_id, text.level) == (None, None)


@pytest.mark.parametrize("raw", [b'{"a":1}', b'"text"', b'"\xff"', b"1e999", b"null"])
def test_an_unknown_type_is_kept_whatever_its_record(raw: bytes) -> None:
    event = Envelope(type="platform.notYetInvented", record=msgspec.Raw(raw))
    record = decode_record(event)
    assert isinstance(record, events.UnknownRecord)
    assert (record.type, bytes(record.record)) == ("platform.notYetInvented", raw)


@pytest.mark.parametrize(
    ("type_", "raw", "code", "says"),
    [
        ("platform.report", b'"text"', "mismatch", "platform.report: Expected `object`"),
        ("platform.report", b'{"requestId":5}', "mismatch", r"\$\.requestId"),
        ("platform.logsDropped", b'{"droppedBytes":1.5}', "mismatch", r"\$\.droppedBytes"),
        ("platform.extension", b'{"events":"INVOKE"}', "mismatch", r"\$\.events"),
        ("platform.start", b'{"requestId":"\xff"}', "not_utf8", "platform.start: invalid UTF-8"),
        ("function", b'"\xff"', "not_utf8", "function: invalid UTF-8"),
        ("platform.start", b'{"requestId":', "not_json", "truncated"),
        ("function", b"[" * 200_000 + b"]" * 200_000, "too_deep", "recursion"),
    ],
)
def test_a_record_that_does_not_fit_is_one_error_with_a_code(
    type_: str, raw: bytes, code: str, says: str
) -> None:
    with pytest.raises(errors.MalformedRecord, match=says) as caught:
        decode_record(Envelope(type=type_, record=msgspec.Raw(raw)))
    assert caught.value.code == code


ODD: list[Any] = ["text", -1, 1.5, 10**400, True, [], [5], {}, {"a": 1}, "\ud83d", "é" * 1000]


@pytest.mark.parametrize("type_", MEMBERS)
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:12])
def test_leniently_read_an_odd_member_costs_itself_at_most(type_: str, odd: Any) -> None:
    whole = full_record(type_)
    expected = decode_record(envelope(type_, whole))
    for name in set(MEMBERS[type_].split()) - {"requestId"}:
        record = decode_record(envelope(type_, whole | {name: odd}), lenient=True)
        assert type(record) is RECORD_TYPES[type_]
        for field in msgspec.structs.fields(RECORD_TYPES[type_]):
            if field.encode_name != name:
                assert getattr(record, field.name) == getattr(expected, field.name)


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ('{"durationMs":"soon","memorySizeMB":128.5,"billedDurationMs":"7"}', (None, 7.0, 128)),
        ('{"durationMs":[],"memorySizeMB":"a","billedDurationMs":1e999}', (None, None, None)),
        ('{"durationMs":null,"memorySizeMB":1e999,"billedDurationMs":{}}', (None, None, None)),
        ('{"durationMs":1,"memorySizeMB":128,"billedDurationMs":2,"x":"\\udc00"}', (1.0, 2.0, 128)),
    ],
)
def test_leniently_read_figures_are_what_is_left_of_them(
    metrics: str, expected: tuple[Any, ...]
) -> None:
    raw = f'{{"requestId":"r","status":5,"metrics":{metrics}}}'.encode()
    record = decode_record(Envelope(type="platform.report", record=msgspec.Raw(raw)), lenient=True)
    assert isinstance(record, events.Report)
    assert record.metrics is not None
    found = record.metrics
    assert (found.duration_ms, found.billed_duration_ms, found.memory_size_mb) == expected
    assert record.status is None


@pytest.mark.parametrize(
    "raw", [b'"text"', b"{}", b'{"requestId":5}', b'{"requestId":', b"[" * 200_000]
)
def test_leniently_read_a_record_still_needs_its_request(raw: bytes) -> None:
    with pytest.raises(errors.MalformedRecord):
        decode_record(Envelope(type="platform.start", record=msgspec.Raw(raw)), lenient=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rb'"\ud83d"', rb'"\ufffd"'),
        (rb'"a\uDE00b"', rb'"a\ufffdb"'),
        (rb'"\ud83d\ude00"', rb'"\ud83d\ude00"'),
        (rb'"\ud83d\ud83d\ude00"', rb'"\ufffd\ud83d\ude00"'),
        (rb'"\ude00\ud83d"', rb'"\ufffd\ufffd"'),
        (rb'"\\ud83d"', rb'"\\ud83d"'),
        (rb'"\\\ud83d"', rb'"\\\ufffd"'),
        (rb'"\u00e9\n\ud83"', rb'"\u00e9\n\ud83"'),
    ],
)
def test_half_a_surrogate_pair_is_replaced_and_nothing_else(text: bytes, expected: bytes) -> None:
    assert without_lone_surrogates(text) == expected


def test_errors_do_not_quote_what_was_sent() -> None:
    wire = b'{"requestId":"secret","metrics":{"durationMs":"hunter2"}}'
    with pytest.raises(errors.MalformedRecord) as caught:
        decode_record(Envelope(type="platform.report", record=msgspec.Raw(wire)))
    assert "secret" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_code_outside_the_closed_set_is_refused() -> None:
    with pytest.raises(ValueError, match="MalformedRecord has no code 'odd'; it has bad_time"):
        errors.MalformedRecord("x", code="odd")


def test_the_root_of_the_error_tree_is_not_raised_itself() -> None:
    with pytest.raises(ValueError, match="raise a subclass"):
        errors.ProtocolError("x", code="mismatch")


def test_lifecycle_events_are_decoded_and_no_others() -> None:
    done = decode_lifecycle(envelope("platform.runtimeDone", {"requestId": "r", "status": "error"}))
    report = decode_lifecycle(envelope("platform.report", {"requestId": "r"}))
    dropped = decode_lifecycle(envelope("platform.logsDropped", {"droppedRecords": 3}))
    assert done == events.RuntimeDone(request_id="r", status="error")
    assert report == events.Report(request_id="r")
    assert dropped == events.LogsDropped(dropped_records=3)
    # not even looked at: the record would be refused
    assert decode_lifecycle(envelope("platform.start", {"requestId": 5})) is None
    assert decode_lifecycle(envelope("function", "platform.report")) is None


def test_an_end_is_seen_in_spite_of_an_odd_member() -> None:
    wire = {"requestId": "r", "status": "success", "spans": {}, "tracing": 5, "tenantId": "\ud83d"}
    found = decode_lifecycle(envelope("platform.runtimeDone", wire))
    assert found == events.RuntimeDone(request_id="r", status="success", tenant_id="\ufffd")


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_sample_streams_decode_to_their_types(path: Path) -> None:
    for line in path.read_bytes().splitlines():
        event = decode_line(line)
        assert event is not None
        parse_time(event.time)
        record = decode_record(event)
        assert type(record) is RECORD_TYPES.get(event.type, events.UnknownRecord)


def test_one_sample_stream_has_every_type_and_one_unknown() -> None:
    path = next(path for path in STREAMS if path.stem == "all-types")
    types = {json.loads(line)["type"] for line in path.read_bytes().splitlines()}
    assert types == {*RECORD_TYPES, "platform.notYetInvented"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2026-05-07T06:41:12.208Z", 1778136072.208),
        ("2026-05-07T06:41:12.5Z", 1778136072.5),
        ("2026-05-07T06:41:12.208000000Z", 1778136072.208),
        ("2026-05-07T06:41:12.000000001Z", 1778136072.0),
        ("2026-05-07T08:41:12.208+02:00", 1778136072.208),
        ("2026-05-07T01:11:12.208-0530", 1778136072.208),
        ("0001-01-01T00:00:00+14:00", -62135647200.0),
    ],
)
def test_time_stamps(text: str, seconds: float) -> None:
    assert parse_time(text) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-05-07",
        "2026-05-07T06:41:12",
        "2026-05-07T06:41:12:521Z",
        "2026-05-07T06:41:12.Z",
        "2026-05-07T06:41:12.1234567890Z",
        "2026-13-07T06:41:12Z",
        "2026-02-30T06:41:12Z",
        "2026-05-07T25:41:12Z",
        "2026-05-07T06:41:12+25:00",
        "2026-05-07 06:41:12Z",
        "20260507T064112Z",
        "2026-05-07T06:41:12Z\n",
        "٢٠٢٦-05-07T06:41:12Z",
    ],
)
def test_nonsense_is_no_time_stamp(text: str) -> None:
    with pytest.raises(errors.MalformedRecord) as caught:
        parse_time(text)
    assert caught.value.code == "bad_time"


@pytest.mark.parametrize("type_", ["platform.fault", "function"])
def test_leniently_read_a_body_of_any_json_is_what_is_left_of_it(type_: str) -> None:
    wire = Envelope(type=type_, record=msgspec.Raw(rb'"half of \ud83d"'))
    with pytest.raises(errors.MalformedRecord):
        decode_record(wire)
    record = decode_record(wire, lenient=True)
    assert isinstance(record, Fault | LogRecord)
    assert record.body == "half of \ufffd"

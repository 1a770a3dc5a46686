"""Lines and the log records that they become."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs

from helpers.otlp_server import attributes, plain
from telemetryd.sinks.otlp.invocations import NO_INVOCATION, Invocation, Invocations
from telemetryd.sinks.otlp.members import ROLES
from telemetryd.sinks.otlp.records import Recorder
from telemetryd_proto.otlp.logs import JsonLogs, ProtobufLogs
from telemetryd_proto.otlp.trace_context import TraceContext
from telemetryd_proto.timestamps import parse_nanoseconds

STAMP = "2026-03-14T10:15:30.123Z"
TIME = parse_nanoseconds(STAMP)
LATER = "2026-03-14T10:15:30.456Z"
REQUEST = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
OTHER = "11111111-e9f4-11e8-9739-2dfe598c3fcd"
TRACE = "5759e988bd862e3fe1be46a994272793"
SPAN = "53995c3f42cd8ad8"
HEADER = f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={SPAN};Sampled=1"
OBSERVED = 1_800_000_000_123_456_789


def event(record: Any, kind: str = "function", time: Any = STAMP) -> bytes:
    return json.dumps({"time": time, "type": kind, "record": record}).encode() + b"\n"


def start(request: str = REQUEST, header: str = HEADER, **tracing: str) -> bytes:
    trace = {"type": "X-Amzn-Trace-Id", "value": header, **tracing}
    return event({"requestId": request, "tracing": trace}, "platform.start")


def read(*lines: bytes, before: Invocation = NO_INVOCATION, alone: bool = True) -> list[LogRecord]:
    """Return the records of lines that come together."""
    recorder = Recorder(ProtobufLogs(), Invocations(one_at_a_time=alone))
    made = recorder.encode(b"".join(lines), OBSERVED, before)
    assert len(made) == len(lines)
    return list(ScopeLogs.FromString(b"".join(made)).log_records)


def one(line: bytes) -> LogRecord:
    (record,) = read(line)
    return record


def severity(record: LogRecord) -> tuple[int, str]:
    return int(record.severity_number), record.severity_text


# -- what was added to a line ----------------------------------------------------------------------

ADDED = b'{"stage":"prod","sample_weight":10,'


@pytest.mark.parametrize(
    ("line", "others"),
    [
        (event("text\n"), {}),
        (event(f"[INFO]\t{STAMP}\t{REQUEST}\ttext\n"), {}),
        (event({"message": "text", "order": 17}), {"order": 17}),
        (event("text\n", "extension"), {"aws.lambda.telemetry.type": "extension"}),
    ],
)
def test_what_was_added_to_an_event_is_attributes(line: bytes, others: dict[str, Any]) -> None:
    """Tags, fields, and the weight of a sample; the lines around it are as ever."""
    usual, added, again = read(line, ADDED + line[1:], line)
    found = attributes(added)
    for name, value in attributes(usual).items():
        assert found.pop(name) == value
    assert found == {"stage": "prod", "sample_weight": 10}
    assert attributes(usual).items() >= others.items()
    assert (added.body, severity(added)) == (usual.body, severity(usual))
    assert again == usual


def test_neither_is_lost_where_a_record_has_a_member_of_that_name() -> None:
    line = event({"message": "x", "stage": "own", "telemetryd_stage": "too"})
    assert attributes(one(ADDED + line[1:])) == {
        "telemetryd_telemetryd_stage": "prod", "sample_weight": 10,
        "stage": "own", "telemetryd_stage": "too",
    }  # fmt: skip


def test_what_was_added_to_an_event_of_the_platform() -> None:
    record = one(ADDED + event({"requestId": REQUEST}, "platform.report")[1:])
    assert record.event_name == "platform.report"
    assert attributes(record).items() >= {"stage": "prod", "sample_weight": 10}.items()


# -- text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "level"),
    [
        (f"[ERROR]\t{LATER}\t{REQUEST}\tsomething\tbroke\n", (17, "ERROR")),
        (f"{LATER}\t{REQUEST}\tERROR\tsomething\tbroke\n", (17, "ERROR")),
        (f"{LATER}\t{REQUEST}\twarn\tsomething\tbroke", (13, "warn")),
        (f"[CRITICAL]\t{LATER}\t{REQUEST}\tsomething\tbroke\n", (21, "CRITICAL")),
    ],
)
def test_a_layout_of_lambda_is_taken_apart(text: str, level: tuple[int, str]) -> None:
    record = one(event(text))
    assert record.body.string_value == "something\tbroke"
    assert severity(record) == level
    assert record.time_unix_nano == parse_nanoseconds(LATER)
    assert record.observed_time_unix_nano == OBSERVED
    assert attributes(record) == {"faas.invocation_id": REQUEST}


@pytest.mark.parametrize(("millis", "nanoseconds"), [("5", 5), ("45", 45), ("456", 456)])
def test_milliseconds_of_the_runtime_for_python_have_no_zeros(
    millis: str, nanoseconds: int
) -> None:
    record = one(event(f"[INFO]\t2026-03-14T10:15:30.{millis}Z\t{REQUEST}\tx\n"))
    assert record.time_unix_nano == parse_nanoseconds("2026-03-14T10:15:30Z") + nanoseconds * 10**6


def test_the_time_of_an_invocation_that_has_none_yet() -> None:
    record = one(event(f"{LATER}\tundefined\tINFO\tloading\n"))
    assert record.body.string_value == "loading"
    assert attributes(record) == {}


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("hello\n", (0, "")),
        ("2026-03-14 10:15:30,123 ERROR could not", (17, "ERROR")),
        ("[ERROR] ValueError: no\nTraceback (most recent call last):\n", (17, "ERROR")),
        ("WARN disk is nearly full", (13, "WARN")),
        ("a\tb\tc\td", (0, "")),
        (f"[INFO]\tyesterday\t{REQUEST}\tx", (9, "INFO")),
        (f"{LATER}\t{REQUEST}\tNOTE\tx", (0, "")),
        ("", (0, "")),
    ],
)
def test_other_texts_are_the_body_as_a_whole(text: str, level: tuple[int, str]) -> None:
    record = one(event(text))
    assert record.body.string_value == text.removesuffix("\n")
    assert record.time_unix_nano == TIME
    assert severity(record) == level


@pytest.mark.parametrize("prefix", ["", f"{LATER}\t{REQUEST}\tINFO\t", "  "])
def test_json_that_a_function_prints_is_read(prefix: str) -> None:
    """Also behind a runtime's prefix, whose INFO says nothing of it."""
    said = {"msg": "logged in", "level": "error", "userId": "u-1", "durationMs": 42}
    record = one(event(f"{prefix}{json.dumps(said)}\n"))
    assert record.body.string_value == "logged in"
    assert severity(record) == (17, "error")
    wanted = {"userId": "u-1", "durationMs": 42}
    if prefix.strip():
        wanted["faas.invocation_id"] = REQUEST
    assert attributes(record) == wanted


def test_a_severe_prefix_counts_more_than_what_it_stands_before() -> None:
    record = one(event(f'{LATER}\t{REQUEST}\tERROR\t{{"msg":"x","level":"info"}}\n'))
    assert severity(record) == (17, "ERROR")


# -- objects -------------------------------------------------------------------------------------


def test_a_record_in_the_json_format_of_lambda() -> None:
    said = {"timestamp": LATER, "level": "WARN", "requestId": REQUEST, "message": "careful"}
    *_, record = read(start(), event(said), event({**said, "timestamp": STAMP}))
    other = read(start(), event(said))[1]
    for found, time in ((record, STAMP), (other, LATER)):
        assert found.body.string_value == "careful"
        assert severity(found) == (13, "WARN")
        assert found.time_unix_nano == parse_nanoseconds(time)
        assert attributes(found) == {"faas.invocation_id": REQUEST}
        assert found.trace_id.hex() == TRACE


def test_all_other_members_are_attributes() -> None:
    said = {
        "message": "m", "n": 1, "big": 1 << 70, "f": 0.5, "yes": True, "none": None,
        "list": [1, "a", None, {"x": []}], "nested": {"a": {"b": {}}},
    }  # fmt: skip
    record = one(event(said))
    wanted = {key: value for key, value in said.items() if key != "message"}
    assert attributes(record) == {**wanted, "big": str(1 << 70)}


def test_a_message_that_is_an_object_is_read_itself() -> None:
    inner = {"msg": "bought", "level": "warn", "cart": 3, "trace_id": TRACE}
    for message in (inner, json.dumps(inner)):
        said = {"timestamp": LATER, "level": "INFO", "service": "shop", "message": message}
        record = one(event(said))
        assert record.body.string_value == "bought"
        assert severity(record) == (13, "warn")
        assert record.time_unix_nano == parse_nanoseconds(LATER)
        assert attributes(record) == {"service": "shop", "cart": 3}
        assert record.trace_id.hex() == TRACE


def test_an_object_without_a_message_is_the_body() -> None:
    said = {"level": "debug", "userId": "u-1", "cart": [1]}
    record = one(event(said))
    assert plain(record.body) == said
    assert severity(record) == (5, "debug")
    assert attributes(record) == {}


def test_an_error_of_a_runtime() -> None:
    said = {
        "errorType": "Bad",
        "errorMessage": "it broke",
        "stackTrace": ["a", "b"],
        "level": "ERROR",
    }
    record = one(event(said))
    assert record.body.string_value == "it broke"
    assert attributes(record) == {
        "exception.type": "Bad", "exception.message": "it broke", "exception.stacktrace": "a\nb"
    }  # fmt: skip
    assert severity(record) == (17, "ERROR")


@pytest.mark.parametrize(
    ("said", "level"),
    [
        ({"level": 50}, (17, "ERROR")),  # pino
        ({"severityNumber": 18}, (18, "ERROR")),
        ({"severityNumber": 99, "severity": "ERROR"}, (17, "ERROR")),
        ({"level": "odd"}, (0, "")),
        ({"log": {"level": "warn"}}, (13, "WARN")),
        ({"level": {"levelStr": "WARN"}}, (13, "WARN")),
        ({"LOG_LEVEL": "warn"}, (13, "WARN")),
        ({}, (0, "")),
    ],
)
def test_levels_of_all_loggers(said: dict[str, Any], level: tuple[int, str]) -> None:
    assert severity(one(event({"message": "m", **said}))) == level


def test_a_time_that_is_not_of_the_record_stays_an_attribute() -> None:
    for key, value in (("time", "2025-01-01T00:00:00Z"), ("timestamp", "noon"), ("ts", 12.5)):
        record = one(event({"message": "m", key: value}))
        assert record.time_unix_nano == TIME
        assert attributes(record) == {key: value}


@pytest.mark.parametrize(
    ("said", "trace", "span", "flags"),
    [
        ({"trace_id": TRACE, "span_id": SPAN, "trace_flags": "01"}, TRACE, SPAN, 1),
        ({"traceId": TRACE, "spanId": SPAN, "traceFlags": 1}, TRACE, SPAN, 1),
        ({"otelTraceID": TRACE, "otelSpanID": SPAN, "otelTraceSampled": True}, TRACE, SPAN, 1),
        ({"trace.id": TRACE, "trace_flags": "00"}, TRACE, "", 0),
        ({"trace": {"id": TRACE}, "span": {"id": SPAN}}, TRACE, SPAN, 0),
        ({"xray_trace_id": f"1-{TRACE[:8]}-{TRACE[8:]}"}, TRACE, "", 0),
        ({"dd": {"trace_id": "255", "span_id": "16"}}, "ff".zfill(32), "10".zfill(16), 0),
        ({"dd.trace_id": TRACE, "dd.span_id": "16"}, TRACE, "10".zfill(16), 0),
    ],
)
def test_ids_of_traces_in_members(said: dict[str, Any], trace: str, span: str, flags: int) -> None:
    record = one(event({"message": "m", **said}))
    assert (record.trace_id.hex(), record.span_id.hex(), record.flags) == (trace, span, flags)


@pytest.mark.parametrize(
    "said",
    [
        {"trace_id": "0" * 32}, {"trace_id": "x"}, {"trace_id": 5}, {"span_id": TRACE},
        {"trace_flags": "ff"}, {"trace_flags": [1]}, {"trace": "x"}, {"trace": {"id": 1}},
        {"dd": {"trace_id": "x"}}, {"dd": 3}, {"dd.trace_id": "9" * 40}, {"requestId": [REQUEST]},
    ],
)  # fmt: skip
def test_what_is_no_id_stays_an_attribute(said: dict[str, Any]) -> None:
    record = one(event({"message": "m", **said}))
    assert record.trace_id == record.span_id == b""
    assert attributes(record) == said


# -- invocations ---------------------------------------------------------------------------------


def test_lines_belong_to_the_invocation_that_began_last() -> None:
    records = read(event("before"), start(), event("in"), start(OTHER, ""), event("in other"))
    ids = [attributes(record).get("faas.invocation_id") for record in records]
    assert ids == [None, REQUEST, REQUEST, OTHER, OTHER]
    assert [record.trace_id.hex() for record in records] == ["", TRACE, TRACE, "", ""]
    assert records[2].span_id.hex() == SPAN
    assert records[2].flags == 1


def test_a_line_may_name_an_earlier_invocation() -> None:
    late = {"message": "late", "requestId": REQUEST}
    *_, record = read(start(), start(OTHER, ""), event(late))
    assert attributes(record) == {"faas.invocation_id": REQUEST}
    assert record.trace_id.hex() == TRACE


def test_late_lines_in_the_layouts_of_a_runtime() -> None:
    said = {"timestamp": STAMP, "level": "WARN", "requestId": REQUEST, "message": "late"}
    texts = [f"[WARN]\t{STAMP}\t{REQUEST}\tlate\n", f"{STAMP}\t{REQUEST}\tWARN\tlate\n", said]
    lines = [event(text) for text in texts]
    first, _, *found, last = read(
        start(), start(OTHER, ""), *lines, *lines, event(f"{STAMP}\t{OTHER}\tWARN\tx")
    )
    for record in found:
        assert record.body.string_value == "late"
        assert severity(record) == (13, "WARN")
        assert record.time_unix_nano == TIME
        assert attributes(record) == attributes(first) == {"faas.invocation_id": REQUEST}
        assert record.trace_id.hex() == TRACE
    assert attributes(last) == {"faas.invocation_id": OTHER}
    assert last.trace_id == b""


def test_what_else_is_called_request_id_is_an_attribute() -> None:
    *_, record = read(start(), event({"message": "m", "requestId": OTHER}))
    assert attributes(record) == {"faas.invocation_id": REQUEST, "requestId": OTHER}


def test_where_invocations_overlap_a_line_belongs_to_what_it_names() -> None:
    named = event({"message": "m", "requestId": OTHER})
    records = read(start(), event("unnamed"), named, start(OTHER), alone=False)
    ids = [attributes(record).get("faas.invocation_id") for record in records]
    assert ids == [REQUEST, None, OTHER, OTHER]


def test_the_span_of_the_platform_comes_before_its_parent() -> None:
    own = "aaaaaaaaaaaaaaaa"
    for record in read(start(spanId=own), event("x")):
        assert (record.trace_id.hex(), record.span_id.hex()) == (TRACE, own)


def test_a_span_alone_is_of_the_trace_of_its_invocation() -> None:
    *_, record = read(start(), event({"message": "m", "span_id": "bbbbbbbbbbbbbbbb"}))
    assert (record.trace_id.hex(), record.span_id.hex()) == (TRACE, "bbbbbbbbbbbbbbbb")
    *_, record = read(start(), event({"message": "m", "trace_id": TRACE}))
    assert (record.trace_id.hex(), record.span_id.hex()) == (TRACE, SPAN)
    *_, record = read(start(), event({"message": "m", "trace_id": "c" * 32}))
    assert (record.trace_id.hex(), record.span_id.hex()) == ("c" * 32, "")


def test_what_ran_before_is_known_to_lines_that_come_later() -> None:
    before = Invocation(REQUEST, TraceContext(bytes.fromhex(TRACE)))
    (record,) = read(event("x"), before=before)
    assert attributes(record) == {"faas.invocation_id": REQUEST}
    assert record.trace_id.hex() == TRACE


def test_more_invocations_than_are_remembered() -> None:
    ids = [f"{number:08x}-e9f4-11e8-9739-2dfe598c3fcd" for number in range(1500)]
    records = read(*[start(each) for each in ids], event("x"))
    assert attributes(records[-1]) == {"faas.invocation_id": ids[-1]}


# -- platform events and others ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "said", "level"),
    [
        ("platform.report", {"requestId": REQUEST, "status": "success"}, (9, "INFO")),
        ("platform.runtimeDone", {"requestId": REQUEST, "status": "timeout"}, (17, "ERROR")),
        ("platform.initReport", {"status": ["error"]}, (9, "INFO")),
        ("platform.logsDropped", {"droppedRecords": 3}, (13, "WARN")),
        ("platform.fault", "it broke", (17, "ERROR")),
        ("platform.new", [1, {"a": None}], (9, "INFO")),
        ("custom", {"message": "m"}, (9, "INFO")),
    ],
)
def test_platform_events(kind: str, said: Any, level: tuple[int, str]) -> None:
    record = one(event(said, kind))
    assert record.event_name == kind
    assert plain(record.body) == said
    assert severity(record) == level
    named = isinstance(said, dict) and "requestId" in said
    assert attributes(record) == ({"faas.invocation_id": REQUEST} if named else {})


def test_events_of_an_initialisation_have_their_own_trace() -> None:
    record = one(event({"tracing": {"value": HEADER}}, "platform.initReport"))
    assert record.trace_id.hex() == TRACE


def test_lines_of_extensions_say_so() -> None:
    for said, body in (("hello\n", "hello"), ({"message": "m", "a": 1}, "m"), ([1], [1])):
        record = one(event(said, "extension"))
        assert plain(record.body) == body
        assert attributes(record)["aws.lambda.telemetry.type"] == "extension"


@pytest.mark.parametrize("said", [5, None, True, [], 0.5])
def test_records_that_are_neither_text_nor_object(said: Any) -> None:
    assert plain(one(event(said)).body) == said


@pytest.mark.parametrize("time", ["", "noon", 5, None, "1960-01-01T00:00:00.000Z"])
def test_a_line_without_a_time_has_none(time: Any) -> None:
    assert one(event("x", time=time)).time_unix_nano == 0


def test_lines_of_other_senders() -> None:
    record = one(b'{"level":"warn","message":"m","a":1}\n')
    assert (record.body.string_value, severity(record)) == ("m", (13, "warn"))
    assert attributes(record) == {"a": 1}
    assert plain(one(b'{"type":5,"x":1}\n').body) == {"type": 5, "x": 1}
    assert one(b"ERROR: no json\r\n").body.string_value == "ERROR: no json\r"
    assert one(b"[1,2]\n").body.string_value == "[1,2]"
    assert one(b"no \xff utf-8\n").body.bytes_value == b"no \xff utf-8"


def test_json_that_strict_readers_refuse() -> None:
    assert one(b'{"type":"function","record":"a\\ud800b"}\n').body.string_value == "a\ufffdb"
    record = one(b'{"type":"function","record":{"message":"m","n":NaN,"h":1e999}}\n')
    assert attributes(record) == {"n": None, "h": None}
    deep = b'{"type":"function","record":' + b"[" * 5000 + b"]" * 5000 + b"}\n"
    assert one(deep).body.string_value == deep[:-1].decode()
    digits = b'{"type":"function","record":' + b"1" * 5000 + b"}\n"
    assert one(digits).WhichOneof is not None


def test_a_line_of_a_mebibyte() -> None:
    for said in ("x" * (1 << 20), {"message": "x" * (1 << 20), "a": ["y" * 9] * 9}):
        assert one(event(said)).body.string_value == "x" * (1 << 20)


def test_many_levels_and_times_are_kept_within_bounds() -> None:
    for number in range(600):
        record = one(event({"message": "m", "level": f"INFO+{number % 500}"}))
        assert record.severity_text == f"INFO+{number % 500}"


# -- whatever comes ------------------------------------------------------------------------------

ANY_JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
        st.sampled_from([STAMP, REQUEST, TRACE, SPAN, HEADER, "INFO", "{}", '{"msg":{}}']),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.text(max_size=5), st.sampled_from(sorted(ROLES))), inner, max_size=5
        ),
    ),
    max_leaves=15,
)  # fmt: skip
TYPES = st.sampled_from(
    ["function", "extension", "platform.start", "platform.report", "platform.fault", "x"]
)


def any_lines() -> Iterator[st.SearchStrategy[bytes]]:
    yield st.binary(max_size=50).map(lambda data: data.replace(b"\n", b" ") + b"\n")
    yield ANY_JSON.map(lambda value: json.dumps(value).encode() + b"\n")
    yield st.builds(event, ANY_JSON, TYPES, st.one_of(st.just(STAMP), ANY_JSON))
    yield st.builds(lambda text: event(f"{LATER}\t{REQUEST}\t{text}"), st.text(max_size=30))


@given(st.lists(st.one_of(*any_lines()), min_size=1, max_size=8), st.booleans())
def test_each_line_is_one_record_in_both_forms(lines: list[bytes], alone: bool) -> None:
    records = read(*lines, alone=alone)
    assert len(records) == len(lines)
    recorder = Recorder(JsonLogs(), Invocations(one_at_a_time=alone))
    made = recorder.encode(b"".join(lines), OBSERVED, NO_INVOCATION)
    for record, text in zip(records, made, strict=True):
        found = json.loads(text.removesuffix(b","))
        assert found.get("severityNumber", 0) == record.severity_number
        assert int(found.get("timeUnixNano", 0)) == record.time_unix_nano
        assert found.get("traceId", "") == record.trace_id.hex()
        assert len(found["attributes"]) == len(record.attributes)


@pytest.mark.parametrize("stamp", ["9999-12-31T23:59:59.999Z", "2262-04-12T00:00:00.000Z"])
@pytest.mark.parametrize("text", ["x", f"[INFO]\t{STAMP}\t{REQUEST}\tx\n", "{stamp} x"])
def test_a_time_that_otlp_does_not_have_costs_itself_alone(stamp: str, text: str) -> None:
    late, usual = event(text.replace("{stamp}", stamp), time=stamp), event("usual")
    _, found, neighbour = read(start(), late, usual)
    assert found.time_unix_nano in (0, parse_nanoseconds(STAMP))
    assert neighbour.time_unix_nano == parse_nanoseconds(STAMP)


@pytest.mark.parametrize("stamp", ["1969-12-31T23:59:59.500Z", "1970-01-01T00:00:00.000Z"])
def test_lines_from_before_the_epoch_have_no_time(stamp: str) -> None:
    line = event(f"[INFO]\t{stamp}\t{REQUEST}\tx\n", time=stamp)
    _, *found = read(start(), line, line, line)
    assert [(record.time_unix_nano, severity(record)[1]) for record in found] == [(0, "INFO")] * 3


@pytest.mark.parametrize("message", [7, None, {"a": 1}, '{"a": 1}', "{no json"])
def test_another_message_behind_one_that_is_alike_is_read_in_full(message: Any) -> None:
    usual = event(in_layout("object", STAMP, "INFO", REQUEST, "usual"))
    other = event(in_layout("object", STAMP, "INFO", REQUEST, message))
    *_, together = read(start(), usual, usual, other)
    assert together == read(start(), other)[1]


NUMBERS = {"DEBUG": 5, "INFO": 9, "ERROR": 17}


def in_layout(layout: str, stamp: str, level: str, request: str, message: str) -> Any:
    """Return the record of a line that a runtime writes."""
    if layout == "object":
        return {"timestamp": stamp, "level": level, "requestId": request, "message": message}
    if layout == "python":
        return f"[{level}]\t{stamp}\t{request}\t{message}\n"
    return f"{stamp}\t{request}\t{level}\t{message}\n"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["object", "python", "node"]),
            st.builds(
                "2026-03-14T10:00:{:02d}.{:03d}Z".format, st.integers(0, 2), st.integers(0, 999)
            ),
            st.sampled_from(sorted(NUMBERS)),
            st.sampled_from([REQUEST, OTHER]),
            st.text(max_size=8) | st.sampled_from(["", "x" * 130, "größe", "tab\tbed", "\n", "}"]),
        ),
        max_size=12,
    )
)  # fmt: skip
def test_lines_that_are_alike_are_read_as_any_other(
    logged: list[tuple[str, str, str, str, str]],
) -> None:
    logged = [each for each in logged if not each[-1].startswith("{")]
    lines = [event(in_layout(*each), time=each[1]) for each in logged]
    records = read(start(), start(OTHER, ""), *lines)[2:]
    for (_, stamp, level, request, message), record in zip(logged, records, strict=True):
        wanted = LogRecord(
            time_unix_nano=parse_nanoseconds(stamp),
            observed_time_unix_nano=OBSERVED,
            severity_number=NUMBERS[level],  # type: ignore[arg-type]  # an integer is one
            severity_text=level,
        )
        wanted.body.string_value = message
        wanted.attributes.add(key="faas.invocation_id").value.string_value = request
        if request == REQUEST:
            wanted.trace_id, wanted.span_id = bytes.fromhex(TRACE), bytes.fromhex(SPAN)
            wanted.flags = 1
        assert record == wanted


def test_what_is_added_is_noticed_where_it_was_not_expected() -> None:
    """After a reload: from the first block on that begins with such a line."""
    recorder = Recorder(ProtobufLogs(), Invocations(one_at_a_time=True), expects_more=False)
    line = event("text\n")
    for data in (line + line, ADDED + line[1:], line + ADDED + line[1:]):
        made = recorder.encode(data, OBSERVED, NO_INVOCATION)
    *_, last = ScopeLogs.FromString(b"".join(made)).log_records
    assert attributes(last)["stage"] == "prod"

"""Rows of the flat format: what each column says, for lines of every kind."""

import json
from typing import Any

import pytest

from helpers.flat_lines import IDENTITY, NOW, WALL, flat_rows
from helpers.scanner import compiled, each_scanner, using  # noqa: F401 - each test runs with each
from telemetryd.core import flat
from telemetryd.core.fields import Field, FieldAdder, RequestTracker
from telemetryd.core.flat import FlatReader, Flattener
from telemetryd.core.line_filter import LineFilter
from telemetryd.core.router import RouteRules, merge, open_pieces, reader_for
from telemetryd.core.sample import Sampler, rule
from telemetryd_proto.flat import COLUMNS
from telemetryd_proto.framing import Block

TIME = "2026-03-14T10:15:29.012Z"
ROOT = "1-69b539d1-5f2a0c1b7d3e4a6f8b9c0d1e"
TRACING = {"value": f"Root={ROOT};Parent=7a6b5c4d3e2f1a0b;Sampled=1"}
EXECUTION = "arn:aws:lambda:eu-west-1:123456789012:function:f:1/durable-execution/order-17/0b6f1c9e"


def event(kind: Any, record: Any, **members: Any) -> bytes:
    return json.dumps({"time": TIME, "type": kind, "record": record, **members}).encode()


START = event("platform.start", {"requestId": "r-1", "tenantId": "blue", "tracing": TRACING})


def row(*lines: bytes) -> dict[str, Any]:
    """The row of the last line, without what is null or known of the process."""
    last = flat_rows(list(lines), {})[1][-1]
    known = {*IDENTITY, "record_id"}
    return {name: value for name, value in last.items() if value is not None and name not in known}


def gets(fields: tuple[Field, ...], *lines: bytes, **more: Any) -> list[dict[str, Any]]:
    """The tags of all rows of a sink that asks for `fields`."""
    reader = FlatReader(IDENTITY, lambda: WALL)
    shaper = Flattener(reader, fields, {**IDENTITY, "region": "eu-west-1"}, {"stage": "prod"})
    rules = RouteRules(LineFilter(), shaper, **more)
    tracker = RequestTracker(one_at_a_time=True)
    tracker.keep_facts().wants_execution = shaper.wants_execution
    block = Block(b"".join(line + b"\n" for line in lines), len(lines), 1, 0, 0.0)
    pieces = open_pieces(block, tracker, reader_for([rules]), reader)
    part = merge(block, [piece.select(rules) for piece in pieces]).wanted
    assert part is not None
    return [json.loads(json.loads(line)["tags"]) for line in part.data.splitlines()]


def test_a_text_of_a_log() -> None:
    text = "[WARN]\t2026-03-14T10:15:29.012Z\tr-1\tlow stock\n"
    assert row(START, event("function", text)) == {
        "time": TIME, "type": "function", "level": "WARN", "message": text[:-1],
        "request_id": "r-1", "trace_id": "69b539d15f2a0c1b7d3e4a6f8b9c0d1e", "tenant_id": "blue",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message", "level"),
    [
        ("hello", "hello", None),
        ("two\n\n", "two\n", None),
        ("ends with a backslash and n: \\n", "ends with a backslash and n: \\n", None),
        ("ends with a backslash: \\\n", "ends with a backslash: \\", None),
        ("2026-03-14T10:15:29.012Z\tr-1\tERROR\tx", "2026-03-14T10:15:29.012Z\tr-1\tERROR\tx",
         "ERROR"),
        ("[INFO]\tt\tunknown\tx", "[INFO]\tt\tunknown\tx", "INFO"),
        ('[INFO]\tt\tr-1\t{"level":"error"}', '[INFO]\tt\tr-1\t{"level":"error"}', "ERROR"),
        ("a\tb\tc\td", "a\tb\tc\td", None),
        ("INFO: ü", "INFO: ü", "INFO"),
        ("", "", None),
    ],
)  # fmt: skip
def test_texts_in_other_layouts(text: str, message: str, level: str | None) -> None:
    found = row(START, event("function", text))
    assert (found["message"], found.get("level")) == (message, level)
    assert found["request_id"] == "r-1"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"level": "INFO", "message": "hi", "requestId": "r-1"}, ("INFO", "hi")),
        ({"level": "info", "message": "hi", "requestId": "other"}, ("INFO", "hi")),
        ({"level": "INFO", "message": "hi", "requestId": 7}, ("INFO", "hi")),
        ({"level": "Warning", "message": "hi"}, ("WARN", "hi")),
        ({"level": ["odd"], "message": "hi"}, (None, "hi")),
        ({"level": 50, "msg": "of pino"}, ("ERROR", "of pino")),
        ({"level": "INFO", "message": {"a": 1}}, ("INFO", '{"a":1}')),
        ({"level": "INFO", "message": '{"level":"error"}'}, ("ERROR", '{"level":"error"}')),
        ({"level": "INFO", "message": 5.0}, ("INFO", "5.0")),
        ({"level": "INFO", "message": None}, ("INFO", None)),
        ({"a": 1}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_an_object_of_a_log(record: dict[str, Any], expected: tuple[Any, Any]) -> None:
    line = json.dumps(record, separators=(",", ":"))
    found = row(START, b'{"time":"%b","type":"function","record":%b}'
                % (TIME.encode(), line.encode()))  # fmt: skip
    assert (found.get("level"), found.get("message")) == expected
    assert found["attributes"] == line
    assert found["request_id"] == "r-1"


def test_an_error_names_its_type() -> None:
    record = {"level": "ERROR", "message": "no", "errorType": "ValueError"}
    assert row(event("function", record))["error_type"] == "ValueError"
    assert "error_type" not in row(event("function", record | {"errorType": 7}))
    assert "error_type" not in row(event("function", record | {"errorType": ""}))


@pytest.mark.parametrize(
    ("record", "message"), [([1, "a"], '[1, "a"]'), (7, "7"), (True, "true"), (None, None)]
)
def test_any_other_record_is_a_message(record: Any, message: str | None) -> None:
    found = row(event("function", record))
    assert found.get("message") == message
    assert "attributes" not in found


REPORT = {
    "requestId": "r-1", "status": "error", "errorType": "Runtime.ExitError",
    "metrics": {"durationMs": 278.928, "billedDurationMs": 921, "memorySizeMB": 512,
                "maxMemoryUsedMB": 141, "initDurationMs": 641},
}  # fmt: skip


def test_a_report_has_its_figures() -> None:
    found = row(START, event("platform.report", REPORT))
    assert json.loads(found.pop("attributes")) == REPORT
    assert found == {
        "time": TIME, "type": "platform.report", "request_id": "r-1", "tenant_id": "blue",
        "trace_id": "69b539d15f2a0c1b7d3e4a6f8b9c0d1e", "duration_ms": 278.928,
        "billed_ms": 921.0, "memory_mb": 512, "max_memory_mb": 141, "init_ms": 641.0,
        "status": "error", "error_type": "Runtime.ExitError",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"durationMs": "5.5", "memorySizeMB": "512"}, {"duration_ms": 5.5, "memory_mb": 512}),
        ({"durationMs": True, "memorySizeMB": True}, {}),
        ({"durationMs": "x", "memorySizeMB": 1.5, "maxMemoryUsedMB": 87.0}, {"max_memory_mb": 87}),
        ({"durationMs": "9" * 40, "memorySizeMB": 2**63}, {}),
        ({"durationMs": "nan", "memorySizeMB": -(2**63)}, {"memory_mb": -(2**63)}),
        ({"durationMs": 10**400, "memorySizeMB": []}, {}),
        ("none", {}),
        ([], {}),
    ],
)
def test_figures_of_other_types(metrics: Any, expected: dict[str, Any]) -> None:
    found = row(event("platform.report", {"requestId": "r-1", "status": 7, "metrics": metrics}))
    figures = ("duration_ms", "memory_mb", "max_memory_mb", "status")
    assert {name: found[name] for name in figures if name in found} == expected


def test_an_event_without_metrics_or_with_a_text() -> None:
    assert row(event("platform.report", {"requestId": "r-1", "status": "success"})) == {
        "time": TIME, "type": "platform.report", "request_id": "r-1", "status": "success",
        "attributes": '{"requestId": "r-1", "status": "success"}',
    }  # fmt: skip
    assert row(event("platform.fault", 'Error: exit, "status" and so on\n')) == {
        "time": TIME, "type": "platform.fault", "message": 'Error: exit, "status" and so on',
    }  # fmt: skip


def test_lines_after_an_event_say_what_is_known_then() -> None:
    text = event("function", f"[INFO]\t{TIME}\tr-1\thello")
    other = event("function", {"level": "INFO", "message": "hello", "requestId": "r-2"})
    report = event("platform.report", {"requestId": "r-2", "status": "success"})
    again = event("platform.start", {"requestId": "r-1", "tenantId": "red"})
    found = flat_rows([START, text, other, report, text, other, again, text], {})[1]
    assert [(each["request_id"], each["tenant_id"]) for each in found] == [
        ("r-1", "blue"), ("r-1", "blue"), ("r-1", "blue"), ("r-2", None), ("r-1", "blue"),
        ("r-1", "blue"), ("r-1", "red"), ("r-1", "red"),
    ]  # fmt: skip


def test_an_invocation_of_long_ago_is_forgotten_within_a_block() -> None:
    text = event("function", f"[INFO]\t{TIME}\tr-1\thello")
    starts = [event("platform.start", {"requestId": f"n-{n}"}) for n in range(1024)]
    for line in (text, event("function", {"level": "INFO", "message": "", "requestId": "r-1"})):
        assert flat_rows([START, line], {})[1][-1]["request_id"] == "r-1"
        assert flat_rows([START, line, *starts, line], {})[1][-1]["request_id"] == "n-1023"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"plain text\r", {"time": NOW, "message": "plain text"}),
        (b"\xff", {"time": NOW, "message": "\ufffd"}),
        (b"[1]", {"time": NOW, "message": "[1]"}),
        (b'{"a":1}', {"time": NOW, "attributes": '{"a":1}'}),
        (b' {"a":1}\r', {"time": NOW, "attributes": '{"a":1}'}),
        (b'{"a":NaN}', {"time": NOW, "attributes": '{"a":null}'}),
        (b'{"a":"\xff"}', {"time": NOW, "attributes": '{"a":"\ufffd"}'}),
        (
            b'{"timestamp":"2026-03-14T12:15:29.5+02:00","level":"error","message":"hi"}',
            {
                "time": "2026-03-14T10:15:29.500000Z", "level": "ERROR", "message": "hi",
                "attributes":
                    '{"timestamp":"2026-03-14T12:15:29.5+02:00","level":"error","message":"hi"}',
            },
        ),
        (
            b'{"time":1773483329012,"@timestamp":"2026-03-14T10:15:29.012Z"}',
            {"time": TIME,
             "attributes": '{"time":1773483329012,"@timestamp":"2026-03-14T10:15:29.012Z"}'},
        ),
        (
            b'{"time":"2026-03-14T10:15:29.012Z","type":"access","record":"GET /","code":200}',
            {"time": TIME, "type": "access", "message": "GET /", "attributes":
             '{"time":"2026-03-14T10:15:29.012Z","type":"access","record":"GET /","code":200}'},
        ),
        (
            b'{"stage":"x","time":"2026-03-14T10:15:29.012Z","type":"function","record":"hi"}',
            {"time": TIME, "type": "function", "message": "hi", "attributes":
             '{"stage":"x","time":"2026-03-14T10:15:29.012Z","type":"function","record":"hi"}'},
        ),
    ],
)  # fmt: skip
def test_lines_of_other_senders(line: bytes, expected: dict[str, Any]) -> None:
    assert row(line) == expected


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2026-03-14T10:15:29Z", "2026-03-14T10:15:29.000000Z"),
        ("2026-03-14T10:15:29.123456789Z", "2026-03-14T10:15:29.123456789Z"),
        ("2026-03-14 10:15:29Z", NOW),
        ("2026-02-30T10:15:29.012Z", NOW),
        ("1969-12-31T23:59:59.999Z", NOW),
        ("2300-01-01T00:00:00.000Z", NOW),
        ("x" * 100, NOW),
        (None, NOW),
    ],
)
def test_a_time_is_one_of_the_schema(time: Any, expected: str) -> None:
    assert row(event("function", "x", time=time))["time"] == expected


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59Z", 5, "later"])
def test_a_time_that_has_no_column_is_not_lost(time: Any) -> None:
    for record in ("x\n", "[INFO]\tnow\tr-1\tx", {"level": "INFO", "message": "x"}, ["x"],
                   {"timestamp": TIME}):  # fmt: skip
        line = event("function", record, time=time)
        found = row(line, event("function", "y"), line)
        assert found["time"] in (NOW, TIME)
        assert json.loads(found["attributes"]) == json.loads(line)
    report = event("platform.report", {"requestId": "r"}, time=time)
    assert json.loads(row(report)["attributes"]) == json.loads(report)
    assert "attributes" not in row(event("function", "x", time=None))


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2026-03-14T10:15:59.999Z", "2026-03-14T10:15:59.999Z"),
        ("2026-03-14T10:16:00.000Z", "2026-03-14T10:16:00.000Z"),
        ("2026-03-14T10:15:60.000Z", NOW),
        ("2026-03-14T10:75:29.012Z", NOW),
        ("2026-03-14T1O:15:29.012Z", NOW),
        ("2026-03-14T10:15:29.012+", NOW),
        ("2026-03-14T10:15:29.0123", NOW),
    ],
)
def test_each_time_of_a_block_is_looked_at(time: str, expected: str) -> None:
    """Whole blocks are of one minute mostly, and then cost little."""
    lines = [event("function", "x"), event("function", "y", time=time), event("function", "z")]
    assert [each["time"] for each in flat_rows(lines, {})[1]] == [TIME, expected, TIME]


def test_what_only_begins_as_a_line_has_no_time() -> None:
    broken = event("function", "x")[:-1]
    assert row(broken) == {"time": NOW, "message": broken.decode()}
    assert row(START, broken, event("function", "y"))["time"] == TIME


def test_rows_are_numbered_one_after_the_other() -> None:
    rows = flat_rows([event("function", "x")] * 2345, {})[1]
    assert [each["record_id"] for each in rows] == [f"{'ab' * 16}-{n}" for n in range(1, 2346)]


def test_times_and_invocations_that_are_remembered_are_bounded() -> None:
    times = [f"2026-03-14T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}.000Z" for n in range(3000)]
    lines = [
        event("platform.start", {"requestId": f"r-{n}"}, time=time) for n, time in enumerate(times)
    ]
    reader = FlatReader(IDENTITY, lambda: WALL)
    shaper = Flattener(reader, ["cold_start"], IDENTITY, {})
    rules, tracker = RouteRules(LineFilter(), shaper), RequestTracker(one_at_a_time=True)
    tracker.keep_facts()
    block = Block(b"".join(line + b"\n" for line in lines), len(lines), 1, 0, 0.0)
    for piece in open_pieces(block, tracker, reader_for([rules]), reader):
        piece.select(rules)
    assert len(reader.seconds) <= 1024
    assert len(reader.origins) <= 1024


def test_tags_hold_fields_that_have_no_column() -> None:
    fields: tuple[Field, ...] = ("function", "request_id", "region", "memory_mb", "execution_arn")
    found = gets(fields, START, event("function", "x"), event("function", EXECUTION), b"text")
    tags = {"region": "eu-west-1", "stage": "prod"}
    assert found == [tags, tags, tags | {"execution_arn": EXECUTION}, tags]


def test_a_sampled_line_says_its_weight_among_the_tags() -> None:
    sampler = Sampler([rule(type="function", level="", match="", keep=0.5, by="line")])
    lines = [event("function", f"line {n}") for n in range(64)]
    found = gets((), START, *lines, sampler=sampler)
    assert 2 < len(found) < 64
    assert found[0] == {"stage": "prod"}
    assert found[1:] == [{"sample_weight": 2, "stage": "prod"}] * (len(found) - 1)


def test_two_sinks_share_the_rows_and_each_gets_what_it_wants() -> None:
    reader = FlatReader(IDENTITY, lambda: WALL)
    logs = RouteRules(LineFilter(types=["function"]), Flattener(reader, (), IDENTITY, {}))
    tagged = RouteRules(LineFilter(), Flattener(reader, (), IDENTITY, {"stage": "prod"}))
    raw = RouteRules(LineFilter(), FieldAdder(["request_id"], IDENTITY))
    block = Block(START + b"\n" + event("function", "x") + b"\n", 2, 1, 0, 0.0)
    tracker = RequestTracker(one_at_a_time=True)
    (opened,) = open_pieces(block, tracker, reader_for([logs, tagged, raw]), reader)
    parts = [opened.select(rules).wanted for rules in (logs, tagged, raw)]
    (log,), both, lines = (
        [json.loads(line) for line in part.data.splitlines()] for part in parts if part
    )
    assert [each["record_id"] for each in both] == [f"{'ab' * 16}-1", f"{'ab' * 16}-2"]
    assert log | {"tags": '{"stage":"prod"}'} == both[1]
    assert [each["request_id"] for each in lines] == ["r-1", "r-1"]
    assert [part.size for part in parts if part] == [
        len(event("function", "x")) + 1, block.size, block.size,
    ]  # fmt: skip


def test_lines_of_no_object_are_not_unjudged_where_no_filter_judges() -> None:
    reader = FlatReader(IDENTITY, lambda: WALL)
    for types, unjudged in (((), 0), (("function",), 1)):
        rules = RouteRules(LineFilter(types=types), Flattener(reader, (), IDENTITY, {}))
        block = Block(b"text\n", 1, 1, 0, 0.0)
        tracker = RequestTracker(one_at_a_time=True)
        (opened,) = open_pieces(block, tracker, reader_for([rules]), reader)
        assert opened.select(rules).unjudged_lines == unjudged


def test_ids_are_of_the_new_instance_after_a_restore() -> None:
    reader = FlatReader(IDENTITY, lambda: WALL)
    shaper = Flattener(reader, (), IDENTITY, {})
    rules, tracker = RouteRules(LineFilter(), shaper), RequestTracker(one_at_a_time=True)
    ids = []
    for instance in ("ab" * 16, "cd" * 16):
        shaper.renew(IDENTITY | {"instance": instance})
        block = Block(b"x\n", 1, 1, 0, 0.0)
        (opened,) = open_pieces(block, tracker, reader_for([rules]), reader)
        part = opened.select(rules).wanted
        assert part is not None
        ids.append(json.loads(part.data)["record_id"])
        assert json.loads(part.data)["instance"] == instance
    assert ids == [f"{'ab' * 16}-1", f"{'cd' * 16}-2"]


def test_rows_that_are_as_long_as_their_lines_are_no_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pieces of a block are joined, and the block itself is never taken for them."""
    from telemetryd.core import router

    monkeypatch.setattr(router, "_PIECE_BYTES", 100)
    lines = [event("function", f"line {n}") for n in range(20)]
    assert [each["message"] for each in flat_rows(lines, {})[1]] == [f"line {n}" for n in range(20)]
    assert all(tuple(each) == COLUMNS for each in flat_rows(lines, {})[1])


def test_the_compiled_scanner_makes_the_rows_of_usual_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    text = event("function", "[INFO]\tt\tr-1\thello\n")
    log = event("extension", {"level": "warn", "requestId": "r-1", "message": "hello"})
    left: list[bytes] = []
    in_python = flat._Pass._read

    def note(one_pass: flat._Pass, lines: list[bytes], *others: Any) -> None:
        left.extend(lines)
        in_python(one_pass, lines, *others)

    monkeypatch.setattr(flat._Pass, "_read", note)
    with using(compiled()):
        assert len(flat_rows([START, text, log, text, log, START, text], {})[0]) == 7
    assert left == []

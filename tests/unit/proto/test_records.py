"""Records as runtimes and loggers really write them: `tests/fixtures/make_records.py` made them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from helpers.emf_streams import done, event, metrics, packed, sink, start
from telemetryd.core.fields import RequestTracker
from telemetryd.core.line_filter import LineFilter
from telemetryd.core.log_level import LEVELS
from telemetryd.core.loose import decode_lines_loosely
from telemetryd.core.record import rank_of_line

FIXTURES: Final = Path(__file__).parents[2] / "fixtures"
OTHER: Final = "eeeeeeee-2222-4333-8444-555555555555"


def invocations(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


MADE: Final = invocations(FIXTURES / "records.ndjson")
ALL: Final = [*MADE, *invocations(FIXTURES / "loggers" / "published.ndjson")]
LEVELLED: Final = [one for one in ALL if "level" in one]
NAMED: Final = [one for one in ALL if one.get("names_request")]
REPORTED: Final = [one for one in ALL if one["records"] and one["logger"] == "none"]
EXCEPTIONS: Final = [one for one in ALL if one["case"] == "exception"]


def name_of(one: dict[str, Any]) -> str:
    return f"{one['made_by']}-{one['format']}-{one['logger']}-{one['case']}".replace(" ", "_")


def forms_of(record: object) -> list[bytes]:
    """A record as event, as a text that holds it, and as NDJSON of its own, where it is an object.

    A text that holds an object is also sent as that object.
    """
    if isinstance(record, str) and record.startswith("{"):
        record = json.loads(record)
    lines = [event("function", record)]
    if isinstance(record, dict):
        lines += [event("function", json.dumps(record) + "\n"), json.dumps(record).encode() + b"\n"]
    return lines


def test_the_fixtures_are_there() -> None:
    by = {one["made_by"].split()[0] for one in MADE}
    assert by == {"awslambdaric", "aws-lambda-ric"}
    assert len(MADE) > 250
    assert all(one["records"] for one in MADE if one["case"] != "exit")


@pytest.mark.parametrize("one", LEVELLED, ids=name_of)
def test_the_level_of_every_logger_is_read_in_every_form(one: dict[str, Any]) -> None:
    rank = LEVELS.index(one["level"].upper())
    for line in forms_of(one["records"][0]):
        (found,) = decode_lines_loosely([line])
        assert found is not None
        assert rank_of_line(line, found) == rank
        for index, least in enumerate(LEVELS):
            assert LineFilter(min_level=least).wants(line, found) is (rank >= index)


@pytest.mark.parametrize("one", NAMED, ids=name_of)
def test_a_line_belongs_to_the_invocation_it_names(one: dict[str, Any]) -> None:
    """However late it comes."""
    tracker = RequestTracker(one_at_a_time=True)
    begun = [start(one["request_id"]), start(OTHER)]
    lines = [*begun, *forms_of(one["records"][0])]
    objects = decode_lines_loosely(lines)
    ids = [tracker.request_of(line, o, 1) for line, o in zip(lines, objects, strict=True) if o]
    assert ids == [one["request_id"], OTHER, *[one["request_id"]] * (len(lines) - 2)]


@pytest.mark.parametrize("one", [o for o in ALL if o["case"] == "gateway"], ids=name_of)
def test_an_id_of_api_gateway_is_not_believed(one: dict[str, Any]) -> None:
    tracker = RequestTracker(one_at_a_time=True)
    lines = [start(one["request_id"]), *forms_of(one["records"][0])]
    objects = decode_lines_loosely(lines)
    ids = {tracker.request_of(line, o, 1) for line, o in zip(lines, objects, strict=True) if o}
    assert ids == {one["request_id"]}


@pytest.mark.parametrize("one", [*REPORTED, *EXCEPTIONS], ids=name_of)
def test_what_a_runtime_reports_is_an_error_and_what_a_handler_logs_is_none(
    one: dict[str, Any],
) -> None:
    subject = sink(function="orders", count_log_errors=True)
    request = one["request_id"]
    lines = [start(request), *(event("function", r) for r in one["records"]), done(request)]
    errors = sum(sum(metrics(found).get("errors", [])) for found in packed(subject, lines))
    assert errors == int(one["fails"])


# -- other spellings and layouts -----------------------------------------------------------------

REQUEST: Final = "aaaaaaaa-2222-4333-8444-555555555555"
TIME: Final = "2026-11-30T00:00:00.000Z"
DEBUG_OBJECT: Final = '{"level":"debug","message":"x"}'
SPELLINGS: Final = ["LVL", "LOG_LEVEL", "log-level", "SEVERITY", "LevelName", "Loglevel"]
RECORDS: Final[dict[str, str]] = {
    r'{"l\u0065vel":"D\u0045BUG"}': "DEBUG",
    '{"severity":"DEBUG","n":1e999}': "DEBUG",
    '{"severity":"DEBUG","n":-Infinity}': "DEBUG",
    '{"severity":"DEBUG","n":' + "9" * 6000 + "}": "DEBUG",
    '{"level":"INFO","message":" {\\"level\\":\\"debug\\"}\\n"}': "DEBUG",
    '{"level":"INFO","message":{"level":20,"time":1,"msg":"x"}}': "DEBUG",
    '{"level":"INFO","message":{"level":20,"points":1}}': "INFO",
}
TEXTS: Final[dict[str, str | None]] = {
    f"\ufeff{DEBUG_OBJECT}": "DEBUG",
    f"{TIME} {DEBUG_OBJECT}\n": "DEBUG",
    f"{REQUEST} {DEBUG_OBJECT}": "DEBUG",
    f"INFO:root:{DEBUG_OBJECT}": "DEBUG",
    f"[INFO]\t{TIME}\t{REQUEST}\t{DEBUG_OBJECT}\n": "DEBUG",
    f'{TIME}\t{REQUEST}\tINFO\t{{"level":20,"time":1,"pid":8,"hostname":"h"}}': "DEBUG",
    f"{TIME}\tINFO\tconfiguration read\t{DEBUG_OBJECT}": "INFO",
    f"configuration read {DEBUG_OBJECT}": None,
    "Nov 30, 2026 12:00:00 AM com.example.App main\nSEVERE: x": "ERROR",
    "Nov 30, 2026, 12:00:00\u202fAM com.example.App main\nFINE: x": "DEBUG",
    "2026-11-30 00:00:00.000 +00:00 [ERR] x": "ERROR",
    "[2026-11-30 00:00:00,123: WARNING/MainProcess] x": "WARN",
    "(DEBUG) x": "DEBUG",
    f"RequestId: {REQUEST} DEBUG x": "DEBUG",
}


def rank_name(line: str) -> str | None:
    (found,) = decode_lines_loosely([line.encode()])
    assert found is not None
    rank = rank_of_line(line.encode(), found)
    return None if rank is None else LEVELS[rank]


@pytest.mark.parametrize("member", SPELLINGS)
def test_a_level_is_read_however_its_member_is_spelled(member: str) -> None:
    assert rank_name(json.dumps({member: "Warning", "message": "x"})) == "WARN"
    assert rank_name(json.dumps({member: "loud", "level": "debug"})) == "DEBUG"


@pytest.mark.parametrize(("record", "level"), RECORDS.items())
def test_a_level_is_read_in_odd_objects(record: str, level: str) -> None:
    assert rank_name(record) == level
    assert rank_name(f'{{"type":"function","record":{record}}}') == level


@pytest.mark.parametrize(("text", "level"), TEXTS.items())
def test_a_level_is_read_in_more_layouts(text: str, level: str | None) -> None:
    assert rank_name(json.dumps({"type": "function", "record": text})) == level


def test_a_member_called_record_hides_no_level() -> None:
    assert rank_name('{"record":"x","level":"debug"}') == "DEBUG"
    assert rank_name('{"record":{"a":1},"level":"debug"}') == "DEBUG"


NAMING: Final = [
    f"[INFO] [{REQUEST}] x",
    f"INFO [{REQUEST}] x",
    f"[INFO] {TIME} {REQUEST} x",
    f"{TIME}\t{REQUEST.upper()}\tINFO\tx",
    {"requestId": REQUEST.upper()},
    {"reqId": REQUEST},
    {"lambda": {"invokeid": REQUEST}},
    {"message": json.dumps({"awsRequestId": REQUEST})},
    {"request": {"requestId": "apigw="}, "requestId": "apigw=", "mdc": {"AWSRequestId": REQUEST}},
]


def owner_of(line: bytes, *, one_at_a_time: bool) -> str:
    tracker = RequestTracker(one_at_a_time=one_at_a_time)
    lines = [start(REQUEST), start(OTHER), line]
    found = decode_lines_loosely(lines)
    return [tracker.request_of(x, o, 1) for x, o in zip(lines, found, strict=True) if o][-1]


@pytest.mark.parametrize("one_at_a_time", [True, False])
@pytest.mark.parametrize("record", NAMING, ids=repr)
def test_an_id_is_found_in_more_layouts(record: object, one_at_a_time: bool) -> None:
    assert owner_of(event("function", record), one_at_a_time=one_at_a_time) == REQUEST


@pytest.mark.parametrize("escaped", [r"re\u0071uestId", r"AWSRe\u0071uestId"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_name_with_escapes_is_a_name(escaped: str, nested: bool) -> None:
    record = f'{{"{escaped}":"{REQUEST}"}}'
    record = f'{{"context":{record}}}' if nested else record
    line = f'{{"type":"function","record":{record}}}\n'.encode()
    assert owner_of(line, one_at_a_time=True) == REQUEST


def test_an_id_that_began_comes_before_one_that_only_looks_so() -> None:
    """Where several run at once: API Gateway's ids have the same form."""
    gateway = "cccccccc-2222-4333-8444-555555555555"
    line = event("function", {"requestId": gateway, "awsRequestId": REQUEST})
    assert owner_of(line, one_at_a_time=False) == REQUEST
    assert owner_of(event("function", {"requestId": gateway}), one_at_a_time=False) == gateway
    assert owner_of(event("function", {"requestId": gateway}), one_at_a_time=True) == OTHER

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

FIXTURES: Final = Path(__file__).parents[1] / "fixtures"
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

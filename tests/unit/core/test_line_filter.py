"""Which lines a sink wants."""

import re
import sys
from typing import Any

import pytest

from telemetryd.core import log_level
from telemetryd.core.line_filter import LineFilter
from telemetryd.core.log_level import LEVELS, rank_of
from telemetryd_proto.envelope import decode_line


def line(record: str, kind: str = "function") -> bytes:
    return f'{{"time":"t","type":"{kind}","record":{record}}}\n'.encode()


def wants(found: LineFilter, data: bytes) -> bool:
    return found.wants(data, decode_line(data))


LEVELLED = {
    r'{"level":"%s","message":"m"}': "structured",
    r'"[%s]\t2026-03-14T14:00:00.003Z\tr-1\tmessage\n"': "Python",
    r'"2026-03-14T14:00:00.003Z\tr-1\t%s\tmessage\n"': "Node.js",
}


@pytest.mark.parametrize("layout", LEVELLED, ids=LEVELLED.values())
@pytest.mark.parametrize("level", [*LEVELS, "WARNING", "CRITICAL"])
def test_the_level_is_read_in_each_layout(layout: str, level: str) -> None:
    rank = rank_of(level)
    assert rank is not None
    for index, least in enumerate(LEVELS):
        assert wants(LineFilter(min_level=least), line(layout % level)) is (rank >= index)


@pytest.mark.parametrize(
    "record",
    [
        '"plain print"',
        '""',
        "null",
        "[1]",
        "7",
        '{"message":"m"}',
        '{"level":7}',
        '{"level":"LOUD"}',
    ],
)
def test_a_line_whose_level_cannot_be_told_passes(record: str) -> None:
    assert wants(LineFilter(min_level="fatal"), line(record))


def test_platform_events_have_no_level() -> None:
    assert wants(LineFilter(min_level="fatal"), line('{"level":"DEBUG"}', "platform.start"))


def test_include_needs_one_match_and_exclude_none() -> None:
    found = LineFilter(include=["orders?", "refund"], exclude=["health"])
    assert found.wants(b"an order", None)
    assert found.wants(b"a refund", None)
    assert not found.wants(b"something else", None)
    assert not found.wants(b"order health", None)


def test_a_pattern_that_does_not_compile_is_refused() -> None:
    with pytest.raises(re.error):
        LineFilter(include=["("])


@pytest.mark.parametrize(
    ("wanted", "needs"),
    [({}, False), ({"include": ["x"]}, False), ({"types": ["function"]}, True),
     ({"min_level": "info"}, True)],
)  # fmt: skip
def test_lines_are_decoded_only_where_it_matters(wanted: dict[str, Any], needs: bool) -> None:
    assert LineFilter(**wanted).needs_envelope is needs


def test_levels_are_not_looked_for_deeper_than_the_stack_holds() -> None:
    """JSON may nest deeper than Python's own calls."""
    nested: dict[str, object] = {}
    for _ in range(5 * sys.getrecursionlimit()):
        nested = {"log": nested}
    assert log_level._rank_of_members(nested) is None
    assert log_level._rank_of_members({"log": {"level": "error"}}) == rank_of("error")


def test_the_types_that_are_remembered_are_bounded() -> None:
    subject = LineFilter(types=["platform"])
    for number in range(1000):
        assert subject.by_type[f"platform.t{number}"] is True
        assert subject.by_type[f"other{number}"] is False
    assert len(subject.by_type) <= 256


def test_a_line_that_is_no_object_is_judged_by_the_type_that_shows() -> None:
    platform = LineFilter(types=["platform"])
    function = LineFilter(types=["function"])
    cut = b'{"time":"t","type":"function","record":"cut\n'
    assert not platform.wants(cut, None)
    assert function.wants(cut, None)


def test_a_line_of_a_type_that_is_wanted_passes_without_a_look_at_its_level() -> None:
    subject = LineFilter(types=["function"])
    assert wants(subject, line('{"level":"TRACE"}'))
    assert not wants(subject, line('{"level":"FATAL"}', "extension"))

"""Which lines a sink's sample has, and what a line that was chosen says."""

from __future__ import annotations

import json
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.core.fields import FieldAdder, RequestTracker
from telemetryd.core.line_filter import LineFilter
from telemetryd.core.router import OpenBlock, RouteRules, Selection
from telemetryd.core.sample import Sampler, rule
from telemetryd_proto.framing import Block

NONE = 1e-9
"""Keeps nothing, but for one id in four thousand million."""


def sampler(**keys: Any) -> Sampler:
    return Sampler([rule(**({"type": "", "level": "", "match": "", "by": "request_id"} | keys))])


def start(request: str) -> bytes:
    return b'{"type":"platform.start","record":{"requestId":"%b"}}\n' % request.encode()


def log(text: object, **members: object) -> bytes:
    return json.dumps({"type": "function", "record": text} | members).encode() + b"\n"


def select(wanted: Sampler, *lines: bytes, fields: FieldAdder | None = None,
           line_filter: LineFilter | None = None) -> Selection:  # fmt: skip
    tracker = RequestTracker(one_at_a_time=True)
    if wanted.wants_facts:
        tracker.keep_facts()
    block = OpenBlock(Block(b"".join(lines), len(lines)), tracker)
    return block.select(RouteRules(line_filter or LineFilter(), fields, wanted))


def kept(selection: Selection) -> list[bytes]:
    return selection.wanted.data.splitlines(keepends=True) if selection.wanted else []


def is_kept(request: str, keep: float) -> bool:
    return crc32(request.encode()) < int(keep * 2**32)


REQUESTS = [f"request-{n}" for n in range(200)]


@given(
    st.floats(0.001, 1),
    st.lists(
        st.tuples(st.sampled_from(REQUESTS), st.sampled_from(["INFO", "WARN", "ERROR", "fatal"])),
        max_size=30,
    ),
)
def test_kept_is_what_its_hash_keeps_or_an_error(keep: float, told: list[tuple[str, str]]) -> None:
    lines = [
        line
        for request, level in told
        for line in (start(request), log({"level": level, "message": request}))
    ]
    expected = [
        line
        for (request, level), line in zip(told, lines[1::2], strict=True)
        if level in ("ERROR", "fatal") or is_kept(request, keep)
    ]
    if not lines:
        return
    selection = select(sampler(keep=keep), *lines)
    found = [json.loads(line) for line in kept(selection)]
    weights = [each.pop("sample_weight", 1) for each in found if each["type"] == "function"]
    assert [each for each in found if each["type"] == "function"] == list(map(json.loads, expected))
    assert sum(each["type"] == "platform.start" for each in found) == len(told)
    assert all(weight == 1 or weight == pytest.approx(1 / keep) for weight in weights)
    assert selection.sampled_lines == len(told) - len(expected)
    size = sum(map(len, lines))
    assert selection.sampled_bytes + (selection.wanted.size if selection.wanted else 0) == size


def test_an_invocation_has_one_fate_and_a_larger_part_keeps_it_too() -> None:
    lines = [line for r in REQUESTS for line in (start(r), log("one"), log("two"))]
    before: set[str] = set()
    for keep in (0.1, 0.3, 0.6, 1):
        requests: dict[str, int] = {}
        current = ""
        for each in map(json.loads, kept(select(sampler(keep=keep), *lines))):
            if each["type"] == "platform.start":
                current = each["record"]["requestId"]
            else:
                requests[current] = requests.get(current, 0) + 1
        assert set(requests.values()) == {2}
        assert before <= requests.keys()
        before = set(requests)
    assert before == set(REQUESTS)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"level": "info"}, log({"level": "WARN"})),
        ({"level": "info"}, log("no level")),
        ({"type": "extension"}, log("of the function")),
        ({"type": "platform.report"}, b'{"type":"platform.start","record":{"requestId":"r"}}\n'),
        ({"match": "health"}, log("order 12")),
        ({}, b"no json\n"),
        ({}, log({"level": "ERROR"})),
        ({"by": "trace_id"}, log("without a trace")),
        ({"keep": 1}, log("all are kept")),
    ],
)
def test_what_no_rule_is_for_is_kept_as_it_is(keys: dict[str, Any], line: bytes) -> None:
    lines = (start("r"), line)
    assert kept(select(sampler(**({"keep": NONE} | keys)), *lines)) == list(lines)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"level": "info"}, log({"level": "debug"})),
        ({"type": "function"}, log("x")),
        ({"type": "platform"}, b'{"type":"platform.report","record":{"requestId":"r"}}\n'),
        ({"match": "health"}, log("GET /health 200")),
        ({"by": "line"}, b'{"message":"of another sender"}\n'),
    ],
)
def test_what_a_rule_is_for(keys: dict[str, Any], line: bytes) -> None:
    selection = select(sampler(**({"keep": NONE} | keys)), log("first of no invocation"), line)
    found = kept(selection)
    assert line not in found or keys.get("by") != "line"
    selection = select(sampler(**({"keep": NONE} | keys)), start("r"), line)
    assert line not in kept(selection)
    assert selection.sampled_lines >= 1


def test_the_first_rule_that_applies_decides() -> None:
    health = rule(type="", level="", match="health", keep=1.0, by="request_id")
    rest = rule(type="", level="", match="", keep=NONE, by="request_id")
    found = kept(select(Sampler([health, rest]), start("r"), log("health"), log("else")))
    assert found == [start("r"), log("health")]


def test_a_rule_of_a_lower_level_leaves_the_line_to_the_next() -> None:
    low = rule(type="", level="debug", match="", keep=1.0, by="request_id")
    rest = rule(type="", level="warn", match="", keep=NONE, by="request_id")
    line = log({"level": "INFO"})
    assert kept(select(Sampler([low, rest]), start("r"), line)) == [start("r")]


def test_a_line_without_an_invocation_is_kept() -> None:
    assert kept(select(sampler(keep=NONE), log("before any"))) == [log("before any")]


def test_lines_of_a_trace_have_one_fate_in_every_function() -> None:
    root = "1-5759e988-bd862e3fe1be46a994272793"
    traced = (
        b'{"type":"platform.start","record":{"requestId":"%b","tracing":{"type":"X-Amzn-Trace-Id",'
        b'"value":"Root=%b;Parent=53995c3f42cd8ad8;Sampled=1"}}}\n'
    )
    hashed = crc32(root.replace("-", "")[1:].encode()) / 2**32
    for request in (b"a", b"b", b"c"):
        lines = (traced % (request, root.encode()), log("x"))
        for keep, count in ((hashed * 0.99, 1), (min(hashed * 1.01, 1), 2)):
            assert len(kept(select(sampler(keep=keep, by="trace_id"), *lines))) == count


def test_a_weight_has_another_name_only_beside_a_member_of_the_object_itself() -> None:
    """However the sender spells it. A weight under another name would not be summed up."""
    nested = log({"sample_weight": 3, "text": '"sample_weight":'}, word="\u00e9")
    (found,) = kept(select(sampler(keep=0.999999, by="line"), nested))
    assert json.loads(found)["sample_weight"] == pytest.approx(1.000001)
    spelled = log("x", sample_weight=3).replace(b"sample_", rb"s\u0061mple\u005f")
    (found,) = kept(select(sampler(keep=0.999999, by="line"), spelled))
    assert json.loads(found)["sample_weight"] == 3
    assert json.loads(found)["telemetryd_sample_weight"] == pytest.approx(1.000001)


def test_a_chosen_line_says_its_weight_beside_a_member_of_that_name_and_fields() -> None:
    line = log("x", sample_weight=3)
    fields = FieldAdder(["function"], {"function": "shop"})
    for by, adder in (("line", None), ("request_id", fields)):
        (found,) = kept(select(sampler(keep=0.999999, by=by), start("r"), line, fields=adder))[1:]
        one = json.loads(found)
        assert one["sample_weight"] == 3
        assert one["telemetryd_sample_weight"] == pytest.approx(1.000001)
        assert one.get("function") == ("shop" if adder else None)
    (found,) = kept(select(sampler(keep=0.999999, by="line"), b"{ }\n"))
    assert json.loads(found) == {"sample_weight": pytest.approx(1.000001)}


def test_filtered_and_sampled_lines_are_counted_apart() -> None:
    lines = (start("r"), log("wanted"), log("not"), b"rest\n")
    selection = select(
        sampler(keep=NONE), *lines, line_filter=LineFilter(exclude=["not"], types=["function"])
    )
    assert (selection.filtered_lines, selection.filtered_bytes) == (2, len(lines[0] + lines[2]))
    assert (selection.sampled_lines, selection.sampled_bytes) == (1, len(lines[1]))
    assert kept(selection) == [b"rest\n"]

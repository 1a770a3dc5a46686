"""Objects with the same members are read by a plan, as they are read in full."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs

from telemetryd.sinks.otlp.invocations import NO_INVOCATION, Invocations
from telemetryd.sinks.otlp.members import ROLES
from telemetryd.sinks.otlp.plans import Plans
from telemetryd.sinks.otlp.records import Recorder
from telemetryd_proto.otlp.logs import JsonLogs, ProtobufLogs
from telemetryd_proto.otlp.trace_context import NO_TRACE

STAMP = "2026-03-14T10:15:30.123Z"
LATER = "2026-03-14T10:15:30.456Z"
REQUEST = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
OTHER = "11111111-e9f4-11e8-9739-2dfe598c3fcd"
TRACE = "1-5759e988-bd862e3fe1be46a994272793"
OBSERVED = 1_800_000_000_123_456_789
POWERTOOLS: dict[str, Any] = {
    "level": "INFO",
    "location": "handler:12",
    "message": "shipped",
    "timestamp": LATER,
    "service": "payment",
    "cold_start": True,
    "function_name": "shop-orders",
    "function_memory_size": 512,
    "function_arn": "arn:aws:lambda:eu-west-1:123456789012:function:shop-orders",
    "function_request_id": REQUEST,
    "xray_trace_id": TRACE,
}

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.none()),
    st.sampled_from(["", "{", '{"msg":"x","a":1}', "x" * 130, "x" * 3000, 0, 1, 0.0, -0.0, 1.0]),
    st.just({"message": "inner", "level": "ERROR", "b": 1}),
)  # fmt: skip
USUAL: dict[str, st.SearchStrategy[Any]] = {
    "level": st.sampled_from(["INFO", "INFO", "ERROR", "odd"]),
    "message": st.sampled_from(["a", "größe", ""]) | st.text(max_size=5),
    "timestamp": st.sampled_from(
        [STAMP, LATER, "2026-03-14 10:15:30,123+0000", "2026-03-14T08:00:00Z", "2026-99"]
    ),
    "function_request_id": st.sampled_from([REQUEST, OTHER, "22" + OTHER[2:], "none"]),
    "xray_trace_id": st.sampled_from([TRACE, TRACE[:-1] + "4", "none"]),
    "span_id": st.sampled_from(["53995c3f42cd8ad8", "none"]),
    "trace_flags": st.sampled_from(["01", "00", "none"]),
    "service": st.sampled_from(["payment", "orders"]),
}


FORMS: list[Callable[[Any], Any]] = [
    lambda said: said,
    lambda said: json.dumps(said) + "\n",
    lambda said: json.dumps(said, separators=(",", ":\t")),
    lambda said: f"{LATER}\t{REQUEST}\tINFO\t{json.dumps(said)}\n",
]
"""An object, and texts that are one or end in one."""


def event(record: Any, kind: str = "function") -> bytes:
    return json.dumps({"time": STAMP, "type": kind, "record": record}).encode() + b"\n"


def start(request: str) -> bytes:
    tracing = {"type": "X-Amzn-Trace-Id", "value": f"Root={TRACE};Parent=53995c3f42cd8ad8"}
    return event({"requestId": request, "tracing": tracing}, "platform.start")


def encode(lines: list[bytes], writer: Any, *, alone: bool = True) -> list[bytes]:
    recorder = Recorder(writer, Invocations(one_at_a_time=alone))
    return recorder.encode(b"".join(lines), OBSERVED, NO_INVOCATION)


def in_full(lines: list[bytes], writer: Any, *, alone: bool = True) -> list[bytes]:
    """Return the records of lines of which none is read by a plan: each is the first of its kind.

    The invocations that began before a line are the same as where lines come together.
    """
    made = []
    for at, line in enumerate(lines):
        before = [each for each in lines[:at] if b'"platform.start"' in each]
        made.append(encode([*before, line], writer, alone=alone)[-1])
    return made


@st.composite
def objects(draw: st.DrawFn) -> list[bytes]:
    """Lines of few loggers: the same names again and again, and most values as they should be."""
    names = st.sampled_from([*sorted(USUAL), "n", "user", "order"])
    if draw(st.integers(0, 3)) == 0:
        names |= st.sampled_from(sorted(ROLES))
    others = st.lists(names, max_size=6, unique=True)
    loggers = draw(st.lists(st.permutations(["level", "message"]), min_size=1, max_size=2))
    kinds = [list(dict.fromkeys([*draw(others), *own, *draw(others)])) for own in loggers]
    lines = []
    for _ in range(draw(st.integers(2, 10))):
        if draw(st.integers(0, 5)) == 0:
            lines.append(start(draw(st.sampled_from([REQUEST, OTHER]))))
        kind = draw(st.sampled_from(kinds))
        odd = draw(st.sampled_from(["", "", *kind]))
        said = {name: draw(ODD if name == odd else USUAL.get(name, ODD)) for name in kind}
        lines.append(event(draw(st.sampled_from(FORMS))(said)))
    return lines


@given(objects(), st.booleans(), st.sampled_from([ProtobufLogs(), JsonLogs()]))
def test_objects_that_are_alike_are_read_as_if_each_came_alone(
    lines: list[bytes], alone: bool, writer: Any
) -> None:
    assert encode(lines, writer, alone=alone) == in_full(lines, writer, alone=alone)


@pytest.mark.parametrize("name", sorted(POWERTOOLS))
@pytest.mark.parametrize(
    "value", [None, True, 1, 512.0, 0.0, -0.0, [1], {"a": 1}, "", "{", '{"msg":1}', "x" * 300, "É"]
)
def test_one_member_is_other_than_before(name: str, value: Any) -> None:
    usual, other = event(POWERTOOLS), event({**POWERTOOLS, name: value})
    lines = [start(REQUEST), usual, usual, other, usual, other, start(OTHER), other, usual]
    for writer in (ProtobufLogs(), JsonLogs()):
        assert encode(lines, writer) == in_full(lines, writer)


def test_texts_of_objects_are_read_as_the_objects() -> None:
    text = json.dumps(POWERTOOLS)
    for lines in ([event(text)], [event(text + "\n")] * 3, [event(POWERTOOLS), event(text)]):
        for writer in (ProtobufLogs(), JsonLogs()):
            wanted = encode([start(REQUEST), *[event(POWERTOOLS)] * len(lines)], writer)
            assert encode([start(REQUEST), *lines], writer) == wanted


@pytest.mark.parametrize("text", ["{}", "{", "{}\n", "{no json}\n", '{"a":1} x', "{\t\t\t}", ""])
def test_texts_that_are_no_object_with_members(text: str) -> None:
    made = encode([event(text), event(text)], ProtobufLogs())
    for record in ScopeLogs.FromString(b"".join(made)).log_records:
        if text.removesuffix("\n") in ("{}", "{\t\t\t}"):
            assert record.body.WhichOneof("value") == "kvlist_value"
        else:
            assert record.body.string_value == text.removesuffix("\n")


def test_an_invocation_begins_that_lines_named_already() -> None:
    line = event({**POWERTOOLS, "function_request_id": OTHER})
    lines = [start(REQUEST), line, line, start(OTHER), line, line, start(REQUEST), line]
    for writer in (ProtobufLogs(), JsonLogs()):
        assert encode(lines, writer) == in_full(lines, writer)


def test_lines_of_a_logger_are_read_by_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(ProtobufLogs(), Invocations(one_at_a_time=True))
    read: list[bytes] = []
    in_full = recorder._read

    def counted(line: bytes, found: Any) -> Any:
        read.append(line)
        return in_full(line, found)

    monkeypatch.setattr(recorder, "_read", counted)
    lines = [start(REQUEST), *(event({**POWERTOOLS, "location": f"f:{n}"}) for n in range(9))]
    assert len(recorder.encode(b"".join(lines), OBSERVED, NO_INVOCATION)) == len(lines)
    assert read == lines[:2]


def learn(plans: Plans, record: dict[str, Any]) -> None:
    plan = plans.of(record)
    assert plan is not None
    plan.learn(record, ((9, "INFO"), (), None, NO_TRACE), ProtobufLogs.writes)


def test_plans_are_kept_within_bounds() -> None:
    plans = Plans()
    for number in range(300):
        learn(plans, {"level": "INFO", "message": "m", f"member {number}": 1})
    assert 0 < len(plans) <= 64
    for record in (
        {"level": "INFO", "message": "m", "x" * 4000: 1},
        dict.fromkeys(map(str, range(99))),
    ):
        kept = len(plans)
        assert plans.of(record) is None
        assert len(plans) == kept


def test_readings_are_kept_within_bounds() -> None:
    plans, said = Plans(), {"level": "INFO", "message": "m", "trace_id": "0"}
    for number in range(300):
        plans.forget()
        learn(plans, {**said, "trace_id": str(number)})
    plan = plans.of(said)
    assert plan is not None
    assert 0 < len(plan.readings) <= 32


def test_objects_that_teach_nothing_are_not_learnt_from_for_ever() -> None:
    plans, said = Plans(), {"level": "odd", "message": "m"}
    for _ in range(9):
        learn(plans, said)
    learn(plans, {**said, "level": "INFO"})
    assert plans.of({**said, "level": 30}) is None
    plan = plans.of(said)
    assert plan is not None
    assert not plan.readings

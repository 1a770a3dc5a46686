"""Tags and fields of lines: which members are added, and what each says."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from telemetryd.core.fields import Field, FieldAdder, RequestTracker, Scalar
from telemetryd.core.line_filter import LineFilter
from telemetryd.core.record import usual_id
from telemetryd.core.router import OpenBlock, RouteRules, reader_for
from telemetryd_proto.framing import Block

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:shop"
ROOT = "1-69b539d1-5f2a0c1b7d3e4a6f8b9c0d1e"
HEADER = {"value": f"Root={ROOT};Parent=7a6b5c4d3e2f1a0b;Sampled=1", "spanId": "53995C3F42CD8AD8"}
EXECUTION = f"{ARN}:$LATEST/durable-execution/order-17/0b6f1c9e-1111"
VALUES: Mapping[str, Scalar] = {"function": "shop", "memory_mb": 512}
TAGS: Mapping[str, Scalar] = {"stage": "prod", "build": 7, "ratio": 0.5, "canary": True}


def event(kind: str, record: Any = None, **members: Any) -> bytes:
    return json.dumps({"time": "t", "type": kind, "record": record, **members}).encode() + b"\n"


def log(text: Any = "hello", **members: Any) -> bytes:
    return event("function", text, **members)


def start(request_id: str, **record: Any) -> bytes:
    return event("platform.start", {"requestId": request_id, **record})


INIT = event("platform.initStart", {"initializationType": "on-demand", "runtimeVersion": "py:3"})
FACTS: tuple[Field, ...] = (
    "request_id", "account", "function_arn", "runtime", "cold_start", "tenant_id", "execution_arn",
    "trace_id", "span_id", "xray_trace_id",
)  # fmt: skip


class Sink:
    """The rules of one sink, and what it gets."""

    def __init__(
        self,
        fields: Sequence[Field] = (),
        tags: Mapping[str, Scalar] | None = None,
        *,
        one_environment: bool = False,
        one_at_a_time: bool = True,
        values: Mapping[str, Scalar] = VALUES,
    ) -> None:
        self.adder = FieldAdder(fields, values, tags)
        self.rules = RouteRules(LineFilter(), self.adder)
        self.reader = reader_for([self.rules])
        self.tracker = RequestTracker(one_at_a_time=one_at_a_time, one_environment=one_environment)
        if self.rules.wants_facts:
            self.tracker.keep_facts().wants_execution = self.adder.wants_execution

    def data(self, *lines: bytes, source: int = 1) -> bytes:
        """What it gets of these lines, one block."""
        block = Block(b"".join(lines), len(lines), source, 0, 0.0)
        part = OpenBlock(block, self.tracker, reader=self.reader).select(self.rules).wanted
        assert part is not None
        assert (part.lines, part.size) == (len(lines), len(block.data))
        return part.data

    def added(self, *lines: bytes, source: int = 1) -> list[dict[str, Any]]:
        """The members that were added to each line."""
        found = [json.loads(line) for line in self.data(*lines, source=source).splitlines()]
        theirs = [json.loads(line).keys() for line in lines]
        return [
            {name: value for name, value in line.items() if name not in names}
            for line, names in zip(found, theirs, strict=True)
        ]


def test_tags_are_added_with_their_types() -> None:
    opening = b'{"function":"shop","stage":"prod","build":7,"ratio":0.5,"canary":true,'
    assert Sink(["function"], TAGS).data(log(), log()) == (opening + log()[1:]) * 2


def test_a_tag_replaces_the_field_of_its_name() -> None:
    assert Sink(["function"], {"function": "mine"}).added(log()) == [{"function": "mine"}]


def test_a_value_that_is_unknown_is_left_out() -> None:
    assert Sink(["region", "memory_mb"]).added(log()) == [{"memory_mb": 512}]
    assert Sink(FACTS).added(log()) == [{}]
    assert Sink(FACTS).added(b"{}\n") == [{}]


@pytest.mark.parametrize("line", [b" " + log(), b"\t" + log(), log()[:-1] + b"\r\n"])
def test_blanks_around_an_object_stay(line: bytes) -> None:
    lines = line.splitlines(keepends=True)
    found = Sink(tags={"stage": "prod"}).data(log(), *lines)
    assert [json.loads(each)["stage"] for each in found.splitlines()] == ["prod"] * (1 + len(lines))


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ('"stage":1', '"telemetryd_stage":"prod","stage":1'),
        ('"a":0,"stage" : null', '"telemetryd_stage":"prod","a":0,"stage" : null'),
        (r'"st\u0061ge":[]', r'"telemetryd_stage":"prod","st\u0061ge":[]'),
        (
            '"stage":1,"telemetryd_stage":2',
            '"telemetryd_telemetryd_stage":"prod","stage":1,"telemetryd_stage":2',
        ),
        ('"a":{"stage":1}', '"stage":"prod","a":{"stage":1}'),
        ('"a":"\\"stage\\":"', '"stage":"prod","a":"\\"stage\\":"'),
        ('"stage":NaN', '"telemetryd_stage":"prod","stage":NaN'),
        ('"type":7,"stage":1', '"telemetryd_stage":"prod","type":7,"stage":1'),
        (r'"x":"\ud83d","stage":1', r'"telemetryd_stage":"prod","x":"\ud83d","stage":1'),
    ],
)
def test_a_member_of_the_same_name_stays_and_ours_gets_another(members: str, expected: str) -> None:
    line = b"{%s}\n" % members.encode()
    found = Sink(tags={"stage": "prod"}).data(log(), line, b"no object\n")
    plain = b'{"stage":"prod",' + log()[1:]
    assert found == plain + b"{%s}\n" % expected.encode() + b"no object\n"


def test_a_new_name_is_none_of_another_tag() -> None:
    tags = {"a": 1, "telemetryd_a": 2}
    found = json.loads(Sink(tags=tags).data(b'{"a":0}\n'))
    assert found == {"a": 0, "telemetryd_a": 2, "telemetryd_telemetryd_a": 1}


def test_request_ids_get_another_name_too() -> None:
    line = log(request_id="of the sender")
    found = json.loads(Sink(["request_id"]).data(start("r-1"), line).splitlines()[1])
    assert (found["request_id"], found["telemetryd_request_id"]) == ("of the sender", "r-1")


def test_an_invocation_says_what_its_start_said() -> None:
    sink = Sink(FACTS)
    begun = start("r-1", functionArn=ARN, tenantId="blue", tracing=HEADER)
    init, *rest = sink.added(INIT, begun, log(), event("platform.report", {"requestId": "r-1"}))
    assert init == {"runtime": "py:3", "cold_start": True}
    assert rest == [
        {
            "request_id": "r-1", "account": "123456789012", "function_arn": ARN,
            "runtime": "py:3", "cold_start": True, "tenant_id": "blue",
            "trace_id": "69b539d15f2a0c1b7d3e4a6f8b9c0d1e", "span_id": "53995c3f42cd8ad8",
            "xray_trace_id": ROOT,
        }
    ] * 3  # fmt: skip


def test_what_the_process_knows_is_on_every_line_once() -> None:
    """The account, known before any event: none adds it again, and a restore keeps it."""
    values = {**VALUES, "account": "210987654321"}
    sink = Sink(["account", "function_arn"], values=values)
    known: dict[str, Any] = {"account": "210987654321"}
    lines = INIT, log(), start("r-1", functionArn=ARN), log()
    assert sink.added(*lines) == [known, known, *[known | {"function_arn": ARN}] * 2]
    assert all(line.count(b'"account"') == 1 for line in sink.data(*lines).splitlines())
    assert not Sink(["account"], values=values).adder.wants_facts
    sink.adder.renew(values)
    assert sink.added(log()) == [known | {"function_arn": ARN}]


def test_only_the_first_invocation_is_a_cold_start() -> None:
    sink = Sink(["cold_start"])
    lines = (start("r-0"), INIT, start("r-1"), log(), start("r-2"), log())
    late = log({"requestId": "r-1"})
    cold = [each.get("cold_start") for each in sink.added(*lines, late)]
    assert cold == [None, True, True, True, False, False, True]


@pytest.mark.parametrize(
    ("kind", "record", "cold"),
    [
        ("platform.initStart", {"initializationType": "provisioned-concurrency"}, False),
        ("platform.initStart", {"initializationType": "lambda-managed-instances"}, False),
        ("platform.initStart", {"initializationType": ["odd"]}, True),
        ("platform.initStart", {}, True),
        ("platform.restoreStart", {}, True),
        ("platform.initStart", [], None),
    ],
)
def test_an_environment_that_was_initialised_ahead_has_no_cold_start(
    kind: str, record: Any, cold: bool | None
) -> None:
    found = Sink(["cold_start"]).added(event(kind, record), start("r-1"), log())
    assert [each.get("cold_start") for each in found] == [cold] * 3


def test_a_connection_is_an_environment_but_in_lambda() -> None:
    for one_environment, cold in ((False, None), (True, True)):
        sink = Sink(["cold_start"], one_environment=one_environment)
        sink.added(INIT, source=1)
        assert sink.added(log(), source=2)[0].get("cold_start") is cold


@pytest.mark.parametrize(
    "record",
    [
        {"tenantId": 7, "tracing": "odd", "functionArn": None},
        {"tenantId": "x" * 257, "tracing": {}, "functionArn": "arn:aws:s3:::bucket"},
        {"tenantId": [], "tracing": {"value": "Root=1-2-3", "spanId": "short"}},
        {"tracing": {"value": 5, "spanId": 5}, "functionArn": ARN + "x" * 256},
    ],
)
def test_odd_values_are_none(record: Any) -> None:
    assert Sink(FACTS).added(start("r-1", **record), log())[1] == {"request_id": "r-1"}


def test_an_event_speaks_for_an_invocation_whose_start_was_missed() -> None:
    report = event("platform.report", {"requestId": "r-1", "tenantId": "blue"})
    assert Sink(["tenant_id", "request_id"]).added(report, log({"requestId": "r-1"})) == [
        {"tenant_id": "blue", "request_id": "r-1"}, {},
    ]  # fmt: skip


def test_an_id_that_is_believed_for_its_form_has_what_is_known_of_the_environment() -> None:
    sink = Sink(["request_id", "runtime"], one_at_a_time=False)
    known = "5e0f8c2a-1111-4222-8333-944455566677"
    found = sink.added(INIT, log({"requestId": known}), event("platform.start", {"requestId": 7}))
    assert found == [{"runtime": "py:3"}, {"request_id": known, "runtime": "py:3"},
                     {"runtime": "py:3"}]  # fmt: skip


def test_the_durable_execution_is_that_of_its_own_lines_and_of_later_ones() -> None:
    sink = Sink(["execution_arn"])
    named = log({"executionArn": EXECUTION, "message": "step"})
    other = log("see /durable-execution/ of the manual")
    found = sink.added(start("r-1"), log(), named, log(), other, start("r-2"), log())
    known = {"execution_arn": EXECUTION}
    assert found == [{}, {}, known, known, known, {}, {}]
    assert Sink(["execution_arn"]).added(named, log()) == [known, {}]


def test_what_is_remembered_is_bounded() -> None:
    sink = Sink(["tenant_id", "request_id"])
    for number in range(1500):
        sink.added(start(f"r-{number}", tenantId=f"t-{number}"), source=number)
    keeper = sink.tracker.keep_facts()
    assert len(keeper._by_request) == len(keeper._places) == 1024
    assert sink.added(start("r-1499", tenantId="again"), log(), source=7)[1] == {
        "tenant_id": "again", "request_id": "r-1499",
    }  # fmt: skip


def test_sinks_with_and_without_facts_share_a_block() -> None:
    both = Sink(["request_id", "tenant_id"])
    plain = RouteRules(LineFilter(), FieldAdder(["request_id"], VALUES))
    data = start("r-1", tenantId="blue") + log()
    block = OpenBlock(Block(data, 2, 1, 0, 0.0), both.tracker)
    found = block.select(plain).wanted
    assert found is not None
    assert json.loads(found.data.splitlines()[1])["request_id"] == "r-1"


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (b'{"requestId":"r-1"}', "r-1"),
        (b'{"requestId":7}', ""),
        (b'{"requestId":1e999}', ""),
        (rb'"[INFO]\t2026-03-14T10:15:29.012Z\tr-1\thello"', "r-1"),
        (rb'"2026-03-14T10:15:29.012Z\tr-1\tINFO\thello"', "r-1"),
        (rb'"a\tr-1\tb\tc"', ""),
        (b'"hello"', ""),
        (b"null", ""),
    ],
)
def test_the_usual_id_is_where_runtimes_write_it(record: bytes, found: str) -> None:
    assert usual_id(record) == found

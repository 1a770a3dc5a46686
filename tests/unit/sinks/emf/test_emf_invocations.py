"""Every invocation counts once, whatever of its events arrives, late, twice or never."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.emf_streams import block, documents, done, event, metrics, packed, report, sink, start
from telemetryd.sinks._platform import invocations
from telemetryd.sinks.emf.sink import EmfSink
from telemetryd.testing import LogBook
from telemetryd_proto.request_ids import MAX_REQUEST_ID

INIT = "2026-03-14T10:15:29.000Z"
COUNTS = ("invocations", "errors", "init_errors", "timeouts", "out_of_memory", "cold_starts")


def init_start(time: str = INIT, **more: object) -> bytes:
    record = {"initializationType": "on-demand", "phase": "init", **more}
    return event("platform.initStart", record, time)


def counts(subject: EmfSink, *batches: list[bytes]) -> dict[str, float]:
    """The sums of all counters."""
    total: dict[str, float] = {}
    for document in packed(subject, *batches):
        for name, values in metrics(document).items():
            if name in COUNTS:
                total[name] = total.get(name, 0) + sum(values)
    return total


def lambda_sink() -> EmfSink:
    return sink(function="orders")


TIMED_OUT = {"status": "timeout"}
CRASHED = {"status": "error", "errorType": "Runtime.ExitError"}


def test_a_timeout_whose_report_never_comes_counts() -> None:
    assert counts(lambda_sink(), [start("a")], [done("a", **TIMED_OUT)]) == {
        "invocations": 1, "errors": 1, "timeouts": 1,
    }  # fmt: skip


def test_a_late_report_adds_only_what_was_not_sent() -> None:
    subject = lambda_sink()
    first = packed(subject, [start("a"), done("a", **TIMED_OUT)])
    late = packed(subject, [start("b"), done("b")], [report("a", **TIMED_OUT)])
    assert metrics(first[0]).keys() >= {"invocations", "errors", "timeouts", "runtime_duration"}
    assert metrics(late[-1]).keys() == {
        "duration", "billed_duration", "memory_size", "max_memory_used", "memory_used_percent",
        "estimated_cost",
    }  # fmt: skip
    assert late[-1]["request_id"] == "a"


def test_a_crash_without_runtime_done_counts_from_its_report() -> None:
    found = packed(lambda_sink(), [start("a")], [report("a", **CRASHED)])
    assert metrics(found[1])["errors"] == [1]
    assert found[1]["error_type"] == "Runtime.ExitError"


def test_a_lost_start_is_made_good_by_what_follows() -> None:
    assert counts(lambda_sink(), [start("a"), done("b", **CRASHED), report("b", **CRASHED)]) == {
        "invocations": 2, "errors": 1,
    }  # fmt: skip
    assert counts(lambda_sink(), [start("a"), report("b")]) == {"invocations": 2}


def test_events_in_any_order_count_once() -> None:
    events = [start("a"), done("a", **TIMED_OUT), report("a", **TIMED_OUT)]
    for order in itertools.permutations(events):
        found = counts(lambda_sink(), [start("before")], list(order))
        assert found == {"invocations": 2, "errors": 1, "timeouts": 1}


def test_events_delivered_twice_count_once() -> None:
    events = [start("a"), done("a", **CRASHED), report("a", **CRASHED)]
    subject = lambda_sink()
    once = packed(subject, events)
    assert packed(subject, events) == []
    assert metrics(once[0])["duration"] == [12.5]


def attempt(minute: int, **more: object) -> list[bytes]:
    """An event that Lambda repeats under its id, every minute."""
    times = (f"2026-03-14T10:{minute}:{second}.000Z" for second in (30, 31, 32))
    return [start("a", next(times)), done("a", next(times), **more), report("a", next(times))]


FAILED = {"status": "error", "errorType": "Function.Unknown"}


@pytest.mark.parametrize("late", [2, 1, 3], ids=["report", "end and report", "nothing"])
@pytest.mark.parametrize("is_twice", [False, True])
def test_each_attempt_of_a_repeated_event_is_an_invocation(late: int, is_twice: bool) -> None:
    """Also if the end of one comes behind the start of the next, and all of it twice."""
    first, second, third = (attempt(minute, **FAILED) for minute in (16, 17, 18))
    stream = [first[0], *first[1:late], second[0], *first[late:], *second[1:], *third]
    if is_twice:
        stream = [each for each in stream for _ in range(2)]
    for size in (1, len(stream)):
        batches = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert counts(lambda_sink(), *batches) == {"invocations": 3, "errors": 3}
        found = packed(lambda_sink(), *batches)
        for name in ("duration", "runtime_duration", "billed_duration"):
            values = [value for each in found for value in metrics(each).get(name, [])]
            assert len(values) == 3, name


@pytest.mark.parametrize("is_behind", [False, True])
def test_an_attempt_after_a_reset_is_not_that_of_the_earlier_life(is_behind: bool) -> None:
    """Its predecessor counted that one; this process is told of its report only."""
    late = report("a", "2026-03-14T10:15:10.000Z", **TIMED_OUT)
    begin, *rest = attempt(16)
    stream = [init_start(), *((begin, late) if is_behind else (late, begin)), *rest]
    for batches in ([stream], [[each] for each in stream]):
        assert counts(lambda_sink(), *batches) == {"invocations": 1}
        found = packed(lambda_sink(), *batches)
        values = [value for each in found for value in metrics(each).get("duration", [])]
        assert len(values) == 2, "that of the earlier life is told here only"


def test_a_reset_after_the_answer_is_a_failure_that_counts_once() -> None:
    """The answer came in time; an extension then used up the rest."""
    events = [start("a"), done("a"), done("a", **TIMED_OUT), report("a", **TIMED_OUT)]
    found = packed(lambda_sink(), *([line] for line in events))
    assert [metrics(each).get("timeouts") for each in found] == [None, None, [1], None]
    assert [metrics(each).get("runtime_duration") for each in found] == [None, [10.5], None, None]


def test_a_report_from_an_earlier_life_adds_figures_but_no_invocation() -> None:
    subject = lambda_sink()
    (found,) = packed(subject, [report("old", **TIMED_OUT)])
    assert metrics(found)["duration"] == [12.5]
    assert not metrics(found).keys() & set(COUNTS)
    assert counts(subject, [start("new")]) == {"invocations": 1}


@pytest.mark.parametrize("lines", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.parametrize("size", [1, 3])
def test_a_failure_counts_once_in_any_order_of_arrival(lines: tuple[int, ...], size: int) -> None:
    """Even of the first invocation of a process, whose start may come last."""
    events = [start("a"), done("a", **TIMED_OUT), report("a", **TIMED_OUT)]
    ordered = [events[at] for at in lines]
    batches = [ordered[at : at + size] for at in range(0, len(ordered), size)]
    assert counts(lambda_sink(), *batches) == {"invocations": 1, "errors": 1, "timeouts": 1}


def test_a_late_start_of_an_earlier_life_brings_its_failure_not_back() -> None:
    lines = [done("a", **TIMED_OUT), init_start("2026-03-14T10:15:40.000Z"), start("a")]
    assert "errors" not in counts(lambda_sink(), lines)


def test_a_restore_that_fails_is_the_failure_of_its_invocation_in_any_order() -> None:
    failed = {"status": "error", "errorType": "Runtime.Broken"}
    events = [
        event("platform.restoreStart", {}, "2026-03-14T10:15:01.000Z"),
        event("platform.restoreRuntimeDone", failed, "2026-03-14T10:15:01.200Z"),
        event("platform.restoreReport", failed, "2026-03-14T10:15:01.300Z"),
        start("a", "2026-03-14T10:15:01.400Z"),
        done("a", "2026-03-14T10:15:02.000Z", **failed),
    ]
    once = {"invocations": 1, "errors": 1, "init_errors": 1, "cold_starts": 1}
    for lines in itertools.permutations(events):
        assert counts(lambda_sink(), list(lines)) == once


def test_a_report_older_than_the_initialisation_is_of_an_earlier_life_too() -> None:
    lines = [init_start(), start("new"), report("old", "2026-03-14T10:15:20.000Z", **CRASHED)]
    assert counts(lambda_sink(), lines) == {"invocations": 1, "cold_starts": 1}


def test_a_failure_that_ended_the_earlier_life_was_counted_there() -> None:
    """Its process was told at SHUTDOWN, at the latest; see `Sink.own_items`."""
    lines = [done("old", **TIMED_OUT), report("old", **TIMED_OUT)]
    assert counts(lambda_sink(), lines) == {}


def test_both_lives_together_count_a_timeout_once() -> None:
    before = counts(lambda_sink(), [init_start(), start("a")], [done("a", **TIMED_OUT)])
    after = counts(lambda_sink(), [report("a", **TIMED_OUT)], [init_start(), start("b")])
    assert before == {"invocations": 1, "errors": 1, "timeouts": 1, "cold_starts": 1}
    assert after == {"invocations": 1, "cold_starts": 1}


def test_an_error_of_a_managed_instance_counts_from_its_report_in_any_life() -> None:
    lone = report("a", metrics={"durationMs": 3.0}, status="error", errorType="Runtime.Unknown")
    assert counts(lambda_sink(), [lone]) == {"errors": 1}


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({"memorySizeMB": 128, "maxMemoryUsedMB": 128}, 1),
        ({"memorySizeMB": 128, "maxMemoryUsedMB": 127}, 0),
        ({"memorySizeMB": 0, "maxMemoryUsedMB": 0}, 0),
    ],
)
def test_a_crash_that_used_all_memory_is_out_of_memory(
    figures: dict[str, int], expected: int
) -> None:
    usage = {"durationMs": 1, "billedDurationMs": 1, **figures}
    lines = [start("a"), done("a", **CRASHED), report("a", metrics=usage, **CRASHED)]
    assert counts(lambda_sink(), lines).get("out_of_memory", 0) == expected


FULL = {"durationMs": 1, "billedDurationMs": 1, "memorySizeMB": 128, "maxMemoryUsedMB": 128}


def test_a_success_that_used_all_memory_is_not_out_of_memory() -> None:
    lines = [start("a"), done("a"), report("a", metrics=FULL)]
    assert "out_of_memory" not in counts(lambda_sink(), lines)


@pytest.mark.parametrize("told", ["timeout", None])
def test_a_timeout_that_used_all_memory_is_out_of_memory_as_well(told: str | None) -> None:
    """A runtime that swaps to death is stopped by the clock; newer reports have no status."""
    lines = [start("a"), done("a", **TIMED_OUT), report("a", metrics=FULL, status=told)]
    assert counts(lambda_sink(), lines) == {
        "invocations": 1, "errors": 1, "timeouts": 1, "out_of_memory": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    "kind", ["java.lang.OutOfMemoryError", "OutOfMemoryException", "MemoryError"]
)
def test_an_error_that_names_memory_is_out_of_memory(kind: str) -> None:
    lines = [start("a"), done("a", status="error", errorType=kind)]
    assert counts(lambda_sink(), lines)["out_of_memory"] == 1


def test_out_of_memory_counts_once() -> None:
    usage = {"durationMs": 1, "billedDurationMs": 1, "memorySizeMB": 128, "maxMemoryUsedMB": 128}
    oom = {"status": "error", "errorType": "Runtime.OutOfMemory"}
    lines = [start("a"), done("a", **oom), report("a", metrics=usage, **oom)]
    assert counts(lambda_sink(), lines) == {"invocations": 1, "errors": 1, "out_of_memory": 1}


@pytest.mark.parametrize("kind", ["provisioned-concurrency", "lambda-managed-instances"])
def test_only_who_waits_has_a_cold_start(kind: str) -> None:
    lines = [init_start(initializationType=kind), start("a")]
    assert counts(lambda_sink(), lines) == {"invocations": 1}


def test_an_environment_initialised_long_before_it_was_needed_is_no_cold_start() -> None:
    ready = event("platform.initReport", {"metrics": {"durationMs": 500}}, INIT)
    late = start("a", "2026-03-14T10:15:39.001Z")
    assert counts(lambda_sink(), [init_start(), ready, late]) == {"invocations": 1}
    in_time = start("a", "2026-03-14T10:15:39.000Z")
    found = counts(lambda_sink(), [init_start(), ready, in_time, start("b")])
    assert found == {"invocations": 2, "cold_starts": 1}


def test_an_initialisation_repeated_inside_an_invocation_is_its_cold_start() -> None:
    repeated = init_start("2026-03-14T10:15:31.000Z", phase="invoke")
    found = counts(lambda_sink(), [start("a"), repeated], [done("a"), start("b")])
    assert found == {"invocations": 2, "cold_starts": 1}


def test_a_process_that_missed_the_initialisation_learns_of_it_from_the_report() -> None:
    usage = {"durationMs": 1, "billedDurationMs": 9, "initDurationMs": 8.5}
    subject = lambda_sink()
    (found,) = packed(subject, [start("a"), report("a", metrics=usage)])
    assert metrics(found)["cold_starts"] == [1]
    assert metrics(found)["init_duration"] == [8.5]


def test_an_initialisation_is_measured_once() -> None:
    usage = {"durationMs": 1, "billedDurationMs": 9, "initDurationMs": 8.5}
    told = event("platform.initReport", {"metrics": {"durationMs": 8.5}}, INIT)
    (found,) = packed(lambda_sink(), [init_start(), told, start("a"), report("a", metrics=usage)])
    assert metrics(found)["init_duration"] == [8.5]


def test_a_reconnect_does_not_forget_the_environment() -> None:
    subject = lambda_sink()
    subject.pack([block([init_start(), start("a")], source=1)])
    (found,) = documents(subject.pack([block([done("b")], source=2)]))
    assert metrics(found)["invocations"] == [1]


def test_outside_lambda_each_connection_is_an_environment_of_its_own() -> None:
    subject = sink()
    for source, name in ((1, "one"), (2, "two")):
        subject.pack([block([init_start(functionName=name, functionVersion="3")], source=source)])
    found = [
        documents(subject.pack([block([start(name)], source=source)]))[0]
        for source, name in ((2, "b"), (1, "a"))
    ]
    assert [d["function_name"] for d in found] == ["two", "one"]
    assert [metrics(d)["cold_starts"] for d in found] == [[1], [1]]


def test_the_function_is_read_from_its_arn() -> None:
    arn = "arn:aws:lambda:eu-west-1:123456789012:function:orders-api:9"
    (found,) = packed(sink(), [start("a", functionArn=arn, version="9")])
    assert (found["function_name"], found["function_version"]) == ("orders-api", "9")


def test_the_fault_of_the_logs_api_counts_a_known_invocation_as_failed() -> None:
    text = "RequestId: a-1 Error: Runtime exited with error: exit status 255\nRuntime.ExitError\n"
    fault = event("platform.fault", text)
    (found,) = packed(lambda_sink(), [start("a-1"), fault, fault])
    assert metrics(found)["errors"] == [1]
    assert found["error_type"] == "Runtime.ExitError"
    assert packed(lambda_sink(), [fault, event("platform.fault", 5)]) == []


def test_numbers_that_measure_nothing_are_left_out() -> None:
    usage = {"durationMs": "nan", "billedDurationMs": -1, "memorySizeMB": None,
             "maxMemoryUsedMB": 10**18}  # fmt: skip
    (found,) = packed(lambda_sink(), [start("a"), report("a", metrics=usage)])
    assert metrics(found) == {"invocations": [1]}
    dropped = event("platform.logsDropped", {"droppedRecords": -5})
    assert packed(lambda_sink(), [dropped]) == []


def test_a_record_that_does_not_fit_its_type_is_logged_and_costs_itself_only() -> None:
    log = LogBook()
    subject = sink(function="orders", log=log)
    bad = event("platform.report", {"requestId": 5})
    (found,) = packed(subject, [start("a"), bad, done("a")])
    assert metrics(found).keys() == {"invocations", "runtime_duration"}
    assert log.facts("event_malformed") == [
        {"sink": "subject", "type": "platform.report", "code": "mismatch"}
    ]


def test_what_is_remembered_is_bounded() -> None:
    subject = sink(function="orders")
    many = invocations.MAX_OPEN + invocations.MAX_CLOSED
    packed(subject, [line for i in range(many) for line in (start(f"open-{i}"),)])
    packed(subject, [line for i in range(many) for line in (start(f"c-{i}"), report(f"c-{i}"))])
    state = subject._invocations
    assert len(state._open) <= invocations.MAX_OPEN
    assert len(state._closed) <= invocations.MAX_CLOSED
    outside = sink()
    for source in range(invocations.MAX_ENVIRONMENTS + 10):
        outside.pack([block([start(f"{source}")], source=source)])
    assert len(outside._invocations._environments) <= invocations.MAX_ENVIRONMENTS


def test_an_endless_request_id_is_none() -> None:
    subject = sink(function="orders")
    (found,) = packed(subject, [start("x" * 300_000), done("x" * 300_000)])
    assert "request_id" not in found
    assert metrics(found)["invocations"] == [1]
    assert list(subject._invocations._open) == [""]


@pytest.mark.parametrize(("size", "kept"), [(MAX_REQUEST_ID, True), (MAX_REQUEST_ID + 1, False)])
def test_a_request_id_may_have_so_many_characters(size: int, kept: bool) -> None:
    (found,) = packed(sink(function="orders"), [start("x" * size)])
    assert ("request_id" in found) is kept


# -- an environment that can't begin -----------------------------------------------------------

NO_MODULE = {"status": "error", "errorType": "Runtime.ImportModuleError"}
INIT_FAILURES: dict[str, dict[str, object]] = {
    "initRuntimeDone": {"initializationType": "on-demand", "phase": "init", **NO_MODULE},
    "extension": {"name": "x", "state": "InitError", "events": [], "errorType": "Extension.X"},
    "initReport": {"phase": "init", "metrics": {"durationMs": 500}, **NO_MODULE},
}


def failing(*kinds: str, time: str = INIT, **more: object) -> list[bytes]:
    return [event(f"platform.{kind}", {**INIT_FAILURES[kind], **more}, time) for kind in kinds]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_failing_initialisation_counts_once_whatever_tells_of_it(size: int) -> None:
    for kinds in itertools.permutations(INIT_FAILURES, size):
        found = counts(lambda_sink(), [init_start()], *([line] for line in failing(*kinds)))
        assert found == {"init_errors": 1, "errors": 1}, kinds
        late = counts(lambda_sink(), failing(*kinds), [init_start()])
        assert late == {"init_errors": 1, "errors": 1}, kinds


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        ("initReport", {"status": "timeout", "metrics": {"durationMs": 9999}}),
        ("initReport", {"status": "failure"}),
        ("initReport", {"status": "of tomorrow"}),
        ("initRuntimeDone", {"status": "error", "errorType": None}),
        ("restoreReport", {"status": "timeout"}),
        ("restoreRuntimeDone", {"status": "error", "errorType": "RestoreError"}),
        ("extension", {"name": "x", "state": "LaunchError"}),
        ("extension", {"name": "x", "state": "ExitError", "events": None}),
        ("extension", {"name": "x", "errorType": "Extension.Crash"}),
    ],
)
def test_every_state_of_failure_counts(kind: str, record: dict[str, object]) -> None:
    assert counts(lambda_sink(), [event(f"platform.{kind}", record)]) == {
        "init_errors": 1, "errors": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        ("initReport", {"status": "success", "metrics": {"durationMs": 5}}),
        ("initReport", {"metrics": {"durationMs": 5}}),
        ("initRuntimeDone", {"status": None}),
        ("restoreRuntimeDone", {}),
        ("extension", {"name": "x", "state": "Ready", "events": ["INVOKE"]}),
        ("extension", {"name": "error", "state": "Registered"}),
        ("extension", {}),
    ],
)
def test_what_does_not_fail_is_no_failure(kind: str, record: dict[str, object]) -> None:
    assert counts(lambda_sink(), [event(f"platform.{kind}", record)]) == {}


def test_an_initialisation_that_fails_twice_fails_its_invocation_once() -> None:
    """The first time ahead of the invocation, then inside it: one caller saw one failure."""
    again = {"phase": "invoke", "time": "2026-03-14T10:15:30.100Z"}
    repeated = [init_start(again["time"], phase="invoke"), *failing("initReport", **again)]
    lines = [
        init_start(), *failing("initRuntimeDone", "extension", "initReport"), start("a"),
        *repeated, done("a", **NO_MODULE), report("a", **NO_MODULE),
    ]  # fmt: skip
    assert counts(lambda_sink(), *([line] for line in lines)) == {
        "invocations": 1, "errors": 1, "init_errors": 2, "cold_starts": 1,
    }  # fmt: skip


def test_an_invocation_that_fails_for_another_reason_is_another_failure() -> None:
    before = [init_start(), *failing("initReport")]
    other = [start("a"), done("a", **CRASHED), report("a", **CRASHED)]
    assert counts(lambda_sink(), [*before, *other])["errors"] == 2
    healed = init_start("2026-03-14T10:15:29.500Z", phase="invoke")
    ready = event("platform.initReport", {"phase": "invoke", "status": "success"})
    same = [start("a"), done("a", **NO_MODULE)]
    assert counts(lambda_sink(), [*before, healed, ready, *same])["errors"] == 2


def test_a_failed_initialisation_of_an_earlier_life_was_counted_there() -> None:
    """Its process was told at SHUTDOWN, at the latest. What it took, only the report tells."""
    subject = lambda_sink()
    lines = [init_start(phase="invoke"), *failing("initReport", time="2026-03-14T10:15:20.000Z")]
    (found,) = packed(subject, lines)
    assert metrics(found) == {"init_duration": [500]}
    assert counts(sink(), lines) == {"init_errors": 1, "errors": 1}  # outside Lambda it is one life


def test_an_initialisation_without_memory_is_out_of_memory() -> None:
    lines = failing("initReport", errorType="Runtime.OutOfMemory")
    assert counts(lambda_sink(), lines) == {"errors": 1, "init_errors": 1, "out_of_memory": 1}


# -- SnapStart: the order of time, not of arrival ----------------------------------------------

SNAPSHOT, RESTORED = "2026-02-14T10:15:00.{}Z", "2026-03-14T10:15:30.{}Z"
SNAP = {"initializationType": "snap-start", "phase": "init"}
SNAPSTART = [
    event("platform.initStart", SNAP, SNAPSHOT.format("000")),
    event("platform.initRuntimeDone", {**SNAP, "status": "success"}, SNAPSHOT.format("400")),
    event("platform.initReport", {**SNAP, "metrics": {"durationMs": 400}}, SNAPSHOT.format("401")),
    event("platform.restoreStart", {}, RESTORED.format("000")),
    event("platform.restoreRuntimeDone", {"status": "success"}, RESTORED.format("300")),
    event("platform.restoreReport", {"metrics": {"durationMs": 310}}, RESTORED.format("310")),
    start("a", RESTORED.format("320")),
    done("a", RESTORED.format("420")),
    report("a", RESTORED.format("421"), metrics={"durationMs": 9, "restoreDurationMs": 310}),
]


@given(order=st.permutations(SNAPSTART), cuts=st.sets(st.integers(1, len(SNAPSTART))))
@settings(max_examples=300, deadline=None)
def test_a_restore_is_one_cold_start_in_any_order_of_arrival(
    order: list[bytes], cuts: set[int]
) -> None:
    edges = [0, *sorted(cuts), len(order)]
    batches = [order[one:two] for one, two in itertools.pairwise(edges)]
    found = packed(lambda_sink(), *batches, [start("b", RESTORED.format("900"))])
    measured = [name for document in found for name in metrics(document)]
    total = [sum(metrics(d).get("cold_starts", ())) for d in found]
    assert sum(total) == 1
    assert "init_duration" not in measured
    assert measured.count("restore_duration") == 1
    restored = 1773483330000
    assert min(document["_aws"]["Timestamp"] for document in found) >= restored


def test_an_initialisation_that_arrives_late_is_the_cold_start_of_the_invocation_after_it() -> None:
    late = [start("a"), start("b", "2026-03-14T10:15:40.000Z"), init_start()]
    assert counts(lambda_sink(), late, [start("c")]) == {"invocations": 3, "cold_starts": 1}
    ahead = init_start("2026-03-14T10:15:00.000Z")
    assert counts(lambda_sink(), [start("a"), ahead], [start("c")]) == {"invocations": 2}


def test_an_initialisation_that_is_told_twice_is_one() -> None:
    lines = [init_start(), start("a"), init_start(), start("b")]
    assert counts(lambda_sink(), lines) == {"invocations": 2, "cold_starts": 1}


# -- odd members -------------------------------------------------------------------------------

ODDITIES: list[dict[str, Any]] = [
    {"spans": None}, {"spans": {}}, {"spans": [7]}, {"tracing": "none"}, {"tenantId": 5},
    {"novelty": {"a": [1]}}, {"tracing": {"value": "\ud83d"}}, {"errorType": ["x"]},
]  # fmt: skip


@pytest.mark.parametrize("odd", ODDITIES, ids=repr)
def test_an_odd_member_costs_no_event(odd: dict[str, Any]) -> None:
    log = LogBook()
    lines = [start("a", **odd), done("a", **TIMED_OUT | odd), report("a", **TIMED_OUT | odd)]
    subject = sink(function="orders", log=log)
    assert counts(subject, lines) == {"invocations": 1, "errors": 1, "timeouts": 1}
    assert log.facts("event_malformed") == []


@pytest.mark.parametrize("odd", ["NaN", "-Infinity", "1e999", "9" * 6000, '"\x01"'])
@pytest.mark.parametrize("member", ["tracing", "tenantId", "spans", "errorType", "novelty"])
def test_what_json_does_not_have_costs_no_event(member: str, odd: str) -> None:
    log = LogBook()
    mark = json.dumps("odd").encode()
    lines = [make("a", **{**TIMED_OUT, member: "odd"}) for make in (start, done, report)]
    lines = [line.replace(mark, odd.encode()) for line in lines]
    subject = sink(function="orders", log=log)
    assert counts(subject, lines) == {"invocations": 1, "errors": 1, "timeouts": 1}
    assert log.facts("event_malformed") == []


def test_an_empty_status_is_none() -> None:
    lines = [start("a"), done("a", status=""), report("a", status="")]
    assert counts(lambda_sink(), lines) == {"invocations": 1}
    assert counts(lambda_sink(), [event("platform.initReport", {"status": ""})]) == {}


def test_an_odd_figure_costs_itself_only() -> None:
    usage = {"durationMs": "soon", "billedDurationMs": "13", "memorySizeMB": 128.0,
             "maxMemoryUsedMB": "64"}  # fmt: skip
    (found,) = packed(lambda_sink(), [start("a"), report("a", metrics=usage)])
    assert metrics(found).keys() >= {"billed_duration", "memory_used_percent", "estimated_cost"}
    assert "duration" not in metrics(found)


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        ("[ERROR] KeyError: 'iban'\nTraceback (most recent call last):\n  File ...", "KeyError"),
        ("[ERROR] app.Broken: two\nlines\rTraceback (most recent call last):\r", "app.Broken"),
        (
            "ValueError: x[ERROR] KeyError: 'iban'\rTraceback (most recent call last):\r  File",
            "KeyError",
        ),
        (
            "x[ERROR] Runtime.MarshalError: a set\rTraceback (most recent call last):\n",
            "Runtime.MarshalError",
        ),
        (
            '2026-03-14T10:15:30.000Z\ta\tERROR\tInvoke Error \t{"errorType":"RangeError","x":1}',
            "RangeError",
        ),
        (
            {"level": "ERROR", "requestId": "a", "errorType": "TypeError", "stackTrace": []},
            "TypeError",
        ),
    ],
)
def test_exceptions_in_the_log_count_once_as_errors(record: object, kind: str) -> None:
    subject = sink(function="orders", count_log_errors=True)
    line = event("function", record)
    found = packed(subject, [start("a"), line, line, done("a")], [report("a")])
    assert metrics(found[0])["errors"] == [1]
    assert found[0]["error_type"] == kind
    assert "errors" not in metrics(found[1])


def test_on_managed_instances_no_exception_is_put_down_to_a_neighbour() -> None:
    subject = sink(function="orders", count_log_errors=True)
    raised = event("function", "[ERROR] KeyError: 'iban'\nTraceback (most recent call last):\n")
    failed = report("a", metrics={"durationMs": 3.0}, status="error", errorType="KeyError")
    lines = [
        init_start(initializationType="lambda-managed-instances"), start("a"), start("b"), raised,
        failed, report("b", metrics={"durationMs": 4.0}),
    ]  # fmt: skip
    assert counts(subject, lines) == {"invocations": 2, "errors": 1}


@pytest.mark.parametrize(
    "record",
    [
        "[ERROR]\t2026-03-14T10:15:30.000Z\ta\tTraceback (most recent call last): logged",
        "[ERROR] KeyError: errorType, but nothing was traced",
        {"level": "INFO", "errorType": "TypeError", "stackTrace": []},
        {"level": "ERROR", "message": {"errorType": "TypeError", "stackTrace": []}},
        {"level": "ERROR", "requestId": "unknown", "errorType": "TypeError", "stackTrace": []},
        ["errorType"],
    ],
)
def test_what_a_handler_logs_by_itself_is_no_failure(record: object) -> None:
    subject = sink(function="orders", count_log_errors=True)
    assert counts(subject, [start("a"), event("function", record)]) == {"invocations": 1}


def test_the_log_is_not_looked_at_unless_asked_for() -> None:
    text = "[ERROR] KeyError: 'iban'\nTraceback (most recent call last):\n"
    found = counts(sink(function="orders"), [start("a"), event("function", text)])
    assert found == {"invocations": 1}


TRACE = "\n\tat example.Handler.handleRequest(Handler.java:9)\n"
JAVA = f"none left: shop.OutOfStock\nshop.OutOfStock: none left{TRACE}"
RUBY = {"errorMessage": "none left", "errorType": "Function<OutOfStock>", "stackTrace": []}


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (JAVA, "shop.OutOfStock"),
        (f"java.lang.Error: java.lang.Error\njava.lang.Error{TRACE}", "java.lang.Error"),
        (
            {"timestamp": "t", "message": JAVA, "level": "ERROR", "AWSRequestId": "a"},
            "shop.OutOfStock",
        ),
        (RUBY, "OutOfStock"),
        (json.dumps(RUBY, indent=2) + "\n", "OutOfStock"),
        ('2026/11/30 10:15:30 {"errorMessage":"none","errorType":"errorString"}', "errorString"),
        (
            'a\tInvoke Error\t{"errorType":"RuntimeException","errorMessage":"m","stack":[]}\n',
            "RuntimeException",
        ),
        (
            {"timestamp": "t", "log_level": "ERROR", "errorMessage": "m", "errorType": "KeyError",
             "requestId": "a", "stackTrace": ["x"]},
            "KeyError",
        ),
        (
            json.dumps({"level": "ERROR", "errorMessage": "m \ud83d", "errorType": "KeyError",
                        "requestId": "a", "stackTrace": ["x"]}),
            "KeyError",
        ),
    ],
)  # fmt: skip
def test_the_error_report_of_each_runtime_is_known(record: object, kind: str) -> None:
    subject = sink(function="orders", count_log_errors=True)
    (found, *_) = packed(subject, [start("a"), event("function", record), done("a")])
    assert metrics(found)["errors"] == [1]
    assert found["error_type"] == kind


NODE = {
    "timestamp": "t", "level": "ERROR", "requestId": "a",
    "message": {"errorType": "OutOfStock", "errorMessage": "none", "stackTrace": ["x"]},
}  # fmt: skip
DOTNET = "t\ta\tfail\tShop.OutOfStockException: none left\n   at Shop.Handler() in Shop.cs\n"
AMBIGUOUS = [
    NODE,
    json.dumps(NODE),
    DOTNET,
    {"timestamp": "t", "level": "Error", "requestId": "a", "message": DOTNET.split("\t")[3]},
]
LOG = event("function", "something else\n")


@pytest.mark.parametrize("record", AMBIGUOUS)
@pytest.mark.parametrize("split", [False, True])
def test_what_a_handler_may_have_written_counts_as_the_last_line_only(
    record: object, split: bool
) -> None:
    """However the stream is cut into blocks; a line of the next invocation does not matter."""
    found = event("function", record)
    neutral = [event("extension", '"function"'), event("platform.other", {})]
    for lines, errors in (
        ([start("a"), found, *neutral, done("a"), report("a"), start("b"), LOG, done("b")], 1),
        ([start("a"), LOG, found, found, done("a")], 1),
        ([start("a"), found, LOG, done("a")], 0),
        ([start("a"), found, *neutral, LOG, *neutral, done("a")], 0),
        ([start("a"), found, start("b"), done("b")], 0),
    ):
        subject = sink(function="orders", count_log_errors=True)
        batches = [[line] for line in lines] if split else [lines]
        documents = packed(subject, *batches)
        told = [metrics(one).get("errors", []) for one in documents]
        assert sum(map(sum, told)) == errors


@pytest.mark.parametrize(
    "record",
    [
        {"level": "ERROR", "message": "m", "logger": "shop", "stackTrace": ["x"],
         "errorType": "KeyError", "errorMessage": "m", "requestId": "a"},
        {"level": "Error", "requestId": "a", "message": "x", "errorType": "System.Exception",
         "errorMessage": "m", "stackTrace": ["a"]},
        {"level": "ERROR", "requestId": "a", "message": "default used OutOfStock: none left",
         "errorType": "OutOfStock", "errorMessage": "none", "stackTrace": ["x"]},
        {"errorMessage": "of another function", "errorType": "KeyError", "stackTrace": []},
        f"2026-11-30 10:15:30 ERROR shop - none left\nshop.OutOfStock: none left{TRACE}",
        "t\ta\tERROR\tdefault used OutOfStock: none left\n    at Object.<anonymous>\n",
        {"level": "ERROR", "exception": "Traceback (most recent call last):\n..",
         "exception_name": "KeyError"},
    ],
)  # fmt: skip
def test_what_loggers_make_of_an_exception_is_no_failure(record: object) -> None:
    subject = sink(function="orders", count_log_errors=True)
    found = counts(subject, [start("a"), event("function", record), done("a")])
    assert "errors" not in found

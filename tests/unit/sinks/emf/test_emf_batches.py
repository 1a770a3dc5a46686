"""Documents keep within the format's limits and mix nothing; every line is in exactly one item."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from helpers.emf_streams import (
    NOW,
    STREAMS,
    block,
    documents,
    done,
    event,
    metrics,
    packed,
    report,
    sink,
    start,
    stream,
)
from telemetryd.core.own_lines import without_own_lines
from telemetryd.testing import LogBook
from telemetryd_proto.emf import MAX_DOCUMENT_BYTES
from telemetryd_proto.framing import Block

SECOND = "2026-03-14T10:15:{:02d}.500Z"


def test_many_invocations_become_one_document() -> None:
    lines = [line for i in range(40) for line in (start(f"{i}"), done(f"{i}"), report(f"{i}"))]
    (found,) = packed(sink(), lines)
    assert metrics(found)["invocations"] == [40]
    assert metrics(found)["duration"] == [12.5] * 40
    assert metrics(found)["memory_size"] == [256]
    assert "request_id" not in found


def test_a_metric_has_at_most_100_values_in_a_document() -> None:
    lines = [line for i in range(250) for line in (start(f"{i}"), report(f"{i}"))]
    found = packed(sink(), lines)
    assert [len(metrics(d)["duration"]) for d in found] == [100, 100, 50]
    assert sum(metrics(d).get("invocations", [0])[0] for d in found) == 250


def test_only_values_that_a_document_keeps_fill_it() -> None:
    figures = {"durationMs": 1, "billedDurationMs": 1, "maxMemoryUsedMB": 1}
    sizes = [128] * 150 + [256] + list(range(1000, 1130))
    lines = [
        report(f"{i}", metrics={**figures, "memorySizeMB": size}) for i, size in enumerate(sizes)
    ]
    (counted,) = packed(sink(metrics=["estimated_cost"]), lines)
    assert isinstance(counted["estimated_cost"], float)
    found = packed(sink(metrics=["memory_size"]), lines)
    assert [metrics(d)["memory_size"] for d in found] == [
        [128, 256, *range(1000, 1098)],
        [*range(1098, 1130)],
    ]


def test_dimension_values_are_never_mixed() -> None:
    lines = [start(f"{i}", version=str(i % 2)) for i in range(10)]
    found = packed(sink(dimensions=[["function_name"], ["function_version"]]), lines)
    assert [(d["function_version"], d["invocations"]) for d in found] == [("0", 5), ("1", 5)]


@pytest.mark.parametrize(("resolution", "expected"), [(60, [60, 1]), (1, [1] * 61)])
def test_a_document_holds_one_period(resolution: int, expected: list[int]) -> None:
    lines = [start(f"{i}", SECOND.format(i)) for i in range(60)]
    lines.append(start("60", "2026-03-14T10:16:00.000Z"))
    found = packed(sink(resolution=resolution), lines)
    assert [d["invocations"] for d in found] == expected
    stored = [m.get("StorageResolution") for d in found
              for m in d["_aws"]["CloudWatchMetrics"][0]["Metrics"]]  # fmt: skip
    assert set(stored) == ({1} if resolution == 1 else {None})


def test_the_time_of_a_document_is_that_of_its_first_event() -> None:
    lines = [start("a", "2026-03-14T10:15:30.250Z"), start("b", "2026-03-14T10:15:29.750Z")]
    (found,) = packed(sink(), lines)
    assert found["_aws"]["Timestamp"] == 1773483330250


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-14T10:15:30.250Z", 1773483330250),
        ("2026-03-14T10:15:30Z", 1773483330000),
        ("2026-03-14T10:15:30.250999Z", 1773483330251),
        ("2026-03-14T12:15:30.250+02:00", 1773483330250),
        ("2026-03-14T10:15:75.250Z", round(NOW * 1000)),
        ("2026-03-14T10:15:3x.250Z", round(NOW * 1000)),
        ("1960-03-14T10:15:30.250Z", round(NOW * 1000)),
        ("yesterday", round(NOW * 1000)),
    ],
)
def test_times_are_read_in_every_precision(text: str, expected: int) -> None:
    subject = sink()
    packed(subject, [start("before", "2026-03-14T10:15:00.000Z")])  # the usual minute is known
    found = [d["_aws"]["Timestamp"] for d in packed(subject, [start("a", text)])]
    assert found == [expected]


def test_an_event_without_time_happened_now() -> None:
    line = b'{"type":"platform.start","record":{"requestId":"a"}}\n'
    assert packed(sink(), [line])[0]["_aws"]["Timestamp"] == round(NOW * 1000)


def test_only_the_chosen_metrics_are_emitted() -> None:
    lines = [start("a"), done("a"), report("a")]
    (found,) = packed(sink(metrics=["invocations", "duration"]), lines)
    assert metrics(found) == {"invocations": [1], "duration": [12.5]}
    assert packed(sink(metrics=["errors"]), lines) == []


def test_properties_are_members_and_can_be_dimensions() -> None:
    subject = sink(properties={"stage": "prod"}, dimensions=[["function_name", "stage"], []],
                   namespace="My/App")  # fmt: skip
    (found,) = packed(subject, [start("a")])
    (directive,) = found["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "My/App"
    assert directive["Dimensions"] == [["function_name", "stage"], []]
    assert found["stage"] == "prod"


def test_a_dimension_value_is_made_fit_for_cloudwatch() -> None:
    init = event("platform.initStart", {"functionName": "größe", "functionVersion": " "})
    (found,) = packed(sink(), [init, start("a")])
    assert (found["function_name"], found["function_version"]) == ("gr??e", "-")


def test_prices_are_those_of_the_architecture() -> None:
    arm = os.uname().machine == "aarch64"
    mine, other = ("price_arm64", "price_x86_64") if arm else ("price_x86_64", "price_arm64")
    prices: dict[str, Any] = {mine: 0.25, other: 1.0}
    subject = sink(price_request=0.5, **prices)
    (found,) = packed(subject, [start("a"), report("a")])
    assert found["estimated_cost"] == pytest.approx(0.5 + 0.013 * 0.25 * 0.25)


def test_many_reasons_for_errors_do_not_swell_a_document() -> None:
    lines = [done(f"{i}", status="error", errorType="\u00e9" * 9000 + f"{i}") for i in range(90)]
    lines += [done(f"x{i}", status="error", errorType=f"{i}" + "\u00e9" * 9000) for i in range(90)]
    found = packed(sink(), [start("first"), *lines])
    assert sum(metrics(d).get("errors", [0])[0] for d in found) == 180
    assert all(len(json.dumps(d)) < 200_000 for d in found)
    assert max(len(d["error_type"]) for d in found) == 20


def test_the_largest_document_a_configuration_permits_is_within_the_limit() -> None:
    properties = {f"{i:02d}" + '"' * 248: '"' * 1024 for i in range(30)}
    names = list(properties)
    dimensions = [names, names[:14]]
    assert len(json.dumps([dimensions, properties])) > MAX_DOCUMENT_BYTES // 2 * 0.95
    subject = sink(properties=properties, dimensions=dimensions, namespace="n" * 255, resolution=1)
    long = 123456789012345.125
    names = ["responseLatency", "responseDuration", "runtimeOverhead", "extensionOverhead"]
    spans = [{"name": name, "start": "t", "durationMs": long} for name in names]
    usage = {"durationMs": long, "billedDurationMs": long, "memorySizeMB": 10**14}
    usage |= {"maxMemoryUsedMB": 10**14, "initDurationMs": long, "restoreDurationMs": long}
    named = {"functionName": '"' * 1024, "functionVersion": '"' * 1024}
    answered = {"durationMs": long, "producedBytes": 10**14}
    lines: list[bytes] = []
    for i in range(100):
        failed: dict[str, Any] = {
            "status": "error",
            "errorType": chr(1 + i % 30) * 256,
            "spans": spans,
        }
        lines += [
            event("platform.initStart", named),
            start(f"{i}"),
            done(f"{i}", metrics=answered, **failed),
            report(f"{i}", metrics=usage, **failed),
        ]
    payloads = [item.payload for item in subject.pack([block(lines)]) if item.payload]
    assert max(map(len, payloads)) <= MAX_DOCUMENT_BYTES
    assert sum(len(metrics(json.loads(each)).get("duration", [])) for each in payloads) == 100


@pytest.mark.parametrize("reads_logs", [False, True])
def test_every_line_is_in_exactly_one_item(reads_logs: bool) -> None:
    lines = [line for path in sorted(STREAMS.glob("*.ndjson")) for line in stream(path.stem)]
    lines += [b"not json\n", b"{}\n", b"\xff\n", b'{"type":7}\n']
    types = () if reads_logs else ("platform",)
    subject = sink(forward_emf=reads_logs, count_log_errors=reads_logs, types=types, log=LogBook())
    blocks, at = [], 0
    for piece in range(0, len(lines), 7):
        part = lines[piece : piece + 7]
        blocks.append(Block(b"".join(part), len(part), 3, at, 1.5))
        at += len(blocks[-1].data)
    items = subject.pack(blocks)
    carried = [line for item in items for line in subject.unpack(item).splitlines(keepends=True)]
    assert sorted(carried) == sorted(lines)
    for item in items:
        data = subject.unpack(item)
        assert (item.lines, item.size) == (data.count(b"\n"), len(data))
        assert (item.source, item.received_at) == (3, 1.5)
    whole = b"".join(lines)
    for item in items:
        if item.payload:
            assert whole.startswith(subject.unpack(item).partition(b"\n")[0], item.offset)


def test_printed_documents_are_recognised_when_they_come_back() -> None:
    subject = sink(forward_emf=True, count_log_errors=True)
    lines = [start("a"), *stream("json-logs-2022-12-13")]
    printed = [i.payload for i in subject.pack([block(lines)]) if i.payload]
    assert len(printed) > 2
    for payload in printed:
        assert payload.endswith(b"\n")
        assert payload.count(b"\n") == 1
        text, value = payload.decode(), json.loads(payload)
        for record in (text, value):  # as the text and the JSON log format bring it back
            returned = {"time": "t", "type": "extension", "record": record}
            data = json.dumps(returned, separators=(",", ":")).encode() + b"\n"
            assert without_own_lines(Block(data, 1)) == (None, 1, len(data))


DOCUMENT = {
    "_aws": {"Timestamp": 1773483329951, "CloudWatchMetrics": [
        {"Namespace": "Shop", "Dimensions": [["hall"]], "Metrics": [{"Name": "Sold"}]}]},
    "hall": "7", "Sold": 42, "logger": "mine",
}  # fmt: skip


@pytest.mark.parametrize("delivery", ["stdout", "logs"])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("as_text", [False, True])
def test_documents_of_the_function_are_forwarded(
    delivery: str, indent: int | None, as_text: bool
) -> None:
    record = json.dumps(DOCUMENT, indent=indent) + "\n" if as_text else DOCUMENT
    line = event("function", record)
    (item,) = sink(forward_emf=True, delivery=delivery).pack([block([line])])
    found = json.loads(item.payload)
    assert found.pop("forwarded_by", None) == (
        {"logger": "telemetryd"} if delivery == "stdout" else None
    )
    assert found == DOCUMENT
    assert item.payload.count(b"\n") == 1
    assert (item.lines, item.size) == (1, len(line))


def test_numbers_of_a_forwarded_document_stay_as_written() -> None:
    text = json.dumps(DOCUMENT).replace("42", "12345678901234567890.10")
    (item,) = sink(forward_emf=True, delivery="logs").pack([block([event("function", text)])])
    assert b"12345678901234567890.10" in item.payload


@pytest.mark.parametrize(
    "record",
    [
        "CloudWatchMetrics",
        '{"CloudWatchMetrics": ',
        {"CloudWatchMetrics": [1]},
        {"_aws": {"CloudWatchMetrics": [], "Timestamp": 1}},
        {"_aws": {"CloudWatchMetrics": [{}], "Timestamp": 1.5}},
        {"_aws": {"CloudWatchMetrics": [{}], "Timestamp": True}},
        {"_aws": "CloudWatchMetrics"},
        ["CloudWatchMetrics"],
    ],
)
def test_what_is_no_document_is_not_forwarded(record: object) -> None:
    assert documents(sink(forward_emf=True).pack([block([event("function", record)])])) == []


def test_documents_of_extensions_and_unasked_ones_are_not_forwarded() -> None:
    assert packed(sink(forward_emf=True), [event("extension", DOCUMENT)]) == []
    assert packed(sink(), [event("function", DOCUMENT)]) == []

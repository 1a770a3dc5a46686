"""The sample streams become exactly the metrics they stand for, in whatever batches they come."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.emf_streams import STREAMS, Document, metrics, packed, sink, stream, totals

GB_SECOND = 0.0000166667
REQUEST = 0.0000002


def cost(*invocations: tuple[int, int]) -> float:
    """US dollars for invocations of (billed ms, MiB)."""
    return round(sum(REQUEST + ms / 1000 * mb / 1024 * GB_SECOND for ms, mb in invocations), 9)


MINUTES = {
    "cold-start-invoke-shutdown": {
        ("parcel-tracker", "$LATEST", "06:41"): {
            "invocations": [1], "cold_starts": [1], "duration": [217.144],
            "runtime_duration": [175.937], "billed_duration": [780], "init_duration": [562.316],
            "memory_size": [384], "max_memory_used": [127], "memory_used_percent": [33.07],
            "response_latency": [173.882], "response_duration": [0.094],
            "runtime_overhead": [1.961], "extension_overhead": [41.207], "produced_bytes": [612],
            "estimated_cost": [cost((780, 384))],
        },
        ("parcel-tracker", "$LATEST", "06:45"): {
            "invocations": [1], "duration": [50.953], "runtime_duration": [32.576],
            "billed_duration": [51], "memory_size": [384], "max_memory_used": [129],
            "memory_used_percent": [33.59], "response_latency": [31.406],
            "response_duration": [0.052], "runtime_overhead": [1.118],
            "extension_overhead": [18.377], "produced_bytes": [598],
            "estimated_cost": [cost((51, 384))],
        },
    },
    "timeout": {
        ("report-builder", "$LATEST", "07:20"): {
            "invocations": [1], "errors": [1], "timeouts": [1], "duration": [3000],
            "runtime_duration": [3000], "billed_duration": [3000], "memory_size": [512],
            "max_memory_used": [203], "memory_used_percent": [39.65], "produced_bytes": [0],
            "estimated_cost": [cost((3000, 512))],
        },
        ("report-builder", "$LATEST", "07:21"): {
            "invocations": [1], "cold_starts": [1], "duration": [1372.867],
            "runtime_duration": [922.623], "billed_duration": [1373], "init_duration": [421.094],
            "memory_size": [512], "max_memory_used": [205], "memory_used_percent": [40.04],
            "response_latency": [920.733], "response_duration": [0.061],
            "runtime_overhead": [1.829], "extension_overhead": [29.15], "produced_bytes": [118],
            "estimated_cost": [cost((1373, 512))],
        },
    },
    "function-error": {
        ("refund-worker", "11", "09:03"): {
            "invocations": [2], "errors": [1], "duration": [49.17, 168.552],
            "runtime_duration": [21.658, 31.552], "billed_duration": [50, 169],
            "memory_size": [320], "max_memory_used": [101, 104],
            "memory_used_percent": [31.56, 32.5], "response_latency": [19.743],
            "response_duration": [0.038], "runtime_overhead": [1.877],
            "extension_overhead": [27.512], "produced_bytes": [0, 0],
            "estimated_cost": [cost((50, 320), (169, 320))],
        },
        ("refund-worker", "11", "09:04"): {
            "invocations": [1], "errors": [1], "out_of_memory": [1], "duration": [782.317],
            "runtime_duration": [588.317], "billed_duration": [783], "memory_size": [320],
            "max_memory_used": [320], "memory_used_percent": [100], "produced_bytes": [0],
            "estimated_cost": [cost((783, 320))],
        },
    },
    "json-logs-2022-12-13": {  # provisioned concurrency: neither a cold start nor these prices
        ("seat-finder", "27", "10:12"): {
            "invocations": [1], "duration": [56.173], "runtime_duration": [24.403],
            "billed_duration": [57], "init_duration": [363.127], "memory_size": [768],
            "max_memory_used": [148], "memory_used_percent": [19.27],
            "response_latency": [22.914], "response_duration": [0.083],
            "runtime_overhead": [1.406], "extension_overhead": [31.77], "produced_bytes": [2086],
        },
    },
    "snapstart": {
        ("loan-quotes", "8", "07:25"): {
            "invocations": [1], "cold_starts": [1], "duration": [49.082],
            "runtime_duration": [26.672], "billed_duration": [238],
            "restore_duration": [357.904], "memory_size": [2048], "max_memory_used": [241],
            "memory_used_percent": [11.77], "response_latency": [24.617],
            "response_duration": [0.12], "runtime_overhead": [1.935],
            "extension_overhead": [22.41], "produced_bytes": [141],
            "estimated_cost": [cost((238, 2048))],
        },
    },
    "managed-instance-2025-01-29": {  # `start` and `report` only, the latter with a duration only
        ("meter-ingest", "14", "12:30"): {
            "invocations": [3], "errors": [2], "timeouts": [1],
            "duration": [23.416, 40.127, 20000], "init_duration": [556.083],
            "response_latency": [22.98, 39.338], "response_duration": [0.634],
        },
    },
    "logs-dropped": {
        ("local", "$LATEST", "13:55"): {
            "invocations": [1], "duration": [539.02], "runtime_duration": [510.34],
            "billed_duration": [540], "memory_size": [192], "max_memory_used": [88],
            "memory_used_percent": [45.83], "produced_bytes": [2],
            "telemetry_lines_dropped": [1872], "estimated_cost": [cost((540, 192))],
        },
    },
    "text-logs": {
        ("local", "$LATEST", "11:45"): {
            "invocations": [1], "duration": [36.665], "runtime_duration": [16.551],
            "billed_duration": [37], "memory_size": [192], "max_memory_used": [73],
            "memory_used_percent": [38.02], "response_latency": [15.208],
            "response_duration": [0.041], "runtime_overhead": [1.302],
            "extension_overhead": [20.114], "produced_bytes": [4],
            "estimated_cost": [cost((37, 192))],
        },
    },
    "all-types": {
        ("sampler", "$LATEST", "15:00"): {
            "invocations": [1], "errors": [2], "init_errors": [1], "cold_starts": [1],
            "duration": [7], "runtime_duration": [6.02], "billed_duration": [106],
            "init_duration": [98.415], "memory_size": [192], "max_memory_used": [58],
            "memory_used_percent": [30.21], "response_latency": [4.875],
            "extension_overhead": [0.98], "estimated_cost": [cost((106, 192))],
        },
        ("sampler", "6", "15:00"): {
            "errors": [1], "init_errors": [1], "restore_duration": [55.208],
            "telemetry_lines_dropped": [320],
        },
    },
}  # fmt: skip
NAMES = sorted(MINUTES)


def minutes(found: Sequence[Document]) -> dict[tuple[str, str, str], dict[str, list[float]]]:
    """`totals` with the minute of the day as in the streams."""
    return {
        (function, version, f"{minute // 60 % 24:02d}:{minute % 60:02d}"): values
        for (function, version, minute), values in totals(found).items()
    }


def in_batches(lines: list[bytes], cuts: Sequence[int]) -> list[list[bytes]]:
    edges = [0, *sorted(cuts), len(lines)]
    return [lines[a:b] for a, b in itertools.pairwise(edges)]


def platform_lines(name: str) -> list[bytes]:
    return [line for line in stream(name) if b'"type":"platform.' in line]


def test_every_stream_has_its_expectation() -> None:
    assert sorted(path.stem for path in STREAMS.glob("*.ndjson")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_in_one_batch_has_exactly_its_metrics(name: str) -> None:
    assert minutes(packed(sink(price_arm64=GB_SECOND), stream(name))) == MINUTES[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_split_into_batches_gives_the_same(name: str) -> None:
    lines = platform_lines(name)
    places = range(1, len(lines))
    if len(lines) <= 10:
        splits = itertools.chain.from_iterable(
            itertools.combinations(places, n) for n in range(len(lines))
        )
    else:  # two cuts wherever they may be, and each line by itself
        splits = itertools.chain(itertools.combinations(places, 2), [tuple(places)])
    for cuts in splits:
        found = packed(sink(price_arm64=GB_SECOND), *in_batches(lines, cuts))
        assert minutes(found) == MINUTES[name], cuts


@given(data=st.data())
@settings(max_examples=60)
def test_any_split_of_all_streams_one_after_the_other_gives_the_same(data: st.DataObject) -> None:
    lines = [line for name in NAMES for line in stream(name)]
    cuts = data.draw(st.lists(st.integers(0, len(lines)), max_size=30))
    whole = sink(price_arm64=GB_SECOND)
    cut = sink(price_arm64=GB_SECOND)
    assert minutes(packed(cut, *in_batches(lines, cuts))) == minutes(packed(whole, lines))


@pytest.mark.parametrize("name", NAMES)
def test_in_lambda_the_dimensions_are_the_process_s_own(name: str) -> None:
    found = packed(sink(function="orders", version="7"), stream(name))
    assert {(d["function_name"], d["function_version"]) for d in found} == {("orders", "7")}


def test_error_types_are_named() -> None:
    found = packed(sink(), stream("managed-instance-2025-01-29"))
    assert [d.get("error_type") for d in found] == [["Runtime.Unknown", "Sandbox.Timedout"]]


def test_the_request_is_named_where_a_document_holds_one_invocation() -> None:
    first, second = packed(sink(), stream("function-error"))
    assert "request_id" not in first
    assert second["request_id"] == "b69302d3-15de-4f5d-a828-4d35f1099d13"
    for document in (first, second):
        names = {
            n for d in document["_aws"]["CloudWatchMetrics"] for s in d["Dimensions"] for n in s
        }
        assert names == {"function_name"}


def test_handler_exceptions_count_when_logs_are_read() -> None:
    subject = sink(count_log_errors=True)
    errors = [metrics(d)["errors"] for d in packed(subject, stream("function-error"))]
    assert errors == [[2], [1]]

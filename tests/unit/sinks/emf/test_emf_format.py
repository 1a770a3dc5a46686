"""`telemetryd_proto.emf` makes no document that CloudWatch would silently ignore."""

from __future__ import annotations

import json

import msgspec
import pytest

from telemetryd_proto import emf
from telemetryd_proto.emf import Document, LimitExceeded, Metric, encode

GOOD = Document(
    timestamp=1773483329951,
    namespace="Shop",
    dimensions=[["hall"], []],
    metrics=[Metric("sold", "Count", [42]), Metric("wait", "Milliseconds", [1.5, 2])],
    members={"hall": "7", "why": ("a", "b")},
)


def with_metric(name: str, *values: float) -> Document:
    return msgspec.structs.replace(GOOD, metrics=[Metric(name, "None", values)])


def test_a_document_is_one_line_with_the_members_of_the_specification() -> None:
    line = encode(GOOD)
    assert b"\n" not in line
    assert json.loads(line) == {
        "_aws": {
            "Timestamp": 1773483329951,
            "CloudWatchMetrics": [
                {
                    "Namespace": "Shop",
                    "Dimensions": [["hall"], []],
                    "Metrics": [
                        {"Name": "sold", "Unit": "Count"},
                        {"Name": "wait", "Unit": "Milliseconds"},
                    ],
                }
            ],
        },
        "hall": "7",
        "why": ["a", "b"],
        "sold": 42,
        "wait": [1.5, 2],
    }


def test_high_resolution_is_said_of_each_metric() -> None:
    found = json.loads(encode(msgspec.structs.replace(GOOD, resolution=1)))
    definitions = found["_aws"]["CloudWatchMetrics"][0]["Metrics"]
    assert [d["StorageResolution"] for d in definitions] == [1, 1]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (msgspec.structs.replace(GOOD, namespace="AWS/X"), "namespace"),
        (msgspec.structs.replace(GOOD, namespace=""), "namespace: must have 1 to 255"),
        (msgspec.structs.replace(GOOD, namespace="n" * 256), "not 256"),
        (msgspec.structs.replace(GOOD, timestamp=-1), "timestamp"),
        (msgspec.structs.replace(GOOD, dimensions=[]), "at least one dimension set"),
        (msgspec.structs.replace(GOOD, dimensions=[["room"]]), "'room' has no text value"),
        (msgspec.structs.replace(GOOD, dimensions=[["why"]]), "'why' has no text value"),
        (msgspec.structs.replace(GOOD, dimensions=[["hall"] * 31]), "31 keys, more than 30"),
        (msgspec.structs.replace(GOOD, members={"hall": ""}), "a value has 1 to 1024"),
        (msgspec.structs.replace(GOOD, members={"hall": "x" * 1025}), "not 1025"),
        (with_metric("hall", 1), "names two members"),
        (with_metric("_aws", 1), "names two members"),
        (with_metric("", 1), "0 characters"),
        (with_metric("n" * 256, 1), "256 characters"),
        (with_metric("m"), "has 0 values"),
        (with_metric("m", *range(101)), "has 101 values"),
        (with_metric("m", float("nan")), "not support"),
        (with_metric("m", 1, float("-inf")), "not support"),
        (with_metric("m", 2.0**361), "not support"),
        (
            msgspec.structs.replace(
                GOOD, metrics=[Metric(f"m{i}", "None", [1]) for i in range(101)]
            ),
            "101 metrics, more than 100",
        ),
        (msgspec.structs.replace(GOOD, members={"hall": "7", "x": "y" * 200_000}), "bytes, more"),
    ],
)
def test_what_breaks_a_limit_is_refused(document: Document, words: str) -> None:
    with pytest.raises(LimitExceeded, match=words):
        encode(document)


def test_what_is_at_a_limit_is_accepted() -> None:
    metrics = [Metric(f"{i}" + "m" * 250, "None", [2.0**360] * 100) for i in range(50)]
    names = [f"{i}" + "d" * 248 for i in range(10, 40)]
    members = dict.fromkeys(names, "v")
    document = Document(
        timestamp=0, namespace="n" * 255, dimensions=[names], metrics=metrics, members=members
    )
    assert len(encode(document)) < emf.MAX_DOCUMENT_BYTES
    hundred = [Metric(f"m{i}", "None", [1]) for i in range(100)]
    encode(msgspec.structs.replace(GOOD, metrics=hundred, members={"hall": "x" * 1024}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("orders", "orders"), ("größe\n", "gr??e?"), ("  ", "-"), ("", "-"), ("x" * 1025, "x" * 1024)],
)
def test_any_text_becomes_a_dimension_value(text: str, expected: str) -> None:
    cleaned = emf.clean_dimension_value(text)
    assert cleaned == expected
    assert emf.dimension_value_problem(cleaned) is None


def emf_document(**metadata: object) -> dict[str, object]:
    return {"_aws": {"CloudWatchMetrics": [{}], "Timestamp": 1_700_000_000_000} | metadata, "a": 1}


def test_the_time_of_a_document_is_its_timestamp() -> None:
    assert emf.timestamp_of(emf_document()) == 1_700_000_000_000
    assert emf.timestamp_of(emf_document(Timestamp=0)) == 0


@pytest.mark.parametrize(
    "value",
    [
        7, None, [], {}, {"_aws": 7}, emf_document(CloudWatchMetrics=[]),
        emf_document(CloudWatchMetrics={"a": 1}), emf_document(Timestamp=True),
        emf_document(Timestamp=-1), emf_document(Timestamp=1.5), emf_document(Timestamp="1"),
    ],
)  # fmt: skip
def test_other_json_is_no_document(value: object) -> None:
    assert emf.timestamp_of(value) is None


@pytest.mark.parametrize("name", ["team/service", "a", "x" * emf.MAX_NAMESPACE, "a b-c_d.e#f:g"])
def test_a_namespace_that_can_be_used(name: str) -> None:
    assert emf.namespace_problem(name) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "1 to 255"), ("x" * 256, "1 to 255"), ("AWS/Lambda", "must not begin with AWS/"),
        (" ", "not be blank"), (":a", "begin with :"), ("größe", "ASCII"), ("a\n", "ASCII"),
    ],
)  # fmt: skip
def test_a_namespace_that_can_not(name: str, words: str) -> None:
    assert words in str(emf.namespace_problem(name))


@pytest.mark.parametrize(
    ("name", "words"),
    [("", "1 to 250"), ("x" * 251, "1 to 250"), ("ö", "ASCII"), (" ", "ASCII"), (":a", "with :")],
)
def test_a_name_that_no_dimension_can_have(name: str, words: str) -> None:
    assert words in str(emf.dimension_name_problem(name))
    assert emf.dimension_name_problem("name") is None


@pytest.mark.parametrize(
    ("value", "words"),
    [("", "1 to 1024"), ("x" * 1025, "1 to 1024"), ("ö", "ASCII"), (" ", "not blank")],
)
def test_a_value_that_no_dimension_can_have(value: str, words: str) -> None:
    assert words in str(emf.dimension_value_problem(value))
    assert emf.dimension_value_problem(":value") is None

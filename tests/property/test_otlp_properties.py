"""What we write as OTLP is what the protobuf library writes, byte for byte."""

from __future__ import annotations

import json
import math
from typing import Any

from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from telemetryd_proto.otlp.answers import NotAnAnswer, refusal
from telemetryd_proto.otlp.values import any_value, json_value, key_value

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), st.floats(), TEXT,
        st.binary(max_size=200),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(TEXT, inner, max_size=5)
    ),
    max_leaves=20,
)  # fmt: skip


def oracle(value: Any) -> AnyValue:
    """Return `value` as the protobuf library has it."""
    made = AnyValue()
    match value:
        case None:
            pass
        case bool():
            made.bool_value = value
        case int():
            made.int_value = value
        case float():
            made.double_value = value
        case str():
            made.string_value = value
        case bytes():
            made.bytes_value = value
        case dict():
            made.kvlist_value.SetInParent()
            for key, each in value.items():
                made.kvlist_value.values.append(KeyValue(key=key, value=oracle(each)))
        case _:
            made.array_value.SetInParent()
            made.array_value.values.extend([oracle(each) for each in value])
    return made


@given(VALUES)
def test_a_value_is_written_as_the_library_writes_it(value: Any) -> None:
    assert any_value(value) == oracle(value).SerializeToString(deterministic=True)


@given(TEXT, VALUES)
def test_an_attribute_is_written_as_the_library_writes_it(key: str, value: Any) -> None:
    written = key_value(key, value)
    assert KeyValue.FromString(written).key == key
    assert KeyValue.FromString(written).value.SerializeToString() == any_value(value)


@given(VALUES)
def test_a_value_in_json_is_one_that_the_library_reads(value: Any) -> None:
    text = json.dumps(json_value(value))
    read = json_format.Parse(text, AnyValue())
    assert any_value(value) == read.SerializeToString() or has_nan(value)


def has_nan(value: Any) -> bool:
    """True if somewhere in `value` is a NaN, which has many forms in binary."""
    if isinstance(value, dict):
        return any(map(has_nan, value.values()))
    if isinstance(value, list):
        return any(map(has_nan, value))
    return isinstance(value, float) and math.isnan(value)


@given(st.integers(0, (1 << 63) - 1), TEXT)
def test_a_partial_success_is_read_as_it_was_written(rejected: int, message: str) -> None:
    answer = ExportLogsServiceResponse()
    answer.partial_success.rejected_log_records = rejected
    answer.partial_success.error_message = message
    assert refusal(answer.SerializeToString(), is_json=False) == (rejected, message)
    text = json_format.MessageToJson(answer).encode()
    assert refusal(text, is_json=True) == (rejected, message)


@given(st.binary(max_size=60), st.booleans())
def test_any_answer_is_read_or_refused(body: bytes, as_json: bool) -> None:
    try:
        found = refusal(body, is_json=as_json)
    except NotAnAnswer:
        return
    assert found.items >= 0

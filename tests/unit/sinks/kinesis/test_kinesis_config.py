"""Configuration of a Kinesis sink: what is refused before anything starts, and in which words."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import msgspec
import pytest

from telemetryd.config import load
from telemetryd.errors import ConfigError
from telemetryd.sinks.kinesis.config import KinesisConfig

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/telemetry"


def problems(**keys: Any) -> list[str]:
    config = msgspec.convert({"type": "kinesis", "stream": "telemetry", **keys}, KinesisConfig)
    return list(config.problems())


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"stream": ARN},
        {"stream": ARN, "region": "eu-west-1"},
        {"stream": ARN.replace("aws", "aws-us-gov").replace("eu-west-1", "us-gov-west-1")},
        {"stream": "a.b_c-D9" * 16},
        {"explicit_hash_key": "0"},
        {"explicit_hash_key": str(2**128 - 1)},
        {"endpoint_url": "http://127.0.0.1:4567"},
        {"endpoint_url": "https://kinesis.eu-west-1.amazonaws.com"},
        {"endpoint_url": "https://[::1]:4567/"},
        {"packing": "kpl"},
        {"compression": "zstd"},
        {"max_record_bytes": 10 * 2**20, "max_request_bytes": 10 * 2**20},
    ],
)
def test_these_are_fine(keys: dict[str, Any]) -> None:
    assert problems(**keys) == []


@pytest.mark.parametrize(
    ("keys", "key", "says"),
    [
        ({"stream": "tele metry"}, "stream", "letters, digits"),
        ({"stream": "x" * 129}, "stream", "1 to 128"),
        ({"stream": "arn:aws:sqs:eu-west-1:123456789012:queue"}, "stream", "must look like"),
        ({"stream": ARN + " x"}, "stream", "must look like"),
        ({"stream": ARN.replace("123", "")}, "stream", "must look like"),
        ({"stream": ARN, "region": "us-east-1"}, "region", "eu-west-1"),
        ({"region": "Ireland"}, "region", "such as"),
        ({"packing": "kpl", "compression": "gzip"}, "compression", "kpl"),
        ({"explicit_hash_key": str(2**128)}, "explicit_hash_key", "2^128"),
        ({"explicit_hash_key": "007"}, "explicit_hash_key", "2^128"),
        ({"explicit_hash_key": "ff"}, "explicit_hash_key", "2^128"),
        ({"endpoint_url": "127.0.0.1:4567"}, "endpoint_url", "http://host:port"),
        ({"endpoint_url": "http://host:port"}, "endpoint_url", "http://host:port"),
        ({"endpoint_url": "ftp://host"}, "endpoint_url", "http://host:port"),
        ({"endpoint_url": "http://a b"}, "endpoint_url", "http://host:port"),
        ({"max_request_bytes": 2**19}, "max_request_bytes", "max_record_bytes"),
    ],
)
def test_these_are_refused_by_name(keys: dict[str, Any], key: str, says: str) -> None:
    (problem,) = problems(**keys)
    assert problem.startswith(f"{key}: ")
    assert says in problem


@pytest.mark.parametrize(
    ("module", "key"), [("aiobotocore", "client"), ("zstandard", "compression")]
)
def test_what_is_not_installed_is_said_with_its_cure(
    module: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == module else real(name)
    )
    (problem,) = problems(compression="zstd", client="aiobotocore")
    assert problem.startswith(f"{key}: ")
    assert re.search(r"pip install ('aiobotocore|zstandard)", problem)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("COMPRESSION", "lz4"),
        ("PACKING", "csv"),
        ("PARTITION_KEY", "time"),
        ("MAX_RECORD_BYTES", 10 * 2**20 + 1),
        ("MAX_REQUEST_BYTES", 10 * 2**20 + 1),
        ("RECORD_TARGET_BYTES", 10),
        ("STREAM", ""),
    ],
)
def test_check_refuses_what_is_out_of_range(key: str, value: object) -> None:
    environ = {
        "TELEMETRYD_SINKS__K__TYPE": "kinesis",
        "TELEMETRYD_SINKS__K__STREAM": "s",
        f"TELEMETRYD_SINKS__K__{key}": str(value),
    }
    with pytest.raises(ConfigError) as caught:
        load(environ, default_paths=())
    (problem,) = caught.value.problems
    assert key in problem


def test_a_stream_is_needed() -> None:
    with pytest.raises(ConfigError, match="stream"):
        load({"TELEMETRYD_SINKS__K__TYPE": "kinesis"}, default_paths=())

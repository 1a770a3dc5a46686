"""Subscription requests: the documented limits, and the words of the refusals."""

from __future__ import annotations

import json

import pytest

from telemetryd.local.api.server import Refused
from telemetryd.local.routes.telemetry import parse
from telemetryd.local.subscriber import Buffering

GOOD: dict[str, object] = {
    "schemaVersion": "2025-01-29",
    "types": ["platform", "function"],
    "buffering": {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25},
    "destination": {"protocol": "TCP", "port": 4243},
}


def request(**changes: object) -> bytes:
    """The good request with other members; None leaves one out."""
    body = {key: value for key, value in (GOOD | changes).items() if value is not None}
    return json.dumps(body).encode()


def test_a_good_request_is_understood() -> None:
    """All members."""
    wanted = parse(request(), managed=True)
    assert (wanted.protocol, wanted.port) == ("TCP", 4243)
    assert wanted.types == ["platform", "function"]
    assert wanted.buffering == Buffering(1000, 262_144, 25)


def test_buffering_is_optional_in_whole_and_in_part() -> None:
    """Defaults: 10,000 events, 256 KiB, one second."""
    assert parse(request(buffering=None), managed=False).buffering == Buffering(
        10_000, 262_144, 1_000
    )
    partly = parse(request(buffering={"timeoutMs": 30_000}), managed=False)
    assert partly.buffering == Buffering(10_000, 262_144, 30_000)


def test_http_goes_to_the_sandbox() -> None:
    """The host is a name for it; path, query and port count."""
    destination = {"protocol": "HTTP", "URI": "http://sandbox.localdomain:4243/telemetry?a=b"}
    wanted = parse(request(destination=destination), managed=False)
    assert (wanted.host, wanted.port) == ("sandbox.localdomain:4243", 4243)
    assert (wanted.path, wanted.method) == ("/telemetry?a=b", "POST")
    short = {"protocol": "HTTP", "URI": "http://sandbox:4243", "method": "PUT"}
    wanted = parse(request(destination=short), managed=False)
    assert (wanted.path, wanted.method) == ("/", "PUT")


@pytest.mark.parametrize(
    ("changes", "error_type", "word"),
    [
        ({"schemaVersion": None}, "Telemetry.DeserializationError", "schemaVersion"),
        ({"schemaVersion": "2020-08-15"}, "ValidationError", "schemaVersion"),
        ({"types": None}, "Telemetry.DeserializationError", "types"),
        ({"types": []}, "ValidationError", "types"),
        ({"types": ["platform", "platform"]}, "ValidationError", "unique"),
        ({"types": ["platform.report"]}, "Telemetry.DeserializationError", "platform.report"),
        ({"buffering": []}, "Telemetry.DeserializationError", "buffering"),
        ({"buffering": {"maxItems": 999}}, "ValidationError", "1000..10000"),
        ({"buffering": {"maxItems": 10_001}}, "ValidationError", "1000..10000"),
        ({"buffering": {"maxBytes": 262_143}}, "ValidationError", "262144..1048576"),
        ({"buffering": {"maxBytes": 1_048_577}}, "ValidationError", "262144..1048576"),
        ({"buffering": {"timeoutMs": 24}}, "ValidationError", "25..30000"),
        ({"buffering": {"timeoutMs": 30_001}}, "ValidationError", "25..30000"),
        ({"buffering": {"timeoutMs": "25"}}, "Telemetry.DeserializationError", "integer"),
        ({"buffering": {"timeoutMs": True}}, "Telemetry.DeserializationError", "integer"),
        ({"destination": None}, "Telemetry.DeserializationError", "destination"),
        ({"destination": {"protocol": "TCP"}}, "Telemetry.DeserializationError", "`port`"),
        ({"destination": {"protocol": "tcp", "port": 4243}}, "DeserializationError", "`tcp`"),
        ({"destination": {"protocol": "TCP", "port": 1024}}, "ValidationError", "port"),
        ({"destination": {"protocol": "TCP", "port": 65_536}}, "ValidationError", "port"),
        ({"destination": {"protocol": "TCP", "port": 9001}}, "ValidationError", "port"),
        ({"destination": {"protocol": "TCP", "port": "4243"}}, "DeserializationError", "port"),
        ({"destination": {"protocol": "HTTP"}}, "Telemetry.DeserializationError", "`URI`"),
        (
            {"destination": {"protocol": "HTTP", "URI": "http://sandbox:x/"}},
            "ValidationError",
            "port",
        ),
        (
            {"destination": {"protocol": "HTTP", "URI": "https://sandbox:4243"}},
            "ValidationError",
            "scheme",
        ),
        (
            {"destination": {"protocol": "HTTP", "URI": "http://localhost:4243"}},
            "Telemetry.AccessDenied",
            "sandbox.localdomain",
        ),
        (
            {"destination": {"protocol": "HTTP", "URI": "http://sandbox:1", "method": "GET"}},
            "ValidationError",
            "GET",
        ),
    ],
)
def test_what_is_outside_the_documented_limits_is_refused(
    changes: dict[str, object], error_type: str, word: str
) -> None:
    """One mistake at a time; the message names it."""
    with pytest.raises(Refused) as refusal:
        parse(request(**changes), managed=False)
    assert refusal.value.error_type.endswith(error_type)
    assert refusal.value.status == (403 if error_type.endswith("AccessDenied") else 400)
    assert word in str(refusal.value)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"null"])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    """Broken JSON and other JSON alike."""
    with pytest.raises(Refused, match=r"JSON|object"):
        parse(body, managed=False)


@pytest.mark.parametrize("schema", ["2022-07-01", "2022-12-13", "2025-01-29"])
def test_managed_instances_take_the_current_schema_only(schema: str) -> None:
    """On demand all three are good."""
    body = request(schemaVersion=schema)
    assert parse(body, managed=False).schema == schema
    if schema == "2025-01-29":
        assert parse(body, managed=True).schema == schema
    else:
        with pytest.raises(Refused, match="schemaVersion"):
            parse(body, managed=True)

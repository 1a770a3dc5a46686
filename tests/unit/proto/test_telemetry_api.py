"""Telemetry API: the subscription request in its exact form, and the platform's limits."""

import json

import msgspec
import pytest

from telemetryd_proto import telemetry_api as api

TCP = api.TcpDestination(port=4243)


def request(**changes: object) -> dict[str, object]:
    return {
        "schemaVersion": "2025-01-29",
        "types": ["platform", "function"],
        "destination": {"protocol": "TCP", "port": 4243},
    } | changes


def decode(body: dict[str, object]) -> api.SubscriptionRequest:
    return msgspec.json.decode(json.dumps(body).encode(), type=api.SubscriptionRequest)


def test_the_path_is_fixed_and_has_no_slash_at_its_end() -> None:
    assert api.SUBSCRIBE_PATH == "/2022-07-01/telemetry"


def test_a_tcp_subscription_as_it_is_sent() -> None:
    subscription = api.SubscriptionRequest(
        schema_version="2025-01-29",
        types=(api.Stream.PLATFORM, api.Stream.FUNCTION),
        buffering=api.Buffering(max_items=1000, max_bytes=1_048_576, timeout_ms=25),
        destination=TCP,
    )
    assert json.loads(msgspec.json.encode(subscription)) == {
        "schemaVersion": "2025-01-29",
        "types": ["platform", "function"],
        "buffering": {"maxItems": 1000, "maxBytes": 1_048_576, "timeoutMs": 25},
        "destination": {"protocol": "TCP", "port": 4243},
    }


def test_all_three_buffering_limits_are_sent_also_by_default() -> None:
    subscription = api.SubscriptionRequest(
        schema_version="2022-07-01", types=(api.Stream.EXTENSION,), destination=TCP
    )
    assert json.loads(msgspec.json.encode(subscription))["buffering"] == {
        "maxItems": 10_000,
        "maxBytes": 262_144,
        "timeoutMs": 1_000,
    }


def test_an_http_subscription_as_it_is_sent() -> None:
    destination = api.HttpDestination(uri="http://sandbox.localdomain:4243/")
    assert json.loads(msgspec.json.encode(destination)) == {
        "protocol": "HTTP",
        "URI": "http://sandbox.localdomain:4243/",
    }


@pytest.mark.parametrize(
    "destination",
    [
        {"protocol": "TCP", "port": 4243},
        {"protocol": "HTTP", "URI": "http://sandbox:4243", "method": "PUT", "encoding": "JSON"},
    ],
)
def test_both_destinations_are_read(destination: dict[str, object]) -> None:
    read = decode(request(destination=destination)).destination
    assert read in (
        TCP,
        api.HttpDestination(uri="http://sandbox:4243", method="PUT"),
    )
    assert isinstance(read, api.TcpDestination) == (destination["protocol"] == "TCP")


@pytest.mark.parametrize("version", api.SCHEMA_VERSIONS)
def test_every_schema_version_is_known(version: str) -> None:
    assert decode(request(schemaVersion=version)).schema_version == version


@pytest.mark.parametrize(
    ("member", "low", "high"),
    [
        ("maxItems", api.MIN_MAX_ITEMS, api.MAX_MAX_ITEMS),
        ("maxBytes", api.MIN_MAX_BYTES, api.MAX_MAX_BYTES),
        ("timeoutMs", api.MIN_TIMEOUT_MS, api.MAX_TIMEOUT_MS),
    ],
)
def test_buffering_limits(member: str, low: int, high: int) -> None:
    for value in (low, high):
        decode(request(buffering={member: value}))
    for value in (low - 1, high + 1):
        with pytest.raises(msgspec.ValidationError, match=member):
            decode(request(buffering={member: value}))


def test_the_limits_are_the_platforms() -> None:
    assert (api.MIN_MAX_ITEMS, api.MAX_MAX_ITEMS) == (1_000, 10_000)
    assert (api.MIN_MAX_BYTES, api.MAX_MAX_BYTES) == (256 * 1024, 1024 * 1024)
    assert (api.MIN_TIMEOUT_MS, api.MAX_TIMEOUT_MS) == (25, 30_000)
    assert (api.MIN_PORT, api.MAX_PORT, api.RESERVED_PORT) == (1025, 65535, 9001)
    assert api.SCHEMA_VERSIONS == ("2022-07-01", "2022-12-13", "2025-01-29")


@pytest.mark.parametrize(
    "changes",
    [
        {"schemaVersion": "2020-08-15"},
        {"types": []},
        {"types": ["platform.report"]},
        {"destination": {"protocol": "TCP"}},
        {"destination": {"protocol": "TCP", "port": 1024}},
        {"destination": {"protocol": "TCP", "port": 65536}},
        {"destination": {"protocol": "tcp", "port": 4243}},
        {"destination": {"protocol": "HTTP", "port": 4243}},
        {"destination": {"protocol": "HTTP", "URI": "https://sandbox:4243"}},
    ],
    ids=str,
)
def test_requests_the_platform_refuses_do_not_decode(changes: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(request(**changes))

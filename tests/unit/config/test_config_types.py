"""Event types in the configuration: what can't be is refused, what is odd is said."""

from __future__ import annotations

import pytest

from telemetryd.config import load
from telemetryd.config.schema import Mode
from telemetryd.errors import ConfigError


def environ(types: str, **more: str) -> dict[str, str]:
    return {"TELEMETRYD_SINKS__A__TYPE": "null", "TELEMETRYD_SINKS__A__TYPES": types, **more}


def warnings(types: str, mode: Mode = "lambda", **more: str) -> tuple[str, ...]:
    return load(environ(types, **more), default_paths=(), mode=mode).warnings


@pytest.mark.parametrize(
    ("types", "meant"),
    [("fucntion", "function"), ("platfrom.report", "platform.report"), ("function.x", "function")],
)
def test_a_type_that_lambda_never_sends_is_refused_there(types: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ(f"platform,{types}"), default_paths=(), mode="lambda")
    (problem,) = caught.value.problems
    assert problem.startswith("environment TELEMETRYD_SINKS__A__TYPES: sinks.a.types = ")
    assert f"'{types}' is not a known type of event" in problem
    assert problem.endswith(f"did you mean {meant}?")


def test_senders_of_their_own_may_have_types_of_their_own() -> None:
    (warning,) = warnings("order.created,function", mode="listen")
    assert warning == "sinks.a.types: 'order.created' is not a known type of event"


def test_what_the_platform_may_yet_invent_is_allowed_and_said() -> None:
    (warning,) = warnings("platform.reprot")
    assert warning.startswith("sinks.a.types: 'platform.reprot' is not a known type")
    assert warning.endswith("did you mean platform.report?")


def test_known_types_need_no_words() -> None:
    assert warnings("platform,function,platform.runtimeDone") == ()


@pytest.mark.parametrize("types", ["function", "extension", "platform,function,extension"])
def test_a_type_that_is_not_subscribed_to_is_said(types: str) -> None:
    (warning, *_) = warnings(types, TELEMETRYD_TELEMETRY__TYPES="platform")
    assert "is not in telemetry.types" in warning
    assert warnings(types, mode="listen", TELEMETRYD_TELEMETRY__TYPES="platform") == ()


def test_forwarding_needs_the_lines_of_the_function() -> None:
    given = {
        "TELEMETRYD_SINKS__M__TYPE": "emf",
        "TELEMETRYD_SINKS__M__FORWARD_EMF": "true",
        "TELEMETRYD_TELEMETRY__TYPES": "platform",
    }
    (warning,) = load(given, default_paths=(), mode="lambda").warnings
    assert warning.startswith('sinks.m.types: "function" is not in telemetry.types')


def test_a_failover_that_names_no_sink_is_traced_to_where_it_was_set() -> None:
    given = environ("platform", TELEMETRYD_SINKS__A__FAILOVER="b")
    with pytest.raises(ConfigError) as caught:
        load(given, default_paths=(), mode="lambda")
    (problem,) = caught.value.problems
    assert problem == (
        'environment TELEMETRYD_SINKS__A__FAILOVER: sinks.a.failover = "b": names no sink; '
        "sinks here: none other"
    )

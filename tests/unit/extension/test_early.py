"""Settings read before `next` agree with the full configuration, value by value."""

from pathlib import Path

import pytest

from telemetryd.config import Config, effective_address, load
from telemetryd.errors import ConfigError
from telemetryd.extension import early

KEYS = {
    "telemetry.types": "types",
    "telemetry.host": "host",
    "telemetry.port": "port",
    "telemetry.schema_version": "schema_version",
    "telemetry.buffering.max_items": "max_items",
    "telemetry.buffering.max_bytes": "max_bytes",
    "telemetry.buffering.timeout_ms": "timeout_ms",
    "lambda.next": "next",
    "lambda.events": "events",
}
VALUES = {
    "telemetry.types": [
        "platform",
        "function,extension",
        '["function"]',
        "",
        "logs",
        "function,function",
    ],
    "telemetry.host": ["0.0.0.0", "::1", "", "a b"],
    "telemetry.port": ["0", "1", "1024", "1025", "9001", "65535", "65536", "-1", "x", "4243.5", ""],
    "telemetry.schema_version": ["2022-07-01", "2022-12-13", "2025-01-29", "2030-01-01", ""],
    "telemetry.buffering.max_items": ["999", "1000", "10000", "10001", "many"],
    "telemetry.buffering.max_bytes": ["262143", "262144", "1048576", "1048577"],
    "telemetry.buffering.timeout_ms": ["24", "25", "30000", "30001", "true"],
    "lambda.next": ["auto", "early", "ready", "Early", ""],
    "lambda.events": ["auto", "shutdown", "invoke"],
}


def variable(key: str) -> str:
    return "TELEMETRYD_" + key.replace(".", "__").upper()


def from_config(config: Config, key: str) -> object:
    host, port = effective_address(config, "lambda")
    if key in ("telemetry.host", "telemetry.port"):
        return {"telemetry.host": host, "telemetry.port": port}[key]
    value: object = config
    for part in key.replace("lambda", "lambda_").split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("key", KEYS)
def test_defaults_are_the_same(key: str) -> None:
    assert getattr(early.read({}, ()), KEYS[key]) == from_config(Config(), key)


@pytest.mark.parametrize(
    ("key", "text"), [(k, text) for k, texts in VALUES.items() for text in texts]
)
def test_a_variable_is_taken_or_refused_as_the_full_configuration_does(key: str, text: str) -> None:
    environ = {variable(key): text}
    settings = early.read(environ, ())
    try:
        expected = from_config(load(environ, default_paths=()).config, key)
    except ConfigError:
        assert settings.problems
        assert key in settings.problems[0]
        assert getattr(settings, KEYS[key]) == from_config(Config(), key)
    else:
        assert not settings.problems
        assert getattr(settings, KEYS[key]) == expected


def test_the_file_is_read_and_a_variable_wins(tmp_path: Path) -> None:
    file = tmp_path / "telemetryd.toml"
    file.write_text(
        'fail_closed = true\n[telemetry]\nport = 5000\ntypes = ["function"]\n'
        '[telemetry.buffering]\ntimeout_ms = 100\nmax_items = "1000"\n[lambda]\nnext = "ready"\n'
    )
    settings = early.read({"TELEMETRYD_TELEMETRY__PORT": "6000"}, (str(file),))
    assert (settings.port, settings.types, settings.timeout_ms) == (6000, ("function",), 100)
    assert (settings.next, settings.fail_closed, settings.problems) == ("ready", True, [])


def test_a_broken_or_missing_file_is_named_and_defaults_apply(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("[telemetry\nport = 1")
    for named in (str(broken), str(tmp_path / "missing.toml"), str(tmp_path)):
        settings = early.read({"TELEMETRYD_CONFIG": named}, ())
        assert settings.port == early.PORT
        assert len(settings.problems) == 1
        assert named in settings.problems[0]


def test_a_section_that_is_no_table_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "telemetryd.toml"
    file.write_text('telemetry = "yes"\nlambda = 3\n')
    assert early.read({}, (str(file),)).port == early.PORT


def test_fail_closed_without_ready_is_off_and_named() -> None:
    settings = early.read({"TELEMETRYD_FAIL_CLOSED": "true"}, ())
    assert not settings.fail_closed
    assert "lambda.next" in settings.problems[0]


@pytest.mark.parametrize("others", [{}, {"TELEMETRYD_CONFIG": ""}])
def test_the_file_may_be_named_in_any_case(tmp_path: Path, others: dict[str, str]) -> None:
    """As in the full configuration."""
    file = tmp_path / "t.toml"
    file.write_text('[telemetry]\ntypes = ["platform"]\n')
    environ = others | {"telemetryd_config": str(file)}
    assert early.read(environ, ()).types == ("platform",)
    assert [*load(environ, default_paths=()).config.telemetry.types] == ["platform"]

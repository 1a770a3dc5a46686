"""`telemetryd check`: what it prints, where, and its exit status."""

from __future__ import annotations

import io
import tomllib
from pathlib import Path
from typing import Any

import pytest

from telemetryd.commands.check import check
from telemetryd.commands.iam import Place, iam
from telemetryd.config import load


def run(environ: dict[str, str], **options: Any) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    options.setdefault("default_paths", ())
    status = check(environ, out, err, **options)
    return status, out.getvalue(), err.getvalue()


def test_a_valid_configuration_is_printed_with_origins(tmp_path: Path) -> None:
    file = tmp_path / "telemetryd.toml"
    file.write_text("[sinks.archive]\ntype = 'file'\npath = '/data/a.ndjson'\n")
    environ = {"TELEMETRYD_CONFIG": str(file), "TELEMETRYD_TELEMETRY__TYPES": "function"}

    status, out, err = run(environ)

    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"# effective in `listen`; configuration file: {file}"
    assert lines[-1] == "# configuration is valid"
    telemetry = lines[lines.index("[telemetry]") + 1 :]
    assert telemetry[:2] == [
        'types = ["function"]           # environment TELEMETRYD_TELEMETRY__TYPES',
        'protocol = "tcp"               # default',
    ]
    sink = lines[lines.index("[sinks.archive]") + 1 :]
    assert sink[0].split("  #") == ['type = "file"' + " " * (sink[0].index("  #") - 13), f" {file}"]


def test_comments_are_aligned_within_a_section() -> None:
    _, out, _ = run({})
    for section in out.split("\n\n")[1:-1]:
        columns = {line.index("  # ") for line in section.splitlines() if not line.startswith("[")}
        assert len(columns) == 1


def test_the_output_is_a_configuration_that_means_the_same(tmp_path: Path) -> None:
    environ = {
        "TELEMETRYD_TELEMETRY__HOST": "::1",
        "TELEMETRYD_TELEMETRY__PORT": "5000",
        "TELEMETRYD_LAMBDA__NEXT": "ready",
        "TELEMETRYD_FAIL_CLOSED": "true",
        "TELEMETRYD_SINKS__A__TYPE": "file",
        "TELEMETRYD_SINKS__A__PATH": '/data/a "quoted" \\ é \t name',
        "TELEMETRYD_SINKS__A__OVERFLOW": "drop_newest",
        "TELEMETRYD_SINKS__A__SPOOL__MAX_AGE_MS": "60000",
        "TELEMETRYD_MEMORY__MAX_BYTES": "33554432",
        "TELEMETRYD_METRICS__LISTEN": "",
    }
    _, out, _ = run(environ)
    file = tmp_path / "again.toml"
    file.write_text(out, encoding="utf-8")

    again = load({}, default_paths=(str(file),))

    assert again.config == load(environ, default_paths=()).config


@pytest.mark.parametrize(
    ("size", "budget"),
    [("128", 16 << 20), ("1769", (1769 << 20) // 8), ("10240", 256 << 20), ("", 8 << 20)],
)
def test_the_memory_of_the_function_decides_the_budget(size: str, budget: int) -> None:
    environ = {"TELEMETRYD_SINKS__A__TYPE": "null", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": size}
    _, out, _ = run(environ, mode="lambda")
    assert f"max_bytes = {budget}  # default of `lambda`" in out


def test_defaults_that_depend_on_the_mode_are_shown_for_it() -> None:
    environ = {"TELEMETRYD_SINKS__A__TYPE": "null"}
    _, in_listen, _ = run(environ, mode="listen")
    _, in_lambda, _ = run(environ, mode="lambda")

    assert tomllib.loads(in_listen)["sinks"]["a"]["overflow"] == "block"
    assert "# default of `listen`" in in_listen
    assert tomllib.loads(in_lambda)["sinks"]["a"]["overflow"] == "drop_oldest"
    assert "# default of `lambda`" in in_lambda
    assert in_lambda.startswith("# effective in `lambda`;")


def test_where_a_file_was_looked_for_is_said() -> None:
    _, out, _ = run({}, default_paths=("/nonexistent/a.toml", "/nonexistent/b.toml"))
    assert "file: none; looked for /nonexistent/a.toml, /nonexistent/b.toml\n" in out


def test_warnings_come_before_the_verdict() -> None:
    status, out, _ = run({})
    *_, warning, verdict = out.splitlines()
    assert warning.startswith("# warning: sinks: none is configured")
    assert (status, verdict) == (0, "# configuration is valid")


@pytest.mark.parametrize("environ", [{}, {"TELEMETRYD_SINKS__M__TYPE": "emf"}])
def test_the_price_of_metrics_is_shown_for_lambda(environ: dict[str, str]) -> None:
    """Of the sink that runs without any configuration, too."""
    _, out, _ = run(environ, mode="lambda")
    name = "m" if environ else "default"
    price = f"# sinks.{name}: 8 metrics x 1 dimension sets, about 2.40 USD per function and month"
    assert any(line.startswith(price) for line in out.splitlines())
    tomllib.loads(out)
    assert "dimension sets, about" not in run(environ, mode="listen")[1]


def test_the_price_of_the_figures_of_the_system_is_shown_where_they_are_measured() -> None:
    environ = {"TELEMETRYD_SINKS__M__TYPE": "emf", "TELEMETRYD_SINKS__M__METRICS": "*"}
    more = "# sinks.m: 12 further metrics, those of [system], x 1 dimension sets, about 3.60 USD"
    with_system = run(environ | {"TELEMETRYD_SYSTEM__METRICS": "true"}, mode="lambda")[1]
    without = run(environ, mode="lambda")[1]
    assert any(line.startswith(more) for line in with_system.splitlines())
    assert more not in without
    for out in (with_system, without):
        assert "# sinks.m: 27 metrics x 1 dimension sets, about 8.10 USD" in out


def test_each_problem_is_a_line_on_stderr_and_the_status_is_78() -> None:
    status, out, err = run({"TELEMETRYD_TELEMETRY__PORT": "80", "TELEMETRYD_X": "1"})
    assert (status, out) == (78, "")
    lines = err.splitlines()
    assert lines[0].startswith("environment TELEMETRYD_TELEMETRY__PORT: telemetry.port")
    assert lines[1].startswith("environment TELEMETRYD_X: unknown key x")
    assert lines[2:] == ["configuration is not valid: 2 problems"]


def test_one_problem_is_counted_as_one() -> None:
    _, _, err = run({"TELEMETRYD_X": "1"})
    assert err.endswith("configuration is not valid: 1 problem\n")


def test_a_named_file_that_is_missing_is_told_with_its_effect_in_lambda(tmp_path: Path) -> None:
    """It may have rules of `redact`: so no sink would get lines."""
    environ = {
        "TELEMETRYD_CONFIG": str(tmp_path / "none.toml"),
        "TELEMETRYD_SINKS__A__TYPE": "null",
        "TELEMETRYD_SINKS__B__TYPE": "null",
    }
    status, out, err = run(environ, mode="lambda")
    assert (status, out) == (78, "")
    file, rules, *rest = err.splitlines()
    assert file.endswith("none.toml: No such file or directory")
    assert rules.startswith("redact: ")
    assert "in Lambda every sink is off" in rules
    assert rest == [
        "in Lambda, without fail_closed, these sinks would be off: a, b",
        "configuration is not valid: 2 problems",
    ]
    own_rules = environ | {"TELEMETRYD_REDACT": "email"}
    assert run(own_rules, mode="lambda")[2].splitlines() == [
        file, "configuration is not valid: 1 problem"
    ]  # fmt: skip
    assert run(environ)[2].splitlines() == [file, "configuration is not valid: 1 problem"]


def test_a_password_in_a_value_is_not_printed() -> None:
    environ = {
        "TELEMETRYD_SINKS__A__TYPE": "file",
        "TELEMETRYD_SINKS__A__PATH": "/data/https://me:hunter2@host/x",
    }
    status, out, err = run(environ)
    assert status == 0
    assert "hunter2" not in out + err
    assert "***@host" in out


def test_patterns_that_can_block_are_named() -> None:
    environ = {
        "TELEMETRYD_SINKS__A__TYPE": "null",
        "TELEMETRYD_SINKS__A__INCLUDE": '["text", "a+b"]',
        "TELEMETRYD_SINKS__A__EXCLUDE": '["(?<=a)b"]',
    }
    _, out, _ = run(environ)
    (warning,) = [line for line in out.splitlines() if line.startswith("# warning: sinks.a.")]
    assert warning.startswith("# warning: sinks.a.exclude: '(?<=a)b': google-re2 can't compile it")
    assert "can block" in warning


def test_for_lambda_patterns_that_the_layer_runs_on_re_are_named() -> None:
    environ = {
        "TELEMETRYD_SINKS__A__TYPE": "null",
        "TELEMETRYD_SINKS__A__INCLUDE": '["text", "a+b", "(?<=a)b"]',
    }
    _, out, _ = run(environ, mode="lambda")
    warnings = [line for line in out.splitlines() if line.startswith("# warning: sinks.a.")]
    assert [line.split("'")[1] for line in warnings] == ["(?<=a)b", "a+b"]
    assert "the layer has no google-re2" in warnings[1]


def test_for_lambda_masks_that_the_layer_runs_on_re_are_named() -> None:
    rules = (
        '[{name = "slow", pattern = "(x+x+)+y"}, {name = "text", pattern = "hush"}, "email",'
        ' {name = "costly", pattern = "a.{600}b"}]'
    )
    environ = {"TELEMETRYD_SINKS__A__TYPE": "null", "TELEMETRYD_REDACT": rules}
    _, out, _ = run(environ, mode="lambda")
    slow, costly = [line for line in out.splitlines() if line.startswith("# warning: redact: ")]
    assert slow.startswith("# warning: redact: slow: the layer has no google-re2")
    assert slow.endswith("which can block telemetryd on an unlucky line")
    assert costly.startswith("# warning: redact: costly: ")
    assert "# warning: redact" not in run(environ, mode="listen")[1]


@pytest.mark.parametrize(
    "variables",
    [
        {"TELEMETRYD_CONFIG": "https://user:hush@host/x"},
        {"TELEMETRYD_CONFIG": "user:hush@host"},
        {"TELEMETRYD_METRICS__LISTEN": "u:hush@h"},
        {"TELEMETRYD_METRICS__LISTEN": "u:hu/hush@h:9464"},
        {"TELEMETRYD_METRICS__LISTEN": "hush@h:9464"},
        {"TELEMETRYD_TELEMETRY__HOST": "u:hush@h"},
        {"TELEMETRYD_TELEMETRY__HOST": "hush@h"},
    ],
)
@pytest.mark.parametrize("command", ["check", "iam"])
def test_what_precedes_a_host_is_never_printed(command: str, variables: dict[str, str]) -> None:
    out, err = io.StringIO(), io.StringIO()
    if command == "check":
        check(variables, out, err, default_paths=())
    else:
        iam(variables, out, err, place=Place(), default_paths=())
    assert "hush" not in out.getvalue() + err.getvalue()
    if command == "check":
        assert "***@h" in out.getvalue() + err.getvalue()


KINESIS = {"TELEMETRYD_SINKS__K__TYPE": "kinesis", "TELEMETRYD_SINKS__K__STREAM": "telemetry"}
LOGS = {"TELEMETRYD_SINKS__K__TYPE": "emf", "TELEMETRYD_SINKS__K__DELIVERY": "logs"}
HOME = {"HOME": "/nonexistent"}


@pytest.mark.parametrize("sink", [KINESIS, LOGS], ids=["kinesis", "emf"])
@pytest.mark.parametrize(
    ("mode", "environ", "says"),
    [
        ("lambda", {}, "lean: the default in Lambda"),
        ("listen", {}, "aiobotocore: the default of `listen`"),
        ("lambda", {"AWS_PROFILE": "mine"}, "aiobotocore: AWS_PROFILE is set"),
        ("listen", {"TELEMETRYD_SINKS__K__CLIENT": "lean"}, "lean: as configured"),
    ],
)
def test_the_client_of_aws_is_named_with_the_reason(
    sink: dict[str, str], mode: Any, environ: dict[str, str], says: str
) -> None:
    status, out, _ = run(HOME | sink | environ, mode=mode)
    assert status == 0
    assert f"# sinks.k: client {says}" in out
    tomllib.loads(out)


def test_a_sink_without_aws_has_no_client_of_it() -> None:
    _, out, _ = run(HOME | {"TELEMETRYD_SINKS__K__TYPE": "emf"}, mode="lambda")
    assert "# sinks.k: client" not in out


def test_a_hook_that_is_not_installed_is_a_warning() -> None:
    """The layer may have packages that this machine has not."""
    status, out, _ = run({"TELEMETRYD_HOOKS": '{"slow": {"type": "no_such_hook"}}'})
    assert status == 0
    assert "# warning: hooks.slow: is off here: no hook has this type; known types: " in out

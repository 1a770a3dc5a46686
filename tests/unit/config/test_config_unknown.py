"""Keys and variables that do not exist: each is an error, and says which one was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from telemetryd.config import load
from telemetryd.config.sources import EXEMPT
from telemetryd.errors import ConfigError


def problems_of(environ: dict[str, str], *, file: str = "") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(environ, default_paths=(file,) if file else ())
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("TELEMETRY__PROT", "unknown key telemetry.prot; did you mean telemetry.port?"),
        ("TELEMETRY__HOSTNAME", "unknown key telemetry.hostname; did you mean telemetry.host?"),
        ("TELEMTRY__PORT", "unknown key telemtry.port; did you mean telemetry.port?"),
        (
            "FLUSH__TIMEOUT_MS",
            ("unknown key flush.timeout_ms; did you mean telemetry.buffering.timeout_ms?"),
        ),
        ("LEVEL", "unknown key level; did you mean log.level?"),
        ("TELEMETRY__PORT__X", "unknown key telemetry.port.x; did you mean telemetry.port?"),
        ("ZZZ", "unknown key zzz"),
        ("TELEMETRY_PORT", "unknown key telemetry_port; did you mean TELEMETRYD_TELEMETRY__PORT?"),
        (
            "TELEMETRY_BUFFERING__TIMEOUT_MS",
            (
                "unknown key telemetry_buffering.timeout_ms; did you mean "
                "TELEMETRYD_TELEMETRY__BUFFERING__TIMEOUT_MS?"
            ),
        ),
        ("FAIL__CLOSED", "unknown key fail.closed; did you mean TELEMETRYD_FAIL_CLOSED?"),
        (
            "SINKS_ARCHIVE_TYPE",
            ("unknown key sinks_archive_type; did you mean TELEMETRYD_SINKS__ARCHIVE__TYPE?"),
        ),
        (
            "SINKS_MY_ARCHIVE_QUEUE_MAX_BYTES",
            (
                "unknown key sinks_my_archive_queue_max_bytes; did you mean "
                "TELEMETRYD_SINKS__MY_ARCHIVE__QUEUE_MAX_BYTES?"
            ),
        ),
        ("SINKS_MY_ARCHIVE", "unknown key sinks_my_archive"),
        ("", "names no key; the form is TELEMETRYD_<SECTION>__<KEY>"),
        ("__PORT", "names no key; the form is TELEMETRYD_<SECTION>__<KEY>"),
        (
            "TELEMETRY____PORT",
            (
                "names no key; the form is TELEMETRYD_<SECTION>__<KEY>; did you mean "
                "TELEMETRYD_TELEMETRY__PORT?"
            ),
        ),
        ("TELEMETRY", "telemetry is a section; set its keys as TELEMETRYD_TELEMETRY__<KEY>"),
        (
            "TELEMETRY__BUFFERING",
            (
                "telemetry.buffering is a section; set its keys as "
                "TELEMETRYD_TELEMETRY__BUFFERING__<KEY>"
            ),
        ),
        ("SINKS", "sinks is a section; set its keys as TELEMETRYD_SINKS__<NAME>__TYPE and so on"),
        ("SINKS__A", "sinks.a is a section; set its keys as TELEMETRYD_SINKS__A__TYPE and so on"),
    ],
)
def test_variables_that_name_no_key(name: str, problem: str) -> None:
    variable = f"TELEMETRYD_{name}"
    assert problems_of({variable: "x"}) == [f"environment {variable}: {problem}"]


def test_a_key_of_a_declared_sink_is_suggested() -> None:
    environ = {"TELEMETRYD_SINKS__A__TYPE": "file", "TELEMETRYD_SINKS__A__PATH": "/data/x"}
    assert problems_of({**environ, "TELEMETRYD_SINKS__A__ROTATE": "x"}) == [
        (
            "environment TELEMETRYD_SINKS__A__ROTATE: unknown key sinks.a.rotate; did you mean "
            "sinks.a.rotate_bytes?"
        )
    ]


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("[telemtry]\nport = 1", "telemtry: unknown key; did you mean telemetry?"),
        ("[sink.a]\ntype = 'null'", "sink: unknown key; did you mean sinks?"),
        ("[telemetry]\nPort = 1", "telemetry.Port: unknown key; did you mean telemetry.port?"),
        (
            "[telemetry.bufering]",
            ("telemetry.bufering: unknown key; did you mean telemetry.buffering?"),
        ),
        ("port = 4243", "port: unknown key; did you mean telemetry.port?"),
        (
            "[sinks.a]\ntype = 'null'\nqueue_bytes = 5",
            ("sinks.a.queue_bytes: unknown key; did you mean sinks.a.queue_max_bytes?"),
        ),
        ('"\\u001b[31m" = 5', "\\u001b[31m: unknown key"),
        (
            "telemetry = 5",
            ("telemetry: is a section, not a whole number: write [telemetry] above its keys"),
        ),
        (
            "[[sinks]]\ntype = 'null'",
            ("sinks: is a section, not a list: write [sinks.<name>] above its keys"),
        ),
        ("[sinks]\na = 'null'", "sinks.a: is a section, not text: write [sinks.a] above its keys"),
    ],
)
def test_keys_of_a_file_that_do_not_exist(tmp_path: Path, toml: str, problem: str) -> None:
    file = tmp_path / "telemetryd.toml"
    file.write_text(toml)
    assert problems_of({}, file=str(file)) == [f"{file}: {problem}"]


def test_a_value_where_a_section_belongs_does_not_hide_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "telemetryd.toml"
    file.write_text("telemetry = 5\n")
    problems = problems_of({"TELEMETRYD_TELEMETRY__PORT": "80"}, file=str(file))
    assert [problem.split(": ")[1][:14] for problem in problems] == ["telemetry", "telemetry.port"]


def test_the_variables_of_others_are_exempt_by_name() -> None:
    assert set(EXEMPT) == {"TELEMETRYD_CONFIG", "TELEMETRYD_LOCAL"}


@pytest.mark.parametrize("service", ["TELEMETRYD", "TELEMETRYD_FOO", "TELEMETRYD_TELEMETRY_2"])
@pytest.mark.parametrize(
    ("suffix", "value"),
    [
        # kubernetes/pkg/kubelet/envvars, for a Service with named and unnamed ports
        ("_SERVICE_HOST", "10.0.0.11"),
        ("_SERVICE_PORT", "6379"),
        ("_SERVICE_PORT_HTTP", "80"),
        ("_SERVICE_PORT_NDJSON_IN", "4243"),
        ("_PORT", "tcp://10.0.0.11:6379"),
        ("_PORT", "udp://[fd00::1]:53"),
        *((f"_PORT_{number}_{protocol}{end}", "x")
          for number, protocol in ((6379, "TCP"), (53, "UDP"), (9, "SCTP"))
          for end in ("", "_PROTO", "_PORT", "_ADDR")),
        # moby/daemon/links, for a link with a range of ports and an environment
        ("_NAME", "/web/telemetryd"),
        ("_PORT_80_TCP_START", "tcp://172.17.0.5:80"),
        ("_PORT_80_TCP_PORT_END", "90"),
        ("_ENV_PASSWORD", "x"),
        ("_ENV_http_proxy", "x"),
        ("_ENV_TELEMETRYD_SINKS__A__TYPE", "no-such"),
        ("_ENV_BYTES", "\udcff"),
    ],
)  # fmt: skip
def test_variables_made_for_a_service_of_our_name_are_none_of_ours(
    service: str, suffix: str, value: str
) -> None:
    assert (
        load({service + suffix: value}, default_paths=()).warnings
        == load({}, default_paths=()).warnings
    )


@pytest.mark.parametrize("service", ["TELEMETRYD__X", "TELEMETRYD_A__B", "TELEMETRYD___X"])
@pytest.mark.parametrize(
    ("suffix", "value"),
    [
        ("_SERVICE_HOST", "10.0.0.11"),
        ("_SERVICE_HOST", "fd00::1"),
        ("_SERVICE_PORT", "6379"),
        ("_SERVICE_PORT_HTTP", "80"),
        ("_PORT", "tcp://10.0.0.11:6379"),
        ("_PORT_6379_TCP", "tcp://10.0.0.11:6379"),
        ("_PORT_6379_TCP_PROTO", "tcp"),
        ("_PORT_6379_TCP_PORT", "6379"),
        ("_PORT_6379_TCP_ADDR", "10.0.0.11"),
    ],
)
def test_of_a_service_with_two_dashes_names_and_values_have_the_platforms_form(
    service: str, suffix: str, value: str
) -> None:
    environ = {service + suffix: value}
    assert load(environ, default_paths=()).warnings == load({}, default_paths=()).warnings
    assert problems_of({service + suffix: "x"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TELEMETRY__PORT", "tcp://10.0.0.11:6379"),
        ("PORT", "4243"),
        ("PORT", ""),
        ("TELEMETRY_PORT", "4243"),
        ("NAME", "telemetryd"),
        ("SERVICE", "x"),
        ("SERVICE_HOSTS", "x"),
        ("SERVICE_NAME", "x"),
        ("PORT_80", "x"),
        ("PORT_80_HTTP", "x"),
        ("PORT_TCP", "x"),
        ("PORT_80_TCP_X", "x"),
        ("ENV", "x"),
        ("ENV_", "x"),
        ("ENVIRONMENT_X", "x"),
        ("service_host", "10.0.0.1"),
        ("SINKS__A_SERVICE_HOST", "x"),
        ("TELEMETRY__PORT_80_TCP", "x"),
    ],
)
def test_names_that_only_look_like_it_stay_errors(name: str, value: str) -> None:
    (problem,) = problems_of({f"TELEMETRYD_{name}": value})
    assert problem.startswith(f"environment TELEMETRYD_{name}: ")


def test_a_key_is_read_whatever_else_its_name_looks_like() -> None:
    environ = {
        "TELEMETRYD_SINKS__A_SERVICE_HOST__TYPE": "null",
        "TELEMETRYD_SINKS__X_ENV_Y__TYPE": "null",
    }
    assert list(load(environ, default_paths=()).config.sinks) == ["a_service_host", "x_env_y"]


def test_where_the_function_must_run_an_unknown_variable_is_a_warning() -> None:
    loaded = load(
        {"TELEMETRYD_TELEMETRY__PROT": "1"}, default_paths=(), mode="lambda", tolerant=True
    )
    assert loaded.warnings[0] == (
        "environment TELEMETRYD_TELEMETRY__PROT: unknown key telemetry.prot; did you mean "
        "telemetry.port?"
    )


def test_thousands_of_unknown_names_are_as_many_problems_but_few_lines(tmp_path: Path) -> None:
    file = tmp_path / "telemetryd.toml"
    file.write_text("".join(f"unknown_{n} = 1\n" for n in range(9_000)))
    environ = {f"TELEMETRYD_UNKNOWN_{n}": "x" for n in range(1000)}
    problems = problems_of(environ, file=str(file))
    assert len(problems) == 101
    assert problems[-1] == "... and 9900 more problems"


def test_other_prefixes_are_none_of_our_business() -> None:
    load({"TELEMETRY_PORT": "x", "TELEMETRYDX__PORT": "x", "XTELEMETRYD_A": "x"}, default_paths=())


def test_the_name_of_a_variable_cannot_forge_a_line() -> None:
    (problem,) = problems_of({"TELEMETRYD_A\nforged: \x1b[31m": "x"})
    assert problem.startswith("environment TELEMETRYD_A\\nforged: \\u001b[31m: unknown key a\\n")


def test_a_value_that_is_no_text_is_refused_without_being_used() -> None:
    assert problems_of({"TELEMETRYD_LOG__LEVEL": "\udcff"}) == [
        "environment TELEMETRYD_LOG__LEVEL: its value is not valid UTF-8"
    ]

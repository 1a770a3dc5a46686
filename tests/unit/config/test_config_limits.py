"""Every limit at both edges, every choice, every rule between keys, and how a refusal reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from telemetryd.config import Config, load
from telemetryd.errors import ConfigError

MIB = 1024 * 1024
BUFFERING = " (platform limit, Lambda Telemetry API buffering)"
INVOCATION = " (a Lambda function runs for at most 15 minutes)"

# Key, least, most, the source that an error names, and what must be set for an edge to stand alone.
LIMITS = [
    ("telemetry.buffering.max_items", 1000, 10_000, BUFFERING, {}),
    ("telemetry.buffering.max_bytes", 262_144, 1_048_576, BUFFERING, {}),
    ("telemetry.buffering.timeout_ms", 25, 30_000, BUFFERING, {}),
    ("telemetry.max_line_bytes", 1024, 64 * MIB, "", {"telemetry.tail_budget_bytes": 64 * MIB}),
    ("telemetry.tail_budget_bytes", 1024, 1024 * MIB, "", {"telemetry.max_line_bytes": 1024}),
    ("telemetry.max_connections", 1, 1024, "", {}),
    ("flush.interval_ms", 100, 900_000, INVOCATION, {}),
    ("flush.max_age_ms", 100, 900_000, INVOCATION, {}),
    ("flush.max_added_ms", 0, 900_000, INVOCATION, {}),
    ("flush.margin_ms", 0, 1500, " (Lambda ends the Shutdown phase after 2 seconds)", {}),
    ("flush.shutdown_ms", 100, 9500, " (`listen` ends within 10 seconds of SIGTERM)", {}),
    ("dead_letter.max_bytes", 65_536, 1024 * 1024 * MIB, "", {"dead_letter.max_record_bytes": 256}),
    ("dead_letter.max_record_bytes", 256, 64 * MIB, "", {}),
    ("sinks.a.queue_max_bytes", 65_536, 8192 * MIB, "", {"sinks.a.type": "null"}),
    ("sinks.a.linger_ms", 0, 60_000, "", {"sinks.a.type": "null"}),
]
CHOICES = [
    ("telemetry.protocol", ["tcp"]),
    ("telemetry.schema_version", ["2022-07-01", "2022-12-13", "2025-01-29"]),
    ("flush.strategy", ["auto", "invocation", "continuous", "interval"]),
    ("lambda.next", ["early", "ready"]),
    ("lambda.events", ["auto", "shutdown"]),
    ("log.level", ["debug", "info", "warning", "error"]),
]
LIMIT_IDS = [limit[0] for limit in LIMITS]


def variable(key: str) -> str:
    return "TELEMETRYD_" + key.replace(".", "__").upper()


def load_with(values: Mapping[str, object]) -> Config:
    environ = {variable(key): str(value) for key, value in values.items()}
    return load(environ, default_paths=()).config


def problems_with(values: Mapping[str, object]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_with(values)
    return list(caught.value.problems)


def problems_in(tmp_path: Path, toml: str) -> list[str]:
    file = tmp_path / "telemetryd.toml"
    file.write_text(toml)
    with pytest.raises(ConfigError) as caught:
        load({}, default_paths=(str(file),))
    return [problem.removeprefix(f"{file}: ") for problem in caught.value.problems]


def value_at(config: Config, key: str) -> object:
    def step(parent: object, name: str) -> object:
        return parent[name] if isinstance(parent, dict) else getattr(parent, name)

    found: object = config
    for name in key.replace("lambda", "lambda_").split("."):
        found = step(found, name)
    return found


@pytest.mark.parametrize(("key", "least", "most", "source", "others"), LIMITS, ids=LIMIT_IDS)
def test_both_edges_of_a_limit(
    key: str, least: int, most: int, source: str, others: dict[str, object]
) -> None:
    for edge in (least, most):
        assert value_at(load_with({**others, key: edge}), key) == edge
    for beyond in (least - 1, most + 1):
        assert problems_with({**others, key: beyond}) == [
            f'environment {variable(key)}: {key} = "{beyond}": must be {least} to {most}{source}'
        ]


@pytest.mark.parametrize("port", [0, 1025, 9000, 9002, 65_535])
def test_permitted_ports(port: int) -> None:
    assert load_with({"telemetry.port": port}).telemetry.port == port


@pytest.mark.parametrize("port", [-1, 1, 80, 1024, 9001, 65_536, 10**30])
def test_refused_ports(port: int) -> None:
    assert problems_with({"telemetry.port": port}) == [
        (
            f'environment TELEMETRYD_TELEMETRY__PORT: telemetry.port = "{port}": must be '
            "0 (any free port) or 1025 to 65535, but not 9001 (platform limit, Lambda Telemetry "
            "API destination)"
        )
    ]


@pytest.mark.parametrize(("key", "choices"), CHOICES, ids=[choice[0] for choice in CHOICES])
def test_choices(key: str, choices: list[str]) -> None:
    for choice in choices:
        assert value_at(load_with({key: choice}), key) == choice
    for wrong in ("", "nonsense", choices[0].upper() + "x"):
        (problem,) = problems_with({key: wrong})
        assert f'{key} = "{wrong}": must be ' in problem
        assert all(f'"{choice}"' in problem for choice in choices)


def test_keys_of_http_need_http() -> None:
    (problem,) = problems_with({"telemetry.token": "x"})
    assert 'needs telemetry.protocol = "http"' in problem
    (problem,) = problems_with({"telemetry.protocol": "http", "telemetry.token": "a b"})
    assert "printable ASCII" in problem
    body = {"telemetry.protocol": "http", "telemetry.max_body_bytes": str(32 * 1024 * 1024)}
    (problem,) = problems_with(body)
    assert "at most telemetry.tail_budget_bytes" in problem


@pytest.mark.parametrize(
    ("types", "reason"),
    [
        ("[]", "must be a list, at least 1 item, each one of"),
        ('["platform.report"]', 'each one of "platform", "function", "extension"'),
        ('["platform", "platform"]', "each type may be listed once"),
        ('"platform"', "; found text"),
        ("[1]", 'each one of "platform", "function", "extension"'),
    ],
)
def test_refused_types(tmp_path: Path, types: str, reason: str) -> None:
    (problem,) = problems_in(tmp_path, f"[telemetry]\ntypes = {types}\n")
    assert problem.startswith(f"telemetry.types = {types}: ")
    assert reason in problem


@pytest.mark.parametrize("host", ["", "a b", "tab\t", "x" * 256, "bell\x07"])
def test_refused_hosts(host: str) -> None:
    (problem,) = problems_with({"telemetry.host": host})
    assert problem.startswith('environment TELEMETRYD_TELEMETRY__HOST: telemetry.host = "')


@pytest.mark.parametrize("host", ["0.0.0.0", "::1", "localhost", "x" * 255])
def test_permitted_hosts(host: str) -> None:
    assert load_with({"telemetry.host": host}).telemetry.host == host


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            'port = "4243"',
            (
                'telemetry.port = "4243": must be 0 (any free port) or 1025 to 65535, but '
                "not 9001 (platform limit, Lambda Telemetry API destination); found text, leave "
                "out the quotes"
            ),
        ),
        (
            'max_connections = "many"',
            'telemetry.max_connections = "many": must be a whole number, 1 to 1024; found text',
        ),
        (
            "max_connections = 1.5",
            (
                "telemetry.max_connections = 1.5: must be a whole number, 1 to 1024; found a "
                "decimal number"
            ),
        ),
        (
            "max_connections = 5.0",
            (
                "telemetry.max_connections = 5.0: must be a whole number, 1 to 1024; found a "
                "decimal number"
            ),
        ),
        (
            "max_connections = true",
            (
                "telemetry.max_connections = true: must be a whole number, 1 to 1024; found "
                "true or false"
            ),
        ),
        (
            "max_connections = [1]",
            "telemetry.max_connections = [1]: must be a whole number, 1 to 1024",
        ),
        (
            "max_connections = {a = 1}",
            "telemetry.max_connections = {a = 1}: must be a whole number, 1 to 1024; found a table",
        ),
        (
            "host = 2026-01-01",
            "telemetry.host = 2026-01-01: must be text, 1 to 255 characters; found a date or time",
        ),
        ("host = 5", "telemetry.host = 5: must be text, 1 to 255 characters; found a whole number"),
        (
            "protocol = 5",
            'telemetry.protocol = 5: must be one of "tcp", "http", "auto"; found a whole number',
        ),
        (
            "buffering = 5",
            (
                "telemetry.buffering: is a section, not a whole number: write "
                "[telemetry.buffering] above its keys"
            ),
        ),
    ],
)
def test_values_in_a_file_keep_their_type(tmp_path: Path, line: str, problem: str) -> None:
    assert problems_in(tmp_path, f"[telemetry]\n{line}\n") == [problem]


@pytest.mark.parametrize("line", ["fail_closed = 1", 'fail_closed = "true"', "fail_closed = 'yes'"])
def test_true_and_false_in_a_file_are_no_numbers_and_no_text(tmp_path: Path, line: str) -> None:
    (problem,) = problems_in(tmp_path, f"{line}\n[lambda]\nnext = 'ready'\n")
    assert problem.startswith(f"{line.replace(chr(39), chr(34))}: must be true or false; found ")


@pytest.mark.parametrize("text", ["", " 5", "0x10", "1_0", "five", "+5", "1.5", "9" * 5000, "٣"])
def test_numbers_in_variables_that_are_none(text: str) -> None:
    (problem,) = problems_with({"telemetry.max_connections": text})
    assert ": must be " in problem
    assert len(problem) < 250


def test_a_line_longer_than_the_default_budget_says_what_else_to_set() -> None:
    assert problems_with({"telemetry.max_line_bytes": 32 * MIB}) == [
        (
            "environment TELEMETRYD_TELEMETRY__MAX_LINE_BYTES: telemetry.max_line_bytes = "
            f'"{32 * MIB}": exceeds telemetry.tail_budget_bytes, which is {16 * MIB} '
            f"unless set: set telemetry.tail_budget_bytes to at least {32 * MIB} as well"
        )
    ]
    both = {"telemetry.max_line_bytes": 32 * MIB, "telemetry.tail_budget_bytes": 32 * MIB}
    assert load_with(both).telemetry.tail_budget_bytes == 32 * MIB


def test_a_budget_below_the_longest_line_is_refused() -> None:
    assert problems_with({"telemetry.tail_budget_bytes": 2 * MIB}) == [
        (
            "environment TELEMETRYD_TELEMETRY__TAIL_BUDGET_BYTES: telemetry.tail_budget_bytes = "
            f'"{2 * MIB}": must be at least telemetry.max_line_bytes, which is {4 * MIB}'
        )
    ]


def test_fail_closed_needs_a_late_first_next() -> None:
    (problem,) = problems_with({"fail_closed": "true"})
    assert problem.startswith('environment TELEMETRYD_FAIL_CLOSED: fail_closed = "true": needs ')
    assert 'lambda.next = "ready"' in problem
    assert load_with({"fail_closed": "true", "lambda.next": "ready"}).fail_closed is True


def test_a_dead_letter_record_fits_its_file() -> None:
    values = {"dead_letter.max_bytes": 65_536, "dead_letter.max_record_bytes": 65_537}
    (problem,) = problems_with(values)
    assert problem.endswith("must be at most dead_letter.max_bytes, which is 65536")


def test_a_dead_letter_path_without_nul(tmp_path: Path) -> None:
    (problem,) = problems_in(tmp_path, '[dead_letter]\npath = "a\\u0000b"\n')
    assert problem == 'dead_letter.path = "a\\u0000b": must not contain a NUL character'


def test_the_loop_of_stdout_and_extension_events_is_refused(tmp_path: Path) -> None:
    sinks = "[sinks.quiet]\ntype = 'null'\n[sinks.echo]\ntype = 'stdout'\n"
    types = '[telemetry]\ntypes = ["function", "extension"]\n'
    (problem,) = problems_in(tmp_path, types + sinks)
    assert problem.startswith('telemetry.types = ["function", "extension"]: "extension" can\'t be ')
    assert "sinks.echo" in problem
    assert "sinks.quiet" not in problem


@pytest.mark.parametrize(
    ("types", "sink"), [("function,platform", "stdout"), ("extension", "null")]
)
def test_stdout_or_extension_events_alone_are_permitted(types: str, sink: str) -> None:
    config = load_with({"telemetry.types": types, "sinks.a.type": sink})
    assert config.sinks["a"].type == sink


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    file = tmp_path / "telemetryd.toml"
    file.write_text(
        """
        fail_closed = true
        colour = "red"
        [telemetry]
        port = 80
        [telemetry.buffering]
        timeout_ms = 5
        [flush]
        strategy = "nonsense"
        [sinks.a]
        type = "nonsense"
        [sinks.b]
        type = "file"
        linger_ms = -1
        """
    )
    environ = {"TELEMETRYD_LOG__LEVEL": "loud", "TELEMETRYD_LOG_LEVEL": "info"}
    with pytest.raises(ConfigError) as caught:
        load(environ, default_paths=(str(file),))

    starts = [
        f"{file}: telemetry.buffering.timeout_ms = 5: must be 25 to 30000 (platform limit, ",
        f"{file}: telemetry.port = 80: must be 0 (any free port) or",
        f'{file}: flush.strategy = "nonsense": must be one of',
        f'{file}: sinks.a.type = "nonsense": no sink has this type',
        f"{file}: sinks.b.linger_ms = -1: must be 0 to 60000",
        f"{file}: sinks.b.path: required and not set; must be text",
        'environment TELEMETRYD_LOG__LEVEL: log.level = "loud": must be one of',
        f'{file}: fail_closed = true: needs lambda.next = "ready"',
        f"{file}: colour: unknown key",
        "environment TELEMETRYD_LOG_LEVEL: unknown key log_level; did you mean",
    ]
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert len(caught.value.problems) == len(starts)
    for start in starts:
        assert any(problem.startswith(start) for problem in caught.value.problems), start


def test_a_refused_value_does_not_lead_to_further_problems() -> None:
    assert len(problems_with({"telemetry.max_line_bytes": "x", "telemetry.port": "x"})) == 2

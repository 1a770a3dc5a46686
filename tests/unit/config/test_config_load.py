"""Where values come from: defaults, file and environment, in which order, and who won."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from telemetryd.config import DEFAULT_PATHS, Config, effective_address, effective_overflow, load
from telemetryd.errors import ConfigError
from telemetryd.extension import early
from telemetryd.sinks.base import SinkConfig
from telemetryd.sinks.file.sink import FileConfig


def write(path: Path, text: str | bytes) -> str:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def problems_of(environ: dict[str, str], *, default_paths: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(environ, default_paths=default_paths)
    assert caught.value.exit_status == 78
    return list(caught.value.problems)


def test_without_anything_configured_the_defaults_hold() -> None:
    config = load({}, default_paths=()).config

    assert config == Config(sinks={"default": SinkConfig(type="null")})
    assert config.telemetry.types == ("platform", "function")
    assert config.telemetry.protocol == "tcp"
    assert effective_address(config, "listen") == ("127.0.0.1", 4243)
    assert effective_address(config, "lambda") == ("::", 28353)
    assert config.telemetry.schema_version == "2025-01-29"
    assert config.telemetry.max_line_bytes == 4 * 1024 * 1024
    assert config.telemetry.tail_budget_bytes == 16 * 1024 * 1024
    assert config.telemetry.max_connections == 256
    buffering = config.telemetry.buffering
    assert (buffering.max_items, buffering.max_bytes, buffering.timeout_ms) == (10000, 1048576, 25)
    flush = config.flush
    assert (flush.strategy, flush.interval_ms, flush.max_age_ms) == ("auto", 5000, 10000)
    assert (flush.max_added_ms, flush.margin_ms, flush.shutdown_ms) == (200, 150, 8000)
    assert (config.lambda_.next, config.lambda_.events) == ("auto", "auto")
    assert (config.dead_letter.path, config.dead_letter.max_bytes) == ("", 64 * 1024 * 1024)
    assert config.dead_letter.max_record_bytes == 256 * 1024
    assert (config.log.level, config.fail_closed) == ("info", False)


def test_no_sink_means_a_null_sink_and_a_warning() -> None:
    loaded = load({}, default_paths=())

    (warning,) = loaded.warnings
    assert warning.startswith("sinks: none is configured")
    assert loaded.origins["sinks.default.type"] == "default"


def test_on_a_terminal_no_sink_means_to_print() -> None:
    loaded = load({}, default_paths=(), terminal=True)
    assert loaded.config.sinks == {"default": SinkConfig(type="stdout")}
    (warning,) = loaded.warnings
    assert "every line is printed on this terminal" in warning


def test_a_declared_null_sink_needs_no_warning() -> None:
    assert load({"TELEMETRYD_SINKS__A__TYPE": "null"}, default_paths=()).warnings == ()


def test_the_documented_default_paths() -> None:
    assert DEFAULT_PATHS == ("/var/task/telemetryd.toml", "/opt/telemetryd.toml")


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = write(
        tmp_path / "t.toml",
        """
        [telemetry]
        port = 5000
        max_connections = 7
        [telemetry.buffering]
        timeout_ms = 100
        [sinks.archive]
        type = "file"
        path = "/data/from-the-file"
        """,
    )
    loaded = load(
        {
            "TELEMETRYD_CONFIG": file,
            "TELEMETRYD_TELEMETRY__PORT": "6000",
            "TELEMETRYD_TELEMETRY__BUFFERING__TIMEOUT_MS": "25",
            "TELEMETRYD_SINKS__ARCHIVE__OVERFLOW": "drop_newest",
            "UNRELATED": "x",
        },
        default_paths=(),
    )

    assert loaded.file == file
    assert loaded.config.telemetry.port == 6000
    assert loaded.config.telemetry.max_connections == 7
    assert loaded.config.telemetry.buffering.timeout_ms == 25
    assert loaded.config.sinks == {
        "archive": FileConfig(type="file", path="/data/from-the-file", overflow="drop_newest")
    }
    origins = loaded.origins
    assert origins["telemetry.port"] == "environment TELEMETRYD_TELEMETRY__PORT"
    assert origins["telemetry.max_connections"] == file
    assert origins["telemetry.host"] == "default"
    assert origins["sinks.archive.type"] == file
    assert origins["sinks.archive.overflow"] == "environment TELEMETRYD_SINKS__ARCHIVE__OVERFLOW"


def test_every_key_has_an_origin() -> None:
    origins = load({"TELEMETRYD_SINKS__A__TYPE": "null"}, default_paths=()).origins

    assert {"fail_closed", "lambda.next", "log.level", "telemetry.buffering.max_bytes"} <= {
        *origins
    }
    assert {f"sinks.a.{name}" for name in SinkConfig.__struct_fields__} <= {*origins}
    assert all(origin == "default" for key, origin in origins.items() if key != "sinks.a.type")


def test_the_first_default_path_that_exists_is_read(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing" / "telemetryd.toml")
    behind_a_file = write(tmp_path / "plain", "") + "/telemetryd.toml"
    first = write(tmp_path / "a.toml", "[telemetry]\nport = 5001\n")
    second = write(tmp_path / "b.toml", "[telemetry]\nport = 5002\n")

    assert load({}, default_paths=(missing, second)).config.telemetry.port == 5002
    assert load({}, default_paths=(behind_a_file, second)).config.telemetry.port == 5002
    assert load({}, default_paths=(first, second)).config.telemetry.port == 5001


def test_a_named_file_replaces_the_default_paths(tmp_path: Path) -> None:
    default = write(tmp_path / "a.toml", "[telemetry]\nport = 5001\n")
    named = write(tmp_path / "b.toml", "[log]\nlevel = 'debug'\n")

    config = load({"TELEMETRYD_CONFIG": named}, default_paths=(default,)).config

    assert (config.telemetry.port, config.log.level) == (None, "debug")


def test_an_empty_name_counts_as_not_set(tmp_path: Path) -> None:
    default = write(tmp_path / "a.toml", "[telemetry]\nport = 5001\n")

    loaded = load({"TELEMETRYD_CONFIG": ""}, default_paths=(default,))

    assert loaded.config.telemetry.port == 5001


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    file = str(tmp_path / "missing.toml")
    assert problems_of({"TELEMETRYD_CONFIG": file}) == [
        f"environment TELEMETRYD_CONFIG = {file}: No such file or directory"
    ]


def test_a_file_that_cannot_be_read_is_an_error_at_a_default_path_too(tmp_path: Path) -> None:
    reason = f"{tmp_path}: can't be read: a directory, not a regular file"
    assert problems_of({}, default_paths=(str(tmp_path),)) == [reason]
    assert problems_of({"TELEMETRYD_CONFIG": str(tmp_path)}) == [
        f"environment TELEMETRYD_CONFIG = {reason}"
    ]
    assert "can't be read" in problems_of({"TELEMETRYD_CONFIG": "nul\0byte"})[0]


def test_a_file_without_an_end_is_not_read_for_ever() -> None:
    (problem,) = problems_of({"TELEMETRYD_CONFIG": "/dev/zero"})
    reason = "can't be read: a device, not a regular file"
    assert problem == f"environment TELEMETRYD_CONFIG = /dev/zero: {reason}"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for name, kind in (("pipe", "a pipe"), ("socket", "a socket")):
            (problem,) = problems_of({"TELEMETRYD_CONFIG": str(tmp_path / name)})
            assert problem.endswith(f"{name}: can't be read: {kind}, not a regular file")


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    """As Kubernetes mounts them."""
    write(tmp_path / "t.toml", "[telemetry]\nport = 5001\n")
    (tmp_path / "link").symlink_to("t.toml")
    loaded = load({"TELEMETRYD_CONFIG": str(tmp_path / "link")}, default_paths=())
    assert loaded.config.telemetry.port == 5001


@pytest.mark.timeout(60)  # each took hours, or all the memory there was
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("x = " + "9" * 250_000, "a number has too many digits", id="digits"),
        pytest.param("x = 0x" + "f" * 250_000, "a whole number of more than 64", id="hex digits"),
        pytest.param("x = [[18446744073709551616]]", "a whole number of more than 64", id="65 bit"),
        pytest.param(".".join("a" * 120_000) + " = 1", "more than 256 dots", id="dots"),
        pytest.param("[" + ".".join("a" * 50) + "]", "deeper than 32 levels", id="sections"),
        pytest.param("x = " + "{a = " * 40 + "1" + "}" * 40, "deeper than 32", id="tables"),
        pytest.param("x = " + "[" * 40 + "]" * 40, "deeper than 32", id="lists"),
        pytest.param("x = " + "{a = " * 40_000, "nested too deeply", id="open tables"),
        pytest.param("x = 1\0", "Expected newline", id="NUL"),
        pytest.param("x = 1\n".encode("utf-16"), "not UTF-8: byte 0xff", id="UTF-16"),
        pytest.param("x = 2026-99-99T99:99:99Z", "invalid TOML", id="date"),
        pytest.param("#" * 300_000, "larger than 262144 bytes", id="size"),
    ],
)
def test_a_file_made_to_burst_a_parser_is_one_clear_line(
    tmp_path: Path, text: str | bytes, reason: str
) -> None:
    file = write(tmp_path / "t.toml", text)
    (problem,) = problems_of({"TELEMETRYD_CONFIG": file})
    assert problem.startswith(f"{file}: ")
    assert reason in problem
    assert len(problem) < 500
    (early_problem,) = early.read({"TELEMETRYD_CONFIG": file}, ()).problems
    assert reason in early_problem


@pytest.mark.parametrize(
    "text",
    ["9" * 100_000, "-" + "9" * 100_000, "1e999999", "0x" + "f" * 30_000, "[" * 30_000,
     "[" + "9" * 100_000 + "]", '{"a": ' * 5000, "{a = " * 5000, "[1e999]", "\0", "٣"],
    ids=lambda text: ascii(text[:5]),
)  # fmt: skip
@pytest.mark.parametrize(
    "key", ["TELEMETRY__PORT", "TELEMETRY__TYPES", "SINKS__A__TYPES", "SINKS__A__PROPERTIES"]
)
def test_a_variable_made_to_burst_a_parser_is_one_clear_line(key: str, text: str) -> None:
    environ = {"TELEMETRYD_SINKS__A__TYPE": "emf", f"TELEMETRYD_{key}": text}
    try:
        load(environ, default_paths=())
    except ConfigError as error:
        (problem,) = error.problems
        assert len(problem) < 500
    early.read(environ, ())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a = 1\nb = [1, \n  2 3]\n", "Unclosed array (at line 3, column 5)"),
        ("[telemetry\n", "(at line 1, column 11)"),
        ("a = 1\na = 2\n", "Cannot overwrite a value (at line 2, column 6)"),
        (b"# ok\nx = '\xff'\n", "not UTF-8: byte 0xff (at line 2, column 6)"),
        ("x = " + "[" * 100_000, "nested"),
    ],
)
def test_invalid_toml_is_located(tmp_path: Path, text: str | bytes, reason: str) -> None:
    file = write(tmp_path / "t.toml", text)
    (problem,) = problems_of({"TELEMETRYD_CONFIG": file})
    assert problem.startswith(f"{file}: invalid TOML: ")
    assert reason in problem


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    file = write(tmp_path / "t.toml", b"\xef\xbb\xbf[telemetry]\r\nport = 5001\r\n")
    assert load({}, default_paths=(file,)).config.telemetry.port == 5001


def test_a_broken_file_does_not_make_its_sinks_incomplete(tmp_path: Path) -> None:
    file = write(tmp_path / "t.toml", "[sinks.a]\ntype = \n")
    environ = {"TELEMETRYD_CONFIG": file, "TELEMETRYD_SINKS__A__OVERFLOW": "block"}
    (problem,) = problems_of(environ)
    assert "invalid TOML" in problem


@pytest.mark.parametrize(
    "text",
    ["platform,extension", " platform , extension", '["platform", "extension"]',
     "['platform', 'extension',]"],
)  # fmt: skip
def test_lists_in_variables(text: str) -> None:
    config = load({"TELEMETRYD_TELEMETRY__TYPES": text}, default_paths=()).config
    assert config.telemetry.types == ("platform", "extension")


@pytest.mark.parametrize("text", ["", "platform,", "[", "[1", '["platform"]\nx = 1', "{}", "[[]]"])
def test_lists_in_variables_that_are_none(text: str) -> None:
    (problem,) = problems_of({"TELEMETRYD_TELEMETRY__TYPES": text})
    assert problem.startswith("environment TELEMETRYD_TELEMETRY__TYPES: telemetry.types = ")


def test_a_deeply_nested_array_in_a_variable_is_a_problem_and_no_crash() -> None:
    (problem,) = problems_of({"TELEMETRYD_TELEMETRY__TYPES": "[" * 100_000})
    assert "telemetry.types" in problem
    assert len(problem) < 400


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("TRUE", True), ("1", True), ("false", False), ("False", False), ("0", False)],
)
def test_booleans_in_variables(text: str, value: bool) -> None:
    environ = {"TELEMETRYD_FAIL_CLOSED": text, "TELEMETRYD_LAMBDA__NEXT": "ready"}
    assert load(environ, default_paths=()).config.fail_closed is value


def test_names_of_variables_are_read_without_regard_to_case() -> None:
    config = load({"telemetryd_Telemetry__Port": "5000"}, default_paths=()).config
    assert config.telemetry.port == 5000


def test_one_key_set_by_two_variables_is_a_problem() -> None:
    environ = {"TELEMETRYD_LOG__LEVEL": "info", "telemetryd_log__level": "debug"}
    assert problems_of(environ) == [
        (
            "environment telemetryd_log__level: sets the same key as TELEMETRYD_LOG__LEVEL; "
            "keep one of them"
        )
    ]


def test_sinks_come_in_the_order_of_the_file_then_of_the_environment(tmp_path: Path) -> None:
    file = write(tmp_path / "t.toml", "[sinks.b]\ntype='null'\n[sinks.a]\ntype='null'\n")
    environ = {"TELEMETRYD_SINKS__A0__TYPE": "null", "TELEMETRYD_SINKS__A__LINGER_MS": "5"}
    loaded = load(environ, default_paths=(file,))
    assert list(loaded.config.sinks) == ["b", "a", "a0"]
    assert loaded.config.sinks["a"].linger_ms == 5


def test_blocking_sinks_are_named_where_there_are_several() -> None:
    environ = {
        "TELEMETRYD_SINKS__A__TYPE": "null",
        "TELEMETRYD_SINKS__B__TYPE": "null",
        "TELEMETRYD_SINKS__B__OVERFLOW": "drop_oldest",
        "TELEMETRYD_SINKS__C__TYPE": "null",
        "TELEMETRYD_SINKS__C__OVERFLOW": "block",
    }
    (in_listen,) = load(environ, default_paths=(), mode="listen").warnings
    (in_lambda,) = load(environ, default_paths=(), mode="lambda").warnings

    assert in_listen.startswith('sinks.a.overflow, sinks.c.overflow: "block" stops reading')
    assert in_lambda.startswith('sinks.c.overflow: "block" stops reading')


def test_one_blocking_sink_holds_up_nobody() -> None:
    environ = {"TELEMETRYD_SINKS__A__TYPE": "null", "TELEMETRYD_SINKS__A__OVERFLOW": "block"}
    assert load(environ, default_paths=()).warnings == ()


def test_what_an_unset_overflow_means() -> None:
    unset = SinkConfig(type="null")
    assert effective_overflow(unset, "listen") == "block"
    assert effective_overflow(unset, "lambda") == "drop_oldest"
    assert effective_overflow(SinkConfig(type="null", overflow="block"), "lambda") == "block"


def test_in_lambda_no_configuration_means_metrics_on_standard_output() -> None:
    loaded = load({}, default_paths=(), mode="lambda")
    (sink,) = loaded.config.sinks.values()
    assert (sink.type, getattr(sink, "delivery", "")) == ("emf", "stdout")
    assert loaded.warnings == ()


def test_what_is_usable_of_a_faulty_configuration_has_no_failover_to_nowhere_or_in_a_circle() -> (
    None
):
    sinks = {"A": "B", "B": "C", "C": "B", "D": "NONE", "E": "A"}
    environ = {f"TELEMETRYD_SINKS__{name}__TYPE": "null" for name in sinks}
    environ |= {f"TELEMETRYD_SINKS__{name}__FAILOVER": to.lower() for name, to in sinks.items()}
    with pytest.raises(ConfigError) as refused:
        load(environ, default_paths=())
    assert isinstance(refused.value.usable, Config)
    usable = refused.value.usable.sinks
    assert set(usable) == {"a", "b", "c", "d", "e"}
    for name in usable:
        seen = [name]
        while usable[seen[-1]].failover:
            seen.append(usable[seen[-1]].failover)
            assert seen[-1] in usable
            assert len(seen) <= len(usable)


def test_to_park_beside_a_file_is_without_effect(tmp_path: Path) -> None:
    """The launcher can't read it."""
    environ = {"TELEMETRYD_LAMBDA__START": "park"}
    assert load(environ, default_paths=(), mode="lambda").warnings == ()
    file = write(tmp_path / "t.toml", "")
    (warning,) = load(environ, default_paths=(str(file),), mode="lambda").warnings
    assert warning.startswith("lambda.start: ")
    assert str(file) in warning
    for other in ({"TELEMETRYD_LAMBDA__START": "init"}, {}):  # `auto` is `init` there, by design
        assert load(other, default_paths=(str(file),), mode="lambda").warnings == ()

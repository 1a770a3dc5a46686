"""The path template: placeholders, and values that would leave the directory or hide the file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.sinks.file.path import expand, safe, template_problems
from telemetryd.testing import INSTANCE, context

NOON = 1773489600.0  # 2026-03-14T12:00:00Z


def test_all_placeholders() -> None:
    path = expand("/t/{function}/{version}-{instance}.{date}.{function}", context(), NOON)
    assert path == f"/t/orders/_LATEST-{INSTANCE}.2026-03-14.orders"


def test_a_path_without_placeholders_is_itself() -> None:
    assert expand("relative/{x", context(), NOON) == "relative/{x"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("$LATEST", "_LATEST"),
        ("../x", "_x"),
        ("..", "_"),
        (".", "_"),
        ("", "_"),
        (".hidden", "hidden"),
        ("/etc/passwd", "_etc_passwd"),
        ("a b\0c\nd", "a_b_c_d"),
        ("naïve", "na_ve"),
        ("my-func_1.0", "my-func_1.0"),
        ("x" * 300, "x" * 128),
        ("." * 300, "_"),
        ("{date}", "_date_"),
    ],
)
def test_unsafe_values(value: str, expected: str) -> None:
    assert safe(value) == expected
    assert expand("/t/{function}.log", context(function=value), NOON) == f"/t/{expected}.log"


@given(st.text())
def test_any_value_is_one_visible_component(value: str) -> None:
    made = safe(value)
    assert made
    assert "/" not in made
    assert "\0" not in made
    assert not made.startswith(".")
    assert len(made.encode()) <= 128


def test_the_date_is_utc_and_changes_at_midnight() -> None:
    midnight = 1773532800.0
    assert expand("{date}", context(), midnight - 0.001) == "2026-03-14"
    assert expand("{date}", context(), midnight) == "2026-03-15"


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("", "must name a file"),
        ("/tmp/", "not a directory"),  # noqa: S108 - a text
        ("/t/\0", "NUL"),
        ("/t/{functoin}", "unknown placeholder {functoin}; known: {function}, {version}"),
        ("/t/{}", "unknown placeholder {}"),
    ],
)
def test_problems(template: str, problem: str) -> None:
    (found,) = template_problems(template)
    assert problem in found


def test_no_problems() -> None:
    assert list(template_problems("/t/{function}/{version}/{instance}/{date}")) == []

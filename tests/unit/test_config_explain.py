"""Values as people see them: TOML notation, one line, cut, secrets blacked out."""

from __future__ import annotations

import datetime as dt
import tomllib
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from telemetryd.config.explain import allowed, is_secret, printable, show, toml_value

SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    st.dates(min_value=dt.date(1000, 1, 1)),
)
KEYS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=5)


@given(
    st.recursive(
        SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=10
    )
)
def test_values_are_shown_in_toml(value: object) -> None:
    assert tomllib.loads(f"x = {toml_value(value)}") == {"x": value}


@given(st.text())
def test_any_text_is_shown_on_one_line_in_printable_characters(text: str) -> None:
    assert all(char.isprintable() for char in show("key", text))
    assert all(char.isprintable() for char in printable(text))
    assert len(show("key", text)) <= 80


@pytest.mark.parametrize(
    "key",
    ["password", "db.passwd", "client_secret", "api_key", "API-Key", "apikey", "token",
     "sinks.a.headers.Authorization", "aws_secret_access_key", "credentials", "private_key",
     "cookie", "signature"],
)  # fmt: skip
def test_keys_that_hold_a_secret(key: str) -> None:
    assert is_secret(key)
    assert show(key, "hunter2") == '"***"'
    assert "hunter2" not in show(key, ["hunter2", {"x": "hunter2"}])
    assert show(key, 12345) == '"***"'
    assert show(key, "") == '""'


@pytest.mark.parametrize("key", ["path", "partition_key", "host", "types", "keep", "passes"])
def test_keys_that_hold_none(key: str) -> None:
    assert not is_secret(key)
    assert show(key, "value") == '"value"'


def test_a_password_in_an_address_is_hidden_and_the_address_kept() -> None:
    assert show("url", "https://me:hunter2@host:8/p?x=1") == '"https://***@host:8/p?x=1"'
    assert show("url", "https://host/a@b") == '"https://host/a@b"'


def test_long_values_are_cut() -> None:
    assert show("key", "x" * 1000) == '"' + "x" * 76 + "..."


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int, "a whole number"),
        (float, "a number"),
        (bool, "true or false"),
        (str, "text"),
        (dict[str, str], "a table"),
        (list[int], "a list, each a whole number"),
        (tuple[str, ...], "a list, each text"),
        (Literal["a"], '"a"'),
        (Literal["a", "b"] | None, 'one of "a", "b"'),
        (int | str, "a whole number or text"),
        (Annotated[int, Meta(ge=1, le=2)], "a whole number, 1 to 2"),
        (Annotated[int, Meta(gt=1)], "a whole number, more than 1"),
        (Annotated[int, Meta(ge=1)], "a whole number, at least 1"),
        (Annotated[float, Meta(lt=1)], "a number, less than 1"),
        (Annotated[float, Meta(le=1)], "a number, at most 1"),
        (Annotated[str, Meta(max_length=9)], "text, at most 9 characters"),
        (Annotated[str, Meta(min_length=1)], "text, at least 1 character"),
        (Annotated[str, Meta(pattern="^a$")], "text, matching ^a$"),
        (Annotated[list[str], Meta(min_length=2, max_length=3)], "a list, 2 to 3 items, each text"),
        (dt.date, "date"),
    ],
)
def test_types_in_words(kind: object, words: str) -> None:
    assert allowed(kind) == words

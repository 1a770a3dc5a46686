"""Values as people see them: TOML notation, one line, cut, secrets blacked out."""

from __future__ import annotations

import datetime as dt
import tomllib
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from telemetryd.config.explain import printable, show, spell_out, toml_value
from telemetryd.masking import is_secret, without_header_values, without_secrets

TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    TEXTS.filter(lambda text: without_header_values(without_secrets(text)) == text),
    st.dates(min_value=dt.date(1000, 1, 1)),
)
KEYS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=5).filter(
    lambda text: not is_secret(text)
)


@given(
    st.recursive(
        SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=10
    )
)
def test_values_are_shown_in_toml(value: object) -> None:
    assert tomllib.loads(f"x = {toml_value(value)}") == {"x": value}


@given(st.text())
def test_any_text_is_shown_on_one_line_in_printable_characters(text: str) -> None:
    assert all(char.isprintable() for char in show("path", text))
    assert all(char.isprintable() for char in printable(text))
    assert len(show("path", text)) <= 80


@pytest.mark.parametrize(
    "key",
    ["password", "db.passwd", "client_secret", "api_key", "API-Key", "apikey", "token",
     "sinks.a.headers.Authorization", "aws_secret_access_key", "credentials", "private_key",
     "cookie", "signature", "key", "sinks.a.headers.x-key", "signing_key", "auth", "Token"],
)  # fmt: skip
def test_keys_that_hold_a_secret(key: str) -> None:
    assert is_secret(key)
    assert show(key, "hunter2") == '"***"'
    assert "hunter2" not in show(key, ["hunter2", {"x": "hunter2"}])
    assert show(key, 12345) == '"***"'
    assert show(key, "") == '""'


@pytest.mark.parametrize(
    "key",
    [
        "path",
        "partition_key",
        "host",
        "types",
        "keep",
        "passes",
        "explicit_hash_key",
        "keyword",
        "author",
    ],
)
def test_keys_that_hold_none(key: str) -> None:
    assert not is_secret(key)
    assert show(key, "value") == '"value"'


def test_a_password_in_an_address_is_hidden_and_the_address_kept() -> None:
    assert show("url", "https://me:hunter2@host:8/p?x=1") == '"https://***@host:8/p?x=***"'
    assert show("url", "https://host/a@b") == '"https://host/a@b"'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://host:8/p", "https://host:8/p"),
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/orders-telemetry-queue",) * 2,
        ("http://[::1]:8/p#part", "http://[::1]:8/p#***"),
        ("postgres://me:hunt/er2@db/x", "postgres://***@db/x"),
        ("postgres://me:hunt@er2@db/x", "postgres://***@db/x"),
        ("https://hunter2@host", "https://***@host"),
        ("https://h/p?token=hunter2&b=hunter2#c=hunter2", "https://h/p?token=***&b=***#c=***"),
        ("https://h/p?hunter2", "https://h/p?***"),
        ("https://hooks.example.com/services/T00000000/B00000000/aB3dE6gH9jK2mN5pQ8sT1vW4",
         "https://hooks.example.com/services/T00000000/B00000000/***"),
        ("https://h/XxXxXxXxXxXxXxXxXxXxXxXx/p", "https://h/***/p"),
        ("https://h/3f2c8a4e-9b1d-4c7e-8a6f-0d2b4c6e8f1a/in", "https://h/***/in"),
        ("to https://u:hunter2@h/ and https://u:hunter2@i/",
         "to https://***@h/ and https://***@i/"),
        ("Authorization: Bearer hunter2", "Authorization: ***"),
        ("X-Api-Key: hunter2", "X-Api-Key: ***"),
        ("x-amz-security-token : hunter2", "x-amz-security-token : ***"),
        ("Accept: text/plain", "Accept: text/plain"),
        ("Endpoint=sb://h/;SharedAccessKey=hunter2;x=1",
         "Endpoint=sb://h/;SharedAccessKey=***;x=1"),
        ("password='hunter2'", "password='***'"),
        ("no Bearer hunter22 here", "no Bearer *** here"),
    ],
)  # fmt: skip
def test_what_is_secret_within_a_text_is_hidden_and_the_rest_kept(text: str, shown: str) -> None:
    assert toml_value(text) == f'"{shown}"'
    assert without_secrets(shown) == shown


def test_long_values_are_cut() -> None:
    assert show("path", "x" * 1000) == '"' + "x" * 76 + "..."


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
    assert spell_out(kind) == words

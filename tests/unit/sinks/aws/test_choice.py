"""Which client a sink has: in Lambda ours, where the environment needs the other, that."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from telemetryd.sinks.aws.choice import choose
from telemetryd.sinks.base import ClientName

ROLE = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}


@pytest.mark.parametrize("environ", [ROLE, {}, {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://x"}])
def test_in_lambda_it_is_the_lean_one(environ: dict[str, str]) -> None:
    choice = choose("auto", environ, in_lambda=True)
    assert choice.name == "lean"
    assert not choice.is_forced


def test_elsewhere_it_is_aiobotocore() -> None:
    choice = choose("auto", ROLE, in_lambda=False)
    assert choice.name == "aiobotocore"
    assert not choice.is_forced


@pytest.mark.parametrize("in_lambda", [True, False])
@pytest.mark.parametrize("wanted", ["lean", "aiobotocore"])
def test_what_is_configured_is_taken(wanted: ClientName, in_lambda: bool) -> None:
    choice = choose(wanted, {"AWS_PROFILE": "mine"}, in_lambda=in_lambda)
    assert choice.name == wanted
    assert not choice.is_forced


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        (ROLE | {"AWS_PROFILE": "mine"}, "AWS_PROFILE"),
        (ROLE | {"AWS_DEFAULT_PROFILE": "mine"}, "AWS_DEFAULT_PROFILE"),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}, "AWS_WEB_IDENTITY_TOKEN_FILE"),
    ],
)
def test_what_only_aiobotocore_reads_needs_it(environ: dict[str, str], named: str) -> None:
    choice = choose("auto", environ, in_lambda=True)
    assert choice.name == "aiobotocore"
    assert choice.is_forced
    assert named in choice.reason


def test_a_role_to_assume_is_not_needed_beside_credentials() -> None:
    environ = ROLE | {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token", "AWS_ROLE_ARN": "arn"}
    assert choose("auto", environ, in_lambda=True).is_lean


@pytest.mark.parametrize(
    ("variable", "home", "environ", "is_lean"),
    [
        ("AWS_CONFIG_FILE", ".aws/config", ROLE, False),
        ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials", {}, False),
        ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials", ROLE, True),
    ],
)
def test_files_of_awss_tools_need_it_where_they_count(
    tmp_path: Path, variable: str, home: str, environ: dict[str, str], is_lean: bool
) -> None:
    file = tmp_path / home
    file.parent.mkdir()
    for known in ({variable: str(file)}, {"HOME": str(tmp_path)}, {variable: f"~/{home}"}):
        found = environ | {"HOME": str(tmp_path)} | known
        assert choose("auto", found, in_lambda=True).is_lean  # there is no such file
    file.touch()
    for known in ({variable: str(file)}, {"HOME": str(tmp_path)}, {variable: f"~/{home}"}):
        choice = choose("auto", environ | {"HOME": str(tmp_path)} | known, in_lambda=True)
        assert choice.is_lean is is_lean
        assert choice.is_forced is not is_lean
        assert is_lean or str(file) in choice.reason


def test_where_aiobotocore_is_missing_it_is_the_lean_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    choice = choose("auto", ROLE, in_lambda=False)
    assert choice.is_lean
    assert choice.is_forced

"""Configuration of an HTTP sink: what is refused before anything starts, and what is shown."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

import msgspec
import pytest

from telemetryd.commands.check import check
from telemetryd.commands.iam import Place as Account
from telemetryd.commands.iam import iam
from telemetryd.config.explain import show
from telemetryd.sinks._posting import Place, place_of
from telemetryd.sinks.http.config import HttpConfig

URL = "https://collector.example.com/v1/lines"


def problems(**keys: Any) -> list[str]:
    return list(msgspec.convert({"type": "http", "url": URL, **keys}, HttpConfig).problems())


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (URL, Place("https", "collector.example.com", 443, "/v1/lines")),
        ("http://127.0.0.1", Place("http", "127.0.0.1", 80, "/")),
        ("HTTP://h:65535/", Place("http", "h", 65535, "/")),
        ("https://[::1]:8443/a%20b?c=d&e", Place("https", "::1", 8443, "/a%20b?c=d&e")),
        ("https://h?q", Place("https", "h", 443, "/?q")),
    ],
)
def test_where_requests_go(url: str, place: Place) -> None:
    assert place_of(url) == place
    assert problems(url=url) == []


@pytest.mark.parametrize(
    "url",
    [
        "collector.example.com/lines", "ftp://h/", "http://", "http:///path", "http://h:port/",
        "http://h:0/", "http://h:65536/", "http://[::1/", "http://h/a path", "http://h/#fragment",
        "http://user:password@h/", "http://user@h/", "http://h/caf\xe9", "http://h/\r\nX: y",
        "http://h\n",
    ],
)  # fmt: skip
def test_urls_that_can_not_work(url: str) -> None:
    (problem,) = problems(url=url)
    assert problem.startswith("url: must look like https://host/path")


@pytest.mark.parametrize(
    "keys",
    [
        {"token": "s3cret"},
        {"headers": {"X-Api-Key": "k", "content-type": "text/plain", "X-Empty": ""}},
        {"headers": {"Authorization": "ApiKey abc"}},
        {"body": "json", "compression": "gzip"},
        {"compression": "zstd"},
    ],
)
def test_these_are_fine(keys: dict[str, Any]) -> None:
    assert problems(**keys) == []


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"token": "two\nlines"}, "token: must be visible ASCII"),
        ({"token": "caf\xe9"}, "token: must be visible ASCII"),
        ({"headers": {"X-A": "hidden\r\nX-B: 1"}}, "headers: header X-A contains a character"),
        ({"headers": {"X A": "hidden"}}, "headers: the name of a header contains"),
        ({"headers": {"": "hidden"}}, "headers: the name of a header is empty"),
        ({"headers": {"Host": "hidden"}}, "headers: header Host is the client's to set"),
        ({"headers": {"Content-Encoding": "hidden"}}, "set by `compression`: leave it out"),
        ({"headers": {"idempotency-key": "hidden"}}, "set by the sink: leave it out"),
        ({"headers": {"X-A": "1", "x-a": "hidden"}}, "header x-a would be sent twice"),
        ({"token": "t", "headers": {"authorization": "hidden"}}, "would be sent twice"),
    ],
)
def test_what_is_refused_is_named_without_its_value(keys: dict[str, Any], says: str) -> None:
    (problem,) = problems(**keys)
    assert says in problem
    assert "hidden" not in problem


def test_zstd_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    assert problems(compression="zstd") == [
        "compression: zstd is not installed; pip install zstandard"
    ]
    assert problems(compression="gzip") == []


def checked(tmp_path: Path, text: str) -> tuple[int, str]:
    """Status and all output of `telemetryd check`."""
    file = tmp_path / "telemetryd.toml"
    file.write_text(text)
    out, err = io.StringIO(), io.StringIO()
    status = check({"TELEMETRYD_CONFIG": str(file)}, out, err, default_paths=())
    return status, out.getvalue() + err.getvalue()


SECRET = "s3cr3t-0815"  # noqa: S105 - opens nothing


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (f'headers = {{X-Tenant = "{SECRET}", Accept = "{SECRET}"}}', 0),
        (f'headers = {{"X-Tenant" = "{SECRET}\\n"}}', 78),
        (f'headers = "X-Tenant: {SECRET}"', 78),
        (f'headers = ["{SECRET}"]', 78),
        (f'token = "{SECRET}"', 0),
        (f'token = "{SECRET}\\n"', 78),
    ],
)
def test_secrets_are_masked_in_what_check_shows(tmp_path: Path, line: str, status: int) -> None:
    found, said = checked(tmp_path, f'[sinks.a]\ntype = "http"\nurl = "{URL}?key={SECRET}"\n{line}')
    assert found == status
    assert "sinks.a" in said
    assert SECRET not in said


def test_names_of_headers_are_shown() -> None:
    assert show("sinks.a.headers", {"X-Tenant": "a", "B": ""}) == '{X-Tenant = "***", B = ""}'


def test_no_permission_is_needed() -> None:
    environ = {"TELEMETRYD_SINKS__A__TYPE": "http", "TELEMETRYD_SINKS__A__URL": URL}
    out, err = io.StringIO(), io.StringIO()
    place = Account("eu-west-1", "123456789012", "orders")
    assert iam(environ, out, err, place=place, default_paths=()) == 0
    assert out.getvalue() == ""
    assert err.getvalue().startswith("# no permission is needed:\n")

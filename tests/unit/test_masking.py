"""Secrets are in no text that people read, whatever they are and wherever they stand."""

from __future__ import annotations

import io
import json
import os
import string
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from telemetryd.commands.check import check
from telemetryd.config import load
from telemetryd.errors import ConfigError
from telemetryd.log import Log
from telemetryd.masking import hide, secrets_in, secrets_of, without_secrets

VISIBLE = "".join(sorted(set(string.printable) - set(string.whitespace)))
TOKENS = st.text(VISIBLE, min_size=8, max_size=60).map(lambda text: f"Zq{text}")
"""What HTTP allows in a header. No text of ours begins like that."""
ANY = st.text(min_size=4, max_size=60)


def settings(token: str) -> dict[str, str]:
    return {
        "TELEMETRYD_TELEMETRY__PROTOCOL": "http",
        "TELEMETRYD_TELEMETRY__TOKEN": token,
        "TELEMETRYD_SINKS__A__TYPE": "http",
        "TELEMETRYD_SINKS__A__URL": "https://collector.example.com/v1",
        "TELEMETRYD_SINKS__A__TOKEN": token,
        "TELEMETRYD_SINKS__A__HEADERS": json.dumps({"X-Tenant": token}),
        "TELEMETRYD_SINKS__B__TYPE": "otlp",
        "TELEMETRYD_SINKS__B__ENDPOINT": "https://collector.example.com",
        "TELEMETRYD_SINKS__B__HEADERS": json.dumps({"X-Tenant": token}),
    }


def problems_of(environ: Mapping[str, str]) -> str:
    try:
        load(environ, default_paths=())
    except ConfigError as error:
        return str(error)
    return ""


@effort(max_examples=20)
@given(TOKENS)
def test_check_shows_no_secret(token: str) -> None:
    """Neither where the configuration is valid, nor where it is not."""
    for more in ({}, {"TELEMETRYD_SINKS__A__LINGER_MS": "-1"}, {"TELEMETRYD_SINKS__A__WRONG": "1"}):
        out, err = io.StringIO(), io.StringIO()
        check(settings(token) | more, out, err, default_paths=())
        assert token not in out.getvalue() + err.getvalue()
        assert "***" in out.getvalue() or more


@effort(max_examples=20)
@given(st.text("".join(map(chr, range(1, 0x250))), min_size=8).map(lambda text: f"Zq{text}"))
def test_a_faulty_secret_is_not_quoted(token: str) -> None:
    """An error names the key; the value may be nearly right."""
    for key in ("TOKEN", "HEADERS", "LINGER_MS__TOKEN", "BATCH_TOKEN"):
        given = settings("Zq1234567890") | {f"TELEMETRYD_SINKS__A__{key}": token}
        assert token not in problems_of(given)


@given(ANY, ANY)
def test_the_secrets_of_a_configuration_are_found(token: str, header: str) -> None:
    config = {"sinks": {"a": {"token": token, "headers": {"X-Key": header}, "url": "u" * 9}}}
    assert set(secrets_in(config)) == {token, header}


@given(TOKENS, ANY, ANY)
def test_a_secret_is_hidden_wherever_it_stands(planted: str, before: str, after: str) -> None:
    """Also where it is a part of another one."""
    text = f"{before}{planted}{after}{planted}{planted}"
    assert planted not in hide(text, [planted, f"{planted}{planted}"])


def logged(secret: str, level: Any, facts: Mapping[str, object]) -> str:
    with TemporaryDirectory() as directory:
        path = Path(directory, "log")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        try:
            log = Log("debug", fd=fd)
            log.conceal(lambda: [secret])
            log(level, "something_happened", **facts)
            log.statement("ledger", {"reason": "x"})  # waits until all is written
        finally:
            os.close(fd)
        return path.read_text(encoding="utf-8")


@effort(max_examples=20)
@given(TOKENS | st.text(min_size=6, max_size=40).map(lambda text: f"Zq{text}"))
def test_the_log_holds_no_secret(secret: str) -> None:
    """Whoever quotes it: a server, a library, a sink of others."""
    written = {"error": f"what({secret})", "details": [secret, {"inner": secret}]}
    for level, facts in (
        ("warning", written), ("error", written), ("debug", written),
        ("info", {"detail": f"it said {secret}!"}),
    ):  # fmt: skip
        said = logged(secret, level, facts)
        assert secret not in said
        record = json.loads(said.splitlines()[0])
        assert all("***" in str(record[name]) for name in facts)


def test_lines_that_quote_nobody_cost_no_search() -> None:
    found: list[str] = []

    def find() -> list[str]:
        found.append("called")
        return ["Zq1234"]

    log = Log("info", fd=os.open(os.devnull, os.O_WRONLY))
    log.conceal(find)
    log.info("started", sinks=3)
    assert found == []
    log.warning("sink_down", reason="unreachable")
    log.warning("sink_down", reason="another")
    assert found == ["called"]


def test_secrets_of_the_environment_are_known() -> None:
    environ = {
        "AWS_SECRET_ACCESS_KEY": "secret-key",
        "AWS_SESSION_TOKEN": "session-token",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=one%20two,x-other = three",
        "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "x-key=four",
        "PATH": "/usr/bin",
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    }
    found = set(secrets_of({}, environ))
    assert found == {"secret-key", "session-token", "one%20two", "one two", "three", "four"}


@pytest.mark.parametrize(
    "text",
    [
        "canonical string 'POST\n/\n\nhost:x\nx-amz-security-token:IQoJb3JpZ2luX2VjEHAaCWV1\n'",
        '{"X-Amz-Security-Token": "IQoJb3JpZ2luX2VjEHAaCWV1"}',
        "https://x/?X-Amz-Security-Token=IQoJb3JpZ2luX2VjEHAaCWV1&a=b",
    ],
)
def test_a_session_token_that_aws_quotes_is_masked(text: str) -> None:
    """In a text, and in a line of the log."""
    line = msgspec.json.encode({"detail": text}).decode()
    for each in (text, line):
        masked = without_secrets(each)
        assert "IQoJb3" not in masked
        assert "***" in masked


@pytest.mark.parametrize(
    "text", ["//user:Zq1234@host/", "(//:Zq1234@host)", "url = //u:Zq1234@[::1]"]
)
def test_a_user_behind_two_slashes_is_masked(text: str) -> None:
    assert "Zq1234" not in without_secrets(text)

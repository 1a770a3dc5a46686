"""Configuration of an OTLP sink and OpenTelemetry's variables: what holds, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import pytest

from telemetryd.commands.iam import Place as Account
from telemetryd.commands.iam import iam
from telemetryd.config.explain import show
from telemetryd.sinks._posting import Place, Trust
from telemetryd.sinks.otlp.config import OtlpConfig
from telemetryd.sinks.otlp.resource import Resource
from telemetryd.sinks.otlp.settings import Settings, problems_of, settings_of

URL = "http://c.test:4318"
P = "OTEL_EXPORTER_OTLP_"


def config(**keys: Any) -> OtlpConfig:
    return msgspec.convert({"type": "otlp", **keys}, OtlpConfig)


def settings(environ: dict[str, str], signal: Any = "logs", **keys: Any) -> Settings:
    assert list(problems_of(config(**keys), signal, environ)) == []
    return settings_of(config(**keys), signal, environ)


def place(environ: dict[str, str], signal: Any = "logs", **keys: Any) -> str:
    found = settings(environ, signal, **keys).place
    assert found is not None
    return f"{found.scheme}://{found.host}:{found.port}{found.target}"


@pytest.mark.parametrize(
    ("base", "url"),
    [
        (URL, f"{URL}/v1/logs"),
        (f"{URL}/", f"{URL}/v1/logs"),
        (f"{URL}/otlp", f"{URL}/otlp/v1/logs"),
        (f"{URL}/otlp/?tenant=a", f"{URL}/otlp/v1/logs?tenant=a"),
        (f" {URL} ", f"{URL}/v1/logs"),
    ],
)
def test_the_path_of_the_signal_is_added_to_a_base(base: str, url: str) -> None:
    assert place({f"{P}ENDPOINT": base}) == url
    assert place({}, endpoint=base.strip()) == url


def test_the_url_of_a_signal_is_used_as_it_is() -> None:
    environ = {f"{P}ENDPOINT": "http://other.test", f"{P}LOGS_ENDPOINT": f"{URL}/in"}
    assert place(environ) == f"{URL}/in"
    assert place({f"{P}LOGS_ENDPOINT": URL}) == f"{URL}/"
    assert place(environ, "traces") == "http://other.test:80/v1/traces"
    assert place(environ, endpoint="http://mine.test") == "http://mine.test:80/v1/logs"
    mine = {"endpoint": "http://mine.test", "logs_endpoint": "http://mine.test/l"}
    assert place(environ, **mine) == "http://mine.test:80/l"


def test_what_the_environment_says_and_what_comes_before_it() -> None:
    environ = {
        f"{P}ENDPOINT": URL, f"{P}PROTOCOL": "http/json", f"{P}COMPRESSION": "gzip",
        f"{P}TIMEOUT": "1500", f"{P}CERTIFICATE": "/ca.pem", f"{P}HEADERS": "a=1, b = x%3Dy ,c=",
    }  # fmt: skip
    place = Place("http", "c.test", 4318, "/v1/logs")
    said = {"a": "1", "b": "x=y", "c": ""}
    assert settings(environ) == (place, "http/json", said, "gzip", Trust("/ca.pem"), 1500)
    ours = {
        "protocol": "http/protobuf", "compression": "none", "read_timeout_ms": 700,
        "certificate": "/mine.pem", "headers": {"A": "2"}, "token": "t",
    }  # fmt: skip
    headers = {"A": "2", "b": "x=y", "c": "", "Authorization": "Bearer t"}
    assert settings(environ, **ours) == (
        place, "http/protobuf", headers, "none", Trust("/mine.pem"), 700,
    )  # fmt: skip
    for name, value in (("PROTOCOL", "http/protobuf"), ("COMPRESSION", "none"), ("TIMEOUT", "9")):
        environ[f"{P}LOGS_{name}"] = value
    assert settings(environ)[1::2] == ("http/protobuf", "none", 50)
    assert settings({f"{P}ENDPOINT": URL}) == (place, "http/protobuf", {}, "none", Trust(), 10_000)


def test_a_client_certificate_and_its_key_come_from_one_place() -> None:
    environ = {
        f"{P}ENDPOINT": URL, f"{P}CERTIFICATE": "/ca.pem",
        f"{P}CLIENT_CERTIFICATE": "/c.pem", f"{P}CLIENT_KEY": "/k.pem",
    }  # fmt: skip
    assert settings(environ).trust == ("/ca.pem", "/c.pem", "/k.pem")
    assert settings(environ, client_certificate="/mine.pem").trust == ("/ca.pem", "/mine.pem", "")
    environ[f"{P}TRACES_CLIENT_CERTIFICATE"] = "/traces.pem"
    assert settings(environ, "traces").trust == ("/ca.pem", "/traces.pem", "/k.pem")


@pytest.mark.parametrize(
    ("environ", "keys", "says"),
    [
        ({}, {}, f"endpoint: missing: set it, or {P}ENDPOINT, such as http://localhost:4318"),
        ({f"{P}ENDPOINT": "c.test:4317"}, {}, f"endpoint: {P}ENDPOINT must look like"),
        ({}, {"endpoint": "ftp://c"}, "endpoint: must look like https://host"),
        ({}, {"endpoint": "http://c.test/v1/logs"}, "endpoint: ends with the path of a signal"),
        ({f"{P}ENDPOINT": "http://c/a/v1/traces/?k=1"}, {}, f"endpoint: {P}ENDPOINT ends with"),
        ({}, {"logs_endpoint": "http://u:p@c"}, "logs_endpoint: must look like https://host"),
        ({f"{P}PROTOCOL": "grpc"}, {"endpoint": URL}, f"protocol: {P}PROTOCOL gRPC is not"),
        ({f"{P}LOGS_PROTOCOL": "x"}, {"endpoint": URL}, f"protocol: {P}PROTOCOL must be http"),
        ({f"{P}COMPRESSION": "zstd"}, {"endpoint": URL}, f"compression: {P}COMPRESSION must be"),
        ({f"{P}TIMEOUT": "10s"}, {"endpoint": URL}, f"read_timeout_ms: {P}TIMEOUT must be"),
        ({f"{P}CLIENT_KEY": "/k.pem"}, {"endpoint": URL}, f"client_key: {P}CLIENT_KEY needs a"),
        ({f"{P}HEADERS": "secret"}, {"endpoint": URL}, f"headers: {P}HEADERS must look like"),
        ({f"{P}HEADERS": "a b=secret"}, {"endpoint": URL}, f"headers: {P}HEADERS the name of"),
        ({f"{P}HEADERS": "a=%0d%0asecret"}, {"endpoint": URL}, f"headers: {P}HEADERS header a"),
        ({}, {"endpoint": URL, "headers": {"Content-Type": "secret"}}, "set by `protocol`"),
        ({}, {"endpoint": URL, "headers": {"a": "1", "A": "secret"}}, "would be sent twice"),
        ({}, {"endpoint": URL, "token": "se\ncret"}, "token: header Authorization contains"),
        (
            {}, {"endpoint": URL, "token": "t", "headers": {"authorization": "secret"}},
            "would be sent twice",
        ),
        (
            {}, {"auth": "sigv4", "headers": {"X-Amz-Date": "secret"}},
            'header X-Amz-Date is set by auth = "sigv4": leave it out',
        ),
    ],
)  # fmt: skip
def test_what_can_not_work_is_named(
    environ: dict[str, str], keys: dict[str, Any], says: str
) -> None:
    (problem,) = problems_of(config(**keys), "logs", environ)
    assert says.replace(f"{P}PROTOCOL must", f"{P}LOGS_PROTOCOL must") in problem
    assert "secret" not in problem
    settings_of(config(**keys), "logs", environ)  # without what is wrong


def test_headers_for_another_destination_are_not_sent_to_aws() -> None:
    environ = {f"{P}HEADERS": "authorization=Basic%20abc,x-tenant=a"}
    assert settings(environ, auth="sigv4").headers == {"x-tenant": "a"}
    assert settings(environ, auth="sigv4").place is None


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"auth": "sigv4"}, ["log_group", "log_stream"]),
        ({"auth": "sigv4", "log_group": "a b", "log_stream": "c:d"}, ["log_group", "log_stream"]),
        (
            {"auth": "sigv4", "log_group": "a", "log_stream": "b", "token": "t"},
            ["token"],
        ),
        ({"auth": "sigv4", "log_group": "a", "log_stream": "b", "region": "x"}, ["region"]),
        ({"endpoint": URL, "log_group": "a", "region": "eu-west-1"}, ["region", "log_group"]),
        ({"auth": "sigv4", "log_group": "a", "log_stream": "2026/[1]b"}, []),
    ],
)
def test_keys_that_belong_together(
    keys: dict[str, Any], says: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ENDPOINT", "LOGS_ENDPOINT", "HEADERS", "PROTOCOL", "COMPRESSION", "TIMEOUT"):
        monkeypatch.delenv(P + name, raising=False)
    assert [problem.partition(":")[0] for problem in config(**keys).problems()] == says


@pytest.mark.parametrize("endpoint", ["", 'endpoint = "https://own.test"\n'])
def test_the_policy_for_cloudwatch(tmp_path: Path, endpoint: str) -> None:
    file = tmp_path / "telemetryd.toml"
    file.write_text(
        '[sinks.c]\ntype = "otlp"\nauth = "sigv4"\nlog_group = "telemetry"\n'
        f'log_stream = "orders"\n{endpoint}'
    )
    out, err = io.StringIO(), io.StringIO()
    place = Account(region="eu-west-1", account="123456789012", function="f")
    assert iam({"TELEMETRYD_CONFIG": str(file)}, out, err, place=place) == 0
    (statement,) = msgspec.json.decode(out.getvalue())["Statement"]
    assert statement["Action"] == ["logs:PutLogEvents"]
    assert statement["Resource"] == [
        "arn:aws:logs:eu-west-1:123456789012:log-group:telemetry:log-stream:orders"
    ]
    assert ("com.amazonaws.eu-west-1.logs" in err.getvalue()) == (not endpoint)


def test_secrets_are_masked() -> None:
    assert "s3cret" not in show("sinks.c.headers", {"X-Key": "s3cret-h"})
    assert "s3cret" not in show("sinks.c.token", "s3cret-t")


# -- resource ------------------------------------------------------------------------------------


def attributes(environ: dict[str, str], **given: str) -> dict[str, Any]:
    return Resource(environ, given, scope_version="1").attributes()


def test_the_name_of_the_service() -> None:
    listed = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=listed,a=b%20c, d =e"}
    named = {"OTEL_SERVICE_NAME": "named"}
    function = {"AWS_LAMBDA_FUNCTION_NAME": "function"}
    given = {"service.name": "given"}
    assert attributes({})["service.name"] == "unknown_service:telemetryd"
    assert attributes(function)["service.name"] == "function"
    assert attributes({**function, **listed})["service.name"] == "listed"
    assert attributes({**function, **listed, **named})["service.name"] == "named"
    assert attributes({**function, **listed, **named}, **given)["service.name"] == "given"
    assert attributes(listed) == {"service.name": "listed", "a": "b c", "d": "e"}


@pytest.mark.parametrize("text", ["a", "a=b,c", "=b"])
def test_attributes_that_are_none_are_all_dropped(text: str) -> None:
    found = attributes({"OTEL_RESOURCE_ATTRIBUTES": text})
    assert found == {"service.name": "unknown_service:telemetryd"}


def test_what_lambda_says_of_the_function() -> None:
    environ = {
        "AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_LAMBDA_LOG_GROUP_NAME": "g",
        "AWS_LAMBDA_LOG_STREAM_NAME": "s", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "many",
        "AWS_ACCOUNT_ID": "123456789012",
    }  # fmt: skip
    assert attributes(environ) == {
        "service.name": "f", "faas.name": "f", "cloud.provider": "aws", "faas.instance": "s",
        "cloud.platform": "aws_lambda", "aws.log.group.names": ["g"],
        "aws.log.stream.names": ["s"], "cloud.account.id": "123456789012",
    }  # fmt: skip


def test_the_account_that_the_platform_has_told() -> None:
    """Rather than one of the environment, until an ARN says another; configured, it stays."""
    environ = {"AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_ACCOUNT_ID": "123456789012"}
    resource = Resource(environ, {}, scope_version="1", account="210987654321")
    assert resource.attributes()["cloud.account.id"] == "210987654321"
    resource.learn({"functionArn": "arn:aws:lambda:eu-west-1:111122223333:function:f"})
    assert resource.attributes()["cloud.account.id"] == "111122223333"
    given = {"cloud.account.id": "given"}
    resource = Resource(environ, given, scope_version="1", account="210987654321")
    assert resource.attributes()["cloud.account.id"] == "given"


def test_what_events_say_of_the_function() -> None:
    resource = Resource({"AWS_LAMBDA_FUNCTION_NAME": "f"}, {}, scope_version="1")
    for odd in (None, {}, {"instanceId": 5, "instanceMaxMemory": "x", "functionArn": "a:b"}):
        resource.learn(odd)
        assert resource.changes == 0
    said = {"instanceId": "s", "instanceMaxMemory": 134217728}
    resource.learn(said)
    resource.learn(said)
    assert resource.changes == 1
    assert resource.attributes()["faas.max_memory"] == 134217728
    resource.learn({"functionArn": "arn:aws:s3:::bucket:a:b"})
    assert resource.changes == 1

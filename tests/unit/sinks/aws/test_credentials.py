"""Credentials of the environment and of a container's endpoint: found, kept, renewed, refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from helpers.ports import reserved
from telemetryd.clock import SYSTEM
from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.sinks.aws.credentials import CredentialSource, has_credentials
from telemetryd.sinks.aws.sigv4 import Credentials
from telemetryd.testing import LogBook

NOW = 1_800_000_000.0
HUSH = "a-secret-of-the-container"


class Endpoint:
    """What hands out credentials."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        """Path and token of each request."""
        self.answers: list[tuple[int, bytes]] = []
        """For the next requests; then good ones."""
        self.lifetime = 3600.0
        self.url = ""

    def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer."""
        if self.answers:
            return self.answers.pop(0)
        return 200, handed(f"key{len(self.asked)}", NOW + self.lifetime)


def handed(key: str, until: float, **more: str) -> bytes:
    known = {
        "AccessKeyId": key,
        "SecretAccessKey": HUSH,
        "Token": "token",
        "Expiration": datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return json.dumps(known | more).encode()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serve() as found:
        yield found


@contextmanager
def serve() -> Iterator[Endpoint]:
    found = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append((self.path, self.headers["Authorization"]))
            status, body = found.answer()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        found.url = f"http://127.0.0.1:{server.server_port}/v1/credentials"
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def source(environ: Mapping[str, str], log: LogBook | None = None) -> CredentialSource:
    return CredentialSource(environ, clock=SYSTEM, log=log or LogBook())


def get(environ: Mapping[str, str], now: float = NOW) -> Credentials:
    return asyncio.run(source(environ).get(now))


def error_of(environ: Mapping[str, str]) -> SinkError:
    with pytest.raises(SinkError) as caught:
        get(environ)
    assert HUSH not in str(caught.value)
    return caught.value


def of(endpoint: Endpoint, **more: str) -> dict[str, str]:
    return {"AWS_CONTAINER_CREDENTIALS_FULL_URI": endpoint.url, **more}


# -- the environment -----------------------------------------------------------------------------


def test_the_environment_is_read_at_each_use() -> None:
    environ = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c"}
    subject = source(environ)
    found = asyncio.run(subject.get(NOW))
    assert found == Credentials(access_key="a", secret_key="b", token="c")  # noqa: S106
    environ |= {"AWS_ACCESS_KEY_ID": "d", "AWS_ACCOUNT_ID": "123456789012"}
    found = asyncio.run(subject.get(NOW))
    assert (found.access_key, found.account_id) == ("d", "123456789012")


def test_the_environment_goes_before_the_container(endpoint: Endpoint) -> None:
    environ = of(endpoint, AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b")  # noqa: S106
    assert get(environ).access_key == "a"
    assert endpoint.asked == []


@pytest.mark.parametrize(
    ("environ", "says"), [({}, "role"), ({"AWS_ACCESS_KEY_ID": "a"}, "AWS_SECRET_ACCESS_KEY")]
)
def test_without_credentials_it_says_so(environ: dict[str, str], says: str) -> None:
    error = error_of(environ)
    assert isinstance(error, PermanentSinkError)
    assert (error.code, error.stops_sink) == ("no_credentials", True)
    assert says in error.detail
    with pytest.raises(PermanentSinkError):
        source(environ).check()


def test_what_has_credentials() -> None:
    assert not has_credentials({"AWS_ACCESS_KEY_ID": ""})
    for name in ("RELATIVE_URI", "FULL_URI"):
        assert has_credentials({f"AWS_CONTAINER_CREDENTIALS_{name}": "/x"})


# -- the container -------------------------------------------------------------------------------


def test_a_container_is_asked_with_its_token_and_only_once(endpoint: Endpoint) -> None:
    subject = source(of(endpoint, AWS_CONTAINER_AUTHORIZATION_TOKEN="let me"))  # noqa: S106

    async def scenario() -> list[Credentials]:
        return [await subject.get(NOW + seconds) for seconds in (0, 1, 2000)]

    found = asyncio.run(scenario())
    assert {each.access_key for each in found} == {"key1"}
    assert found[0].secret_key == HUSH
    assert found[0].expires_at == NOW + 3600
    assert endpoint.asked == [("/v1/credentials", "let me")]


def test_the_token_is_read_from_its_file_each_time(endpoint: Endpoint, tmp_path: Path) -> None:
    file = tmp_path / "token"
    environ = of(endpoint, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(file))
    subject = source(environ)
    for token in ("first", "second"):
        file.write_text(token)
        asyncio.run(subject.get(NOW))
        subject.forget()
    assert [token for _, token in endpoint.asked] == ["first", "second"]


def test_an_account_is_told_of_where_it_is_known(endpoint: Endpoint) -> None:
    endpoint.answers = [(200, handed("a", NOW + 3600, AccountId="123456789012"))]
    assert get(of(endpoint)).account_id == "123456789012"


def test_credentials_are_renewed_before_they_expire(endpoint: Endpoint) -> None:
    subject = source(of(endpoint))

    async def scenario() -> list[str]:
        return [(await subject.get(NOW + at)).access_key for at in (0, 2600, 2701)]

    assert asyncio.run(scenario()) == ["key1", "key1", "key2"]


def test_what_is_still_valid_is_used_while_there_are_no_others(endpoint: Endpoint) -> None:
    log = LogBook()
    subject = source(of(endpoint), log)

    async def scenario() -> None:
        await subject.get(NOW)
        endpoint.answers = [(503, b"")] * 3
        for at in (2800, 2801, 2850):  # asked once in a minute
            assert (await subject.get(NOW + at)).access_key == "key1"
        assert len(endpoint.asked) == 2
        assert (await subject.get(NOW + 2861)).access_key == "key1"
        assert len(endpoint.asked) == 3
        with pytest.raises(TransientSinkError):
            await subject.get(NOW + 3600)  # they have expired
        assert (await subject.get(NOW + 3600)).access_key == "key5"

    asyncio.run(scenario())
    assert len(log.facts("credentials_not_renewed")) == 2


def test_what_a_service_refused_is_not_used_again(endpoint: Endpoint) -> None:
    subject = source(of(endpoint))

    async def scenario() -> None:
        await subject.get(NOW)
        subject.forget()
        assert (await subject.get(NOW)).access_key == "key2"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"a-secret-of-the-container"), (500, b""), (302, b""),
        (200, b"no json a-secret-of-the-container"), (200, b"[]"), (200, b""),
        (200, b'{"AccessKeyId":"a","SecretAccessKey":"a-secret-of-the-container"}'),
        (200, b'{"AccessKeyId":"a","SecretAccessKey":7,"Token":"c","Expiration":"x"}'),
        (200, handed("a", NOW).replace(b"Z", b" o'clock")),
        (200, b"[" * 60_000), (200, b" " * 100_000),
    ],
)  # fmt: skip
def test_an_odd_answer_is_tried_again_later(endpoint: Endpoint, status: int, body: bytes) -> None:
    endpoint.answers = [(status, body)]
    error = error_of(of(endpoint))
    assert isinstance(error, TransientSinkError)
    assert error.code == "credentials_unavailable"
    assert len(endpoint.asked) == 1


def test_no_one_listens() -> None:
    with reserved() as port:
        error = error_of({"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{port}/x"})
    assert isinstance(error, TransientSinkError)
    assert error.code == "credentials_unavailable"


def test_proxies_are_not_for_what_is_on_the_machine(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reserved() as port:
        proxy = f"http://127.0.0.1:{port}"
        monkeypatch.setenv("HTTP_PROXY", proxy)
        assert get(of(endpoint, HTTP_PROXY=proxy)).access_key == "key1"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.test/credentials", "http://169.254.169.254/latest", "http://10.0.0.1/",
        "http://127.evil.test/", "http://127.0.0.1.evil.test/", "http://[fd00:ec2::24]/",
        "ftp://127.0.0.1/", "not a url", "http://user@127.0.0.1/",
    ],
)  # fmt: skip
def test_no_token_goes_to_a_stranger(url: str) -> None:
    environ = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": url,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": HUSH,
    }
    error = error_of(environ)
    assert isinstance(error, PermanentSinkError)
    assert (error.code, error.stops_sink) == ("aws_configuration", True)


def test_a_relative_uri_is_one_of_ecs() -> None:
    for relative in ("@evil.test/", "credentials", ".evil.test/x"):
        error = error_of({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": relative})
        assert error.code == "aws_configuration"


@pytest.mark.parametrize(
    "host",
    ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "localhost", "127.1.2.3", "[::1]"],
)
def test_hosts_that_botocore_permits_are_permitted(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    asked: list[Any] = []

    async def send(self: object, request: Any, *, limit: float) -> Any:
        asked.append(request)
        return type("Answer", (), {"status": 200, "body": handed("a", NOW)})

    monkeypatch.setattr("telemetryd.http_client.client.HttpClient.send", send)
    get({"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{host}/v1/x?id=1"})
    get({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/1"})
    full, relative = asked
    assert (full.host, full.target) == (host.strip("[]"), "/v1/x?id=1")
    assert (relative.host, relative.target) == ("169.254.170.2", "/v2/credentials/1")


@pytest.mark.parametrize("text", ["two\nlines", "carriage\rreturn"])
def test_a_token_is_one_line(endpoint: Endpoint, tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_bytes(text.encode())
    for more in (
        {"AWS_CONTAINER_AUTHORIZATION_TOKEN": text},
        {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(file)},
    ):
        error = error_of(of(endpoint, **more))
        assert error.code == "aws_configuration"
        assert text not in error.detail
    assert endpoint.asked == []


def test_a_token_file_that_is_missing_may_come(endpoint: Endpoint, tmp_path: Path) -> None:
    error = error_of(of(endpoint, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(tmp_path / "none")))
    assert isinstance(error, TransientSinkError)
    assert "No such file" in error.detail

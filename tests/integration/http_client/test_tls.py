"""Requests over TLS: who is trusted, and what is said where someone is not."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from helpers.http_destination import (
    AUTHORITY,
    CERTIFICATES,
    OK,
    Destination,
    Visit,
    serve_ok,
    tls_server,
    until,
)
from telemetryd.clock import SYSTEM
from telemetryd.http_client.client import HttpClient
from telemetryd.http_client.messages import HttpError, HttpOptions, Request
from telemetryd.http_client.tls import find_authorities
from telemetryd.log import EventLog

LONG = 60.0
MIB = 1024 * 1024


class Heard(EventLog[str]):
    """Keeps the names of events."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def write(self, level: str, event: str, facts: dict[str, Any]) -> None:
        """Keep one."""
        self.events.append(event)


def client(log: EventLog[str] | None = None, **options: Any) -> HttpClient:
    return HttpClient(SYSTEM, log or EventLog(), options=HttpOptions(**options))


def trusting(**options: Any) -> HttpClient:
    return client(ca_bundle=str(AUTHORITY), **options)


def post(port: int, *body: bytes, host: str = "127.0.0.1") -> Request:
    return Request("POST", "https", host, port, "/", (), body)


async def failure(sender: HttpClient, request: Request, limit: float = LONG) -> HttpError:
    with pytest.raises(HttpError) as caught:
        await sender.send(request, limit=limit)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.fixture
def hashed(tmp_path: Path) -> Path:
    """Return a directory of authorities as `openssl rehash` makes it."""
    name = (CERTIFICATES / "authority.hash").read_text().strip()
    shutil.copy(AUTHORITY, tmp_path / f"{name}.0")
    return tmp_path


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_requests_over_one_connection(host: str, run: Any) -> None:
    async def main() -> None:
        async with Destination(tls=tls_server()) as there:
            sender = trusting()
            for _ in range(3):
                answer = await sender.send(post(there.port, b"x" * 300_000, host=host), limit=LONG)
                assert (answer.status, answer.body) == (200, b"ok")
            await sender.close()
            await there.until_all_ended()
            assert there.connections == 1

    run(main)


@pytest.mark.parametrize(
    ("environment", "options"),
    [
        ({"AWS_CA_BUNDLE": "bundle"}, {}),
        ({"REQUESTS_CA_BUNDLE": "bundle"}, {}),
        ({"SSL_CERT_FILE": "bundle"}, {}),
        ({"AWS_CA_BUNDLE": "hashed"}, {}),
        ({"SSL_CERT_DIR": "hashed"}, {}),
        ({"AWS_CA_BUNDLE": "bundle", "SSL_CERT_FILE": "/nowhere"}, {}),
        ({"AWS_CA_BUNDLE": "", "SSL_CERT_FILE": "bundle"}, {}),
        ({}, {"ca_directory": "hashed"}),
        ({"AWS_CA_BUNDLE": "bundle"}, {"ca_directory": "/nowhere"}),
        ({"AWS_CA_BUNDLE": "/nowhere"}, {"ca_bundle": "bundle"}),
    ],
)
def test_who_names_the_authorities(
    environment: dict[str, str], options: dict[str, str], hashed: Path, run: Any
) -> None:
    paths = {"bundle": str(AUTHORITY), "hashed": str(hashed)}

    async def main() -> None:
        async with Destination(tls=tls_server()) as there:
            sender = client(
                None,
                environment={name: paths.get(path, path) for name, path in environment.items()},
                ca_bundle=paths.get(options.get("ca_bundle", ""), ""),
                ca_directory=paths.get(options.get("ca_directory", ""), "/nowhere"),
            )
            assert (await sender.send(post(there.port), limit=LONG)).status == 200
            await sender.close()

    run(main)


@pytest.mark.parametrize(
    ("certificate", "bundle", "why"),
    [
        ("expired", "authority", "certificate has expired"),
        ("elsewhere", "authority", "IP address mismatch"),
        ("server", "elsewhere", "unable to get local issuer certificate"),
    ],
)
def test_a_certificate_that_does_not_verify_is_one_clear_line(
    certificate: str, bundle: str, why: str, run: Any
) -> None:
    async def main() -> None:
        async with Destination(tls=tls_server(certificate)) as there:
            sender = client(ca_bundle=str(CERTIFICATES / f"{bundle}.pem"))
            error = await failure(sender, post(there.port, b"secret"))
            assert (error.reason, error.sent) == ("tls_certificate", "nothing")
            assert error.detail.startswith("the certificate of 127.0.0.1 does not verify: ")
            assert why in error.detail
            # another authority mends neither an old certificate nor a wrong name
            assert ("; AWS_CA_BUNDLE can name" in error.detail) is (certificate == "server")
            await there.until_all_ended()

    run(main)


def test_a_client_proves_who_it_is(tmp_path: Path, run: Any) -> None:
    both = (CERTIFICATES / "elsewhere.pem").read_text()
    begin = both.index("-----BEGIN CERTIFICATE")
    (tmp_path / "key").write_text(both[:begin])
    (tmp_path / "certificate").write_text(both[begin:])

    async def main() -> None:
        async with Destination(tls=tls_server(asks=True)) as there:
            for certificate, key in (
                (CERTIFICATES / "elsewhere.pem", ""), (tmp_path / "certificate", tmp_path / "key"),
            ):  # fmt: skip
                sender = trusting(client_certificate=str(certificate), client_key=str(key))
                assert (await sender.send(post(there.port), limit=LONG)).status == 200
                await sender.close()

    run(main)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("certificate", ["", "expired"])
def test_a_server_that_wants_another_certificate_is_one_clear_line(
    certificate: str, newest: ssl.TLSVersion, run: Any
) -> None:
    server = tls_server(asks=True)
    server.maximum_version = newest
    path = str(CERTIFICATES / f"{certificate}.pem") if certificate else ""

    def refuse(listener: socket.socket) -> None:
        # asyncio's server would hang up without the alert; others send it
        there, _ = listener.accept()
        with there, pytest.raises(ssl.SSLError):
            server.wrap_socket(there, server_side=True)

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            refusing = asyncio.create_task(asyncio.to_thread(refuse, listener))
            sender = trusting(client_certificate=path)
            error = await failure(sender, post(listener.getsockname()[1]))
            await refusing
        assert error.reason == "tls_error"
        assert "the server may want another client certificate, or one at all" in error.detail

    run(main)


def test_a_client_certificate_that_cannot_be_used_is_one_clear_line(
    tmp_path: Path, run: Any
) -> None:
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    server, locked = (str(CERTIFICATES / f"{name}.pem") for name in ("server", "locked"))

    async def main() -> None:
        async with Destination(tls=tls_server()) as there:
            for certificate, key in (
                ("/nowhere", ""), (str(text), ""), (server, locked), (str(AUTHORITY), server),
            ):  # fmt: skip
                sender = trusting(client_certificate=certificate, client_key=key)
                error = await failure(sender, post(there.port))
                assert (error.reason, error.sent) == ("tls_configuration", "nothing")
                assert error.detail.startswith(f"client_certificate: can't use {certificate}")

    run(main)


def test_who_is_told_not_to_verify_says_so_once(run: Any) -> None:
    heard = Heard()

    async def main() -> None:
        async with Destination(tls=tls_server("expired")) as there:
            sender = client(heard, verify=False, idle_seconds=0.0)
            for _ in range(2):
                assert (await sender.send(post(there.port), limit=LONG)).status == 200
            await sender.close()

    run(main)
    assert heard.events == ["certificates_not_verified"]


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_authorities_that_can_not_be_read(content: str | None, tmp_path: Path, run: Any) -> None:
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_text(content)

    async def main() -> None:
        async with Destination(tls=tls_server()) as there:
            error = await failure(
                client(environment={"SSL_CERT_FILE": str(path)}), post(there.port)
            )
            assert error.reason == "tls_configuration"
            assert error.detail.startswith(
                f"SSL_CERT_FILE: can't read certificate authorities from {path}: "
            )
            await there.until_all_ended()

    run(main)


def test_the_setting_that_names_no_authorities_is_called_by_its_name(
    tmp_path: Path, run: Any
) -> None:
    async def main() -> None:
        async with Destination(tls=tls_server()) as there:
            error = await failure(client(ca_bundle=str(tmp_path / "none.pem")), post(there.port))
            assert error.detail.startswith("certificate: can't read certificate authorities from ")
            await there.until_all_ended()

    run(main)


def test_a_destination_that_speaks_no_tls(run: Any) -> None:
    async def behave(visit: Visit) -> None:
        await visit.reader.read(1)
        await visit.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def main() -> None:
        async with Destination(behave) as there:
            error = await failure(trusting(), post(there.port))
            assert (error.reason, error.sent) == ("tls_error", "nothing")
            assert error.detail == "TLS with 127.0.0.1: WRONG_VERSION_NUMBER"
            await there.until_all_ended()

    run(main)


def test_a_destination_that_hangs_up_or_hangs_in_the_handshake(run: Any) -> None:
    async def hang_up(visit: Visit) -> None:
        await visit.reader.read(1)

    async def hang(visit: Visit) -> None:
        await visit.ended()

    async def main() -> None:
        for behave, seconds, reason in (
            (hang_up, LONG, "connection_lost"),
            (hang, 0.2, "connect_timeout"),
        ):
            async with Destination(behave) as there:
                error = await failure(trusting(connect_seconds=seconds), post(there.port, b"x"))
                assert (error.reason, error.sent) == (reason, "nothing")
                await there.until_all_ended()

    run(main)


def test_an_end_that_anyone_can_have_made_is_no_end_of_a_body(run: Any) -> None:
    """Without TLS's own goodbye the body may have been cut on the way."""

    async def cut(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\n\r\nabc")
        raw = visit.writer.transport.get_extra_info("socket")
        with socket.socket(fileno=os.dup(raw.fileno())) as sock:
            sock.shutdown(socket.SHUT_RDWR)

    async def end(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\n\r\nabc")

    async def main() -> None:
        async with Destination(end, tls_server()) as there:
            assert (await trusting().send(post(there.port), limit=LONG)).body == b"abc"
        async with Destination(cut, tls_server()) as there:
            error = await failure(trusting(), post(there.port))
            assert (error.reason, error.sent) == ("connection_lost", "all")

    run(main)


def test_what_is_no_tls_after_the_handshake(run: Any) -> None:
    async def behave(visit: Visit) -> None:
        await visit.request()
        raw = visit.writer.transport.get_extra_info("socket")
        with socket.socket(fileno=os.dup(raw.fileno())) as sock:
            sock.send(b"HTTP/1.1 200 OK\r\n\r\n")
        await visit.ended()

    async def main() -> None:
        async with Destination(behave, tls_server()) as there:
            error = await failure(trusting(), post(there.port, b"x"))
            assert (error.reason, error.sent) == ("tls_error", "all")
            await there.until_all_ended()

    run(main)


def test_a_large_body_takes_little_memory_while_the_destination_is_slow(run: Any) -> None:
    may_read = asyncio.Event()

    async def behave(visit: Visit) -> None:
        await visit.head()
        await may_read.wait()
        for _ in range(32 * 16):
            await visit.reader.readexactly(MIB // 16)
        await visit.say(OK)

    async def main() -> None:
        async with Destination(behave, tls_server()) as there:
            sender = trusting()
            piece = bytes(MIB)
            tracemalloc.start()
            try:
                task = asyncio.create_task(sender.send(post(there.port, *[piece] * 32), limit=LONG))
                await until(lambda: there.connections)
                tracemalloc.reset_peak()
                before, _ = tracemalloc.get_traced_memory()
                may_read.set()
                await task
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert peak - before < 8 * MIB  # the destination's buffers are in it
            await sender.close()

    run(main)


def test_an_answer_that_comes_while_the_body_is_sent_is_noticed(run: Any) -> None:
    async def behave(visit: Visit) -> None:
        await visit.head()
        await visit.say(b"HTTP/1.1 401 No\r\nContent-Length: 3\r\n\r\nwho")
        visit.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(LONG)

    async def main() -> None:
        async with Destination(behave, tls_server()) as there:
            answer = await trusting().send(post(there.port, *[bytes(MIB)] * 64), limit=LONG)
            assert (answer.status, answer.body) == (401, b"who")

    run(main)


def test_a_call_that_is_cancelled_leaves_nothing_wherever_it_was(run: Any) -> None:
    async def main() -> None:
        async with Destination(serve_ok, tls_server()) as there:
            sender = trusting()
            for number in range(40):
                task = asyncio.create_task(sender.send(post(there.port, bytes(99_000)), limit=LONG))
                for _ in range(number):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                await sender.close()
            await there.until_all_ended()

    run(main)


def test_a_client_that_is_closed_during_a_handshake(run: Any) -> None:
    async def behave(visit: Visit) -> None:
        await visit.ended()

    async def main() -> None:
        async with Destination(behave) as there:
            sender = trusting(connect_seconds=0.5)
            task = asyncio.create_task(failure(sender, post(there.port, b"x")))
            await until(lambda: there.connections)
            await sender.close()
            assert (await task).sent == "nothing"
        async with Destination(tls=tls_server()) as there:
            task = asyncio.create_task(failure(sender, post(there.port, b"x")))
            await asyncio.sleep(0)
            await sender.close()
            assert (await task).reason == "closed"
            await there.until_all_ended()

    run(main)


def test_a_name_that_can_be_no_hosts(run: Any) -> None:
    async def behave(visit: Visit) -> None:
        await visit.head()
        await visit.say(b"HTTP/1.1 200 OK\r\n\r\n")
        await visit.ended()

    async def main() -> None:
        async with Destination(behave) as proxy:
            sender = trusting(environment={"HTTPS_PROXY": f"127.0.0.1:{proxy.port}"})
            error = await failure(sender, post(443, b"x", host=".dot"))
            assert (error.reason, error.sent) == ("invalid_request", "nothing")
            await proxy.until_all_ended()

    run(main)


def test_authorities_are_looked_for_where_no_one_names_them() -> None:
    path, source = find_authorities(HttpOptions())
    assert source == "certificate authorities"
    assert path == "" or Path(path).exists()


def test_no_context_is_made_before_the_first_request_over_tls() -> None:
    program = """
import asyncio, sys
from telemetryd.clock import SYSTEM
from telemetryd.http_client.client import HttpClient
from telemetryd.http_client.messages import HttpError, HttpOptions, Request
from telemetryd.log import EventLog

async def main():
    client = HttpClient(SYSTEM, EventLog(), options=HttpOptions())
    try:
        await client.send(Request("GET", "http", "127.0.0.1", 1, "/"), limit=5)
    except HttpError as error:
        print(error.reason, client._context)

asyncio.run(main())
heavy = {"urllib", "urllib.parse", "http", "http.client", "email", "hashlib", "_hashlib"}
print(sorted(heavy & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.split("\n") == ["unreachable None", "[]", ""]

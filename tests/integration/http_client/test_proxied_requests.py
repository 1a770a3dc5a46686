"""Requests through a proxy: CONNECT for TLS, whole URLs without, and proxies that refuse."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest

from helpers.http_destination import AUTHORITY, OK, Destination, Visit, tls_server
from telemetryd.clock import SYSTEM
from telemetryd.http_client.client import HttpClient
from telemetryd.http_client.messages import HttpError, HttpOptions, Request
from telemetryd.log import EventLog

LONG = 60.0


def client(environment: dict[str, str], **options: Any) -> HttpClient:
    return HttpClient(
        SYSTEM,
        EventLog(),
        options=HttpOptions(environment=environment, ca_bundle=str(AUTHORITY), **options),
    )


def post(port: int, scheme: Literal["http", "https"] = "https") -> Request:
    return Request("POST", scheme, "127.0.0.1", port, "/a?b", (), (bytes(200_000),))


async def failure(sender: HttpClient, request: Request) -> HttpError:
    with pytest.raises(HttpError) as caught:
        await sender.send(request, limit=LONG)
    assert "hunter2" not in str(caught.value)
    assert "aHVudGVyMg" not in str(caught.value)
    assert caught.value.sent == "nothing" or request.scheme == "http"
    return caught.value


class Tunnel:
    """A proxy that opens tunnels to 127.0.0.1."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self.heads: list[bytes] = []
        self._answer = answer

    async def __call__(self, visit: Visit) -> None:
        """Serve one connection."""
        head = await visit.head()
        self.heads.append(head)
        port = int(head.split()[1].rpartition(b":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await visit.say(self._answer)
            back = asyncio.create_task(self._pass_on(reader, visit.writer))
            await self._pass_on(visit.reader, writer)
            back.cancel()
            await asyncio.wait([back])
        finally:
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nProxy-Agent: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n",
    ],
)
def test_tls_goes_through_a_tunnel_which_is_kept(answer: bytes, run: Any) -> None:
    async def main() -> None:
        tunnel = Tunnel(answer)
        async with Destination(tls=tls_server()) as there, Destination(tunnel) as proxy:
            sender = client({"HTTPS_PROXY": f"http://user:hunter2@127.0.0.1:{proxy.port}"})
            for _ in range(3):
                assert (await sender.send(post(there.port), limit=LONG)).body == b"ok"
            assert tunnel.heads == [
                b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
                b"Proxy-Authorization: Basic dXNlcjpodW50ZXIy\r\n\r\n" % (there.port, there.port)
            ]
            await sender.close()
            await proxy.until_all_ended()

    run(main)


def test_plain_http_is_asked_for_by_its_whole_url(run: Any) -> None:
    lines: list[bytes] = []

    async def behave(visit: Visit) -> None:
        while True:
            request = await visit.request()
            lines.append(request.line)
            assert b"Proxy-Authorization: Basic dXNlcjpodW50ZXIy" in request.head
            await visit.say(OK)

    async def main() -> None:
        async with Destination(behave) as proxy:
            sender = client({"http_proxy": f"user:hunter2@127.0.0.1:{proxy.port}"})
            request = Request("GET", "http", "elsewhere.test", 80, "/a?b")
            for _ in range(2):
                assert (await sender.send(request, limit=LONG)).body == b"ok"
            assert lines == [b"GET http://elsewhere.test/a?b HTTP/1.1"] * 2
            assert proxy.connections == 1
            await sender.close()

    run(main)


def test_an_exception_needs_no_proxy(run: Any) -> None:
    async def main() -> None:
        async with Destination(tls=tls_server()) as there:
            sender = client({"HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.0/8"})
            assert (await sender.send(post(there.port), limit=LONG)).status == 200
            await sender.close()

    run(main)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("user", ["user:hunter2@", ""])
def test_a_proxy_that_wants_credentials_is_one_clear_line(
    scheme: Literal["http", "https"], user: str, run: Any
) -> None:
    async def behave(visit: Visit) -> None:
        await visit.request()
        await visit.say(
            b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n"
            b"Content-Length: 7\r\n\r\nhunter2"
        )
        await visit.ended()

    async def main() -> None:
        async with Destination(behave) as proxy:
            sender = client({"ALL_PROXY": f"http://{user}127.0.0.1:{proxy.port}"})
            error = await failure(sender, post(1, scheme))
            which = "another user and password" if user else "a user and password"
            assert error.reason == "proxy_credentials"
            assert error.detail == (
                f"the proxy 127.0.0.1:{proxy.port} (ALL_PROXY) answered 407; "
                f"give {which} in that variable"
            )
            await sender.close()
            await proxy.until_all_ended()

    run(main)


@pytest.mark.parametrize(
    ("said", "reasons"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", {"proxy_refused"}),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", {"proxy_refused"}),
        (b"SSH-2.0\r\n\r\n", {"proxy_unreachable"}),
        (b"", {"proxy_unreachable"}),
        (b"HTTP/1.1 200 OK\r\n\r\nunasked", {"proxy_unreachable"}),
        # the end may be seen with the answer, or after it
        (b"HTTP/1.1 200 OK\r\n\r\n", {"proxy_unreachable", "connection_lost"}),
    ],
)
def test_a_proxy_that_opens_no_tunnel(said: bytes, reasons: set[str], run: Any) -> None:
    async def behave(visit: Visit) -> None:
        await visit.head()
        await visit.say(said)

    async def main() -> None:
        async with Destination(behave) as proxy:
            sender = client({"HTTPS_PROXY": f"127.0.0.1:{proxy.port}"})
            assert (await failure(sender, post(1))).reason in reasons
            await proxy.until_all_ended()

    run(main)


def test_a_proxy_that_hangs_or_is_not_there_or_is_none(run: Any) -> None:
    async def behave(visit: Visit) -> None:
        await visit.ended()

    async def main() -> None:
        async with Destination(behave) as proxy:
            sender = client({"HTTPS_PROXY": f"127.0.0.1:{proxy.port}"}, connect_seconds=0.1)
            error = await failure(sender, post(1))
            assert error.reason == "connect_timeout"
            assert f"the proxy 127.0.0.1:{proxy.port} (HTTPS_PROXY)" in error.detail
            await proxy.until_all_ended()
        error = await failure(client({"HTTPS_PROXY": "127.0.0.1:1"}), post(1))
        assert error.reason == "proxy_unreachable"
        error = await failure(client({"HTTPS_PROXY": "socks5://hunter2@p"}), post(1))
        assert error.reason == "proxy_invalid"

    run(main)

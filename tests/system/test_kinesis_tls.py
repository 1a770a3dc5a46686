"""The Kinesis sink over TLS: certificates that do and don't verify, and proxies in between."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from helpers.kinesis_server import KinesisServer, environment
from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.sinks.base import DELIVERED, WriteResult
from telemetryd.sinks.kinesis.sink import KinesisSink
from telemetryd.testing import batch_of, block, context

pytestmark = pytest.mark.system

DAY = timedelta(days=1)
CLIENT = "auto"


@pytest.fixture(autouse=True, params=["aiobotocore", "lean"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is true of both clients."""
    monkeypatch.setattr(sys.modules[__name__], "CLIENT", request.param)


def certificate(directory: Path, *, host: str = "127.0.0.1", days: int = 30) -> Path:
    """A certificate that signs itself, with its key, for `host` and so many days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "telemetryd test")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 60 * DAY)
        .not_valid_after(now + days * DAY)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + built.public_bytes(serialization.Encoding.PEM)
    )
    return path


@contextmanager
def serving(
    monkeypatch: pytest.MonkeyPatch, pem: Path, *, trusted: bool = True
) -> Iterator[KinesisServer]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    with KinesisServer(tls=tls) as server:
        environment(monkeypatch, server)
        monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
        if trusted:
            monkeypatch.setenv("AWS_CA_BUNDLE", str(pem))
        yield server


def write() -> WriteResult:
    async def scenario() -> WriteResult:
        keys = {"type": "kinesis", "stream": "telemetry", "linger_ms": 0, "client": CLIENT}
        subject = KinesisSink(msgspec.convert(keys, KinesisSink.Config), context())
        try:
            await subject.open()
            return await subject.write(batch_of(subject, [block(b"line")]), attempt=1, deadline=0.0)
        finally:
            await subject.close()

    return asyncio.run(scenario())


def error() -> SinkError:
    with pytest.raises(SinkError) as caught:
        write()
    return caught.value


def test_a_bundle_named_in_the_environment_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS_CA_BUNDLE, as for any AWS tool: private endpoints and inspecting proxies."""
    with serving(monkeypatch, certificate(tmp_path)) as server:
        assert write() == DELIVERED
        assert len(server.accepted) == 1


@pytest.mark.parametrize("case", ["unknown issuer", "expired", "another host"])
def test_a_certificate_that_does_not_verify_stops_the_sink(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Nothing is sent, and the message says where a bundle can be named."""
    pem = certificate(
        tmp_path,
        host="127.0.0.2" if case == "another host" else "127.0.0.1",
        days=-1 if case == "expired" else 30,
    )
    with serving(monkeypatch, pem, trusted=case != "unknown issuer") as server:
        found = error()
        assert isinstance(found, PermanentSinkError)
        assert (found.code, found.stops_sink) == ("tls_certificate", True)
        assert "AWS_CA_BUNDLE" in found.detail
        assert server.requests == []


def test_a_server_that_speaks_no_tls_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be a balancer that is not ready yet."""
    with KinesisServer() as server:
        environment(monkeypatch, server)
        monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", server.url.replace("http:", "https:"))
        found = error()
        assert isinstance(found, TransientSinkError)
        assert found.code in ("tls_error", "unreachable", "connection_lost", "connect_timeout")


def test_a_bundle_that_is_not_there_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong path must not look like a wrong server."""
    with serving(monkeypatch, certificate(tmp_path)) as server:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "none.pem"))
        found = error()
        assert "none.pem" in f"{found.detail} {found.__cause__!r}" or "No such file" in found.detail
        assert server.requests == []


class Proxy:
    """An HTTP proxy that makes one tunnel at a time (RFC 9110, CONNECT), and remembers where to."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:  # closed
                return
            with near, near.makefile("rb") as reading:
                _, target, _ = reading.readline().decode().split()
                while reading.readline().strip():
                    pass
                self.targets.append(target)
                host, _, port = target.rpartition(":")
                with socket.create_connection((host, int(port))) as far:
                    near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    back = threading.Thread(target=self._copy, args=(far, near))
                    back.start()
                    self._copy(near, far)
                    back.join()

    @staticmethod
    def _copy(source: socket.socket, destination: socket.socket) -> None:
        with (
            suppress(OSError),  # a client may hang up without a goodbye
            source.makefile("rb", 0) as reading,
            destination.makefile("wb", 0) as writing,
        ):
            shutil.copyfileobj(reading, writing)
        with suppress(OSError):
            destination.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Take no more connections."""
        self._listening.close()


@pytest.mark.parametrize("bypassed", [False, True], ids=["HTTPS_PROXY", "NO_PROXY"])
def test_a_proxy_gets_a_tunnel_unless_the_host_is_excepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bypassed: bool
) -> None:
    """What the proxy carries is encrypted for the service, whose certificate is verified."""
    proxy = Proxy()
    with serving(monkeypatch, certificate(tmp_path)) as server:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1" if bypassed else "example.org")
        assert write() == DELIVERED
        assert len(server.accepted) == 1
        assert proxy.targets == ([] if bypassed else [server.url.removeprefix("https://")])
    proxy.close()

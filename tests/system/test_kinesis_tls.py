"""The Kinesis sink over TLS: certificates that verify, and all the ways in which they don't."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
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
from telemetryd.sinks.kinesis import KinesisSink
from telemetryd.testing import batch_of, block, context

pytestmark = pytest.mark.system

DAY = timedelta(days=1)


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
        keys = {"type": "kinesis", "stream": "telemetry", "linger_ms": 0}
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


def test_a_bundle_named_in_the_environment_is_trusted(tmp_path, monkeypatch):
    """AWS_CA_BUNDLE, as for any AWS tool: private endpoints and inspecting proxies."""
    with serving(monkeypatch, certificate(tmp_path)) as server:
        assert write() == DELIVERED
        assert len(server.accepted) == 1


@pytest.mark.parametrize("case", ["unknown issuer", "expired", "another host"])
def test_a_certificate_that_does_not_verify_stops_the_sink(tmp_path, monkeypatch, case):
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


def test_a_server_that_speaks_no_tls_is_tried_again(monkeypatch):
    """It may be a balancer that is not ready yet."""
    with KinesisServer() as server:
        environment(monkeypatch, server)
        monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", server.url.replace("http:", "https:"))
        found = error()
        assert isinstance(found, TransientSinkError)
        assert found.code in ("tls_error", "unreachable", "connection_lost", "connect_timeout")


def test_a_bundle_that_is_not_there_is_said(tmp_path, monkeypatch):
    """A wrong path must not look like a wrong server."""
    with serving(monkeypatch, certificate(tmp_path)) as server:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "none.pem"))
        found = error()
        assert "none.pem" in f"{found.detail} {found.__cause__!r}" or "No such file" in found.detail
        assert server.requests == []

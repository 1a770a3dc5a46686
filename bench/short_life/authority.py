"""A certificate authority made on the spot, and a certificate for this machine's own address."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from bench.kit.errors import AbsentError

HOST: Final = "localhost"
_DAYS: Final = "2"
_CONFIG: Final = """[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1
"""


class Authority(NamedTuple):
    """Files in PEM."""

    bundle: Path
    """The authority's certificate: what a client has to trust."""
    server: Path
    """A server's key and certificate."""


def make(folder: Path) -> Authority:
    """Make both in `folder`, with RSA keys as AWS has them. Raises AbsentError without openssl."""
    if shutil.which("openssl") is None:
        raise AbsentError("openssl not found: it makes the certificates of the TLS service")
    (folder / "openssl.cnf").write_text(_CONFIG)
    new = ("-newkey", "rsa:2048", "-nodes", "-sha256", "-config", "openssl.cnf")
    _openssl(
        folder, "req", "-x509", *new, "-extensions", "authority", "-days", _DAYS,
        "-subj", "/CN=telemetryd bench", "-keyout", "authority.key", "-out", "authority.pem",
    )  # fmt: skip
    _openssl(
        folder, "req", "-new", *new, "-subj", f"/CN={HOST}",
        "-keyout", "server.key", "-out", "server.csr",
    )  # fmt: skip
    _openssl(
        folder, "x509", "-req", "-in", "server.csr", "-CA", "authority.pem",
        "-CAkey", "authority.key", "-set_serial", "2", "-sha256", "-days", _DAYS,
        "-extfile", "openssl.cnf", "-extensions", "server", "-out", "server.crt",
    )  # fmt: skip
    server = folder / "server.pem"
    server.write_bytes((folder / "server.key").read_bytes() + (folder / "server.crt").read_bytes())
    return Authority(folder / "authority.pem", server)


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

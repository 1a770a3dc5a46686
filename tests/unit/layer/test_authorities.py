"""The directory of certificate authorities: files that OpenSSL finds by the name of an issuer."""

from __future__ import annotations

import ssl
from pathlib import Path

import botocore

from layer.authorities import hashed

BUNDLE = (Path(botocore.__file__).parent / "cacert.pem").read_bytes()
KNOWN = {
    # by `openssl x509 -subject_hash`
    "4042bcee": "ISRG Root X1",
    "ce5e74ef": "Amazon Root CA 1",
    "3513523f": "DigiCert Global Root CA",
    "5ad8a5d6": "GlobalSign Root CA",
}


def test_every_certificate_is_there_once() -> None:
    files = hashed(BUNDLE)
    assert len(files) == len(set(files.values())) == BUNDLE.count(b"-----BEGIN CERTIFICATE-----")


def test_files_are_named_as_openssl_looks_for_them(tmp_path: Path) -> None:
    files = hashed(BUNDLE)
    for subject, name in KNOWN.items():
        data = files[f"{subject}.0"]
        (tmp_path / "one.pem").write_bytes(data)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(tmp_path / "one.pem")
        (found,) = context.get_ca_certs()
        assert f"'{name}'" in repr(found["subject"])


def test_two_of_one_name_are_both_there() -> None:
    one = next(iter(hashed(BUNDLE).values()))
    assert [name.rpartition(".")[2] for name in hashed(one + one)] == ["0", "1"]


def test_comments_are_left_out() -> None:
    for data in hashed(b"# a comment\n" + BUNDLE).values():
        assert data.startswith(b"-----BEGIN CERTIFICATE-----\n")
        assert data.endswith(b"-----END CERTIFICATE-----\n")

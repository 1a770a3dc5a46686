"""Certificate authorities as a directory that OpenSSL reads at need, one file for each.

A bundle of all authorities takes 4 ms to read at every start; the file of one, found by the hash of
its name, takes microseconds. The files are named as `openssl rehash` names them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator

_PEM = re.compile(
    rb"-----BEGIN CERTIFICATE-----\s(?P<data>[A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\n"
)
_SEQUENCE, _SET, _UTF8 = 0x30, 0x31, 0x0C
_VERSION = 0xA0
_TEXTS = {
    0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1A: "ascii",
    0x1C: "utf-32-be", 0x1E: "utf-16-be",
}  # fmt: skip
"""Kinds of text in a name (X.680, clause 8.4), and how they are encoded."""
_LONG = 0x80


def hashed(bundle: bytes) -> dict[str, bytes]:
    """Return the files of the directory by name, for all certificates of `bundle`, which is PEM."""
    files: dict[str, bytes] = {}
    for found in _PEM.finditer(bundle):
        subject = subject_hash(base64.b64decode(found["data"]))
        number = sum(name.startswith(f"{subject}.") for name in files)
        files[f"{subject}.{number}"] = found[0]
    return files


def subject_hash(certificate: bytes) -> str:
    """Return OpenSSL's hash of the subject of `certificate`, which is DER (RFC 5280, 4.1)."""
    (_, outer), *_ = _members(certificate)
    (_, signed), *_ = _members(outer)
    fields = [field for field in _members(signed) if field[0] != _VERSION]
    _, subject = fields[4]  # serial number, algorithm, issuer, validity, subject
    canonical = b"".join(_encode(_SET, _canonical_set(part)) for _, part in _members(subject))
    digest = hashlib.sha1(canonical, usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}"


def _canonical_set(part: bytes) -> bytes:
    """Return a relative name as OpenSSL compares it: in lower case, without needless spaces."""
    pairs = []
    for _, pair in _members(part):
        (kind, oid), (value_kind, value) = _members(pair)
        if value_kind in _TEXTS:
            text = value.decode(_TEXTS[value_kind])
            plain = re.sub(r"[ \t\n\v\f\r]+", " ", text).strip(" ")
            lower = "".join(c.lower() if c.isascii() else c for c in plain)
            value_kind, value = _UTF8, lower.encode()
        pairs.append(_encode(_SEQUENCE, _encode(kind, oid) + _encode(value_kind, value)))
    return b"".join(sorted(pairs))


def _members(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each value in `data` (X.690, DER)."""
    at = 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size & _LONG:
            end = at + (size & ~_LONG)
            size, at = int.from_bytes(data[at:end]), end
        yield tag, data[at : at + size]
        at += size


def _encode(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < _LONG:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, _LONG | len(length))) + length + content

"""Checks the signature of a request: AWS Signature Version 4, in the headers.

Source: AWS Identity and Access Management User Guide, "Create a signed AWS API request".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, ?"
    r"SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})"
)
_MOST_SECONDS: Final = 300
"""The largest difference of a client's clock that the service accepts."""
_NEEDED: Final = ("host", "x-amz-date")


def find_fault(
    headers: Mapping[str, str], body: bytes, *, key: str, secret: str, service: str
) -> str | None:
    """Return what is wrong with the signature of a `POST /`, or None.

    `headers` have lower-case names; `key` and `secret` are those of the only client there is.
    """
    if (found := _AUTHORIZATION.fullmatch(headers.get("authorization", ""))) is None:
        return "no signature of version 4"
    given_key, day, region, named, signed, signature = found.groups()
    if given_key != key or named != service:
        return f"signed by {given_key} for {named}"
    names = signed.split(";")
    if names != sorted(names) or not set(_NEEDED) <= set(names):
        return f"signed headers: {signed}"
    stamp = headers.get("x-amz-date", "")
    try:
        sent = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return f"x-amz-date: {stamp!r}"
    if abs((datetime.now(UTC) - sent).total_seconds()) > _MOST_SECONDS or not stamp.startswith(day):
        return f"a request of {stamp}"
    canonical = "".join(f"{name}:{' '.join(headers.get(name, '').split())}\n" for name in names)
    request = f"POST\n/\n\n{canonical}\n{signed}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{day}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    derived = f"AWS4{secret}".encode()
    for part in (*scope.split("/"), text):
        derived = hmac.digest(derived, part.encode(), "sha256")
    return None if derived.hex() == signature else "the signature does not match"

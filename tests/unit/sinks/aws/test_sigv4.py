"""Our signatures against botocore's, and against an example of AWS's."""

from __future__ import annotations

import random
import string
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as TheirCredentials

from telemetryd.sinks.aws import sigv4
from telemetryd.sinks.aws.sigv4 import Credentials, Signer, hash_body

REQUESTS = 10_000
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"  # noqa: S105 - an example of AWS's
SERVICES = ["kinesis", "logs", "firehose", "monitoring", "xray", "execute-api"]
REGIONS = ["eu-west-1", "us-gov-east-1", "cn-north-1"]
NAMES = ["X-Amz-Target", "content-type", "X-Custom", "x-aws-log-group", "User-Agent", "Connection"]
SEGMENTS = ["v1", "logs", "..", ".", "", "a b", "ä/ö", "%41", "~x", "a+b=c", "*", "(x)"]
TEXT = string.ascii_letters + string.digits + " \t-_.~/+=:;,ä€\N{NO-BREAK SPACE}"


def text(rng: random.Random, most: int) -> str:
    return "".join(rng.choice(TEXT) for _ in range(rng.randrange(most)))


def a_path(rng: random.Random) -> str:
    parts = [quote(rng.choice(SEGMENTS), safe="/") for _ in range(rng.randrange(4))]
    return "/" + "/".join(parts)


def a_query(rng: random.Random) -> str:
    pairs = [
        f"{quote(text(rng, 5), safe='')}{rng.choice(['', '=', '=' + quote(text(rng, 6), safe='')])}"
        for _ in range(rng.randrange(4))
    ]
    return "&".join(pairs)


def theirs(
    kind: type[Any], credentials: Credentials, service: str, region: str, request: AWSRequest
) -> str:
    token = credentials.token or None
    known = TheirCredentials(credentials.access_key, credentials.secret_key, token)
    kind(known, service, region).add_auth(request)
    found: str = request.headers["Authorization"]
    return found


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, as botocore reads it."""
    seconds = [0.0]
    monkeypatch.setattr(
        auth, "get_current_datetime", lambda: datetime.fromtimestamp(seconds[0], UTC)
    )
    return seconds


def test_ten_thousand_signatures_are_those_of_botocore(now: list[float]) -> None:
    rng = random.Random(4)
    signers = {(s, r): Signer(s, r) for s in SERVICES for r in REGIONS}
    for number in range(REQUESTS):
        (service, region), signer = rng.choice(list(signers.items()))
        now[0] = rng.choice([0.0, 1_700_000_000.5, 1_700_000_000 + rng.random() * 1e6])
        credentials = Credentials(
            access_key=f"AKID{number}",
            secret_key=rng.choice(["short", "s" * 59, "s" * 60, "s" * 61, text(rng, 90) or "x"]),
            token=rng.choice(["", "token", "t" * 800]),
        )
        method = rng.choice(["POST", "GET", "PUT"])
        path, query, body = a_path(rng), a_query(rng), rng.randbytes(rng.randrange(300))
        host = rng.choice(["kinesis.eu-west-1.amazonaws.com", "127.0.0.1:4566", "[::1]:80"])
        headers = [("host", host)]
        headers += [(name, text(rng, 30)) for name in rng.sample(NAMES, rng.randrange(len(NAMES)))]
        if rng.random() < 0.1:
            headers.append(("X-Custom", "once more"))
        request = AWSRequest(
            method, f"https://{host}{path}{'?' if query else ''}{query}", data=body
        )
        for name, value in headers:
            request.headers.add_header(name, value)
        ours = signer.sign(
            credentials, method=method, path=path, query=query, headers=headers,
            body_hash=hash_body([body[:7], body[7:]], len(body)), now=now[0],
        )  # fmt: skip
        wanted = theirs(auth.SigV4Auth, credentials, service, region, request)
        assert dict(ours)["authorization"] == wanted, (method, path, query, headers)
        assert dict(ours)["x-amz-date"] == request.headers["X-Amz-Date"]
        assert ours[: len(headers)] == headers


@pytest.mark.parametrize("path", ["/bucket/a%20b", "/a//b/../c", "/"])
def test_a_path_can_be_signed_as_it_is_sent_which_s3_asks_for(now: list[float], path: str) -> None:
    now[0] = 1_700_000_000.0
    body_hash = hash_body([b"object"], 6)
    headers = [("host", "s3.eu-west-1.amazonaws.com"), ("x-amz-content-sha256", body_hash)]
    credentials = Credentials(access_key="AKID", secret_key=SECRET)
    request = AWSRequest("PUT", f"https://s3.eu-west-1.amazonaws.com{path}", data=b"object")
    ours = Signer("s3", "eu-west-1", normalizes_path=False).sign(
        credentials, method="PUT", path=path, headers=headers, body_hash=body_hash, now=now[0]
    )
    wanted = theirs(auth.S3SigV4Auth, credentials, "s3", "eu-west-1", request)
    assert dict(ours)["authorization"] == wanted


def test_the_example_of_the_documentation() -> None:
    """IAM User Guide, "Create a signed AWS API request", the ListUsers example."""
    headers = [
        ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
        ("host", "iam.amazonaws.com"),
    ]
    known = Credentials(
        access_key="AKIDEXAMPLE",
        secret_key=SECRET,
    )
    signed = Signer("iam", "us-east-1").sign(
        known, method="GET", path="/", query="Action=ListUsers&Version=2010-05-08",
        headers=headers, body_hash=hash_body([], 0), now=1440938160.0,
    )  # fmt: skip
    assert dict(signed)["authorization"].endswith(
        "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    )


def test_a_large_body_has_the_hash_of_a_small_one() -> None:
    pieces = [b"x" * 1000] * 400
    whole = b"".join(pieces)
    assert hash_body(pieces, len(whole)) == sigv4.sha256(whole).hexdigest()


def test_credentials_do_not_show_their_secrets() -> None:
    shown = repr(Credentials(access_key="AKID", secret_key=SECRET, token=SECRET[::-1]))
    assert "AKID" in shown
    assert SECRET not in shown
    assert SECRET[::-1] not in shown

"""The policy of `telemetryd iam`, enforced: it is enough for the sinks, and every action is needed.

moto looks at the actions of a policy but matches only the resource `*`, so the resources are
replaced; what they match is in tests/unit/commands/test_iam.py.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from helpers.ports import reserved

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

REGION = "eu-west-1"
ROOT = Path(__file__).parents[2]
STREAM = ROOT / "examples/streams/cold-start-invoke-shutdown.ndjson"
SINKS = {
    "kinesis": {"STREAM": "telemetry"},
    "emf": {"DELIVERY": "logs", "LOG_GROUP": "/telemetryd/iam"},
}
ADMIN = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
NOBODY_ELSE = {
    "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
}  # fmt: skip


class Account:
    """An AWS account of moto's in a process of its own."""

    def __init__(self, url: str) -> None:
        self.url = url

    def client(self, service: str) -> Any:
        """One that may do everything, while `enforcing` is off."""
        keys = {name.lower(): value for name, value in ADMIN.items()}
        return botocore.session.get_session().create_client(
            service, region_name=REGION, endpoint_url=self.url, **keys
        )

    def user(self, policy: dict[str, Any]) -> dict[str, str]:
        """The environment of somebody who may do what `policy` says."""
        iam = self.client("iam")
        name = f"telemetryd-{time.monotonic_ns()}"
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }

    def without_log_groups(self) -> None:
        """Delete them all."""
        logs = self.client("logs")
        for group in logs.describe_log_groups()["logGroups"]:
            logs.delete_log_group(logGroupName=group["logGroupName"])

    @contextlib.contextmanager
    def enforcing(self) -> Iterator[None]:
        """Only what a policy allows is done."""
        self._after("0")
        try:
            yield
        finally:
            self._after("inf")

    def _after(self, requests: str) -> None:
        url = f"{self.url}/moto-api/reset-auth"
        text = {"Content-Type": "text/plain"}  # a form would be taken apart
        request = urllib.request.Request(url, requests.encode(), text)
        urllib.request.urlopen(request).close()


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    """With a stream, and without log groups."""
    with reserved() as port:
        yield from _account(port)


def _account(port: int) -> Iterator[Account]:
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while True:
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < until, "the server does not accept connections"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
        found = Account(f"http://127.0.0.1:{port}")
        found.client("kinesis").create_stream(StreamName="telemetry", ShardCount=1)
        yield found
    finally:
        server.terminate()
        server.wait()


def settings(kind: str) -> dict[str, str]:
    """A configuration with one sink, named `it`."""
    return {f"TELEMETRYD_SINKS__IT__{k}": v for k, v in {"TYPE": kind, **SINKS[kind]}.items()}


def policy(kind: str) -> dict[str, Any]:
    """What `telemetryd iam` prints."""
    command = [sys.executable, "-m", "telemetryd", "iam", "--region", REGION,
               "--account", "123456789012", "--function", "orders"]  # fmt: skip
    done = subprocess.run(command, env=settings(kind), capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def ledger_of(kind: str, credentials: dict[str, str], url: str) -> dict[str, Any]:
    """What becomes of one stream of events, delivered with these credentials."""
    environ = settings(kind) | credentials | NOBODY_ELSE
    environ |= {"AWS_ENDPOINT_URL": url, "AWS_REGION": REGION, "TELEMETRYD_TELEMETRY__PORT": "0"}
    command = [sys.executable, "-m", "telemetryd", "listen"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE) as daemon:
        assert daemon.stderr is not None
        for line in daemon.stderr:
            record = json.loads(line)
            if record["event"] == "listening":
                with socket.create_connection(("127.0.0.1", record["port"])) as connection:
                    connection.sendall(fresh_events())
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(1)
                daemon.send_signal(signal.SIGTERM)
            elif record["event"] == "ledger":
                page: dict[str, Any] = record["sinks"]["it"]
                return page
    raise AssertionError("no ledger")


def fresh_events() -> bytes:
    """The stream, of this hour: CloudWatch Logs refuses what is older than two weeks."""
    hour = time.strftime("%Y-%m-%dT%H:", time.gmtime()).encode()
    return re.sub(rb"\d{4}-\d\d-\d\dT\d\d:", hour, STREAM.read_bytes())


def without_resources(found: dict[str, Any]) -> dict[str, Any]:
    """The same actions on anything."""
    statements = [statement | {"Resource": "*"} for statement in found["Statement"]]
    return found | {"Statement": statements}


@pytest.mark.parametrize("kind", SINKS)
def test_the_policy_is_one_that_iam_accepts(account: Account, kind: str) -> None:
    """As it is printed, resources and all; moto checks them as IAM does."""
    account.user(policy(kind))


@pytest.mark.parametrize("kind", SINKS)
def test_the_policy_is_enough(account: Account, kind: str) -> None:
    """Nothing is refused, the log group is made."""
    user = account.user(without_resources(policy(kind)))
    account.without_log_groups()
    with account.enforcing():
        page = ledger_of(kind, user, account.url)
    assert page["dropped"] == {}
    assert page["delivered"]["lines"] > 0


@pytest.mark.parametrize(
    ("kind", "action"),
    [
        ("kinesis", "kinesis:PutRecords"),
        ("emf", "logs:CreateLogGroup"),
        ("emf", "logs:CreateLogStream"),
        ("emf", "logs:PutLogEvents"),
    ],
)
def test_every_action_is_needed(account: Account, kind: str, action: str) -> None:
    """Without it the lines are refused (for a reason moto words in its own way)."""
    found = without_resources(policy(kind))
    for statement in found["Statement"]:
        rest = [each for each in statement["Action"] if each != action]
        statement["Action"] = rest or ["s3:ListAllMyBuckets"]
    user = account.user(found)
    account.without_log_groups()
    with account.enforcing():
        page = ledger_of(kind, user, account.url)
    assert page["delivered"]["lines"] == 0
    assert page["dropped"]

"""Asks CloudWatch Logs' `/ingest/bulk` what its page leaves open: `canary.py aws` alone.

It makes a log group, POSTs a few requests to it, reads back what arrived, and deletes the group.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any

GROUP = "/telemetryd/canary"
HOUR_MS = 3_600_000
ARRIVAL_SECONDS = 10
CALL_SECONDS = 30
MOST_SHOWN = 300
MOST_READ = 64 * 1024
KIB = 1024

Post = Callable[[str, bytes], tuple[int, str]]
"""POSTs a body to a log stream, and returns status and answer."""


def requests(now_ms: int) -> dict[str, list[bytes]]:
    """The lines of each request, by the name of its log stream."""
    hour_ago = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime((now_ms - HOUR_MS) / 1000))
    usual = _line(timestamp=now_ms, message="usual")
    return {
        "usual": [usual],
        "time": [_line(time=hour_ago, message="has a time and no timestamp")],
        "too-old": [
            usual,
            _line(timestamp=now_ms - 30 * 24 * HOUR_MS, message="30 days old"),
            usual,
        ],
        "no-json": [usual, b"not JSON", usual],
        "long-line": [usual, _line(timestamp=now_ms, message="x" * 300 * KIB), usual],
        "large-body": [_line(timestamp=now_ms, message="x" * 10 * KIB)] * 120,
    }


def _line(**members: object) -> bytes:
    return json.dumps(members).encode()


def ask(session: Any, post: Post | None = None, *, wait: float = ARRIVAL_SECONDS) -> dict[str, Any]:
    """Return what came of each request, by its name. `session` is botocore's."""
    logs = session.create_client("logs")
    post = post or _signed(session, logs)
    now_ms = int(time.time() * 1000)
    bodies = requests(now_ms)
    logs.create_log_group(logGroupName=GROUP)
    try:
        found = {}
        for name, lines in bodies.items():
            logs.create_log_stream(logGroupName=GROUP, logStreamName=name)
            status, answer = post(name, b"\n".join(lines) + b"\n")
            found[name] = {"status": status, "answer": answer[:MOST_SHOWN], "sent": len(lines)}
        time.sleep(wait)
        for name, entry in found.items():
            events = logs.get_log_events(logGroupName=GROUP, logStreamName=name, limit=200)[
                "events"
            ]
            entry["arrived"] = len(events)
            entry["behind_ms"] = [now_ms - int(event["timestamp"]) for event in events[:1]]
    finally:
        logs.delete_log_group(logGroupName=GROUP)
    return found


def _signed(session: Any, logs: Any) -> Post:
    from botocore.auth import SigV4Auth  # noqa: PLC0415 - only for AWS
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415

    url = f"{logs.meta.endpoint_url}/ingest/bulk"
    credentials = session.get_credentials().get_frozen_credentials()
    signer = SigV4Auth(credentials, "logs", logs.meta.region_name)

    def post(stream: str, body: bytes) -> tuple[int, str]:
        headers = {
            "Content-Type": "application/x-ndjson",
            "x-aws-log-group": GROUP,
            "x-aws-log-stream": stream,
        }
        request = AWSRequest("POST", url, data=body, headers=headers)
        signer.add_auth(request)
        sent = urllib.request.Request(url, body, dict(request.headers.items()))  # noqa: S310
        try:
            with urllib.request.urlopen(sent, timeout=CALL_SECONDS) as answer:  # noqa: S310
                return answer.status, answer.read(MOST_READ).decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(MOST_READ).decode("utf-8", "replace")

    return post


def shown(found: dict[str, Any], names: Iterable[str]) -> str:
    """One sentence for some of the requests; empty if they were not made."""
    if "error" in found:
        return f"could not ask: {found['error']}"
    parts = []
    for name in names:
        if entry := found.get(name):
            answer = entry["answer"].strip() or "no body"
            arrived = f"{entry['arrived']} of {entry['sent']} lines arrived"
            parts.append(f"{name}: {entry['status']} ({answer}), {arrived}")
    return "; ".join(parts)

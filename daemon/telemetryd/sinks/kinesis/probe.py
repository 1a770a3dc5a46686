"""Tries a Kinesis stream without writing to it, for `telemetryd check --probe`.

Two calls. DescribeStreamSummary says whether the stream exists and takes records; it needs a
permission that the sink itself does not, so a refusal only leaves that unknown. PutRecords, with a
hash key beyond 2^128-1, tries the permission that the sink needs. Kinesis checks that before it
looks at the record, which it then refuses as invalid (Kinesis API Reference, PutRecords). The
record is empty: a service that takes it all the same gets no line.
"""

from __future__ import annotations

from typing import Any, Final

from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.sinks.aws.client import AwsClient
from telemetryd_proto.kinesis import HASH_KEYS

PERMISSION: Final = "kinesis:DescribeStreamSummary"
"""The permission that only the probe asks for, and can do without."""
_READY: Final = ("ACTIVE", "UPDATING")
_RECORD: Final = {"Data": b"", "PartitionKey": "probe", "ExplicitHashKey": str(HASH_KEYS)}


async def try_stream(client: AwsClient, stream: dict[str, str]) -> str:
    """Return what is known about the stream. Raises SinkError where it would take no record."""
    seen = await _describe(client, stream)
    taken = await _offer(client, stream)
    endpoint = client.endpoint
    if taken:
        return f"{endpoint} took an empty record: it is no Kinesis, but would take lines"
    if seen:
        return f"{endpoint} is reachable, the stream is {seen}, and PutRecords is permitted"
    return (
        f"{endpoint} is reachable, and PutRecords is permitted; whether the stream exists is not "
        f"certain without {PERMISSION}"
    )


async def _describe(client: AwsClient, stream: dict[str, str]) -> str:
    """Return the state of the stream; empty if we may not ask, or the service does not know how."""
    try:
        answer = await client.call("describe_stream_summary", **stream)
    except PermanentSinkError as error:
        if error.code in ("access_denied", "invalid_request"):
            return ""
        raise
    found = answer.get("StreamDescriptionSummary")
    summary: dict[str, Any] = found if isinstance(found, dict) else {}
    status = str(summary.get("StreamStatus", ""))
    if not status:
        raise TransientSinkError("garbled_answer", "DescribeStreamSummary names no state")
    if status not in _READY:
        raise TransientSinkError("not_ready", f"the stream is {status}, and takes no records")
    if summary.get("EncryptionType") == "KMS":
        return f"{status} (whether its KMS key may be used is unknown)"
    return status


async def _offer(client: AwsClient, stream: dict[str, str]) -> bool:
    """True if the service took a record that Kinesis refuses. Raises SinkError."""
    try:
        answer = await client.call("put_records", Records=[dict(_RECORD)], **stream)
    except SinkError as error:
        if error.code == "invalid_request":
            return False
        raise
    results: Any = answer.get("Records")
    if not isinstance(results, list) or len(results) != 1:
        raise TransientSinkError("garbled_answer", "PutRecords did not answer for the record")
    return not (isinstance(results[0], dict) and results[0].get("ErrorCode"))

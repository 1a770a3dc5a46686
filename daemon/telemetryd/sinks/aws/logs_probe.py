"""Tries CloudWatch Logs without storing an event, for `telemetryd check --probe`.

PutLogEvents gets one event of 30 days ago, which the service checks permission for, and then
rejects as too old (CloudWatch Logs API Reference, PutLogEvents: 14 days). Where the stream is
missing, it is made, as the sink would: an empty one, always of the same name for templates with
`{instance}`. A group is never made. No permission is asked for that the sink does not need.
"""

from __future__ import annotations

from typing import Final

from telemetryd.errors import PermanentSinkError
from telemetryd.sinks.aws.client import AwsClient

_AGE_SECONDS: Final = 30 * 86_400
_MESSAGE: Final = "telemetryd check --probe: not a line, and too old to be kept"
_EXISTS: Final = "ResourceAlreadyExistsException"


async def try_logs(client: AwsClient, group: str, stream: str, now: float) -> str:
    """Return what is known about the group. Raises SinkError where it would take no event."""
    await client.open()
    names = {"logGroupName": group, "logStreamName": stream}
    reachable = f"{client.endpoint} is reachable"
    if await _put(client, names, now):
        return f"{reachable}, log group {group} exists, and PutLogEvents is permitted"
    if not await _create(client, names):
        return (
            f"{reachable}, and PutLogEvents is permitted; log group {group} does not exist. It is "
            "made with the first lines, if logs:CreateLogGroup is permitted, which was not tried"
        )
    return (
        f"{reachable}, log group {group} exists, CreateLogStream and PutLogEvents are permitted; "
        f"the empty log stream {stream} was made"
    )


async def _put(client: AwsClient, names: dict[str, str], now: float) -> bool:
    """Offer an event; False if there is no such stream, or no such group."""
    event = {"timestamp": int((now - _AGE_SECONDS) * 1000), "message": _MESSAGE}
    try:
        await client.call("put_log_events", logEvents=[event], **names)
    except PermanentSinkError as error:
        if error.code != "not_found":
            raise
        return False
    return True


async def _create(client: AwsClient, names: dict[str, str]) -> bool:
    """Make the stream; False if its group is missing."""
    try:
        await client.call("create_log_stream", **names)
    except PermanentSinkError as error:
        if error.code == "not_found":
            return False
        if _EXISTS not in error.detail:
            raise
    return True

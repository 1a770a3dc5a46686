"""Delivers log events to CloudWatch Logs with PutLogEvents, within its limits.

Source: Amazon CloudWatch Logs API Reference, `PutLogEvents`, `CreateLogGroup`, `CreateLogStream`.
The service takes whole calls or none, except for events outside its time window: those it names in
`rejectedLogEventsInfo`, and they are refused here, one by one, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.sinks.aws.client import AwsClient
from telemetryd.sinks.base import ClientName, Failure, SinkContext, WriteResult

MAX_EVENTS: Final = 10_000
"""Events of one call."""
MAX_CALL_BYTES: Final = 1_048_576
"""Bytes of one call: of all messages in UTF-8, and `EVENT_OVERHEAD` for each."""
EVENT_OVERHEAD: Final = 26
MAX_MESSAGE_BYTES: Final = MAX_CALL_BYTES - EVENT_OVERHEAD
MAX_SPAN_MS: Final = 24 * 3600 * 1000
"""Between the first and the last event of one call."""
CONNECT_SECONDS: Final = 2.0
READ_SECONDS: Final = 3.0

_GROUP: Final = r"[.\-_/#A-Za-z0-9]{1,512}"
_STREAM: Final = r"[^:*]{1,512}"
_EXISTS: Final = "ResourceAlreadyExistsException"


class LogEvent(msgspec.Struct, frozen=True, gc=False):
    """The content of one log event."""

    timestamp: int
    """Milliseconds since the Unix epoch."""
    message: bytes
    """UTF-8 text, not empty."""


class LogsDelivery:
    """Writes to one log stream, which it makes, with its group, when they are missing."""

    def __init__(
        self,
        group: str,
        stream: str,
        context: SinkContext,
        *,
        region: str,
        endpoint_url: str,
        client: ClientName = "auto",
    ) -> None:
        self._group = group
        self._stream = stream
        self._client = AwsClient(
            "logs",
            context,
            wanted=client,
            region=region,
            endpoint_url=endpoint_url,
            connect_seconds=CONNECT_SECONDS,
            read_seconds=READ_SECONDS,
        )
        self._exists = False

    @property
    def awaits_answer(self) -> bool:
        """True if a request is fully sent, and only its answer is missing."""
        return self._client.awaits_answer

    def redirect(self, group: str, stream: str) -> None:
        """Write to another stream from now on; it is made by the next write."""
        if (group, stream) != (self._group, self._stream):
            self._group, self._stream = group, stream
            self._exists = False

    async def open(self) -> None:
        """Make the client, and the stream if there is none. Raises SinkError."""
        await self._ready()

    async def write(self, events: Sequence[LogEvent]) -> WriteResult:
        """Put `events`, in as few calls as possible; a Failure names one by its index.

        Raises SinkError when the first call fails.
        """
        client = await self._ready()
        failures = [
            Failure(index, "too_large", retryable=False)
            for index, event in enumerate(events)
            if len(event.message) > MAX_MESSAGE_BYTES
        ]
        calls = list(plan(events))
        for number, call in enumerate(calls):
            try:
                failures += await self._put(client, events, call)
            except SinkError as error:
                if number == 0 and not failures:
                    raise
                retryable = not isinstance(error, PermanentSinkError)
                left = (index for rest in calls[number:] for index in rest)
                failures += [Failure(index, error.code, retryable) for index in left]
                break
        return WriteResult(tuple(failures))

    async def probe(self, now: float) -> str:
        """Try group and stream without storing an event; what that proves. Raises SinkError."""
        from telemetryd.sinks.aws.logs_probe import try_logs  # noqa: PLC0415 - `check --probe` only

        return await try_logs(self._client, self._group, self._stream, now)

    async def close(self) -> None:
        """Close the connections; `open` and `write` make it usable again."""
        await self._client.close()

    async def _ready(self) -> AwsClient:
        await self._client.open()
        while not self._exists:
            wanted = self._group, self._stream
            await self._create(self._client)
            self._exists = wanted == (self._group, self._stream)
        return self._client

    async def _create(self, client: AwsClient) -> None:
        """Make the stream; the group as well, if that is what is missing."""
        names = {"logGroupName": self._group, "logStreamName": self._stream}
        try:
            await _unless_exists(client, "create_log_stream", **names)
        except PermanentSinkError as error:
            if error.code != "not_found":
                raise
            await _unless_exists(client, "create_log_group", logGroupName=self._group)
            await _unless_exists(client, "create_log_stream", **names)

    async def _put(
        self, client: AwsClient, events: Sequence[LogEvent], call: Sequence[int]
    ) -> list[Failure]:
        log_events = [
            {"timestamp": events[i].timestamp, "message": events[i].message.decode()} for i in call
        ]
        try:
            answer = await client.call(
                "put_log_events",
                logGroupName=self._group,
                logStreamName=self._stream,
                logEvents=log_events,
            )
        except PermanentSinkError as error:
            if error.code != "not_found":
                raise
            self._exists = False  # deleted under us: the next attempt makes it again
            raise TransientSinkError("log_stream_missing", error.detail) from error
        return [
            Failure(call[position], code, retryable=False)
            for position, code in rejections(answer.get("rejectedLogEventsInfo"), len(call))
        ]


async def _unless_exists(client: AwsClient, operation: str, **names: str) -> None:
    try:
        await client.call(operation, **names)
    except PermanentSinkError as error:
        if _EXISTS not in error.detail:
            raise


def plan(events: Sequence[LogEvent]) -> Iterator[list[int]]:
    """Yield indices of `events` by call, in order of time, no call beyond a limit.

    Messages too large for any call are left out.
    """
    call: list[int] = []
    size = first = 0
    order = sorted(range(len(events)), key=lambda index: events[index].timestamp)
    for index in order:
        event = events[index]
        cost = len(event.message) + EVENT_OVERHEAD
        if cost > MAX_CALL_BYTES:
            continue
        if call and (
            len(call) >= MAX_EVENTS
            or size + cost > MAX_CALL_BYTES
            or event.timestamp - first >= MAX_SPAN_MS
        ):
            yield call
            call, size = [], 0
        if not call:
            first = event.timestamp
        call.append(index)
        size += cost
    if call:
        yield call


def rejections(info: object, count: int) -> Iterator[tuple[int, str]]:
    """Yield rejected positions in a call of `count` events, each once, with the reason.

    Raises TransientSinkError where the answer's `info` makes no sense: some may have been.
    """
    if info is None:
        return
    if not isinstance(info, Mapping):
        raise TransientSinkError("garbled_answer", "PutLogEvents does not say what it rejected")
    too_new = _bound(info.get("tooNewLogEventStartIndex"), count, count)
    too_old = _bound(info.get("tooOldLogEventEndIndex"), 0, count)
    expired = _bound(info.get("expiredLogEventEndIndex"), 0, count)
    for position in range(count):
        if position < too_old:
            yield position, "too_old"
        elif position < expired:
            yield position, "expired"
        elif position >= too_new:
            yield position, "too_new"


def _bound(index: object, missing: int, most: int) -> int:
    return min(max(index, 0), most) if isinstance(index, int) else missing


def group_problem(name: str) -> str | None:
    """Return why `name` can't be that of a log group, None if it can (`CreateLogGroup`)."""
    if not re.fullmatch(_GROUP, name):
        return "must have 1 to 512 letters, digits and . - _ / #"
    if name.startswith("aws/"):
        return "must not begin with aws/, which is reserved"
    return None


def stream_problem(name: str) -> str | None:
    """Return why `name` can't be that of a log stream, None if it can (`CreateLogStream`)."""
    if not re.fullmatch(_STREAM, name, re.DOTALL):
        return "must have 1 to 512 characters, none of them : or *"
    return None

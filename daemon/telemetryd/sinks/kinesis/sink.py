"""`type = "kinesis"`: records of an Amazon Kinesis data stream, many lines packed in each.

`docs/kinesis.md` explains packings, ids and permissions; `telemetryd_proto.kinesis.decode` gives
consumers the lines back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final, TypeAlias

from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.sinks.aws.client import AwsClient
from telemetryd.sinks.base import (
    DELIVERED,
    Batch,
    Failure,
    Item,
    Sink,
    SinkContext,
    WriteResult,
)
from telemetryd.sinks.kinesis.config import KinesisConfig
from telemetryd.sinks.kinesis.packer import Packer, RecordItem, unpack
from telemetryd_proto.framing import Block
from telemetryd_proto.kinesis import MAX_ENTRIES

Entry: TypeAlias = tuple[int, RecordItem]
"""A record to be sent, with its index in the batch."""

_MAX_CALLS_TO_FIND_THE_CULPRIT: Final = 32
_RECORD_CODES: Final = {
    # code of a refused record: the reason we count it under, and whether it is tried again
    "ProvisionedThroughputExceededException": ("throttled", True),
    "KMSThrottlingException": ("throttled", True),
    "InternalFailure": ("server_error", True),
    "InvalidArgumentException": ("invalid_request", False),
    "ValidationException": ("invalid_request", False),
}


class KinesisSink(Sink):
    """Writes with PutRecords: usually one call a batch; only refused records are written again."""

    Config = KinesisConfig
    item_type = RecordItem

    def __init__(self, config: KinesisConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self._config = config
        self._packer = Packer(config, context)
        self._client = AwsClient(
            "kinesis",
            context,
            wanted=config.client,
            region=config.region or config.arn_region,
            endpoint_url=config.endpoint_url,
            connect_seconds=config.connect_timeout_ms / 1000,
            read_seconds=config.read_timeout_ms / 1000,
            bulk=("PutRecords", "Records"),
        )
        by_arn = config.stream.startswith("arn:")
        self._stream = {"StreamARN" if by_arn else "StreamName": config.stream}

    def on_restore(self, instance: str) -> None:
        """Renew ids: the process continues from a snapshot that others may share.

        `instance` is its new id. Records packed from now on have another random id.
        """
        super().on_restore(instance)
        self._packer.restart(instance)

    async def open(self) -> None:
        """Make the client; nothing is sent."""
        await self._client.open()

    def pack(self, blocks: Sequence[Block]) -> Iterator[Item]:
        """Return records near the target size. A line too large for any is never sent."""
        return self._packer.pack(blocks)

    def unpack(self, item: Item) -> bytes:
        """Return the lines of a record."""
        return unpack(_ours(item))

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """Send each record once, in as few calls as the limits allow, one after the other."""
        failures: list[Failure] = []
        entries: list[Entry] = []
        for index, item in enumerate(batch.items):
            record = _ours(item)
            if record.oversized:
                failures.append(Failure(index, "record_too_large", retryable=False))
            else:
                entries.append((index, record))
        refusals: list[PermanentSinkError] = []
        calls = list(self._calls(entries))
        for number, call in enumerate(calls):
            try:
                failures += await self._send(call, refusals)
            except SinkError as error:
                if number == 0:
                    raise
                # Earlier records are in. The rest is written again, and if there is still
                # something wrong, raises again.
                failures += _fail_all([entry for rest in calls[number:] for entry in rest], error)
                break
        if refusals and sum(failure.code == "invalid_request" for failure in failures) == len(
            batch.items
        ):
            raise refusals[0]
        return WriteResult(tuple(failures)) if failures else DELIVERED

    async def probe(self) -> str:
        """Ask for the stream, and for a record that Kinesis refuses."""
        from telemetryd.sinks.kinesis.probe import try_stream  # noqa: PLC0415 - as the method says

        return await try_stream(self._client, self._stream)

    @property
    def awaits_answer(self) -> bool:
        """True if only the answer of Kinesis is missing."""
        return self._client.awaits_answer

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _calls(self, entries: Sequence[Entry]) -> Iterator[list[Entry]]:
        """Yield runs of entries that fit in one call."""
        call: list[Entry] = []
        size = 0
        for entry in entries:
            item = entry[1]
            adds = len(item.payload) + len(item.key) + len(self._config.explicit_hash_key)
            if call and (len(call) == MAX_ENTRIES or size + adds > self._config.max_request_bytes):
                yield call
                call, size = [], 0
            call.append(entry)
            size += adds
        if call:
            yield call

    async def _send(
        self, entries: list[Entry], refusals: list[PermanentSinkError]
    ) -> list[Failure]:
        """Make one call. If a record makes the whole call invalid, make the calls that find it.

        Each such answer is added to `refusals`.
        """
        failures: list[Failure] = []
        parts = [entries]
        calls = 0
        while parts:
            part = parts.pop()
            calls += 1
            try:
                failures += await self._put(part)
            except SinkError as error:
                if isinstance(error, PermanentSinkError) and error.code == "invalid_request":
                    refusals.append(error)
                    middle = len(part) // 2
                    if middle and calls < _MAX_CALLS_TO_FIND_THE_CULPRIT:
                        parts += [part[middle:], part[:middle]]
                    else:
                        failures += _fail_all(part, error, retryable=False)
                        self._log_refused(error.detail, failures[-len(part) :])
                elif calls == 1:
                    raise
                else:  # the halves before are in, or refused; the rest is written again
                    failures += _fail_all(list(chain(part, *reversed(parts))), error)
                    break
        return failures

    async def _put(self, entries: list[Entry]) -> list[Failure]:
        """Call PutRecords. Return the failures."""
        answer = await self._client.call(
            "put_records",
            Records=[self._request_entry(item) for _, item in entries],
            **self._stream,
        )
        results = answer.get("Records")
        if not isinstance(results, list) or len(results) != len(entries):
            raise TransientSinkError("garbled_answer", "PutRecords did not answer for each record")
        failures: list[Failure] = []
        messages: list[str] = []
        for (index, _), result in zip(entries, results, strict=True):
            if not isinstance(result, dict | None):
                raise TransientSinkError("garbled_answer", "an answer for a record makes no sense")
            facts = result or {}
            code = facts.get("ErrorCode")
            if code:
                reason, retryable = _RECORD_CODES.get(str(code), ("record_refused", True))
                failures.append(Failure(index, reason, retryable))
                messages.append(str(facts.get("ErrorMessage") or ""))
            elif not (isinstance(number := facts.get("SequenceNumber"), str) and number):
                failures.append(Failure(index, "garbled_answer", retryable=True))
        if _count(answer.get("FailedRecordCount")) > len(failures):
            raise TransientSinkError(
                "garbled_answer", "PutRecords does not say which records failed"
            )
        if failures:
            self._log_refused(next(filter(None, messages), ""), failures)
        return failures

    def _request_entry(self, item: RecordItem) -> dict[str, Any]:
        entry: dict[str, Any] = {"Data": item.payload, "PartitionKey": item.key}
        if self._config.explicit_hash_key:
            entry["ExplicitHashKey"] = self._config.explicit_hash_key
        return entry

    def _log_refused(self, detail: str, failures: Sequence[Failure]) -> None:
        codes = {failure.code for failure in failures}
        self.context.log.info(
            "records_refused", sink=self.context.name, records=len(failures),
            codes=",".join(sorted(codes)), detail=detail[:500],
        )  # fmt: skip


def _count(said: object) -> int:
    """Return the number of failed records in the response; 0 if that is not a number."""
    return said if isinstance(said, int) else 0


def _ours(item: Item) -> RecordItem:
    if not isinstance(item, RecordItem):
        raise TypeError("the item was not packed by a Kinesis sink")
    return item


def _fail_all(
    entries: Sequence[Entry], error: SinkError, *, retryable: bool = True
) -> list[Failure]:
    return [Failure(index, error.code, retryable) for index, _ in entries]

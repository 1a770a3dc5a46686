"""Reads the shards of a Kinesis stream from offset to offset, by GetRecords, without a lease table.

An offset is what a reader knows of each shard, as JSON can hold it:

    {"shardId-000000000000": {"after": "4959…", "closed": false}, ...}

A shard is read after its parents are at their ends, so that the order of a partition key stays
through a split or a merge. A shard that the stream no longer lists is forgotten.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias

MAX_CALLS = 64
"""GetRecords calls in one turn of a shard: many of them find nothing where a stream is sparse."""
MAX_AT_ONCE = 8
"""Shards that are read at the same time."""

Offset: TypeAlias = dict[str, dict[str, Any]]


class Record(NamedTuple):
    """A record of the stream."""

    shard: str
    sequence: str
    key: str
    arrived: float
    """Seconds since the Unix epoch."""
    data: bytes


class RecordsGone(Exception):  # noqa: N818 - reads as what it is
    """Records of a batch to be repeated are not in the stream any more: its retention is over."""


class Shards:
    """Reads one stream. `max_bytes` of records in one `read`, and an answer (10 MiB) a shard."""

    def __init__(self, client: Any, stream: str, *, max_bytes: int) -> None:
        self._client = client
        self._stream = stream
        self._max_bytes = max_bytes
        self._iterators: dict[str, tuple[str | None, str]] = {}
        """Of each shard: behind which record, and the next iterator. They last 5 minutes."""

    def read(self, start: Offset) -> tuple[list[Record], Offset]:
        """Return the records that follow `start`, in the order of each shard, and where they end.

        A shard that is throttled has its turn in the next call.
        """
        parents = self._list_shards()
        end = {shard: at for shard, at in start.items() if shard in parents}
        ready = [
            shard
            for shard, those in parents.items()
            if not _is_closed(end, shard)
            and all(_is_closed(end, parent) for parent in those if parent in parents)
        ]
        if not ready:
            return [], end
        share = self._max_bytes // len(ready)
        with ThreadPoolExecutor(min(len(ready), MAX_AT_ONCE)) as pool:
            turns = list(pool.map(lambda shard: self._turn(shard, end.get(shard), share), ready))
        for shard, (_, at) in zip(ready, turns, strict=True):
            if at is not None:
                end[shard] = at
        return [record for records, _ in turns for record in records], end

    def read_again(self, start: Offset, end: Offset) -> Iterator[Record]:
        """Yield the records from `start` to `end`, the offsets of an earlier `read`.

        Raises RecordsGone where they are too old.
        """
        for shard, at in end.items():
            after, last = _after(start.get(shard)), at["after"]
            if after != last:
                yield from self._range(shard, after, last)

    def _list_shards(self) -> dict[str, list[str]]:
        """Return the stream's shards, each with its parents."""
        parents: dict[str, list[str]] = {}
        request: dict[str, str] = {"StreamName": self._stream}
        while True:
            answer = self._client.list_shards(**request)
            for shard in answer["Shards"]:
                names = (shard.get("ParentShardId"), shard.get("AdjacentParentShardId"))
                parents[shard["ShardId"]] = [name for name in names if name]
            if not answer.get("NextToken"):
                return parents
            request = {"NextToken": answer["NextToken"]}

    def _turn(
        self, shard: str, at: dict[str, Any] | None, share: int
    ) -> tuple[list[Record], dict[str, Any] | None]:
        """Return the next records of a shard, and its offset behind them."""
        after, found, size = _after(at), [], 0
        for _ in range(MAX_CALLS):
            try:
                records, iterator, behind_ms = self._next(shard, after)
            except self._client.exceptions.ProvisionedThroughputExceededException:
                print(f"{shard} is throttled; its turn comes again", file=sys.stderr)  # boto3 tried
                break
            found += records
            size += sum(len(record.data) for record in records)
            after = records[-1].sequence if records else after
            if iterator is None:
                return found, {"after": after, "closed": True}
            if size >= share or (not records and not behind_ms):
                break
        return found, None if after is None else {"after": after, "closed": False}

    def _range(self, shard: str, after: str | None, last: str) -> Iterator[Record]:
        while True:
            records, iterator, behind_ms = self._next(shard, after)
            for record in records:
                if int(record.sequence) > int(last):
                    raise RecordsGone(f"{shard}: records up to {last} are gone")
                yield record
                if record.sequence == last:
                    return
            after = records[-1].sequence if records else after
            if iterator is None or (not records and not behind_ms):
                raise RecordsGone(f"{shard}: records up to {last} are gone")

    def _next(self, shard: str, after: str | None) -> tuple[list[Record], str | None, int]:
        """Return records behind `after`, the next iterator, and how far behind the tip it is."""
        made_at, iterator = self._iterators.get(shard, (None, ""))
        if not iterator or made_at != after:
            iterator = self._iterator(shard, after)
        try:
            answer = self._client.get_records(ShardIterator=iterator)
        except self._client.exceptions.ExpiredIteratorException:
            answer = self._client.get_records(ShardIterator=self._iterator(shard, after))
        following: str | None = answer.get("NextShardIterator")
        records = [
            Record(
                shard,
                each["SequenceNumber"],
                each["PartitionKey"],
                each["ApproximateArrivalTimestamp"].timestamp(),
                each["Data"],
            )
            for each in answer["Records"]
        ]
        if following is None:
            self._iterators.pop(shard, None)
        else:
            self._iterators[shard] = records[-1].sequence if records else after, following
        return records, following, answer.get("MillisBehindLatest", 0)

    def _iterator(self, shard: str, after: str | None) -> str:
        place = {"ShardIteratorType": "TRIM_HORIZON"}
        if after is not None:
            place = {
                "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
                "StartingSequenceNumber": after,
            }
        answer = self._client.get_shard_iterator(StreamName=self._stream, ShardId=shard, **place)
        iterator: str = answer["ShardIterator"]
        return iterator


def _after(at: dict[str, Any] | None) -> str | None:
    after: str | None = at["after"] if at else None
    return after


def _is_closed(offset: Offset, shard: str) -> bool:
    return shard in offset and bool(offset[shard]["closed"])

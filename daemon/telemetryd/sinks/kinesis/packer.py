"""From blocks to Kinesis records, and back to lines."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

from telemetryd.sinks.base import Item, SinkContext
from telemetryd.sinks.kinesis.chunks import chunks, halves
from telemetryd.sinks.kinesis.config import KinesisConfig
from telemetryd.sinks.kinesis.keys import RequestKeys
from telemetryd_proto.framing import Block
from telemetryd_proto.kinesis import (
    HEADER_BYTES,
    MAX_KEY_CHARS,
    Compression,
    Encoder,
    RecordId,
    UndecodableRecord,
    unwrap,
)

_RANDOM_KEY_BYTES: Final = 54
"""More than a record id as text."""


LINES: Final = "lines"
_PACKED: Final[dict[Compression, str]] = {"none": LINES, "gzip": "gzip", "zstd": "zstd"}


class RecordItem(Item, frozen=True, gc=False):
    """One Kinesis record: `payload` is its data."""

    key: str = ""
    """The partition key."""
    length: int = 0
    """Bytes of the lines it holds; differs from `size` where `fields` were added to them."""
    oversized: bool = False
    """No record can hold this line; `payload` is the line itself, not to be sent."""
    packed: str = ""
    """The packing: `lines`, `kpl`, `gzip` or `zstd`. The item may have waited on disk while the
    configuration changed. Empty: a version that did not say packed it."""


class Packer:
    """Packs for one sink. `draw` gives random bytes."""

    def __init__(
        self,
        config: KinesisConfig,
        context: SinkContext,
        *,
        draw: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._config = config
        self._draw = draw
        self._wall = context.clock.wall
        self._encoder = Encoder(config.packing, config.compression)
        self._packed = "kpl" if config.packing == "kpl" else _PACKED[config.compression]
        self._function = context.function[:MAX_KEY_CHARS]
        self._requests = RequestKeys()
        self.restart(context.instance)

    def restart(self, instance: str) -> None:
        """Take another identity: this process is now one of several copies of itself."""
        self._instance = instance
        self._process = self._draw(16)
        self._sequence = 0

    def pack(self, blocks: Sequence[Block]) -> Iterator[RecordItem]:
        """Yield records with exactly the lines of `blocks`, in order, made on demand.

        One `pack` must be at its end before the next begins.
        """
        stamp = _iso(self._wall())
        for key, run in self._runs(blocks):
            for chunk in self._chunks(run, key):
                yield from self._records(chunk, key, stamp)

    def _runs(self, blocks: Sequence[Block]) -> Iterable[tuple[str, Sequence[Block]]]:
        config = self._config
        if config.partition_key == "request_id":
            return self._requests.runs(blocks, self._instance)
        fixed = {"instance": self._instance, "function": self._function, "random": ""}
        return [(fixed[config.partition_key], blocks)]

    def _chunks(self, blocks: Sequence[Block], key: str) -> Iterator[Block]:
        config = self._config
        if config.packing == "single":
            return chain.from_iterable(block.split() for block in blocks)
        target = config.record_target_bytes
        room = config.max_record_bytes - (len(key) or _RANDOM_KEY_BYTES)
        if config.packing == "kpl":  # leaves room for what surrounds each line
            target = min(target, room - room // 8)
        elif config.compression == "none":
            target = min(target, room - HEADER_BYTES if config.record_id else room)
        return chunks(blocks, target)

    def _records(self, chunk: Block, run_key: str, stamp: str) -> list[RecordItem]:
        """Return the record of `chunk`, or of its parts if it does not fit in one."""
        record_id = RecordId(self._process, self._sequence)
        key = run_key or str(record_id)
        payload = self._encode(
            chunk.data, key, stamp, record_id if self._config.record_id else None
        )
        fits = len(payload) + len(key) <= self._config.max_record_bytes
        if not fits and chunk.lines > 1:
            first, second = halves(chunk)
            return self._records(first, run_key, stamp) + self._records(second, run_key, stamp)
        if not fits:  # the id may be what is too much
            payload = self._encode(chunk.data, key, stamp, None)
            fits = len(payload) + len(key) <= self._config.max_record_bytes
        self._sequence += 1
        record = RecordItem(
            payload=payload if fits else chunk.data,
            lines=chunk.lines,
            size=len(chunk.data) - chunk.added,
            source=chunk.source,
            offset=chunk.offset,
            received_at=chunk.received_at,
            key=key,
            length=len(chunk.data),
            oversized=not fits,
            packed=self._packed if fits else LINES,
        )
        return [record]

    def _encode(self, lines: bytes, key: str, stamp: str, record_id: RecordId | None) -> bytes:
        return self._encoder.encode(
            lines,
            record_id=record_id,
            key=key,
            hash_key=self._config.explicit_hash_key,
            time=stamp,
        )


def unpack(item: RecordItem) -> bytes:
    """Return the lines of a record as they were packed, whatever the configuration is now.

    Raises UndecodableRecord: it is damaged. ImportError: there is no zstd any more.
    """
    if item.oversized:
        return item.payload
    lines = item.payload[len(item.payload) - item.length :]
    if item.packed == LINES:
        return lines
    if item.packed:
        return unwrap(item.payload, max_bytes=item.length)[1]
    try:  # by an earlier version: what looks packed is, if it holds as many bytes as it should
        found = unwrap(item.payload, max_bytes=item.length)[1]
    except UndecodableRecord:
        return lines
    return found if len(found) == item.length else lines


def _iso(seconds: float) -> str:
    whole, millis = divmod(int(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{millis:03d}Z"

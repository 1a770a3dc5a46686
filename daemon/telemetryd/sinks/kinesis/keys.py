"""Partition keys by request: which lines belong to which, as `platform.start` tells.

Only the lines that mention `platform.start` are decoded, the rest is sliced. On Managed Instances,
where requests overlap, the lines between two starts may belong to either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final

import msgspec

from telemetryd_proto.envelope import decode_line
from telemetryd_proto.errors import DECODE_FAILURES
from telemetryd_proto.framing import Block
from telemetryd_proto.request_ids import usable_id

START: Final = "platform.start"
_MARK: Final = START.encode()
_MAX_SOURCES: Final = 256


class _Start(msgspec.Struct, gc=False, rename="camel"):
    request_id: str


_decode_start = msgspec.json.Decoder(_Start).decode


class RequestKeys:
    """Remembers which request each connection is in."""

    def __init__(self) -> None:
        self._requests: dict[int, str] = {}
        self._latest = ""

    def runs(self, blocks: Sequence[Block], before: str) -> Iterator[tuple[str, list[Block]]]:
        """Yield neighbouring lines of the same request, with its id.

        `before` is the key of lines that come before any `platform.start`. A new connection
        continues with the request that started last on any.
        """
        pieces = (piece for block in blocks for piece in self._pieces(block, before))
        for key, run in groupby(pieces, itemgetter(0)):
            yield key, [piece for _, piece in run]

    def _pieces(self, block: Block, before: str) -> Iterator[tuple[str, Block]]:
        data, at, searched = block.data, 0, 0
        key = self._requests.get(block.source, self._latest)
        while (found := data.find(_MARK, searched)) >= 0:
            begin = data.rfind(b"\n", 0, found) + 1
            searched = data.find(b"\n", found) + 1
            request = _find_started(data[begin:searched])
            if not request or request == key:
                continue
            if begin > at:
                yield key or before, block.slice(at, begin)
            key, at = request, begin
        self._remember(block.source, key)
        yield key or before, block.slice(at, len(data))

    def _remember(self, source: int, key: str) -> None:
        self._latest = key or self._latest
        self._requests.pop(source, None)
        self._requests[source] = key
        if len(self._requests) > _MAX_SOURCES:
            del self._requests[next(iter(self._requests))]


def _find_started(line: bytes) -> str:
    """Return the id of the request that starts in `line`; empty if none does."""
    envelope = decode_line(line)
    if envelope is None or envelope.type != START:
        return ""
    try:
        request = _decode_start(envelope.record).request_id
    except DECODE_FAILURES:
        return ""
    return usable_id(request) if request.isascii() else ""

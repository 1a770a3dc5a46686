"""`type = "http"`: lines POSTed to a URL, as NDJSON or as JSON arrays.

`docs/http.md` explains formats, answers and limits.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final, TypeAlias

from telemetryd import __version__
from telemetryd.errors import PermanentSinkError, SinkError
from telemetryd.http_client.messages import HttpError, Request
from telemetryd.sinks._posting import (
    LIMIT_SECONDS,
    TOO_LARGE,
    compressor,
    make_client,
    place_of,
    without_answer,
)
from telemetryd.sinks.base import (
    DELIVERED,
    Batch,
    Failure,
    Item,
    Sink,
    SinkContext,
    WriteResult,
)
from telemetryd.sinks.http.answers import meaning
from telemetryd.sinks.http.config import HttpConfig
from telemetryd.sinks.http.formats import FORMATS, are_json_lines, is_json, is_json_line
from telemetryd_proto.framing import Block

if TYPE_CHECKING:
    from telemetryd.http_client.client import HttpClient

ITEM_BYTES: Final = 16 * 1024
"""Most bytes of an item of several lines, which is accepted or refused as one."""


class HttpItem(Item, frozen=True, gc=False):
    """A few lines: `payload` is the lines themselves."""

    is_json: bool = False
    """True if each line is known to be JSON. The item may have waited on disk while the
    configuration changed."""


Entry: TypeAlias = tuple[int, Item]
"""An item to be sent, with its index in the batch."""


class HttpSink(Sink):
    """POSTs a batch, usually in one request. Requests that are too large are halved."""

    Config = HttpConfig
    item_type = HttpItem

    def __init__(self, config: HttpConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        place = place_of(config.url)
        if place is None:
            raise ValueError("the url is not usable")
        self._config = config
        self._place = place
        self._format = FORMATS[config.body]
        self._headers = _headers(config, self._format.content_type)
        self._compress: Callable[[bytes], bytes] | None = None
        self._http: HttpClient | None = None
        self._room = config.max_body_bytes
        """Most bytes of a body, as far as is known."""

    async def open(self) -> None:
        """Make the client; nothing is sent."""
        if self._http is not None:
            return
        config = self._config
        self._compress = compressor(config.compression)
        self._http = make_client(
            self.context,
            connect_timeout_ms=config.connect_timeout_ms,
            read_timeout_ms=config.read_timeout_ms,
        )

    async def reopen(self) -> None:
        """Forget which size was too large: somebody may have changed the destination."""
        self._room = self._config.max_body_bytes

    def pack(self, blocks: Sequence[Block]) -> Iterator[Item]:
        """Yield items of a few lines. Where lines must be JSON, one that is not is alone."""
        for block in blocks:
            for piece in block.cut(ITEM_BYTES):
                if not self._format.needs_json:
                    yield _item(piece, is_json=False)
                elif is_json(piece.data, piece.lines):
                    yield _item(piece, is_json=True)
                else:
                    yield from _sift(piece)

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """Send each item once, in as few requests as the limits allow, one after the other."""
        failures: list[Failure] = []
        entries: list[Entry] = []
        for index, item in enumerate(batch.items):
            if fault := self._fault(item):
                failures.append(Failure(index, fault, retryable=False))
            else:
                entries.append((index, item))
        refusals: list[PermanentSinkError] = []
        at = 0
        while at < len(entries):
            end, size = self._fit(entries, at)
            try:
                await self._post(batch, entries[at:end])
            except SinkError as error:
                if not isinstance(error, PermanentSinkError) or error.stops_sink:
                    if at == 0:
                        raise
                    # Earlier requests were answered. The rest is written again, and if there is
                    # still something wrong, raises again.
                    failures += _fail(entries[at:], error.code, retryable=True)
                    break
                if error.code == TOO_LARGE and end - at > 1:
                    self._room = size // 2
                    continue
                refusals.append(error)
                failures += _fail(entries[at:end], error.code, retryable=False)
            at = end
        return self._result(batch, failures, refusals)

    async def probe(self) -> str:
        """POST a body without lines, with everything else as it is for lines."""
        from telemetryd.sinks.http.probe import judge  # noqa: PLC0415 - `check --probe` only

        await self.open()
        assert self._http is not None  # noqa: S101 - `open` made it
        request = self._request(self._format.encode(()), f"probe-{self.context.instance}")
        try:
            answer = await self._http.send(request, limit=LIMIT_SECONDS)
        except HttpError as error:
            raise without_answer(error, request.authority, has_lines=False) from error
        return judge(answer, request.authority, self.context.clock.wall())

    @property
    def awaits_answer(self) -> bool:
        """True if a request is fully sent, and only its answer is missing."""
        return self._http is not None and self._http.awaits_answer

    async def close(self) -> None:
        """Close the connections."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    def _fault(self, item: Item) -> str:
        """Return why the item must not be sent; empty if it may."""
        if len(item.payload) + self._format.surplus > self._config.max_body_bytes:
            return TOO_LARGE
        is_known = isinstance(item, HttpItem) and item.is_json
        if self._format.needs_json and not is_known and not are_json_lines(item.payload):
            return "malformed"
        return ""

    def _fit(self, entries: Sequence[Entry], at: int) -> tuple[int, int]:
        """Return the end of the entries from `at` that fit in one body, and the bytes of it."""
        size, end = self._format.surplus, at
        while end < len(entries):
            adds = len(entries[end][1].payload)
            if end > at and size + adds > self._room:
                break
            size, end = size + adds, end + 1
        return end, size

    async def _post(self, batch: Batch, entries: Sequence[Entry]) -> None:
        """Send one request. Raises SinkError unless the destination accepts it."""
        await self.open()
        assert self._http is not None  # noqa: S101 - `open` made it
        body = self._format.encode([item.payload for _, item in entries])
        keys = " ".join([batch.key(index) for index, _ in entries])  # the same in a retry
        request = self._request(body, f"{batch.batch_id}-{zlib.crc32(keys.encode()):08x}")
        try:
            answer = await self._http.send(request, limit=LIMIT_SECONDS)
        except HttpError as error:
            raise without_answer(error, request.authority) from error
        problem = meaning(answer, request.authority, self.context.clock.wall())
        if problem is not None:
            raise problem

    def _request(self, body: Sequence[bytes], key: str) -> Request:
        if self._compress is not None:
            body = (self._compress(b"".join(body)),)
        place = self._place
        return Request(
            "POST", place.scheme, place.host, place.port, place.target,
            [*self._headers, ("Idempotency-Key", key)], body,
        )  # fmt: skip

    def _result(
        self, batch: Batch, failures: list[Failure], refusals: Sequence[PermanentSinkError]
    ) -> WriteResult:
        """Return the outcome. Raises the first refusal if all items are refused like that."""
        if not refusals:
            return WriteResult(tuple(failures)) if failures else DELIVERED
        codes = {failure.code for failure in failures}
        if len(failures) == len(batch.items) and len(codes) == 1:
            raise refusals[0]
        self.context.log.info(
            "records_refused", sink=self.context.name, records=len(failures),
            codes=",".join(sorted(codes)), detail=refusals[0].detail,
        )  # fmt: skip
        return WriteResult(tuple(failures))


def _headers(config: HttpConfig, content_type: str) -> list[tuple[str, str]]:
    """Return the headers of each request. The user's replace ours."""
    ours = {"User-Agent": f"telemetryd/{__version__}", "Content-Type": content_type}
    if config.compression != "none":
        ours["Content-Encoding"] = config.compression
    if config.token:
        ours["Authorization"] = f"Bearer {config.token}"
    given = {name.lower() for name in config.headers}
    kept = [(name, value) for name, value in ours.items() if name.lower() not in given]
    return [*kept, *config.headers.items()]


def _sift(piece: Block) -> Iterator[Item]:
    """Yield the lines of `piece` that are JSON together, and each other one alone."""
    for good, run in groupby(piece.split(), lambda line: is_json_line(line.data)):
        if good:
            yield _item(Block.join(list(run)), is_json=True)
        else:
            for line in run:
                yield _item(line, is_json=False)


def _item(block: Block, *, is_json: bool) -> HttpItem:
    return HttpItem(
        block.data, block.lines, block.size, block.source, block.offset, block.received_at, is_json
    )


def _fail(entries: Sequence[Entry], code: str, *, retryable: bool) -> list[Failure]:
    return [Failure(index, code, retryable) for index, _ in entries]

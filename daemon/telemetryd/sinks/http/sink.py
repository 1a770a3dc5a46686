"""`type = "http"`: lines POSTed to a URL, as NDJSON, as JSON arrays, or as a vendor wants them.

`docs/http.md` explains formats, presets, answers and limits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

from telemetryd import __version__
from telemetryd.errors import SinkError
from telemetryd.http_client.messages import HttpError, Request
from telemetryd.sinks._attempt import Attempt
from telemetryd.sinks._entries import Entry, Run
from telemetryd.sinks._posting import (
    LIMIT_SECONDS,
    Place,
    Trust,
    compressor,
    make_client,
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
from telemetryd.sinks.http.answers import Reply, Verdict
from telemetryd.sinks.http.bodies import FormatBodies
from telemetryd.sinks.http.config import HttpConfig, fill, region_of
from telemetryd.sinks.http.formats import FORMATS, are_json_lines, is_json, is_json_line
from telemetryd_proto.framing import Block

if TYPE_CHECKING:
    from telemetryd.http_client.client import HttpClient
    from telemetryd.sinks.aws.posting import AwsEndpoint

ITEM_BYTES: Final = 256 * 1024
"""Most bytes of an item of several lines, which become a fragment of a body together."""
ITEMS_IN_A_BODY: Final = 4
"""At least so many items of several lines fit in a body, so that bodies are nearly full."""

_NOWHERE: Final = Place("https", "", 443, "/")
"""The place before the endpoint of a region is found."""


class HttpItem(Item, frozen=True, gc=False):
    """A few lines: `payload` is the lines themselves."""

    is_json: bool = False
    """True if each line is known to be JSON. The item may have waited on disk while the
    configuration changed."""
    packed_at: int = 0
    """Nanoseconds since the epoch when it was packed: the time of lines that have none."""


class HttpSink(Sink):
    """POSTs a batch, usually in one request. What is too large or refused is sent in parts."""

    Config = HttpConfig
    item_type = HttpItem

    def __init__(self, config: HttpConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self._config = config
        self._make_format()
        self._compress: Callable[[bytes], bytes] | None = None
        self._http: HttpClient | None = None
        self._aws = self._make_signer()

    def on_restore(self, instance: str) -> None:
        """Renew ids: labels may hold that of the process."""
        super().on_restore(instance)
        self._make_format()

    async def open(self) -> None:
        """Make the client; nothing is sent."""
        if self._aws is not None:
            self._aws.check()
            self._place = self._aws.place()
        if self._http is not None:
            return
        config = self._config
        self._compress = compressor(config.compression)
        self._http = make_client(
            self.context,
            connect_timeout_ms=config.connect_timeout_ms,
            read_timeout_ms=config.read_timeout_ms,
            trust=Trust(config.certificate, config.client_certificate, config.client_key),
        )

    async def reopen(self) -> None:
        """Forget which size was too large: somebody may have changed the destination."""
        self._bodies.room = self._bodies.max_bytes

    def pack(self, blocks: Sequence[Block]) -> Iterator[Item]:
        """Yield items of a few lines. Where JSON matters, a line that is none is alone."""
        form = self._format
        now = int(self.context.clock.wall() * 1e9)
        item_bytes = min(ITEM_BYTES, self._bodies.max_bytes // ITEMS_IN_A_BODY)
        for block in blocks:
            for piece in _cut(block, item_bytes, form.max_lines):
                if form.json == "ignored":
                    yield _item(piece, now, is_json=False)
                elif is_json(piece.data, piece.lines):
                    yield _item(piece, now, is_json=True)
                else:
                    yield from _sift(piece, now, alone=form.json == "needed")

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """Send each line once, in as few requests as the limits allow, one after the other."""
        now = self.context.clock.loop
        sending = Attempt(batch, self._bodies, self._post, now=now, deadline=deadline)
        ready: Run = []
        for index, item in enumerate(batch.items):
            entry = Entry(index, item)
            if self._format.json == "needed" and not _is_json(item):
                sending.tally.fail([entry], "malformed", retryable=False)
            else:
                ready.append(entry)
        await sending.send(ready)
        return self._result(batch, sending)

    async def probe(self) -> str:
        """POST a body without lines, with everything else as it is for lines."""
        from telemetryd.sinks.http.probe import judge  # noqa: PLC0415 - `check --probe` only

        await self.open()
        assert self._http is not None  # noqa: S101 - `open` made it
        form = self._format
        empty = (form.opening, form.closing) if form.surplus else ()
        request = await self._sign(self._request(empty, f"probe-{self.context.instance}"))
        try:
            answer = await self._http.send(request, limit=LIMIT_SECONDS)
        except HttpError as error:
            raise without_answer(error, request.authority, has_lines=False) from error
        return judge(form, Reply(answer, request.authority, self.context.clock.wall(), 0))

    @property
    def awaits_answer(self) -> bool:
        """True if a request is fully sent, and only its answer is missing."""
        return self._http is not None and self._http.awaits_answer

    async def close(self) -> None:
        """Close the connections."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    def _make_format(self) -> None:
        """Set what depends on the process: its name and id may be in labels."""
        config, context = self._config, self.context
        place, chosen = config.place or _NOWHERE, config.chosen
        names = {"function": context.function, "version": context.version}
        labels = {
            name: fill(value, **names, instance=context.instance)
            for name, value in config.all_labels.items()
        }
        form = FORMATS[config.body] if chosen is None else chosen.make(labels)
        target = fill(place.target, **names, instance=context.instance)
        self._place = place._replace(target=target)
        self._format = form
        self._bodies = FormatBodies(form, config.body_bytes)
        self._headers = _headers(config, form.content_type, labels)

    async def _post(self, body: Sequence[bytes], lines: int, key: str) -> Verdict:
        """Send one request. Raises SinkError if the answer is not about its lines."""
        await self.open()
        assert self._http is not None  # noqa: S101 - `open` made it
        request = await self._sign(self._request(body, key))
        try:
            answer = await self._http.send(request, limit=LIMIT_SECONDS)
        except HttpError as error:
            raise without_answer(error, request.authority) from error
        now = self.context.clock.wall()
        reply = Reply(answer, request.authority, now, lines)
        return self._format.judge(reply) if self._aws is None else self._judge(reply, self._aws)

    def _judge(self, reply: Reply, aws: AwsEndpoint) -> Verdict:
        """Return the fate of lines. Raises SinkError, also for what AWS says of a signature."""
        try:
            verdict = self._format.judge(reply)
            problem: SinkError | None = verdict.refusal
        except SinkError as error:
            raise aws.on_answer(reply.answer, error) or error from error
        found = aws.on_answer(reply.answer, problem)
        if found is not None and found is not problem:
            raise found
        return verdict

    async def _sign(self, request: Request) -> Request:
        return request if self._aws is None else await self._aws.sign(request)

    def _make_signer(self) -> AwsEndpoint | None:
        config, chosen = self._config, self._config.chosen
        if chosen is None or not config.signs_for:
            return None
        from telemetryd.sinks.aws.posting import AwsEndpoint  # noqa: PLC0415 - only where needed

        return AwsEndpoint(
            config.signs_for, chosen.path, self.context, os.environ,
            region=region_of(config.url), place=config.place,
        )  # fmt: skip

    def _request(self, body: Sequence[bytes], key: str) -> Request:
        if self._compress is not None:
            body = (self._compress(b"".join(body)),)
        place = self._place
        return Request(
            "POST", place.scheme, place.host, place.port, place.target,
            [*self._headers, ("Idempotency-Key", key)], body,
        )  # fmt: skip

    def _result(self, batch: Batch, sending: Attempt) -> WriteResult:
        """Return the outcome. Raises the first refusal if all items are refused like that."""
        failures = sending.tally.failures()
        if not failures:
            return DELIVERED
        result = WriteResult(failures)
        codes = {failure.code for failure in failures}
        if sending.refused and len(codes) == 1 and result.refuses_all_of(batch):
            raise sending.refused[0]
        if sending.details:
            self.context.log.info(
                "records_refused", sink=self.context.name, requests=sending.requests,
                records=sum(_lines_of(batch, failure) for failure in failures),
                codes=",".join(sorted(codes)), detail=sending.details[0],
            )  # fmt: skip
        return result


def _lines_of(batch: Batch, failure: Failure) -> int:
    return (batch.items[failure.index] if failure.part is None else failure.part).lines


def _headers(
    config: HttpConfig, content_type: str, labels: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Return the headers of each request. The user's replace ours."""
    ours = {"User-Agent": f"telemetryd/{__version__}", "Content-Type": content_type}
    if config.compression != "none":
        ours["Content-Encoding"] = config.compression
    chosen = config.chosen
    if config.token:
        name, prefix = ("Authorization", "Bearer ") if chosen is None else chosen[1:3]
        ours[name] = f"{prefix}{config.token}"
    if chosen is not None:
        ours |= {chosen.headers[name]: labels[name] for name in chosen.headers}
    given = {name.lower() for name in config.headers}
    kept = [(name, value) for name, value in ours.items() if name.lower() not in given]
    return [*kept, *config.headers.items()]


def _cut(block: Block, max_bytes: int, max_lines: int) -> Iterator[Block]:
    """Yield the lines of `block` in blocks for an item each."""
    for piece in block.cut(max_bytes):
        if not 0 < max_lines < piece.lines:
            yield piece
            continue
        lines = list(piece.split())
        for start in range(0, len(lines), max_lines):
            yield Block.join(lines[start : start + max_lines])


def _sift(piece: Block, now: int, *, alone: bool) -> Iterator[Item]:
    """Yield the lines of `piece` that are JSON together, and the others; with `alone` each of them.

    So that a line that is lost takes no other with it.
    """
    for good, run in groupby(piece.split(), lambda line: is_json_line(line.data)):
        if good or not alone:
            yield _item(Block.join(list(run)), now, is_json=good)
        else:
            for line in run:
                yield _item(line, now, is_json=False)


def _item(block: Block, now: int, *, is_json: bool) -> HttpItem:
    return HttpItem(
        block.data, block.lines, block.size, block.source, block.offset, block.received_at,
        is_json, now,
    )  # fmt: skip


def _is_json(item: Item) -> bool:
    is_known = isinstance(item, HttpItem) and item.is_json
    return is_known or are_json_lines(item.payload)

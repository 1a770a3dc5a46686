"""`type = "ndjson"`: batches of lines, POSTed as NDJSON to a URL."""

# ruff: noqa: PLR2004 - status codes of HTTP
from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Annotated

import aiohttp
from msgspec import Meta

from telemetryd import sink
from telemetryd.sink import PermanentSinkError, SinkError, TransientSinkError

URL = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:[1-9][0-9]{0,4})?([/?]\S*)?")


class HttpConfig(sink.SinkConfig, frozen=True, kw_only=True):
    """`[sinks.<name>]` with `type = "ndjson"`."""

    url: Annotated[str, Meta(max_length=2048)]
    """The URL to POST to."""
    token: str = ""
    """Sent as `Authorization: Bearer <token>`. Empty: none is sent."""

    def problems(self) -> Iterator[str]:
        """Yield faults that types and limits can't express, as `"key: text"`."""
        if not URL.fullmatch(self.url):
            yield "url: must look like https://host/path or http://host:port/path"
        if not (self.token.isascii() and self.token.isprintable()):
            yield "token: must be printable ASCII, in one line"


class HttpSink(sink.Sink):
    """One POST per batch; a batch the server calls too large is sent item by item."""

    Config = HttpConfig
    _session: aiohttp.ClientSession

    def __init__(self, config: HttpConfig, context: sink.SinkContext) -> None:
        super().__init__(config, context)
        self._config = config
        self._resources, self._split = AsyncExitStack(), ""

    async def open(self) -> None:
        """Make the client. It connects when there is something to send; the worker limits time."""
        await self.close()
        headers = {"Content-Type": "application/x-ndjson"}
        if self._config.token:
            headers["Authorization"] = f"Bearer {self._config.token}"
        no_limit = aiohttp.ClientTimeout()
        own = aiohttp.ClientSession(headers=headers, timeout=no_limit, trust_env=True)
        self._session = await self._resources.enter_async_context(own)

    async def write(self, batch: sink.Batch, *, attempt: int, deadline: float) -> sink.WriteResult:
        """Deliver the batch, or what the server takes of it."""
        indices = range(len(batch.items))
        if self._split != batch.batch_id:  # else a request would join what was sent apart
            error = await self._post(batch, indices)
            if error is None:
                return sink.DELIVERED
            if error.code != "too_large" or len(batch.items) == 1:
                raise error
            self._split = batch.batch_id
        errors = [await self._post(batch, [index]) for index in indices]
        failures = (
            sink.Failure(index, error.code, retryable=isinstance(error, TransientSinkError))
            for index, error in enumerate(errors)
            if error is not None
        )
        return sink.WriteResult(tuple(failures))

    async def _post(self, batch: sink.Batch, indices: Sequence[int]) -> SinkError | None:
        """Send one request; None when the server has accepted it."""
        lines = b"".join(batch.items[index].payload for index in indices)
        keys = " ".join(map(batch.key, indices))  # the same in a retry
        key = {"Idempotency-Key": f"{batch.batch_id}-{zlib.crc32(keys.encode()):08x}"}
        post, body = self._session.post, io.BytesIO(lines)
        try:
            async with post(self._config.url, data=body, headers=key, allow_redirects=False) as got:
                status, wait = got.status, got.headers.get("Retry-After", "")
        except (aiohttp.ClientError, OSError) as error:
            return TransientSinkError("unreachable", f"{type(error).__name__}: {error}")
        if status < 300:
            return None
        if status in (408, 425, 429) or status >= 500:
            seconds = float(wait) if wait.isdecimal() else 0
            return TransientSinkError(f"http_{status}", retry_after=seconds)
        if status == 413:
            return PermanentSinkError("too_large", f"{len(lines)} bytes in one request")
        return PermanentSinkError(f"http_{status}", stops_sink=status not in (400, 422))

    async def close(self) -> None:
        """Close the client and its connections."""
        await self._resources.aclose()

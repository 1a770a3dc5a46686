"""The client of an AWS service: the lean one or aiobotocore, loaded when a sink is opened."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from typing import Any, Final, Protocol

from telemetryd.sinks.aws.choice import choose
from telemetryd.sinks.base import ClientName, SinkContext

_LEAN: Final = "telemetryd.sinks.aws.lean"
_FULL: Final = "telemetryd.sinks.aws.full"
_REGION: Final = r"[a-z]{2,}(-[a-z]+)+-[0-9]+"
_HOST_LABEL: Final = r"(?![0-9]+$)(?!-)[a-zA-Z0-9-]{1,63}(?<!-)"
_PLAIN_URL: Final = r"https?://[A-Za-z0-9.-]+(:[1-9][0-9]{0,3})?/?"


def region_problems(region: str, endpoint_url: str = "") -> Iterator[str]:
    """Yield faults of `region`, as `"key: text"`. An empty one is not set.

    A service of your own, at `endpoint_url`, may call its region as it likes: then it need only be
    what AWS's libraries take.
    """
    form = _HOST_LABEL if endpoint_url else _REGION
    if region and not re.fullmatch(form, region):
        yield "region: must be the name of a region, such as eu-west-1"


def endpoint_problems(url: str) -> Iterator[str]:
    """Yield faults of `url` as an endpoint, as `"key: text"`. An empty one is not set."""
    if not url or re.fullmatch(_PLAIN_URL, url):
        return
    from urllib.parse import urlsplit  # noqa: PLC0415 - 3 ms that a usual URL does not need

    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as a port that is no number
        usable = False
    if not usable or any(char.isspace() for char in url):
        yield "endpoint_url: must look like https://host or http://host:port"


class Opened(Protocol):
    """The face of both clients. Errors are SinkErrors."""

    @property
    def endpoint(self) -> str:
        """The URL requests go to."""

    @property
    def awaits_answer(self) -> bool:
        """True if a request is fully sent, and only its answer is missing."""

    async def open(self) -> None:
        """Make ready, unless it is."""

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Make one request."""

    async def close(self) -> None:
        """Close the connections."""


class AwsClient:
    """A client of one AWS service, which can be made again: for fresh credentials, after a close.

    `wanted`: the key `client` of the sink. `region` and `endpoint_url`: empty for what the
    environment says. Time-outs are in seconds. `bulk`: an operation and the one of its parameters
    that is too large for botocore's encoder.
    """

    def __init__(
        self,
        service: str,
        context: SinkContext,
        *,
        wanted: ClientName,
        region: str,
        endpoint_url: str,
        connect_seconds: float,
        read_seconds: float,
        bulk: tuple[str, str] | None = None,
    ) -> None:
        self._service = service
        self._context = context
        self._wanted = wanted
        self._region = region
        self._endpoint_url = endpoint_url
        self._seconds = (connect_seconds, read_seconds)
        self._bulk = bulk
        self._inner: Opened | None = None

    @property
    def endpoint(self) -> str:
        """The URL requests go to, empty before `open`."""
        return "" if self._inner is None else self._inner.endpoint

    @property
    def awaits_answer(self) -> bool:
        """True if a request is fully sent, and only its answer is missing."""
        return self._inner is not None and self._inner.awaits_answer

    async def open(self) -> None:
        """Choose and make the client, unless it exists. Sends nothing to the service.

        Raises SinkError: no aiobotocore, no region, no credentials, a configuration that AWS's
        tools refuse.
        """
        if self._inner is None:
            self._inner = self._make()
        await self._inner.open()

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Make one request, such as `call("put_records", Records=...)`. Return the parsed answer.

        Raises SinkError. Credentials that are refused as expired are looked up again, once: that
        raises TransientSinkError, and PermanentSinkError when the new ones are refused as well.
        """
        if self._inner is None:
            await self.open()
        assert self._inner is not None  # noqa: S101 - `open` made it
        return await self._inner.call(operation, **parameters)

    async def close(self) -> None:
        """Close its connections. May be called twice; `open` and `call` make it usable again."""
        if self._inner is not None:
            await self._inner.close()

    def _make(self) -> Opened:
        context = self._context
        choice = choose(self._wanted, os.environ, in_lambda=context.in_lambda)
        if choice.is_forced:
            context.log.info(
                "aws_client_chosen", sink=context.name, client=choice.name, reason=choice.reason
            )
        connect_seconds, read_seconds = self._seconds
        made: Opened
        if choice.is_lean:
            made = importlib.import_module(_LEAN).LeanClient(
                self._service, context, region=self._region, endpoint_url=self._endpoint_url,
                connect_seconds=connect_seconds, read_seconds=read_seconds,
            )  # fmt: skip
        else:
            made = importlib.import_module(_FULL).FullClient(
                self._service, self._region or None, self._endpoint_url or None,
                connect_seconds, read_seconds, self._bulk,
            )  # fmt: skip
        return made

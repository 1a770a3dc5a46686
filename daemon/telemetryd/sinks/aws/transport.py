"""The transport of aiobotocore: sessions, configuration, connections that end at a freeze.

Imports aiobotocore; only `_aws` may import this, and only when a sink is opened.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import aiohttp
import msgspec
from aiobotocore import session as aio
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from botocore import loaders
from botocore.exceptions import (
    ConnectionClosedError,
    HTTPClientError,
    ReadTimeoutError,
)
from botocore.parsers import ResponseParserError

from telemetryd.clock import SYSTEM

IDLE_SECONDS: Final = 5.0
"""After so long without a request its connection is not trusted any more: an environment may have
been frozen since, and the server, or a NAT between, may have hung up unheard."""

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""Of the body of an answer. 500 refused records with a message each are 300 kB."""

_BULK: Final = "telemetryd_bulk"
"""The key in a request's context for the data of `encode_in_bulk`."""


class RenewingSession(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore is not typed
    """Renews connections after a pause, which may have been a freeze."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._last_used = SYSTEM.elapsed()
        self._in_flight = 0

    async def send(self, request: Any) -> Any:
        """Send `request`, over a new connection if the last request was long ago.

        The answer is read here, and no more of it than `MAX_ANSWER_BYTES`.
        """
        idle = SYSTEM.elapsed() - self._last_used
        if idle > IDLE_SECONDS and not self._in_flight:
            await self.close()
            await self.__aenter__()
        self._in_flight += 1
        try:
            request.stream_output = True  # else the answer is read whole, however large
            response = await super().send(request)
            response.raw = _Body(await _read(response.raw, request))
            return response
        finally:
            self._in_flight -= 1
            self._last_used = SYSTEM.elapsed()


class _Body:
    """A body that has been read, as aiobotocore asks for it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self) -> bytes:
        """Return all data."""
        return self._data


async def _read(answer: aiohttp.ClientResponse, request: Any) -> bytes:
    """Return the body of `answer`. Errors are those of aiobotocore's own `send`."""
    body = bytearray()
    try:
        async for piece in answer.content.iter_any():
            body += piece
            if len(body) > MAX_ANSWER_BYTES:
                raise ResponseParserError(f"the answer has more than {MAX_ANSWER_BYTES} bytes")
    except TimeoutError as error:  # aiohttp's are TimeoutErrors too
        raise ReadTimeoutError(endpoint_url=request.url, error=error) from error
    except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError) as error:
        raise ConnectionClosedError(
            error=error, request=request, endpoint_url=request.url
        ) from error
    except aiohttp.ClientError as error:
        raise HTTPClientError(error=error) from error
    finally:
        if not answer.content.at_eof():
            answer.close()
    return bytes(body)


def session() -> Any:
    """Return a session with its own credentials. All sessions share the parsed service models."""
    made = aio.get_session()
    made.register_component("data_loader", _loader(made.get_config_variable("data_path")))
    return made


def encode_in_bulk(client: Any, operation: str, key: str) -> None:
    """Have msgspec encode the parameter `key` of `operation`, as large as it may be.

    botocore encodes in Python: 4 MiB of records delay the event loop five times as long. The
    parameter is taken out before botocore builds the body and put in before it signs, by two of
    its documented events. Its members must bear the names of the wire; bytes become base64.
    """
    model = client.meta.service_model
    if model.resolved_protocol != "json":
        return

    def take(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        context[_BULK] = params.pop(key)

    def put(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        body = msgspec.json.decode(params["body"], type=dict[str, msgspec.Raw])
        params["body"] = msgspec.json.encode({**body, key: context.pop(_BULK)})

    event = f"{model.service_id.hyphenize()}.{operation}"
    client.meta.events.register(f"before-parameter-build.{event}", take)
    client.meta.events.register(f"before-call.{event}", put)


@functools.cache
def _loader(data_path: str | None) -> Any:
    return loaders.create_loader(data_path)


def config(*, connect_timeout: float, read_timeout: float, user_agent: str) -> AioConfig:
    """Return the configuration of a client; time-outs in seconds."""
    return AioConfig(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        retries={"mode": "standard", "total_max_attempts": 1},
        user_agent_extra=user_agent,
        parameter_validation=False,  # our sinks keep to the limits themselves
        connector_args={"keepalive_timeout": IDLE_SECONDS},
        http_session_cls=RenewingSession,
        warm_up_loader_caches=True,  # parses service models in a thread
    )

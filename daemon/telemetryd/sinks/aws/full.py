"""AWS services through aiobotocore: the full client, which reads all that AWS's tools read.

Region, endpoint, FIPS, dual-stack, proxies, certificates and credentials are resolved by botocore,
so they are what any AWS tool would use. Its retries are off (the delivery worker retries), its
time-outs short. Importing it takes some 200 ms of CPU, hence in a thread, and never before a sink
is opened.
"""

from __future__ import annotations

import importlib
import os
from contextlib import AsyncExitStack
from types import ModuleType
from typing import Any, Final

from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.sinks._thread import SinkThread
from telemetryd.sinks.aws.choice import MISSING, is_available

_USER_AGENT: Final = "telemetryd"
_HTTP: Final = "telemetryd.sinks.aws.transport"
_ERRORS: Final = "telemetryd.sinks.aws.errors"
_loaded: Final[list[ModuleType]] = []


def as_sink_error(error: Exception) -> SinkError:
    """Return the error for the delivery worker for an `error` of aiobotocore."""
    if isinstance(error, ImportError):
        return _not_importable(error)
    errors = importlib.import_module(_ERRORS)
    found: SinkError = errors.sink_error(error)
    return found


class FullClient:
    """A client of one AWS service, which can be made again: for fresh credentials, after a close.

    `bulk`: an operation and the one of its parameters that is too large for botocore's encoder.
    """

    def __init__(
        self,
        service: str,
        region: str | None,
        endpoint_url: str | None,
        connect_timeout: float,
        read_timeout: float,
        bulk: tuple[str, str] | None = None,
    ) -> None:
        self._name = service
        self._region = region
        self._endpoint_url = endpoint_url
        self._timeouts = (connect_timeout, read_timeout)
        self._bulk = bulk
        self._client: Any = None
        self._stack: AsyncExitStack | None = None
        self._refreshed = False

    @property
    def endpoint(self) -> str:
        """The URL requests go to, empty before `open`."""
        return "" if self._client is None else str(self._client.meta.endpoint_url)

    @property
    def awaits_answer(self) -> bool:
        """False: aiohttp does not say how much of a request is sent."""
        return False

    async def open(self) -> None:
        """Make the client, unless there is one. Raises SinkError."""
        if self._client is not None:
            return
        try:
            await self._make()
        except SinkError:
            raise
        except ValueError as error:  # "Invalid endpoint: ..." is a plain one
            raise PermanentSinkError("aws_configuration", str(error), stops_sink=True) from error
        except Exception as error:
            raise as_sink_error(error) from error

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Make one request, such as `call("put_records", Records=...)`. Return the parsed answer.

        Raises SinkError. Credentials that are refused as expired are looked up again, once: that
        raises TransientSinkError, and PermanentSinkError when the new ones are refused as well.
        """
        await self.open()
        try:
            answer: dict[str, Any] = await getattr(self._client, operation)(**parameters)
        except Exception as error:
            problem = as_sink_error(error)
            if problem.code != "credentials_expired":
                raise problem from error
            await self.close()  # the next one has no old credentials, whenever that is
            if self._refreshed:
                raise PermanentSinkError(
                    "credentials_refused", problem.detail, stops_sink=True
                ) from error
            self._refreshed = True
            raise problem from error
        self._refreshed = False
        return answer

    async def close(self) -> None:
        """Close its connections. May be called twice; `open` and `call` make it usable again."""
        stack, self._stack, self._client = self._stack, None, None
        if stack is not None:
            await stack.aclose()

    async def _make(self) -> None:
        http = await _import_http()
        session = http.session()  # a new one each time, since it caches its credentials
        region = self._region or session.get_config_variable("region")
        connect_timeout, read_timeout = self._timeouts
        config = http.config(
            connect_timeout=connect_timeout, read_timeout=read_timeout, user_agent=_USER_AGENT
        )
        stack = AsyncExitStack()
        try:
            client = await stack.enter_async_context(
                session.create_client(
                    self._name,
                    # botocore alone reads AWS_DEFAULT_REGION only; other SDKs know this one
                    region_name=region or os.environ.get("AWS_REGION"),
                    endpoint_url=self._endpoint_url,
                    config=config,
                )
            )
            await _require_credentials(session)
            if self._bulk is not None:
                http.encode_in_bulk(client, *self._bulk)
        except BaseException:
            await stack.aclose()
            raise
        self._client, self._stack = client, stack


async def _require_credentials(session: Any) -> None:
    if await session.get_credentials() is None:
        detail = "no AWS credentials found; give the function a role"
        raise PermanentSinkError("no_credentials", detail, stops_sink=True)


async def _import_http() -> ModuleType:
    """Import `_aws_http` with aiobotocore in a thread, so that the loop continues."""
    if not _loaded:  # sys.modules would not tell whether another thread is still at it
        thread = SinkThread("import-aiobotocore")
        try:
            _loaded.append(await thread.run(_import))
        finally:
            thread.close()
    return _loaded[0]


def _import() -> ModuleType:
    importlib.import_module(_ERRORS)
    return importlib.import_module(_HTTP)


def _not_importable(error: ImportError) -> SinkError:
    if not is_available():
        return PermanentSinkError("aiobotocore_missing", MISSING, stops_sink=True)
    if isinstance(error, ModuleNotFoundError):
        detail = f"{error}; pip install 'aiobotocore>=3'"
        return PermanentSinkError("aiobotocore_missing", detail, stops_sink=True)
    return TransientSinkError("aiobotocore_broken", repr(error))

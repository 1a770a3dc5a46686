"""Sends the requests of one signal, and says what the answers mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from telemetryd import __version__
from telemetryd.errors import PermanentSinkError
from telemetryd.http_client.messages import HttpError, Request
from telemetryd.sinks._posting import (
    LIMIT_SECONDS,
    Place,
    compressor,
    make_client,
    without_answer,
)
from telemetryd.sinks.base import SinkContext
from telemetryd.sinks.otlp.answers import error_of, refusal_in
from telemetryd.sinks.otlp.config import OtlpConfig
from telemetryd.sinks.otlp.settings import Settings, settings_of
from telemetryd_proto.otlp.answers import Refusal
from telemetryd_proto.otlp.requests import JSON, PROTOBUF, Signal

if TYPE_CHECKING:
    from telemetryd.http_client.client import HttpClient
    from telemetryd.sinks.aws.posting import AwsEndpoint

_SERVICES: Final[dict[Signal, str]] = {"logs": "logs", "metrics": "monitoring", "traces": "xray"}
_AWS_HEADERS: Final = (("x-aws-log-group", "log_group"), ("x-aws-log-stream", "log_stream"))


class Clients:
    """The HTTP clients of a sink: signals that go to one server share a connection."""

    def __init__(self, config: OtlpConfig, context: SinkContext) -> None:
        self._config = config
        self._context = context
        self._made: dict[tuple[object, ...], HttpClient] = {}

    def get(self, place: Place, settings: Settings) -> HttpClient:
        """Return the client for requests to `place`."""
        key = (*place[:3], settings.read_timeout_ms, settings.trust)
        client = self._made.get(key)
        if client is None:
            client = self._made[key] = make_client(
                self._context,
                connect_timeout_ms=self._config.connect_timeout_ms,
                read_timeout_ms=settings.read_timeout_ms,
                trust=settings.trust,
            )
        return client


class Exporter:
    """Sends requests of `signal`, one after the other, over one connection."""

    def __init__(
        self,
        config: OtlpConfig,
        signal: Signal,
        context: SinkContext,
        environ: Mapping[str, str],
        clients: Clients,
    ) -> None:
        settings = settings_of(config, signal, environ)
        self.signal = signal
        self._config = config
        self._settings = settings
        self._context = context
        self._clients = clients
        self._place = settings.place
        self._aws: AwsEndpoint | None = None
        if config.auth == "sigv4":
            from telemetryd.sinks.aws.posting import AwsEndpoint  # noqa: PLC0415 - only where needed

            self._aws = AwsEndpoint(
                _SERVICES[signal], f"/v1/{signal}", context, environ,
                region=config.region, place=settings.place,
            )  # fmt: skip
        self.is_json = settings.protocol == "http/json"
        self._headers = self._make_headers(signal)
        self._compress: Callable[[bytes], bytes] | None = None
        self._http: HttpClient | None = None

    async def open(self) -> None:
        """Make the client; nothing is sent. Raises SinkError if nothing ever could be."""
        if self._aws is not None:
            self._aws.check()
            self._place = self._aws.place()
        elif self._place is None:
            raise PermanentSinkError("http_configuration", "there is no endpoint", stops_sink=True)
        if self._http is not None:
            return
        assert self._place is not None  # noqa: S101 - found above
        self._compress = compressor(self._settings.compression)
        self._http = self._clients.get(self._place, self._settings)

    @property
    def awaits_answer(self) -> bool:
        """True if a request is fully sent, and only its answer is missing."""
        return self._http is not None and self._http.awaits_answer

    async def post(self, body: Sequence[bytes], *, has_lines: bool = True) -> Refusal:
        """Send one request; return what of it was rejected.

        Raises SinkError: PermanentSinkError without `stops_sink` if the request was refused
        because of some of its items.
        """
        await self.open()
        place = self._place
        assert self._http is not None  # noqa: S101 - `open` made it
        assert place is not None  # noqa: S101 - `open` found it
        if self._compress is not None:
            body = (self._compress(b"".join(body)),)
        request = Request(
            "POST", place.scheme, place.host, place.port, place.target, self._headers, body
        )
        if self._aws is not None:
            request = await self._aws.sign(request)
        try:
            answer = await self._http.send(request, limit=LIMIT_SECONDS)
        except HttpError as error:
            raise without_answer(error, request.authority, has_lines=has_lines) from error
        problem = error_of(answer, request.authority, self._context.clock.wall())
        if self._aws is not None:
            problem = self._aws.on_answer(answer, problem)
        if problem is not None:
            raise problem
        return refusal_in(answer, request.authority, is_json=self.is_json)

    async def close(self) -> None:
        """Close the connection."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    def _make_headers(self, signal: Signal) -> list[tuple[str, str]]:
        config, settings = self._config, self._settings
        headers = [
            ("User-Agent", f"telemetryd/{__version__}"),
            ("Content-Type", JSON if self.is_json else PROTOBUF),
        ]
        if settings.compression != "none":
            headers.append(("Content-Encoding", settings.compression))
        if config.auth == "sigv4" and signal == "logs":
            headers += [(name, getattr(config, key)) for name, key in _AWS_HEADERS]
        return [*headers, *settings.headers.items()]


async def probe_signal(exporter: Exporter, empty: Sequence[bytes]) -> str:
    """Send the request `empty`, without items. Return what that says. Raises SinkError."""
    try:
        await exporter.post(empty, has_lines=False)
    except PermanentSinkError as error:
        if error.stops_sink:
            raise
        return (
            f"{error.detail} to a request without {exporter.signal}: it is reachable; whether it "
            "takes any is unknown"
        )
    return f"the server takes a request without {exporter.signal}"

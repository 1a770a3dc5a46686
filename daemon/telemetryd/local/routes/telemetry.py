"""The Telemetry API, `PUT /2022-07-01/telemetry`, and its predecessor, `PUT /2020-08-15/logs`.

Sources: "Lambda Telemetry API reference", "Using the Lambda Logs API".

AWS's prose, its published request schema and observations of the service differ. The strictest
reading is used. The connection of a TCP subscription is made while the PUT is answered. If the
subscription is refused after that, the connection stays and never carries anything, as observed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from telemetryd.local.api.server import LOGS, TELEMETRY, Refused, RefusedCall, refuse_all
from telemetryd.local.events import CURRENT_SCHEMA, LOGS_SCHEMAS, SCHEMAS, platform_event
from telemetryd.local.http_bodies import error_answer, json_answer
from telemetryd.local.routes.extensions import to_request, to_response
from telemetryd.local.sandbox import SANDBOX_NAMES, unreachable
from telemetryd.local.senders import HttpSender, NowhereSender, TcpSender, dial
from telemetryd.local.subscriber import Buffering

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from telemetryd.local.api.server import Extension
    from telemetryd.local.generation import Generation
    from telemetryd.local.subscriber import Sender

TYPES = ("platform", "function", "extension")
LIMITS = {
    "maxItems": (1_000, 10_000),
    "maxBytes": (262_144, 1_048_576),
    "timeoutMs": (25, 30_000),
}
"""Smallest and largest value of each member of `buffering`."""
MAX_SUBSCRIPTIONS = 10
"""Most subscriptions of one extension, each with a destination. OpenTelemetry's collector has 2."""
_PORTS = (1_025, 65_535)
_LAMBDA_PORT = 9001


class Subscribe(msgspec.Struct, frozen=True):
    """A checked subscription request."""

    schema: str
    types: list[str]
    buffering: Buffering
    protocol: str
    port: int
    host: str
    """HTTP: the host and port of the URI, as written."""
    path: str
    """HTTP: path and query of the URI."""
    method: str

    @property
    def destination(self) -> tuple[str, int, str]:
        """Its destination. An extension may subscribe once for each."""
        return self.protocol, self.port, self.path


def _refuse_malformed(message: str) -> Refused:
    return Refused("Telemetry.DeserializationError", message, 400)


def _invalid(message: str) -> Refused:
    return Refused("ValidationError", message, 400)


def parse(body: bytes, *, managed: bool, is_logs: bool = False) -> Subscribe:
    """Check a request body against the documented limits. Raises `Refused`.

    `is_logs`: it is for the Logs API, whose oldest schema is the default.
    """
    try:
        wanted: Any = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise _refuse_malformed(f"invalid JSON: {error}") from None
    if not isinstance(wanted, dict):
        raise _refuse_malformed("the request is not an object")
    schema = wanted.get("schemaVersion", LOGS_SCHEMAS[0] if is_logs else None)
    if schema is None:
        raise _refuse_malformed("missing field `schemaVersion`")
    allowed = LOGS_SCHEMAS if is_logs else (CURRENT_SCHEMA,) if managed else SCHEMAS
    if schema not in allowed:
        raise _invalid(f"schemaVersion: value must be one of {', '.join(allowed)}")
    return Subscribe(
        schema,
        _types(wanted.get("types")),
        _buffering(wanted.get("buffering")),
        *_destination(wanted.get("destination")),
    )


def _types(wanted: Any) -> list[str]:
    if wanted is None:
        raise _refuse_malformed("missing field `types`")
    if not isinstance(wanted, list) or not wanted:
        raise _invalid("types: a list of at least one event type is expected")
    for name in wanted:
        if name not in TYPES:
            raise _refuse_malformed(f"unknown variant `{name}`, expected one of {', '.join(TYPES)}")
    if len(set(wanted)) != len(wanted):
        raise _invalid("types: items must be unique")
    return wanted


def _buffering(wanted: Any) -> Buffering:
    if wanted is None:
        return Buffering()
    if not isinstance(wanted, dict):
        raise _refuse_malformed("buffering: an object is expected")
    values: dict[str, int] = {}
    for name, (low, high) in LIMITS.items():
        value = wanted.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            raise _refuse_malformed(f"buffering.{name}: an integer is expected")
        if not low <= value <= high:
            raise _invalid(f"buffering.{name}: {value} is not in {low}..{high}")
        values[name] = value
    default = Buffering()
    return Buffering(
        values.get("maxItems", default.max_items),
        values.get("maxBytes", default.max_bytes),
        values.get("timeoutMs", default.timeout_ms),
    )


def _destination(wanted: Any) -> tuple[str, int, str, str, str]:
    """Return protocol, port, host, path and method."""
    if not isinstance(wanted, dict):
        raise _refuse_malformed("missing field `destination`")
    protocol = wanted.get("protocol")
    if protocol == "TCP":
        port = wanted.get("port")
        if port is None:
            raise _refuse_malformed("missing field `port`")
        if not isinstance(port, int) or isinstance(port, bool):
            raise _refuse_malformed("destination.port: an integer is expected")
        low, high = _PORTS
        if not low <= port <= high or port == _LAMBDA_PORT:
            raise _invalid(f"destination.port: {port} is not in {low}..{high}, or is Lambda's own")
        return protocol, port, "", "", ""
    if protocol != "HTTP":
        raise _refuse_malformed(f"unknown variant `{protocol}`, expected HTTP or TCP")
    return protocol, *_http_destination(wanted)


def _http_destination(wanted: dict[str, Any]) -> tuple[int, str, str, str]:
    uri = wanted.get("URI")
    if not isinstance(uri, str):
        raise _refuse_malformed("missing field `URI`")
    method = wanted.get("method", "POST")
    if method not in ("POST", "PUT"):
        raise _invalid(f"destination.method: {method} is not POST or PUT")
    parts = urlsplit(uri)
    try:
        port = parts.port or 80
    except ValueError:
        raise _invalid(f"destination.URI: {uri} has no valid port") from None
    if parts.scheme != "http":
        raise _invalid("destination.URI: the scheme must be http")
    if parts.hostname not in SANDBOX_NAMES:
        raise Refused(
            "Telemetry.AccessDenied",
            f"Invalid destination: destination.URI host must be {SANDBOX_NAMES[0]}",
        )
    path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    return port, parts.netloc, path, method


class TelemetryApi:
    """The route for subscriptions. `current` gives the living generation, or None."""

    def __init__(self, current: Callable[[], Generation | None]) -> None:
        self._current = current
        self._requests: dict[str, tuple[Generation, list[Subscribe]]] = {}
        """The accepted requests of each extension identifier."""

    def routes(self) -> list[web.RouteDef]:
        """Return the one call. With a trailing slash the answer is 404, as on the emulator."""
        return [web.put(TELEMETRY, self._subscribe), web.put(LOGS, self._subscribe)]

    async def _subscribe(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        generation = self._current()
        if generation is None:
            return to_response(refuse_all(to_request(request, body)))
        is_logs = request.path == LOGS
        api = "Logs" if is_logs else "Telemetry"
        offered, managed = generation.config.telemetry, generation.config.is_managed
        if offered == "unsupported" or (is_logs and managed):
            return error_answer(202, f"{api}.NotSupported", f"{api} API is not supported")
        if offered == "logs" and not is_logs:
            return error_answer(404, "NotFound", "404 page not found")
        outcome = generation.server.receive(to_request(request, body))
        try:
            if isinstance(outcome, RefusedCall):
                raise outcome.refusal
            wanted = parse(body, managed=managed, is_logs=is_logs)
            return await self._accept(generation, outcome.extension, wanted)
        except Refused as refused:
            return error_answer(
                refused.status,
                refused.error_type,
                str(refused),
                plain_text=generation.config.plain_text_errors,
            )

    async def _accept(
        self, generation: Generation, extension: Extension, wanted: Subscribe
    ) -> web.StreamResponse:
        hub = generation.hub
        its_generation, before = self._requests.get(extension.identifier, (generation, []))
        if its_generation is not generation:
            before = []
        if any((each.schema in LOGS_SCHEMAS) != (wanted.schema in LOGS_SCHEMAS) for each in before):
            other = "Telemetry" if wanted.schema in LOGS_SCHEMAS else "Logs"
            raise _invalid(f"already subscribed to the {other} API")
        if hub.open and wanted in before:
            self._announce(generation, extension, wanted, "Already subscribed")
            return json_answer("AlreadySubscribed")
        sender = await self._connect(generation, extension, wanted)
        taken = wanted.destination in {each.destination for each in before}
        if not hub.open or taken or len(before) >= MAX_SUBSCRIPTIONS:
            connection = sender.release() if isinstance(sender, TcpSender) else None
            if connection is not None:
                hub.silent_connections.append(connection)
            else:
                await sender.close()
            if not hub.open:
                raise Refused(
                    "Telemetry.SubscriptionClosed", "Telemetry API subscription is closed"
                )
            raise Refused("InternalServerError", "Internal Server Error", 500)
        hub.subscribe(
            extension.name,
            sender=sender,
            types=wanted.types,
            schema=wanted.schema,
            buffering=wanted.buffering,
        )
        self._requests = {
            identifier: kept for identifier, kept in self._requests.items() if kept[0] is generation
        } | {extension.identifier: (generation, [*before, wanted])}
        self._announce(generation, extension, wanted, "Subscribed")
        return json_answer("OK")

    async def _connect(
        self, generation: Generation, extension: Extension, wanted: Subscribe
    ) -> Sender:
        config = generation.config
        port, sandbox = wanted.port, config.sandbox_address

        def explain() -> None:
            generation.warn(unreachable(extension.name, port, sandbox))

        if not generation.hub.makes_connection:
            return NowhereSender()
        if wanted.protocol == "HTTP":
            return HttpSender(
                f"http://{sandbox}:{port}{wanted.path}",
                wanted.method,
                host=wanted.host,
                source=config.platform_address,
                on_refused=explain,
            )

        async def connect() -> socket.socket:
            try:
                return await dial((sandbox, port), config.platform_address, config.tcp_send_buffer)
            except OSError:
                explain()
                raise

        if config.connect_late:
            return TcpSender(None, connect)
        try:
            return TcpSender(await connect())
        except OSError as error:
            why = os.strerror(error.errno).lower() if error.errno else "i/o timeout"
            raise _invalid(
                "Invalid destination: could not TCP dial provided address "
                f"{sandbox}:{port}: dial tcp {sandbox}:{port}: connect: {why}"
            ) from None

    def _announce(
        self, generation: Generation, extension: Extension, wanted: Subscribe, state: str
    ) -> None:
        generation.hub.platform(
            platform_event(
                "platform.telemetrySubscription",
                {"name": extension.name, "state": state, "types": wanted.types},
            )
        )

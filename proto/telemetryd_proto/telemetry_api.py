"""The Lambda Telemetry API: subscribing to a function's telemetry.

Source: Lambda Developer Guide, "Accessing real-time telemetry data for extensions using the
Telemetry API" and "Lambda Telemetry API reference"; the request schema AWS publishes for the Logs
API, whose shapes this API kept; for what differs between them, AWS's open-source runtime interface
emulator.

The request goes to the address of the Extensions API with its `IDENTIFIER_HEADER`, after the
listener accepts connections (the platform may connect while it answers) and before the extension's
first next.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal, TypeAlias, get_args

import msgspec

SUBSCRIBE_PATH: Final = "/2022-07-01/telemetry"
"""PUT. Fixed, whatever the schema version; with a slash at its end it is 404."""

SchemaVersion: TypeAlias = Literal["2022-07-01", "2022-12-13", "2025-01-29"]
SCHEMA_VERSIONS: Final[tuple[SchemaVersion, ...]] = get_args(SchemaVersion)
"""Oldest first. Managed Instances accept the newest only."""

RESERVED_PORT: Final = 9001
"""Lambda's own."""
MIN_PORT: Final = 1025
MAX_PORT: Final = 65535

MIN_MAX_ITEMS: Final = 1_000
MAX_MAX_ITEMS: Final = 10_000
DEFAULT_MAX_ITEMS: Final = 10_000
"""The platform's default; the API reference says 1,000, all else 10,000."""
MIN_MAX_BYTES: Final = 262_144
MAX_MAX_BYTES: Final = 1_048_576
DEFAULT_MAX_BYTES: Final = 262_144
MIN_TIMEOUT_MS: Final = 25
MAX_TIMEOUT_MS: Final = 30_000
DEFAULT_TIMEOUT_MS: Final = 1_000

SUBSCRIBED_STATUS: Final = 200
"""The only status that means subscribed."""
UNAVAILABLE_STATUS: Final = 202
"""Accepted, but there is no telemetry here: AWS's emulator in its on-demand mode."""
SUBSCRIBED_BODY: Final = b'"OK"'

HTTP_HOSTS: Final = ("sandbox.localdomain", "sandbox")
"""Hosts an HTTP destination may name; the first is the documented one."""
SEQUENCE_ID_HEADER: Final = "Sequence-Id"
"""HTTP delivery: base64 of the body's SHA-256, in AWS's emulator."""


class Stream(StrEnum):
    """Kinds of telemetry that can be subscribed to."""

    PLATFORM = "platform"
    FUNCTION = "function"
    EXTENSION = "extension"
    """Everything extensions print, this one's own output included."""


class TelemetryError(StrEnum):
    """Error types of the API. Compare by `extensions_api.same_error`: the prefix varies."""

    VALIDATION = "Telemetry.ValidationError"
    """400: the request breaks a rule."""
    DESERIALIZATION = "Telemetry.DeserializationError"
    """400: the request has not the form of one."""
    ACCESS_DENIED = "Telemetry.AccessDenied"
    """403: an HTTP host other than `HTTP_HOSTS`."""
    SUBSCRIPTION_CLOSED = "Telemetry.SubscriptionClosed"
    """403: the init phase is over."""
    NOT_SUPPORTED = "Telemetry.NotSupported"
    """202: there is no telemetry here."""


class Buffering(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """The limits of a batch. The platform sends it when the first one is reached.

    Limits are checked after an event is added: a batch can exceed `max_bytes` by one event.
    All three are always sent: sources disagree about the defaults.
    """

    max_items: Annotated[int, msgspec.Meta(ge=MIN_MAX_ITEMS, le=MAX_MAX_ITEMS)] = DEFAULT_MAX_ITEMS
    """Events."""
    max_bytes: Annotated[int, msgspec.Meta(ge=MIN_MAX_BYTES, le=MAX_MAX_BYTES)] = DEFAULT_MAX_BYTES
    timeout_ms: Annotated[int, msgspec.Meta(ge=MIN_TIMEOUT_MS, le=MAX_TIMEOUT_MS)] = (
        DEFAULT_TIMEOUT_MS
    )
    """Milliseconds since the batch's first event."""


class TcpDestination(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="protocol", tag="TCP"
):
    """One JSON object a line to a port of the environment. Has a port, never a URI."""

    port: Annotated[
        int,
        msgspec.Meta(ge=MIN_PORT, le=MAX_PORT, extra_json_schema={"not": {"const": RESERVED_PORT}}),
    ]
    """Any port but `RESERVED_PORT`."""


class HttpDestination(
    msgspec.Struct,
    frozen=True,
    gc=False,
    kw_only=True,
    tag_field="protocol",
    tag="HTTP",
    omit_defaults=True,
):
    """One JSON array of events a request."""

    uri: Annotated[str, msgspec.Meta(pattern="^http://")] = msgspec.field(name="URI")
    """`http://sandbox.localdomain:<port>/`; AWS's emulator drops the path."""
    method: Literal["POST", "PUT"] = "POST"


class SubscriptionRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Body of the subscription."""

    schema_version: SchemaVersion
    types: Annotated[
        tuple[Stream, ...], msgspec.Meta(min_length=1, extra_json_schema={"uniqueItems": True})
    ]
    """Each once."""
    buffering: Buffering = Buffering()
    destination: TcpDestination | HttpDestination

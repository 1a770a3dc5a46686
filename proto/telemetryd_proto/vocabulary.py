"""Words the platform uses in events.

Every set is open: fields hold plain strings, and a word not listed here is kept as it came.

Source: Lambda Developer Guide, "Lambda Telemetry API Event schema reference", and the event schemas
AWS publishes for versions 2022-07-01, 2022-12-13 and 2025-01-29.
"""

from enum import StrEnum


class Status(StrEnum):
    """Outcomes of an invocation, an initialisation or a restore."""

    SUCCESS = "success"
    """The runtime finished its protocol; on-demand functions' handler exceptions are included."""
    ERROR = "error"
    """Runtime or extension broke; on Managed Instances handler exceptions too."""
    FAILURE = "failure"
    """The platform's own problem."""
    TIMEOUT = "timeout"
    """The function's time limit."""


class InitializationType(StrEnum):
    """Kinds of environments, by how they were initialised."""

    ON_DEMAND = "on-demand"
    PROVISIONED_CONCURRENCY = "provisioned-concurrency"
    SNAP_START = "snap-start"
    MANAGED_INSTANCES = "lambda-managed-instances"


class Phase(StrEnum):
    """The phase in which an initialisation ran."""

    INIT = "init"
    INVOKE = "invoke"
    """A suppressed init: repeated inside an invocation."""
    SNAP_START = "snap-start"


class SpanName(StrEnum):
    """Names of the times that spans measure."""

    RESPONSE_LATENCY = "responseLatency"
    """Invocation sent to the runtime, to the first byte of the response."""
    RESPONSE_DURATION = "responseDuration"
    """First byte of the response to the last."""
    RUNTIME_OVERHEAD = "runtimeOverhead"
    """Last byte of the response, to the runtime asking for the next invocation."""
    EXTENSION_OVERHEAD = "extensionOverhead"
    """Runtime done, to the last extension asking for the next event."""

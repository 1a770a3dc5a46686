"""The configuration of an OTLP sink, and its rules."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

from msgspec import Meta, field

from telemetryd.sinks.aws.client import region_problems
from telemetryd.sinks.base import MIB, SinkConfig
from telemetryd.sinks.otlp.settings import Auth, Compressed, FormName, problems_of

if TYPE_CHECKING:
    from telemetryd.sinks.aws_needs import AwsNeed

KIB: Final = 1024
_GROUP: Final = re.compile(r"[.\-_/#A-Za-z0-9]{1,512}")
_STREAM: Final = re.compile(r"[^:*\x00-\x1f\x7f]{1,512}")
_LIMIT: Final = "platform limit, CloudWatch User Guide, OTLP Endpoints"


class OtlpConfig(SinkConfig, frozen=True, kw_only=True):
    """`[sinks.<name>]` with `type = "otlp"`."""

    tuning: ClassVar[frozenset[str]] = SinkConfig.tuning | {
        "compression", "connect_timeout_ms", "max_body_bytes", "read_timeout_ms",
    }  # fmt: skip

    linger_ms: Annotated[int, Meta(ge=0, le=60_000)] = 100
    """Milliseconds that a batch waits for more lines until it is full."""

    endpoint: Annotated[str, Meta(max_length=2048)] = ""
    """Base URL, such as `https://collector.example.com:4318`. `/v1/logs` is added to its path.
    Empty: OTEL_EXPORTER_OTLP_ENDPOINT, or with `auth = "sigv4"` the endpoint of CloudWatch."""
    logs_endpoint: Annotated[str, Meta(max_length=2048)] = ""
    """URL for logs, used as it is. Empty: made of `endpoint`, or without that of
    OTEL_EXPORTER_OTLP_LOGS_ENDPOINT."""
    protocol: FormName | None = None
    """Form of the messages. Not set: OTEL_EXPORTER_OTLP_PROTOCOL, or `http/protobuf`. There is no
    gRPC."""
    token: Annotated[str, Meta(max_length=8192)] = ""
    """Sent as `Authorization: Bearer <token>`. Empty: none is sent."""
    headers: dict[str, str] = field(default_factory=dict)
    """Further headers of each request, such as `{X-Api-Key = "..."}`. They replace those of
    OTEL_EXPORTER_OTLP_HEADERS with the same name. Their values are masked in all output."""
    compression: Compressed | None = None
    """Compression of the body. Not set: OTEL_EXPORTER_OTLP_COMPRESSION, or `none`."""
    certificate: Annotated[str, Meta(max_length=4000)] = ""
    """File of certificate authorities to trust. Empty: OTEL_EXPORTER_OTLP_CERTIFICATE, or those of
    the system."""
    resource: dict[str, str] = field(default_factory=dict)
    """Attributes of the resource, such as `{"service.name" = "orders"}`. They replace those of
    OTEL_RESOURCE_ATTRIBUTES and those that telemetryd finds."""
    auth: Auth = "none"
    """`sigv4`: sign requests for AWS's own endpoints with the credentials of the function."""
    region: Annotated[str, Meta(max_length=64)] = ""
    """AWS region, for `auth = "sigv4"`. Empty: the environment's."""
    log_group: Annotated[str, Meta(max_length=512)] = ""
    """CloudWatch log group, for `auth = "sigv4"`. It must exist."""
    log_stream: Annotated[str, Meta(max_length=512)] = ""
    """CloudWatch log stream, for `auth = "sigv4"`. It must exist."""
    max_body_bytes: Annotated[int, Meta(ge=16 * KIB, le=64 * MIB, extra={"note": _LIMIT})] = MIB
    """Largest body, before compression. A batch that is larger is sent in several requests. A
    larger record is lost as `too_large`."""
    connect_timeout_ms: Annotated[int, Meta(ge=50, le=60_000)] = 3000
    """Most milliseconds to connect, TLS included."""
    read_timeout_ms: Annotated[int, Meta(ge=50, le=60_000)] | None = None
    """Most milliseconds to wait for the next byte of a response. Not set:
    OTEL_EXPORTER_OTLP_TIMEOUT, or 10000."""

    def problems(self) -> Iterator[str]:
        """Yield faults that types and limits can't express, also of what the environment says."""
        yield from problems_of(self, "logs", os.environ)
        yield from region_problems(self.region, self.logs_endpoint or self.endpoint)
        if self.auth == "sigv4":
            yield from self._aws_problems()
        else:
            for key in ("region", "log_group", "log_stream"):
                if getattr(self, key):
                    yield f'{key}: needs auth = "sigv4"'

    def aws_needs(self) -> Iterator[AwsNeed]:
        """Yield the need to write to the log stream; none without `auth = "sigv4"`."""
        if self.auth != "sigv4":
            return
        from telemetryd.sinks.aws_needs import AwsNeed  # noqa: PLC0415 - only for `telemetryd iam`

        group = f"arn:{{partition}}:logs:{{region}}:{{account}}:log-group:{self.log_group}"
        own_url = self.logs_endpoint or self.endpoint
        yield AwsNeed(
            actions=("logs:PutLogEvents",),
            resource=f"{group}:log-stream:{self.log_stream}",
            region=self.region,
            vpc_endpoint="" if own_url else "logs",
            remark="the log group and the log stream must exist",
        )

    def _aws_problems(self) -> Iterator[str]:
        if self.token:
            yield 'token: leave it out with auth = "sigv4", which sets the same header'
        if not _GROUP.fullmatch(self.log_group):
            yield "log_group: must be the name of a log group: 1 to 512 of a-z A-Z 0-9 . - _ / #"
        if not _STREAM.fullmatch(self.log_stream):
            yield "log_stream: must be the name of a log stream: 1 to 512 characters, no : or *"

"""The configuration of an OTLP sink, and its rules."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal

from msgspec import Meta, field

from telemetryd.sinks._posting import key_problems
from telemetryd.sinks.aws.client import region_problems
from telemetryd.sinks.base import MIB, SinkConfig
from telemetryd.sinks.otlp.settings import Auth, Compressed, FormName, Temporality, problems_of
from telemetryd_proto.otlp.requests import Signal

if TYPE_CHECKING:
    from telemetryd.sinks.aws_needs import AwsNeed

KIB: Final = 1024
_GROUP: Final = re.compile(r"[.\-_/#A-Za-z0-9]{1,512}")
_STREAM: Final = re.compile(r"[^:*\x00-\x1f\x7f]{1,512}")
_KEYS: Final[tuple[tuple[str, Signal], ...]] = (
    ("logs_endpoint", "logs"),
    ("metrics_endpoint", "metrics"),
    ("temporality", "metrics"),
    ("traces_endpoint", "traces"),
    ("sampler", "traces"),
)
"""Keys that concern one signal only."""
_AWS: Final[dict[Signal, tuple[str, str, str]]] = {
    "logs": ("logs", "logs:PutLogEvents", "the log group and the log stream must exist"),
    "metrics": ("monitoring", "cloudwatch:PutMetricData", "no narrower resource is possible"),
    "traces": ("xray", "xray:PutTraceSegments", "Transaction Search must be enabled"),
}
"""The service as VPC endpoints name it, the action, and a remark."""
CLOUDWATCH_BYTES: Final = 1_000_000
"""Platform limit, CloudWatch User Guide, OTLP Endpoints."""
DEFAULT_BYTES: Final = 4 * MIB


class OtlpConfig(SinkConfig, frozen=True, kw_only=True):
    """`[sinks.<name>]` with `type = "otlp"`."""

    lets_lines_through: ClassVar[bool] = False
    tuning: ClassVar[frozenset[str]] = SinkConfig.tuning | {
        "compression", "connect_timeout_ms", "max_body_bytes", "read_timeout_ms",
    }  # fmt: skip

    linger_ms: Annotated[int, Meta(ge=0, le=60_000)] = 100
    """Milliseconds that a batch waits for more lines until it is full."""

    endpoint: Annotated[str, Meta(max_length=2048)] = ""
    """Base URL, such as `https://collector.example.com:4318`. `/v1/logs`, `/v1/metrics` or
    `/v1/traces` is added to its path. Empty: OTEL_EXPORTER_OTLP_ENDPOINT, or with `auth = "sigv4"`
    the endpoint of CloudWatch."""
    signals: Annotated[tuple[Signal, ...], Meta(min_length=1)] = ("logs",)
    """`logs`: each line is a log record. `metrics`, `traces`: sums, histograms and spans, made of
    platform events. If one signal must not wait for another, give each a sink of its own."""
    logs_endpoint: Annotated[str, Meta(max_length=2048)] = ""
    """URL for logs, used as it is. Empty: made of `endpoint`, or without that of
    OTEL_EXPORTER_OTLP_LOGS_ENDPOINT."""
    metrics_endpoint: Annotated[str, Meta(max_length=2048)] = ""
    """Like `logs_endpoint`, for metrics: OTEL_EXPORTER_OTLP_METRICS_ENDPOINT."""
    traces_endpoint: Annotated[str, Meta(max_length=2048)] = ""
    """Like `logs_endpoint`, for traces: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT."""
    temporality: Temporality | None = None
    """Sums and histograms since the process began, or since the last ones. Not set:
    OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE, or `cumulative`."""
    sampler: Literal["parent", "always"] = "parent"
    """`parent`: an invocation whose trace header says `Sampled=0` has no spans. `always`: it has.
    Without a header each invocation has spans."""
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
    client_certificate: Annotated[str, Meta(max_length=4000)] = ""
    """File with the certificate, in PEM form, that proves to the server who is sending, with
    those above it. Empty: OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and
    OTEL_EXPORTER_OTLP_CLIENT_KEY, or none."""
    client_key: Annotated[str, Meta(max_length=4000)] = ""
    """File with the key of `client_certificate`, without a password. Empty: it is in the same
    file."""
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
    max_body_bytes: Annotated[int, Meta(ge=16 * KIB, le=64 * MIB)] | None = None
    """Largest body, before compression. A batch that is larger is sent in several requests. A
    larger record is lost as `too_large`. Not set: 4 MiB, or with `auth = "sigv4"` 1000000, the
    limit of CloudWatch."""
    connect_timeout_ms: Annotated[int, Meta(ge=50, le=60_000)] = 3000
    """Most milliseconds to connect, TLS included."""
    read_timeout_ms: Annotated[int, Meta(ge=50, le=60_000)] | None = None
    """Most milliseconds to wait for the next byte of a response. Not set:
    OTEL_EXPORTER_OTLP_TIMEOUT, or 10000."""

    @property
    def most_line_bytes(self) -> int:
        """The largest line: what fits in a body."""
        return self.most_request_bytes

    @property
    def batch_becomes(self) -> str:
        """Requests: a batch is one, or a few."""
        return "requests"

    @property
    def most_request_bytes(self) -> int:
        """The largest body."""
        if self.max_body_bytes is not None:
            return self.max_body_bytes
        return CLOUDWATCH_BYTES if self.auth == "sigv4" else DEFAULT_BYTES

    def problems(self) -> Iterator[str]:
        """Yield faults that types and limits can't express, also of what the environment says."""
        found: dict[str, None] = {}  # signals have most settings in common
        for signal in self.signals:
            found.update(dict.fromkeys(problems_of(self, signal, os.environ)))
            found.update(dict.fromkeys(region_problems(self.region, self._url_of(signal))))
        yield from found
        yield from key_problems(self.client_certificate, self.client_key)
        yield from self._signal_problems()
        if self.auth == "sigv4":
            yield from self._aws_problems()
        else:
            for key in ("region", "log_group", "log_stream"):
                if getattr(self, key):
                    yield f'{key}: needs auth = "sigv4"'

    def aws_needs(self) -> Iterator[AwsNeed]:
        """Yield what each signal needs; nothing without `auth = "sigv4"`."""
        if self.auth != "sigv4":
            return
        from telemetryd.sinks.aws_needs import AwsNeed  # noqa: PLC0415 - only for `telemetryd iam`

        for signal in self.signals:
            service, action, remark = _AWS[signal]
            resource = "*"
            if signal == "logs":
                group = f"arn:{{partition}}:logs:{{region}}:{{account}}:log-group:{self.log_group}"
                resource = f"{group}:log-stream:{self.log_stream}"
            yield AwsNeed(
                actions=(action,),
                resource=resource,
                region=self.region,
                vpc_endpoint="" if self._url_of(signal) else service,
                remark=remark,
            )

    def _url_of(self, signal: Signal) -> str:
        """Return the URL that the configuration gives for `signal`; empty for none."""
        own: str = getattr(self, f"{signal}_endpoint")
        return own or self.endpoint

    def _signal_problems(self) -> Iterator[str]:
        if len(set(self.signals)) < len(self.signals):
            yield "signals: names a signal twice"
        for key, signal in _KEYS:
            if signal not in self.signals and getattr(self, key) not in ("", None, "parent"):
                yield f'{key}: needs "{signal}" in signals'

    def _aws_problems(self) -> Iterator[str]:
        if self.token:
            yield 'token: leave it out with auth = "sigv4", which sets the same header'
        if "logs" not in self.signals:
            for key in ("log_group", "log_stream"):
                if getattr(self, key):
                    yield f'{key}: needs "logs" in signals'
            return
        if not _GROUP.fullmatch(self.log_group):
            yield "log_group: must be the name of a log group: 1 to 512 of a-z A-Z 0-9 . - _ / #"
        if not _STREAM.fullmatch(self.log_stream):
            yield "log_stream: must be the name of a log stream: 1 to 512 characters, no : or *"

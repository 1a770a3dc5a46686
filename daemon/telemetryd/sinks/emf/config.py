"""The configuration of an EMF sink, and checks for values that CloudWatch would refuse."""

# No `from __future__ import annotations`: it leaves texts, which msgspec compiles at every start.
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from telemetryd import DOCS
from telemetryd.sinks.aws.choice import MISSING, is_available
from telemetryd.sinks.aws.client import endpoint_problems, region_problems
from telemetryd.sinks.aws.logs import group_problem, stream_problem
from telemetryd.sinks.base import ClientName, SinkConfig, SinkContext
from telemetryd.sinks.emf import prices as _emf_prices
from telemetryd.sinks.emf.catalogue import (
    DEFAULT_METRICS,
    DIMENSIONS,
    METRIC_NAMES,
    OWN_METRICS,
    PROPERTIES,
    SYSTEM_METRICS,
)
from telemetryd_proto.emf import (
    MAX_DIMENSIONS,
    MAX_DOCUMENT_BYTES,
    MAX_NAMESPACE,
    dimension_name_problem,
    dimension_value_problem,
    namespace_problem,
)

if TYPE_CHECKING:
    from telemetryd.sinks.aws_needs import AwsNeed

_FUNCTION: Final = "function"
_MAX_PROPERTIES: Final = 30
_MAX_COMMON_BYTES: Final = MAX_DOCUMENT_BYTES // 2
"""Bytes of each document for dimension sets and properties. The rest is for values."""
_PLACEHOLDER: Final = r"\{([^{}]*)\}"
_PLACEHOLDERS: Final = ("function", "version", "instance")
_PRICE: Final = "AWS Lambda Pricing"
_METRIC_PRICE: Final = "Amazon CloudWatch Pricing"
_ERRORS: Final = "errors"
_MAX_DIMENSION_SETS: Final = 100


class EmfConfig(SinkConfig, frozen=True, kw_only=True):
    """`[sinks.<name>]` with `type = "emf"`."""

    tuning: ClassVar[frozenset[str]] = SinkConfig.tuning | {
        "client", "count_log_errors", "forward_emf", "metrics", "price_arm64", "price_metric",
        "price_request", "price_x86_64", "resolution", "self_metrics",
    }  # fmt: skip

    lets_lines_through: ClassVar[bool] = False

    types: tuple[str, ...] = ("platform",)
    """Event types the sink gets. `function` is added if `forward_emf` or the exceptions among the
    `errors` need it."""
    linger_ms: Annotated[int, Meta(ge=0, le=60_000)] = 1000
    """Milliseconds that a batch waits for more lines until it is full. Events of one batch share
    documents."""
    namespace: Annotated[str, Meta(min_length=1, max_length=MAX_NAMESPACE)] = "telemetryd"
    """CloudWatch namespace of the metrics."""
    dimensions: Annotated[
        tuple[tuple[str, ...], ...], Meta(min_length=1, max_length=_MAX_DIMENSION_SETS)
    ] = (("function_name",),)
    """Dimension sets of `function_name`, `function_version` and the names of `properties`.
    CloudWatch bills every metric once per set."""
    properties: dict[str, str] | None = None
    """Texts to add to every document, such as `{stage = "prod"}`. Dimensions can use them."""
    metrics: Annotated[tuple[str, ...], Meta(min_length=1)] = DEFAULT_METRICS
    """Metrics to emit, by their names in docs/metrics.md. Each is billed, and `telemetryd check
    --lambda` prints the price. `*` matches any characters, so `["*"]` means all."""
    self_metrics: bool = True
    """Emit metrics of telemetryd itself: those of `metrics` whose names begin with `telemetryd_`.
    They are emitted once a minute while there are events, and at exit."""
    resolution: Literal[60, 1] = 60
    """Seconds of the finest period that CloudWatch keeps. 1 means high resolution. Alarms on it
    cost more."""
    delivery: Literal["stdout", "logs"] = "stdout"
    """`stdout`: documents go to standard output, and Lambda sends them to the function's log group.
    It needs no permission. `logs`: PutLogEvents."""
    log_group: str = "/aws/lambda/{function}"
    """Log group for `delivery = "logs"`. `{function}`, `{version}` and `{instance}` are replaced.
    It is created if it does not exist and the role permits it."""
    log_stream: str = "telemetryd/{instance}"
    """Log stream for `delivery = "logs"`, with the same placeholders. It is created once."""
    region: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    """AWS region for `delivery = "logs"`; not set: the function's."""
    endpoint_url: Annotated[str, Meta(min_length=1, max_length=2048)] | None = None
    """URL of CloudWatch Logs for `delivery = "logs"`; not set: AWS's usual rules apply."""
    client: ClientName = "auto"
    """Client of AWS for `delivery = "logs"`. `lean`: a small client of telemetryd's own;
    `aiobotocore`: AWS's own library, which also reads profiles, SSO and roles to assume; `auto`:
    `lean` in Lambda unless the environment needs the other, `aiobotocore` in `listen`."""
    forward_emf: bool = False
    """Deliver EMF documents that the function prints. Use it only if the function's role denies
    CloudWatch Logs. Otherwise CloudWatch reads them itself, and counts them twice."""
    count_log_errors: bool | None = None
    """Count exceptions of handlers as errors. Only the function's log shows them, so telemetryd
    searches every log line. Not set: on if `errors` is among the `metrics`. True adds it."""
    price_metric: Annotated[float, Meta(ge=0, le=1000, extra={"note": _METRIC_PRICE})] = (
        _emf_prices.METRIC
    )
    """US dollars for one metric and month. Only `telemetryd check --lambda` uses it."""
    price_request: Annotated[float, Meta(ge=0, le=1, extra={"note": _PRICE})] = _emf_prices.REQUEST
    """US dollars for one request."""
    price_x86_64: Annotated[float, Meta(ge=0, le=1, extra={"note": _PRICE})] = (
        _emf_prices.X86_64_GB_SECOND
    )
    """US dollars for one GB-second on x86_64."""
    price_arm64: Annotated[float, Meta(ge=0, le=1, extra={"note": _PRICE})] = (
        _emf_prices.ARM64_GB_SECOND
    )
    """US dollars for one GB-second on arm64."""

    def __post_init__(self) -> None:
        """Let the router pass on the lines that were asked for."""
        reads_logs = self.forward_emf or self.reads_log_errors
        if reads_logs and self.types and _FUNCTION not in self.types:
            msgspec.structs.force_setattr(self, "types", (*self.types, _FUNCTION))

    @property
    def wanted(self) -> frozenset[str]:
        """The names of the metrics to emit."""
        found = {name for pattern in self.metrics for name in _matches(pattern)}
        return frozenset(found | {_ERRORS} if self.count_log_errors else found)

    @property
    def reads_log_errors(self) -> bool:
        """True if the sink looks for exceptions of handlers in the function's log."""
        if self.count_log_errors is None:
            return _ERRORS in self.wanted
        return self.count_log_errors

    @property
    def batch_becomes(self) -> str:
        """A call of CloudWatch Logs; what is printed costs no call."""
        return "PutLogEvents calls" if self.delivery == "logs" else ""

    def remarks(self) -> Iterator[str]:
        """Yield the cost of the metrics, at most: a metric without values is not billed."""
        wanted = self.wanted - SYSTEM_METRICS  # which `[system]` decides
        yield self._bill(len(wanted if self.self_metrics else wanted - OWN_METRICS), "metrics")

    def system_remarks(self) -> Iterator[str]:
        """Yield the cost of the figures of the system."""
        yield self._bill(len(SYSTEM_METRICS) // 2, "further metrics, those of [system],")

    def _bill(self, count: int, what: str) -> str:
        sets = len(self.dimensions)
        price = self.price_metric
        origin = f"list price of {_emf_prices.REGION}, {_emf_prices.AS_OF}"
        if price != _emf_prices.METRIC:
            origin = "price_metric"
        versions = ""
        if any("function_version" in names for names in self.dimensions):
            versions = ", and again for each version in use"
        return (
            f"{count} {what} x {sets} dimension sets, about {count * sets * price:.2f} USD per "
            f"function and month{versions} (at {price:g} USD a metric: {origin})"
        )

    def problems(self) -> Iterator[str]:
        """Yield faults: names that CloudWatch would refuse, unknown dimensions and metrics."""
        if problem := namespace_problem(self.namespace):
            yield f"namespace: {problem}"
        yield from self._property_problems()
        yield from self._dimension_problems()
        for pattern in self.metrics:
            if not _matches(pattern):
                yield f"metrics: unknown metric {pattern!a}; {DOCS}/metrics.md lists them"
        if self.delivery == "logs":
            if self.client == "aiobotocore" and not is_available():
                yield f"client: {MISSING}"
            yield from _template_problems("log_group", self.log_group, group_problem)
            yield from _template_problems("log_stream", self.log_stream, stream_problem)
        yield from region_problems(self.region or "", self.endpoint_url or "")
        yield from endpoint_problems(self.endpoint_url or "")

    def aws_client(self) -> ClientName | None:
        """Return which client of AWS the sink asks for; None if it prints."""
        return self.client if self.delivery == "logs" else None

    def aws_needs(self) -> "Iterator[AwsNeed]":
        """Yield the needs for making the log group and stream and writing; none for `stdout`."""
        from telemetryd.sinks.aws_needs import AwsNeed  # noqa: PLC0415 - only for `telemetryd iam`

        if self.delivery == "stdout":
            remark = "Lambda delivers printed documents if the function's own logs are permitted"
            yield AwsNeed(remark=remark)
            return
        group = _matching(self.log_group)
        arn = f"arn:{{partition}}:logs:{{region}}:{{account}}:log-group:{group}"
        yield AwsNeed(
            # CreateLogGroup is asked for on "<group>:log-stream:" (CloudWatch Logs User Guide,
            # "CloudWatch Logs resources and operations": the ARN that ends in :*)
            actions=("logs:CreateLogGroup", "logs:CreateLogStream"),
            resource=f"{arn}:*",
            region=self.region or "",
            vpc_endpoint="" if self.endpoint_url else "logs",
            remark="logs:CreateLogGroup can be left out if the log group exists",
        )
        yield AwsNeed(
            actions=("logs:PutLogEvents",),
            resource=f"{arn}:log-stream:{_matching(self.log_stream)}",
            region=self.region or "",
            remark="`telemetryd check --probe` needs nothing more",
        )

    def _property_problems(self) -> Iterator[str]:
        properties = self.properties or {}
        if len(properties) > _MAX_PROPERTIES:
            yield f"properties: at most {_MAX_PROPERTIES}, not {len(properties)}"
        taken = {"_aws", *PROPERTIES, *DIMENSIONS, *METRIC_NAMES}
        dimensions = {name for names in self.dimensions for name in names}
        for name, value in properties.items():
            if name in taken:
                yield f"properties: {name!a} is the name of another member of every document"
            elif not name:
                yield f"properties: {dimension_name_problem(name)}"
            elif name not in dimensions:
                continue  # CloudWatch Logs takes any text, only dimensions have rules
            elif problem := dimension_name_problem(name):
                yield f"properties: {problem}"
            elif problem := dimension_value_problem(value):
                yield f"properties: {name}: {problem}"

    def _dimension_problems(self) -> Iterator[str]:
        known = (*DIMENSIONS, *(self.properties or {}))
        if len({frozenset(names) for names in self.dimensions}) < len(self.dimensions):
            yield "dimensions: each set may be listed once"
        size = len(msgspec.json.encode((self.dimensions, self.properties)))
        if size > _MAX_COMMON_BYTES:
            yield (
                f"dimensions: with the properties they take {size} bytes of each document, more "
                f"than {_MAX_COMMON_BYTES}"
            )
        for names in self.dimensions:
            if len(names) > MAX_DIMENSIONS:
                yield f"dimensions: a set has at most {MAX_DIMENSIONS} names, not {len(names)}"
            if len(set(names)) < len(names):
                yield "dimensions: a set names each dimension once"
            for name in names:
                if name not in known:
                    yield f"dimensions: unknown dimension {name!a}; known: {', '.join(known)}"


def _matches(pattern: str) -> set[str]:
    """Return the metrics that `pattern` names, a name or one with wildcards."""
    if pattern in METRIC_NAMES:
        return {pattern}
    from fnmatch import fnmatchcase  # noqa: PLC0415 - only for wildcards

    return {name for name in METRIC_NAMES if fnmatchcase(name, pattern)}


def expand(template: str, context: SinkContext) -> str:
    """Return the name that `template` stands for.

    What a version such as `$LATEST` has, and a group's name may not have, becomes `_`.
    """
    values = {
        "function": context.function,
        "version": context.version,
        "instance": context.instance,
    }
    return re.sub(
        _PLACEHOLDER,
        lambda match: re.sub(r"[^.\-_/#A-Za-z0-9]", "_", values[match[1]]),
        template,
    )


def _template_problems(
    key: str, template: str, judge: Callable[[str], str | None]
) -> Iterator[str]:
    unknown = [name for name in re.findall(_PLACEHOLDER, template) if name not in _PLACEHOLDERS]
    for name in unknown:
        known = ", ".join(f"{{{each}}}" for each in _PLACEHOLDERS)
        yield f"{key}: unknown placeholder {{{name}}}; known: {known}"
    if not unknown and (problem := judge(re.sub(_PLACEHOLDER, "x", template))):
        yield f"{key}: {problem}"


def _matching(template: str) -> str:
    """Return all names that `template` can become, as a resource of a policy matches them."""
    wildcards = {"function": "{function}", "version": "*", "instance": "*"}
    # "$" would begin a policy variable; "?" matches any one character, so both of them as well
    return re.sub(_PLACEHOLDER, lambda match: wildcards[match[1]], re.sub(r"[$?]", "?", template))

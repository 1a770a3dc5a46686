"""CloudWatch embedded metric format (EMF): log lines whose numbers become metrics.

A document is one JSON object. `_aws` says which of its root members are metrics, with which units,
and which are dimensions; every other member is a property that can be searched and costs nothing.

Source: Amazon CloudWatch User Guide, "Specification: Embedded metric format"; where that is laxer,
CloudWatch API Reference, `PutMetricData` and `MetricDatum`, because a document that CloudWatch
can't turn into a metric is lost without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec

Unit: TypeAlias = Literal[
    "Seconds",
    "Microseconds",
    "Milliseconds",
    "Bytes",
    "Kilobytes",
    "Megabytes",
    "Gigabytes",
    "Terabytes",
    "Bits",
    "Kilobits",
    "Megabits",
    "Gigabits",
    "Terabits",
    "Percent",
    "Count",
    "Bytes/Second",
    "Kilobytes/Second",
    "Megabytes/Second",
    "Gigabytes/Second",
    "Terabytes/Second",
    "Bits/Second",
    "Kilobits/Second",
    "Megabits/Second",
    "Gigabits/Second",
    "Terabits/Second",
    "Count/Second",
    "None",
]
"""The units of a metric (`MetricDatum`, Unit)."""
UNITS: Final[tuple[Unit, ...]] = get_args(Unit)

Resolution: TypeAlias = Literal[1, 60]
"""Seconds of the finest period a metric is kept in (`StorageResolution`)."""

MAX_METRICS: Final = 100
"""Metric definitions in one directive."""
MAX_VALUES: Final = 100
"""Numbers in the array of one metric."""
MAX_DIMENSIONS: Final = 30
"""Keys in one dimension set."""
MAX_DIMENSION_NAME: Final = 250
MAX_DIMENSION_VALUE: Final = 1024
MAX_NAMESPACE: Final = 255
"""`PutMetricData`, Namespace; the schema of the format itself would permit 1,024."""
MAX_METRIC_NAME: Final = 255
MAX_MAGNITUDE: Final = 2.0**360
"""`MetricDatum`, Value: larger numbers, NaN and infinity are not supported."""
MAX_DOCUMENT_BYTES: Final = 200_000
"""The largest document of ours. Below the 256 KB at which older specifications, and perhaps
Lambda, cut a line."""

METADATA: Final = "_aws"
"""The member that makes an object a document."""

_RESERVED_NAMESPACE: Final = "AWS/"
_FIRST_PRINTABLE: Final = " "
_LAST_ASCII: Final = "~"


class LimitExceeded(ValueError):  # noqa: N818 - names what happened
    """A document breaks a rule of the format. A mistake of who made it, not of the input."""


class Metric(msgspec.Struct, frozen=True, gc=False):
    """One metric of a document and its values."""

    name: str
    unit: Unit
    values: Sequence[float]
    """1 to `MAX_VALUES` finite numbers; each is one observation."""


class Document(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Metrics that share namespace, dimension values and time."""

    timestamp: int
    """Milliseconds since the Unix epoch."""
    namespace: str
    dimensions: Sequence[Sequence[str]]
    """Dimension sets: names of `members`. Each set makes a metric of its own, billed as such."""
    metrics: Sequence[Metric]
    members: Mapping[str, Any]
    """The other root members: values of the dimensions, and properties."""
    resolution: Resolution = 60


def encode(document: Document) -> bytes:
    r"""Return `document` as one line of JSON, without newline.

    Raises:
        LimitExceeded: it breaks a rule of the format and CloudWatch would silently ignore it.

    """
    problem = next(_problems(document), None)
    if problem is not None:
        raise LimitExceeded(problem)
    resolution = {} if document.resolution == 60 else {"StorageResolution": document.resolution}  # noqa: PLR2004 - the default of the format
    definitions = [{"Name": m.name, "Unit": m.unit, **resolution} for m in document.metrics]
    directive = {
        "Namespace": document.namespace,
        "Dimensions": document.dimensions,
        "Metrics": definitions,
    }
    line = msgspec.json.encode(
        {
            METADATA: {"Timestamp": document.timestamp, "CloudWatchMetrics": [directive]},
            **document.members,
            **{m.name: m.values[0] if len(m.values) == 1 else m.values for m in document.metrics},
        }
    )
    if len(line) > MAX_DOCUMENT_BYTES:
        raise LimitExceeded(f"the document has {len(line)} bytes, more than {MAX_DOCUMENT_BYTES}")
    return line


def timestamp_of(value: Any) -> int | None:
    """Return the time of a decoded EMF document, in milliseconds since the Unix epoch.

    None when `value` is any other JSON: then CloudWatch finds no metric in it either.
    """
    metadata = value.get(METADATA) if isinstance(value, dict) else None
    if not isinstance(metadata, dict):
        return None
    directives, timestamp = metadata.get("CloudWatchMetrics"), metadata.get("Timestamp")
    if not (isinstance(directives, list) and directives):
        return None
    if not isinstance(timestamp, int) or isinstance(timestamp, bool) or timestamp < 0:
        return None
    return timestamp


def namespace_problem(namespace: str) -> str | None:
    """Return why `namespace` is invalid, else None (`PutMetricData`, Namespace)."""
    if not 0 < len(namespace) <= MAX_NAMESPACE:
        return f"must have 1 to {MAX_NAMESPACE} characters, not {len(namespace)}"
    if namespace.startswith(_RESERVED_NAMESPACE):
        return f"must not begin with {_RESERVED_NAMESPACE}, which belongs to AWS services"
    blank = not namespace.strip()
    if blank or namespace.startswith(":") or not _is_printable_ascii(namespace):
        return (
            "may hold letters, digits, spaces and the other printable characters of ASCII, must "
            "not be blank, and must not begin with :"
        )
    return None


def dimension_name_problem(name: str) -> str | None:
    """Return why `name` is invalid for a dimension, else None (`PutMetricData`, Dimension)."""
    if not 0 < len(name) <= MAX_DIMENSION_NAME:
        return f"a name has 1 to {MAX_DIMENSION_NAME} characters, not {len(name)}"
    if not _is_printable_ascii(name) or not name.strip():
        return f"{name!a}: a name is ASCII text"
    if name.startswith(":"):
        return f"{name!a}: a name does not begin with :"
    return None


def dimension_value_problem(value: str) -> str | None:
    """Return why `value` is invalid for a dimension, else None (`PutMetricData`, Dimension)."""
    if not 0 < len(value) <= MAX_DIMENSION_VALUE:
        return f"a value has 1 to {MAX_DIMENSION_VALUE} characters, not {len(value)}"
    if not _is_printable_ascii(value) or not value.strip():
        return f"{value!a}: a value is ASCII text and not blank"
    return None


def clean_dimension_value(value: str) -> str:
    """Return `value` made fit for a dimension: what is not ASCII becomes `?`, blank becomes `-`."""
    cut = value[:MAX_DIMENSION_VALUE]
    if not _is_printable_ascii(cut):
        cut = "".join(char if _is_printable_ascii(char) else "?" for char in cut)
    return cut if cut.strip() else "-"


def _is_printable_ascii(text: str) -> bool:
    return all(_FIRST_PRINTABLE <= char <= _LAST_ASCII for char in text)


def _problems(document: Document) -> Iterator[str]:
    if problem := namespace_problem(document.namespace):
        yield f"namespace: {problem}"
    if document.timestamp < 0:
        yield "the timestamp is before 1970"
    yield from _dimension_problems(document)
    yield from _metric_problems(document)


def _dimension_problems(document: Document) -> Iterator[str]:
    members = document.members
    if not document.dimensions:
        yield "at least one dimension set, perhaps an empty one, is required"
    for names in document.dimensions:
        if len(names) > MAX_DIMENSIONS:
            yield f"a dimension set has {len(names)} keys, more than {MAX_DIMENSIONS}"
        for name in names:
            value = members.get(name)
            if not isinstance(value, str):
                yield f"dimension {name!a} has no text value"
            elif problem := dimension_name_problem(name) or dimension_value_problem(value):
                yield f"dimension {name!a}: {problem}"


def _metric_problems(document: Document) -> Iterator[str]:
    if len(document.metrics) > MAX_METRICS:
        yield f"{len(document.metrics)} metrics, more than {MAX_METRICS}"
    names_seen = {METADATA, *document.members}
    for metric in document.metrics:
        if not 0 < len(metric.name) <= MAX_METRIC_NAME:
            yield f"a metric's name has {len(metric.name)} characters"
        if metric.name in names_seen:
            yield f"{metric.name!a} names two members"
        names_seen.add(metric.name)
        if not 0 < len(metric.values) <= MAX_VALUES:
            yield f"metric {metric.name!a} has {len(metric.values)} values"
        # written so that NaN, which compares false to everything, fails
        if not all(-MAX_MAGNITUDE <= value <= MAX_MAGNITUDE for value in metric.values):
            yield f"metric {metric.name!a} has a value CloudWatch does not support"

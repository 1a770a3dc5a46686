"""Writes docs/sinks-reference.md: each sink's settings, limits, probe and a minimal example.

    python -m telemetryd.config.sinks_document > docs/sinks-reference.md

Settings come from the structs, limits from the constants that the code uses. A new sink needs an
entry in `FACTS`; the tests run its examples.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from telemetryd.config.document import number_of_bytes, table
from telemetryd.sinks._attempt import MAX_REFUSALS
from telemetryd.sinks._posting import MAX_RETRY_AFTER
from telemetryd.sinks.aws import logs
from telemetryd.sinks.base import SinkConfig
from telemetryd.sinks.http.presets import PresetName, preset
from telemetryd.sinks.kinesis.probe import PERMISSION
from telemetryd.sinks.otlp.derived import MOST
from telemetryd.sinks.otlp.sink import MAX_RECORDS
from telemetryd.sinks.registry import BUILT_IN, sink_class
from telemetryd_proto import emf, kinesis
from telemetryd_proto.otlp.values import MAX_DEPTH

_INTRODUCTION: Final = """\
# Sinks: reference

Every sink that telemetryd includes: its settings with unit, default and allowed values, the limits
of the destination, what `telemetryd check --probe` does, and a minimal example. The examples are
run as tests, and `make docs` writes this page. [sinks.md](sinks.md) shows how to write a sink of
your own, and [configuration.md](configuration.md) how to set values by variables.

## Every sink

These settings exist for each sink. Where a sink has another default, its own table has the row
again. The spool's settings are in [configuration.md](configuration.md#sinksnamespool).
"""
_UNITS: Final = {
    "_ms": "ms", "_bytes": "bytes", "_seconds": "s", "price_metric": "USD a month",
    "price_request": "USD", "price_x86_64": "USD", "price_arm64": "USD", "resolution": "s",
    "keep": "files",
}  # fmt: skip
"""Units by the end of a setting's name."""
_PUT_RECORDS: Final = "Kinesis API Reference, PutRecords"
_SHARDS: Final = "Kinesis Developer Guide, Quotas and limits"
_PUT_EVENTS: Final = "CloudWatch Logs API Reference, PutLogEvents"
_EMF: Final = "CloudWatch User Guide, Embedded metric format"
_OTLP: Final = "CloudWatch User Guide, OTLP Endpoints"


class Limit(msgspec.Struct, frozen=True):
    """One limit of a destination."""

    what: str
    value: str
    effect: str
    """How telemetryd keeps to it, or what happens beyond it."""
    source: str = ""


class Facts(msgspec.Struct, frozen=True):
    """The part of a sink's section that its `Config` does not say."""

    page: str
    """The page that explains the sink; empty: none does."""
    examples: Mapping[str, str]
    """Each with its title; one without a title is the first."""
    limits: tuple[Limit, ...]
    probe: str


def _count(number: float) -> str:
    return f"{number:,}"


_PRESETS: Final[Mapping[PresetName, tuple[str, str]]] = {
    "cloudwatch": (
        "https://logs.eu-west-1.amazonaws.com",
        "CloudWatch Logs User Guide, Log ingestion through HTTP endpoints",
    ),
    "datadog": ("https://http-intake.logs.datadoghq.com", "Datadog API Reference, Send logs"),
    "elastic_bulk": ("https://search.example.com:9200", "Elasticsearch and OpenSearch, Bulk API"),
    "honeycomb": ("https://api.honeycomb.io", "Honeycomb, Events API"),
    "loki": ("https://logs.example.com", "Grafana Loki, limits_config"),
    "new_relic": ("https://log-api.newrelic.com", "New Relic, Introduction to the Log API"),
    "splunk_hec": ("https://splunk.example.com:8088", "Splunk, Format events for HEC"),
}
"""An address and the source of the limits, for each preset."""


_LABELS: Final = {
    "cloudwatch": 'labels = {log_group = "telemetry", log_stream = "orders"}\n',
}
"""Labels without which a preset can't be used."""


def _preset_example(name: PresetName) -> str:
    return (
        f'[sinks.collector]\ntype = "http"\npreset = "{name}"\n'
        f'url = "{_PRESETS[name][0]}"\ntoken = "change-me"\n{_LABELS.get(name, "")}'
    )


def _preset_limits() -> Iterator[Limit]:
    for name, (_, source) in _PRESETS.items():
        found = preset(name)
        effect = f"bodies of at most {number_of_bytes(found.max_body_bytes)}"
        yield Limit(f"`{name}`", found.limits, effect, source)
        yield Limit(f"`{name}`: duplicates", found.duplicates, "", source)


FACTS: Final[dict[str, Facts]] = {
    "emf": Facts(
        "metrics.md",
        {"": '[sinks.metrics]\ntype = "emf"\n'},
        (
            Limit(
                "document", number_of_bytes(emf.MAX_DOCUMENT_BYTES), "more documents are made", _EMF
            ),
            Limit(
                "metrics in a document", _count(emf.MAX_METRICS), "more documents are made", _EMF
            ),
            Limit(
                "values of a metric in a document", _count(emf.MAX_VALUES),
                "more documents are made", _EMF,
            ),
            Limit(
                "dimensions in a set", _count(emf.MAX_DIMENSIONS), "`check` refuses more", _EMF
            ),
            Limit(
                "call of PutLogEvents", number_of_bytes(logs.MAX_CALL_BYTES),
                f"more calls are made; each event counts {logs.EVENT_OVERHEAD} bytes more",
                _PUT_EVENTS,
            ),
            Limit(
                "events in a call", _count(logs.MAX_EVENTS), "more calls are made", _PUT_EVENTS
            ),
            Limit(
                "age of an event", "14 days, or the group's retention",
                "lost as `too_old` or `expired`", _PUT_EVENTS,
            ),
        ),
        'With `delivery = "logs"`: PutLogEvents with one event of 30 days ago, which CloudWatch '
        "Logs rejects as too old after it has checked the permission. If the log stream is "
        "missing, an empty one is made, whose name has `probe` in place of `{instance}`. A log "
        "group is never made. It needs no permission that the sink does not need. "
        'With `delivery = "stdout"`: nothing.',
    ),
    "file": Facts(
        "",
        {"": '[sinks.archive]\ntype = "file"\npath = "/tmp/telemetry-{function}.ndjson"\n'},
        (
            Limit(
                "file, file system", "their own",
                "a full disk is `disk_full`: retried, then the spool, the dead letter or a loss",
            ),
            Limit("writers of a file", "1", "`locked`: use `{instance}` in `path`"),
        ),
        "The file is opened and locked, if it exists, and nothing is written to it. If it does not "
        "exist, a nameless file is made in its directory, or in the nearest one above that exists, "
        "and one block is written to that. There must be room for one batch. Nothing remains.",
    ),
    "http": Facts(
        "http.md",
        {
            "": '[sinks.collector]\ntype = "http"\n'
            'url = "https://collector.example.com/v1/lines"\ntoken = "change-me"\n',
            **{f'With `preset = "{name}"`:': _preset_example(name) for name in _PRESETS},
        },
        (
            Limit(
                "body", "the server's own",
                "set `max_body_bytes` to it; after 413 the request is halved",
            ),
            Limit(
                "refusals in one attempt", _count(MAX_REFUSALS),
                "refused lines are searched by halves; beyond, a refused request is lost as a "
                "whole",
            ),
            Limit(
                "wait that a server can ask for", f"{MAX_RETRY_AFTER:g} s",
                "a longer `Retry-After` is cut",
            ),
            Limit("answer", "4 MiB, its head 64 KiB", "`garbled_answer`: retried"),
            *_preset_limits(),
        ),
        "One POST of a body without lines, with URL, headers, token and compression as for lines. "
        "Servers agree on no other request: many refuse HEAD and OPTIONS, or answer them without a "
        "look at the token. A server may refuse a body without lines by 400 or 422: then it has "
        "accepted all else, and the probe says that the rest is unknown.",
    ),
    "kinesis": Facts(
        "kinesis.md",
        {"": '[sinks.stream]\ntype = "kinesis"\nstream = "telemetry"\n'},
        (
            Limit(
                "record", f"{number_of_bytes(kinesis.MAX_RECORD_BYTES)}, by default "
                f"{number_of_bytes(kinesis.DEFAULT_RECORD_BYTES)}",
                "`max_record_bytes`; a larger line is lost as `record_too_large`", _PUT_RECORDS,
            ),
            Limit(
                "call of PutRecords", number_of_bytes(kinesis.MAX_REQUEST_BYTES),
                "`max_request_bytes`; more calls are made", _PUT_RECORDS,
            ),
            Limit(
                "records in a call", _count(kinesis.MAX_ENTRIES), "more calls are made",
                _PUT_RECORDS,
            ),
            Limit(
                "writes to a shard", "1 MiB/s and 1,000 records/s",
                "`throttled`: only the refused records are retried", _SHARDS,
            ),
        ),
        "Two calls. DescribeStreamSummary says whether the stream exists and takes records. It "
        f"needs `{PERMISSION}`, which the sink itself does not need: without it, that is unknown. "
        "PutRecords with an empty record, whose hash key is beyond the allowed range, tries the "
        "permission: Kinesis checks it first, and then refuses the record.",
    ),
    "null": Facts(
        "", {"": '[sinks.nowhere]\ntype = "null"\n'},
        (Limit("everything", "none", "each line is discarded, and counted as delivered"),),
        "Nothing.",
    ),
    "otlp": Facts(
        "otlp.md",
        {
            "": '[sinks.collector]\ntype = "otlp"\n'
            'endpoint = "https://collector.example.com:4318"\n'
        },
        (
            Limit(
                "body", "the server's own; CloudWatch: 1 MB",
                "set `max_body_bytes` to it; after 413 the request is halved", _OTLP,
            ),
            Limit("records in a request", _count(MAX_RECORDS), "more requests are made", _OTLP),
            Limit(
                "data points, spans in a request",
                f"{_count(MOST['metrics'])}, {_count(MOST['traces'])}", "more requests are made",
                _OTLP,
            ),
            Limit("age of a record in CloudWatch", "14 days", "CloudWatch rejects it", _OTLP),
            Limit(
                "depth of a value", f"{MAX_DEPTH} objects and arrays",
                "what is deeper is sent as its JSON text",
            ),
            Limit(
                "wait that a server can ask for", f"{MAX_RETRY_AFTER:g} s",
                "a longer `Retry-After` is cut",
            ),
            Limit("answer", "4 MiB, its head 64 KiB", "`garbled_answer`: retried"),
        ),
        "For each signal one request without records, with everything else as it is for lines. A "
        "server may refuse it by 400 or 422: then it has accepted all else, and the probe says "
        "that the rest is unknown.",
    ),
    "stdout": Facts(
        "", {"": '[sinks.screen]\ntype = "stdout"\n'},
        (Limit("the reader", "its own", "a reader that stalls delays only this sink"),),
        "Whether the standard output of the command is open. That of the daemon may be another.",
    ),
}  # fmt: skip


def render() -> str:
    """Return the whole page in Markdown."""
    parts = [_INTRODUCTION, _settings(SinkConfig, None), *map(_sink, BUILT_IN)]
    return "\n".join(parts)


def _sink(name: str) -> str:
    return "\n".join(_section(name))


def _section(name: str) -> Iterator[str]:
    sink, facts = sink_class(name), FACTS[name]
    summary = inspect.cleandoc(sys.modules[sink.__module__].__doc__ or "").split("\n\n")[0]
    purpose = summary.partition(": ")[2].replace("\n", " ")
    more = f" [{facts.page}]({facts.page}) explains it." if facts.page else ""
    yield f'## `type = "{name}"`\n'
    yield f"{purpose[:1].upper()}{purpose[1:]}{more}\n"
    for title, example in facts.examples.items():
        if title:
            yield f"{title}\n"
        yield f"```toml\n{example}```\n"
    yield (_settings(sink.Config, SinkConfig) or "It has no further settings.\n")
    yield "| Limit | Value | Effect | Source |\n|---|---|---|---|"
    for limit in facts.limits:
        yield f"| {limit.what} | {limit.value} | {limit.effect} | {limit.source} |"
    yield f"\nProbe: {facts.probe}\n"


def _settings(cls: type[SinkConfig], without: type[SinkConfig] | None) -> str:
    return table(cls, without, unit_of)


def unit_of(key: str) -> str:
    """Return the unit of the setting `key`; empty if it has none."""
    return next((unit for end, unit in _UNITS.items() if key.endswith(end)), "")


if __name__ == "__main__":
    sys.stdout.write(render())

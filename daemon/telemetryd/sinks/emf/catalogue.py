"""The metrics of the EMF sink: the meaning and unit of each, and how invocations are combined.

`docs/metrics.md` is generated from this table.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from telemetryd_proto.emf import Unit

Kind: TypeAlias = Literal["sum", "values", "level"]
"""The way in which observations of one document are combined.

`sum`: added up to one number. `values`: kept one by one, so that percentiles are right. `level`:
the distinct values, for what rarely changes.
"""


class MetricInfo(msgspec.Struct, frozen=True, gc=False):
    """One metric that the sink may emit."""

    name: str
    unit: Unit
    kind: Kind
    meaning: str
    source: str
    """The telemetry it is taken from."""


_SYSTEM: Final[tuple[tuple[str, str, Unit, Kind, str, str], ...]] = (
    ("system_cpu_user_time", "cpu_user_time", "Milliseconds", "sum",
     "Processor time in user mode, of function and extensions.", "`/proc/stat`"),
    ("system_cpu_system_time", "cpu_system_time", "Milliseconds", "sum",
     "Processor time in the kernel.", "`/proc/stat`"),
    ("system_cpu_total_time", "cpu_total_time", "Milliseconds", "sum",
     "Both together.", "`/proc/stat`"),
    ("system_memory_used", "used_memory", "Megabytes", "values",
     "Memory in use at the end of the invocation, in MiB.", "`/proc/meminfo`"),
    ("system_memory_peak", "used_memory_max", "Megabytes", "values",
     "The most that was in use at the end of an invocation so far, in MiB.", "`/proc/meminfo`"),
    ("system_memory_total", "total_memory", "Megabytes", "level",
     "Memory of the environment, in MiB.", "`/proc/meminfo`"),
    ("system_network_in", "rx_bytes", "Bytes", "sum",
     "Bytes received, without loopback.", "`/proc/net/dev`"),
    ("system_network_out", "tx_bytes", "Bytes", "sum",
     "Bytes sent, without loopback.", "`/proc/net/dev`"),
    ("system_tmp_used", "tmp_used", "Bytes", "values",
     "Bytes in use in `/tmp`.", "`statvfs`"),
    ("system_tmp_free", "tmp_free", "Bytes", "values",
     "Bytes free in `/tmp`.", "`statvfs`"),
    ("system_descriptors", "fd_use", "Count", "values",
     "Open files of the environment.", "`/proc/sys/fs/file-nr`"),
    ("system_threads", "threads_max", "Count", "values",
     "Threads of the environment.", "`/proc/loadavg`"),
)  # fmt: skip
"""Our name, that of Lambda Insights, and what `MetricInfo` has."""

METRICS: Final = (
    MetricInfo(
        "invocations", "Count", "sum",
        "Invocations that began, whatever their outcome.",
        "`platform.start`",
    ),
    MetricInfo(
        "errors", "Count", "sum",
        "Failures, each once: invocations that did not end in `success`, timeouts included; "
        "exceptions of handlers, if the log reports them; failed initialisations.",
        "`platform.runtimeDone`, else `platform.report`; `function`; as `init_errors`",
    ),
    MetricInfo(
        "timeouts", "Count", "sum",
        "Invocations that ran into the function's time limit.",
        "status `timeout`",
    ),
    MetricInfo(
        "out_of_memory", "Count", "sum",
        "Invocations that failed for lack of memory.",
        "`errorType`, or a failed invocation (also a timeout) whose `maxMemoryUsedMB` reached "
        "`memorySizeMB`",
    ),
    MetricInfo(
        "init_errors", "Count", "sum",
        "Failed initialisations and SnapStart restores, also because of an extension. Each counts "
        "once, however many events report it.",
        "`platform.initReport`, `initRuntimeDone`, `restoreReport`, `restoreRuntimeDone`, status "
        "other than `success`; `platform.extension` with `errorType` or a state such as "
        "`InitError`",
    ),
    MetricInfo(
        "cold_starts", "Count", "sum",
        "Invocations that waited for a new environment or for a SnapStart restore. Not those "
        "served by provisioned concurrency, by Managed Instances, or by an environment that had "
        "been idle for over ten seconds since its initialisation.",
        "first `platform.start` after `platform.initStart` or `platform.restoreStart`",
    ),
    MetricInfo(
        "duration", "Milliseconds", "values",
        "Time an invocation took, extensions included.",
        "`platform.report`, `durationMs`",
    ),
    MetricInfo(
        "runtime_duration", "Milliseconds", "values",
        "Time the runtime took, without extensions. Known for crashed invocations too.",
        "`platform.runtimeDone`, `durationMs`",
    ),
    MetricInfo(
        "billed_duration", "Milliseconds", "values",
        "Time billed.",
        "`platform.report`, `billedDurationMs`",
    ),
    MetricInfo(
        "init_duration", "Milliseconds", "values",
        "Time of an initialisation, successful or not. With SnapStart it happened when the version "
        "was published, and restored environments do not report it again.",
        "`platform.initReport`, else `initDurationMs` of `platform.report`",
    ),
    MetricInfo(
        "restore_duration", "Milliseconds", "values",
        "Time a SnapStart restore took, successful or not.",
        "`platform.restoreReport`, else `restoreDurationMs` of `platform.report`",
    ),
    MetricInfo(
        "memory_size", "Megabytes", "level",
        "The function's configured memory, in MiB.",
        "`platform.report`, `memorySizeMB`",
    ),
    MetricInfo(
        "max_memory_used", "Megabytes", "values",
        "Most memory the environment has used so far, extensions included, in MiB.",
        "`platform.report`, `maxMemoryUsedMB`",
    ),
    MetricInfo(
        "memory_used_percent", "Percent", "values",
        "`max_memory_used` as a share of `memory_size`.",
        "`platform.report`",
    ),
    MetricInfo(
        "response_latency", "Milliseconds", "values",
        "From the invocation's arrival at the runtime to the first byte of the response.",
        "span `responseLatency`",
    ),
    MetricInfo(
        "response_duration", "Milliseconds", "values",
        "From the first byte of the response to the last.",
        "span `responseDuration`",
    ),
    MetricInfo(
        "runtime_overhead", "Milliseconds", "values",
        "From the last byte of the response until the runtime asked for the next invocation.",
        "span `runtimeOverhead`",
    ),
    MetricInfo(
        "extension_overhead", "Milliseconds", "values",
        "Time that extensions added: from the end of the runtime's work until the last "
        "extension was ready for the next event.",
        "span `extensionOverhead`",
    ),
    MetricInfo(
        "produced_bytes", "Bytes", "values",
        "Size of the response.",
        "`platform.runtimeDone`, `producedBytes`",
    ),
    MetricInfo(
        "telemetry_lines_dropped", "Count", "sum",
        "Telemetry lines that Lambda dropped before they reached telemetryd.",
        "`platform.logsDropped`, `droppedRecords`",
    ),
    MetricInfo(
        "estimated_cost", "None", "sum",
        "US dollars: requests plus billed time times memory, on-demand prices. Not emitted for "
        "provisioned concurrency and Managed Instances; charges for SnapStart are not in it.",
        "`platform.report`",
    ),
    MetricInfo(
        "telemetryd_lines_lost", "Count", "sum",
        "Lines that telemetryd dropped, for whatever reason, in all sinks.",
        "its ledger",
    ),
    MetricInfo(
        "telemetryd_delivery_latency", "Milliseconds", "values",
        "Age of the oldest line when its destination acknowledged it, in any sink.",
        "its clock",
    ),
    MetricInfo(
        "telemetryd_added_duration", "Milliseconds", "values",
        "The most that telemetryd added to an invocation: from the end of the runtime's work until "
        "it was ready for the next event.",
        "`platform.runtimeDone`, `time`, and its clock",
    ),
    MetricInfo(
        "telemetryd_queue_used", "Percent", "values",
        "How full the fullest queue was.",
        "its queues",
    ),
    MetricInfo(
        "telemetryd_peak_memory", "Megabytes", "values",
        "The most memory that telemetryd has used so far, in MiB.",
        "`/proc`",
    ),
    MetricInfo(
        "telemetryd_cpu_time", "Milliseconds", "sum",
        "Processor time that telemetryd used.",
        "its clock",
    ),
    *(MetricInfo(name, unit, kind, f"{meaning} Needs `[system] metrics`.", source)
      for name, _, unit, kind, meaning, source in _SYSTEM),
    *(MetricInfo(name, unit, kind, f'`{ours}`, with `[system] names = "insights"`.', source)
      for ours, name, unit, kind, _, source in _SYSTEM),
)  # fmt: skip

METRIC_NAMES: Final = frozenset(info.name for info in METRICS)

DEFAULT_METRICS: Final = (
    "cold_starts",
    "init_duration",
    "memory_used_percent",
    "timeouts",
    "out_of_memory",
    "init_errors",
    "estimated_cost",
    "telemetryd_lines_lost",
)
"""Metrics that are emitted unless `metrics` is set. Few, because CloudWatch bills each: those that
`AWS/Lambda` does not have."""

SYSTEM_METRICS: Final = frozenset(name for row in _SYSTEM for name in row[:2])
"""Those of `[system]`, under either name."""

OWN_METRICS: Final = frozenset(name for name in METRIC_NAMES if name.startswith("telemetryd_"))
"""Those about telemetryd itself."""

DIMENSIONS: Final = ("function_name", "function_version")
"""Members of every document that may be dimensions, besides the configured properties."""

PROPERTIES: Final = {
    "request_id": "The invocation, in a document that holds exactly one.",
    "error_type": "The reason why invocations failed, such as `Runtime.ExitError`; a list if "
    "there are several.",
    "telemetryd": "All counts of telemetryd since its process began, in the documents about "
    "itself: time to start, pauses, and for each sink deliveries, retries and errors.",
    "logger": "`telemetryd`: the mark by which its own lines are recognised.",
}
"""Members of a document that are not metrics and can't be dimensions."""

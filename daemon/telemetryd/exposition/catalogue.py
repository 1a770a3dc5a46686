"""Every metric of `/metrics`: name, type, labels, meaning, and how to read it from the daemon.

Nothing is counted here. A scrape reads the ledger, the stats and the queues. `docs/metrics.md` is
generated from this table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from telemetryd import __version__
from telemetryd.app import Daemon
from telemetryd.clock import Clock
from telemetryd.core.ledger import Count, SinkAccount
from telemetryd.core.lifecycle import CAUSES
from telemetryd.core.stats import HTTP_OUTCOMES, OUTCOMES, TRIGGERS, Histogram, HookStats, SinkStats
from telemetryd.delivery.queue import SinkQueue
from telemetryd.delivery.worker import DeliveryWorker
from telemetryd.system import SystemReading
from telemetryd.usage import peak_rss_bytes

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Value: TypeAlias = float | Histogram
Samples: TypeAlias = Iterable[tuple[tuple[str, ...], Value]]

PREFIX: Final = "telemetryd_"
DROP_REASONS: Final = ("queue_full", "too_large", "shutdown", "bug")
"""Reasons every sink can lose a line for; each is there from the start, so that a rate can be told.
Those a destination gives appear with their first line."""
_STAGES: Final = ("registered", "next", "up")


class Family(msgspec.Struct, frozen=True):
    """One metric, under all its labels."""

    name: str
    """Without prefix; a counter's without the `_total` that follows it."""
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    read: Callable[[Daemon], Samples]

    @property
    def full_name(self) -> str:
        """The name that Prometheus shows."""
        return f"{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"


def _one(read: Callable[[Daemon], Value]) -> Callable[[Daemon], Samples]:
    return lambda daemon: [((), read(daemon))]


def _account(read: Callable[[SinkAccount], float]) -> Callable[[Daemon], Samples]:
    return lambda daemon: [((name,), read(a)) for name, a in daemon.ledger.sinks.items()]


def _stats(read: Callable[[SinkStats], Value]) -> Callable[[Daemon], Samples]:
    return lambda daemon: [((name,), read(s)) for name, s in daemon.stats.sinks.items()]


def _system(read: Callable[[SystemReading], Samples]) -> Callable[[Daemon], Samples]:
    return lambda daemon: read(daemon.system.read()) if daemon.system is not None else ()


def _hooks(read: Callable[[HookStats], float]) -> Callable[[Daemon], Samples]:
    return lambda daemon: [((name,), read(hook)) for name, hook in daemon.stats.hooks.items()]


def _queue(read: Callable[[SinkQueue], float]) -> Callable[[Daemon], Samples]:
    return lambda daemon: [((name,), read(queue)) for name, queue in daemon.queues.items()]


def _marks(daemon: Daemon) -> Samples:
    for worker, (name, queue) in zip(daemon.workers, daemon.queues.items(), strict=True):
        yield (name, "pause"), queue.pause_above_bytes
        yield (name, "resume"), queue.resume_below_bytes
        if worker.has_spool:
            yield (name, "spool"), queue.spool_above_bytes


def _drops(unit: Callable[[Count], float]) -> Callable[[Daemon], Samples]:
    def read(daemon: Daemon) -> Iterator[tuple[tuple[str, ...], Value]]:
        for name, account in daemon.ledger.sinks.items():
            found: Mapping[str, Count] = dict.fromkeys(DROP_REASONS, Count()) | account.dropped
            for reason, count in found.items():
                yield (name, reason), unit(count)

    return read


def _rejections(unit: Callable[[Count], float]) -> Callable[[Daemon], Samples]:
    return lambda daemon: [((why,), unit(c)) for why, c in daemon.ledger.rejected.items()]


def _oldest(worker: DeliveryWorker, clock: Clock) -> float:
    received = worker.oldest_received_at()
    return max(clock.monotonic() - received, 0.0) if received is not None else 0.0


FAMILIES: Final = (
    Family("build_info", "gauge", ("version",), "Always 1.", lambda _: [((__version__,), 1)]),
    Family(
        "start_seconds", "gauge", ("stage",),
        "From telemetryd's first instruction to `registered`, `next` and `up`. Outside Lambda only "
        "the last.",
        lambda d: [((stage,), d.stats.start_seconds[stage]) for stage in _STAGES
                   if stage in d.stats.start_seconds],
    ),
    Family(
        "peak_rss_bytes", "gauge", (), "Most memory the process has ever had resident.",
        _one(lambda _: peak_rss_bytes()),
    ),
    Family(
        "memory_budget_bytes", "gauge", (), "Most bytes that all queues may hold together.",
        _one(lambda d: d.budget.max_bytes),
    ),
    Family(
        "log_skipped_lines", "counter", (),
        "Lines of telemetryd's own log that standard error did not take.",
        _one(lambda d: d.log_skipped_lines),
    ),
    Family(
        "loop_lag_seconds", "histogram", (),
        "Delay of a timer, twice a second. A delay shows that the process was busy, or had no "
        "processor.",
        _one(lambda d: d.stats.loop_lag_seconds),
    ),
    # -- what comes in
    Family(
        "connections", "gauge", (), "Open telemetry connections.",
        _one(lambda d: d.listener.connections),
    ),
    Family(
        "connections_accepted", "counter", (), "Connections accepted.",
        _one(lambda d: d.stats.connections_accepted),
    ),
    Family(
        "connections_refused", "counter", (),
        "Connections refused because `telemetry.max_connections` were open, or descriptors ran "
        "out.",
        _one(lambda d: d.stats.connections_refused),
    ),
    Family(
        "connections_idle", "counter", (),
        "Connections closed because they were silent for `telemetry.idle_seconds`.",
        _one(lambda d: d.stats.connections_idle),
    ),
    # -- the system
    Family(
        "system_cpu_seconds", "counter", ("mode",),
        "Processor time of the environment, with `[system] metrics`.",
        _system(lambda r: [(("user",), r.cpu_user_seconds), (("system",), r.cpu_system_seconds)]),
    ),
    Family(
        "system_memory_bytes", "gauge", ("state",), "Memory of the environment.",
        _system(lambda r: [(("used",), r.memory_used_bytes), (("total",), r.memory_total_bytes)]),
    ),
    Family(
        "system_network_bytes", "counter", ("direction",), "Network traffic without loopback.",
        _system(lambda r: [(("in",), r.network_in_bytes), (("out",), r.network_out_bytes)]),
    ),
    Family(
        "system_tmp_bytes", "gauge", ("state",), "Room in `/tmp`.",
        _system(lambda r: [(("used",), r.tmp_used_bytes), (("free",), r.tmp_free_bytes)]),
    ),
    Family(
        "system_descriptors", "gauge", (), "Open files of the environment.",
        _system(lambda r: [((), r.descriptors)]),
    ),
    Family(
        "system_threads", "gauge", (), "Threads of the environment.",
        _system(lambda r: [((), r.threads)]),
    ),
    # -- hooks
    Family(
        "hook_calls", "counter", ("hook",), "Calls of the hook.", _hooks(lambda hook: hook.calls),
    ),
    Family(
        "hook_failures", "counter", ("hook",), "Calls of the hook that raised.",
        _hooks(lambda hook: hook.failures),
    ),
    Family(
        "hook_seconds", "counter", ("hook",), "Duration of all calls of the hook.",
        _hooks(lambda hook: hook.seconds),
    ),
    Family(
        "hook_skipped_lines", "counter", ("hook",),
        "Lines that the hook did not get because too much waited for it.",
        _hooks(lambda hook: hook.skipped_lines),
    ),
    Family(
        "hook_off", "gauge", ("hook",), "1 if the hook is not called any more; the log says why.",
        _hooks(lambda hook: hook.off),
    ),
    Family(
        "redacted", "counter", ("rule",), "What was masked in lines, by rule of `redact`.",
        lambda d: [((rule,), count) for rule, count in d.stats.redacted.items()],
    ),
    Family(
        "http_requests", "counter", ("outcome",),
        'Requests to the telemetry port (`telemetry.protocol = "http"`), by what became of them. '
        "`busy`: a queue was full, and the sender was asked to send again.",
        lambda d: [((o,), d.stats.http_requests.get(o, 0)) for o in HTTP_OUTCOMES],
    ),
    Family(
        "received_bytes", "counter", (), "Bytes read; with HTTP, of records.",
        _one(lambda d: d.ledger.received.bytes),
    ),
    Family(
        "received_lines", "counter", (), "Lines read, rejected ones included.",
        _one(lambda d: d.ledger.received.lines),
    ),
    Family(
        "rejected_lines", "counter", ("reason",),
        "Lines that went to no sink: `too_long`, `truncated` (the connection ended within), "
        "`empty`, `tail_budget` (too many long unfinished lines), `own_log` (telemetryd's own), "
        "`untrusted` (platform events that were not the platform's).",
        _rejections(lambda count: count.lines),
    ),
    Family(
        "rejected_bytes", "counter", ("reason",), "Bytes of these lines.",
        _rejections(lambda count: count.bytes),
    ),
    Family(
        "unrouted_lines", "counter", (), "Lines that no sink's filters wanted.",
        _one(lambda d: d.ledger.unrouted.lines),
    ),
    Family(
        "malformed_events", "counter", (),
        "Life-cycle events of the platform that telemetryd could not decode. Sinks get them "
        "unchanged.",
        _one(lambda d: d.stats.malformed_events),
    ),
    Family(
        "ends_missed", "counter", ("cause",),
        "Invocations whose end did not arrive in time (in Lambda).",
        lambda d: [((cause,), d.stats.ends_missed.get(cause, 0)) for cause in CAUSES],
    ),
    Family(
        "connections_beyond", "counter", (),
        "Telemetry connections beyond the first (in Lambda, which needs one).",
        _one(lambda d: d.stats.connections_beyond),
    ),
    Family(
        "connections_foreign", "counter", (),
        "Connections to an address that is neither loopback nor the sandbox's (in Lambda).",
        _one(lambda d: d.stats.connections_foreign),
    ),
    Family(
        "connections_held", "counter", (),
        "Connections of other processes in the sandbox that were not read while a queue was more "
        "than a quarter full (in Lambda).",
        _one(lambda d: d.stats.connections_held),
    ),
    Family(
        "port_taken", "counter", (),
        "Starts at which the telemetry port was in use, and another one was used (in Lambda).",
        _one(lambda d: d.stats.port_taken),
    ),
    Family(
        "sandbox_not_ours", "counter", (),
        "Starts at which `sandbox.localdomain` was not an address of the sandbox (in Lambda).",
        _one(lambda d: d.stats.sandbox_not_ours),
    ),
    Family(
        "trailing_lines", "counter", (),
        "Lines that arrived after the flush at the end of their invocation (in Lambda). They are "
        "delivered with the next one, or at shutdown.",
        _one(lambda d: d.stats.trailing_lines),
    ),
    Family(
        "unknown_requests", "counter", (),
        "Ends of invocations that did not begin here: before a reset, or forged (in Lambda).",
        _one(lambda d: d.stats.unknown_requests),
    ),
    Family(
        "upstream_dropped_lines", "counter", (),
        "Lines that Lambda lost before telemetryd read them, by `platform.logsDropped`.",
        _one(lambda d: d.ledger.upstream_dropped.lines),
    ),
    Family(
        "upstream_dropped_bytes", "counter", (), "Bytes of these lines.",
        _one(lambda d: d.ledger.upstream_dropped.bytes),
    ),
    Family(
        "read_paused", "gauge", (), "1 while a full queue stops reading.",
        _one(lambda d: int(d.stats.pauses.is_on)),
    ),
    Family(
        "read_paused_seconds", "counter", (), "How long reading was stopped.",
        _one(lambda d: d.stats.pauses.seconds(d.clock.monotonic())),
    ),
    Family(
        "read_pauses", "counter", ("sink",),
        "How often the sink's queue stopped reading.",
        _stats(lambda stats: stats.read_pauses),
    ),
    # -- queues
    Family(
        "queue_bytes", "gauge", ("sink",),
        "Bytes queued and in flight, with 256 for each block.",
        _queue(lambda queue: queue.charged_bytes),
    ),
    Family(
        "queue_capacity_bytes", "gauge", ("sink",), "Most bytes that the queue may hold.",
        _queue(lambda queue: queue.capacity_bytes),
    ),
    Family(
        "queue_mark_bytes", "gauge", ("sink", "mark"),
        "The queue's water marks: `pause`, above which reading stops (with a drop policy only "
        "for a burst, while the sink is fast); `resume`, at which it continues; `spool`, above "
        "which a spool is used. What the other queues hold may lower them.",
        _marks,
    ),
    Family(
        "queue_peak_bytes", "gauge", ("sink",), "Most bytes that the queue has held.",
        _stats(lambda stats: stats.queue_peak.value),
    ),
    Family(
        "queue_oldest_seconds", "gauge", ("sink",),
        "Age of the oldest line queued or in flight; 0 without any.",
        lambda d: [((worker.name,), _oldest(worker, d.clock)) for worker in d.workers],
    ),
    Family(
        "pending_lines", "gauge", ("sink",), "Lines queued and in flight.",
        _account(lambda account: account.pending_lines),
    ),
    # -- where lines went
    Family(
        "offered_lines", "counter", ("sink",),
        "Lines offered to the sink: filtered, sampled and enqueued.",
        _account(lambda account: account.offered.lines),
    ),
    Family(
        "filtered_lines", "counter", ("sink",), "Lines that its filters removed.",
        _account(lambda account: account.filtered.lines),
    ),
    Family(
        "sampled_lines", "counter", ("sink",), "Lines that its rules of `sample` left out.",
        _account(lambda account: account.sampled.lines),
    ),
    Family(
        "unjudged_lines", "counter", ("sink",),
        "Lines that passed unchanged because its `types`, `min_level` or `fields` do not apply to "
        "them: they are not a JSON object with a type.",
        _stats(lambda stats: stats.unjudged_lines),
    ),
    Family(
        "enqueued_lines", "counter", ("sink",), "Lines accepted for it.",
        _account(lambda account: account.enqueued.lines),
    ),
    Family(
        "delivered_lines", "counter", ("sink",), "Lines that the destination has acknowledged.",
        _account(lambda account: account.delivered.lines),
    ),
    Family(
        "delivered_bytes", "counter", ("sink",), "Bytes of these lines, as they were received.",
        _account(lambda account: account.delivered.bytes),
    ),
    Family(
        "dropped_lines", "counter", ("sink", "reason"),
        "Lines lost here: `queue_full`, `too_large`, `shutdown`, `bug`, a `spool_` "
        "reason, or the destination's error.",
        _drops(lambda count: count.lines),
    ),
    Family(
        "dropped_bytes", "counter", ("sink", "reason"), "Bytes of these lines.",
        _drops(lambda count: count.bytes),
    ),
    Family(
        "dead_lettered_lines", "counter", ("sink",), "Lines kept in the dead letter.",
        _account(lambda account: account.dead_lettered.lines),
    ),
    Family(
        "failed_over_lines", "counter", ("sink",), "Lines handed to the sink's failover.",
        _account(lambda account: account.failed_over.lines),
    ),
    Family(
        "recovered_lines", "counter", ("sink",),
        "Lines found in the spool of an earlier process.",
        _account(lambda account: account.recovered.lines),
    ),
    Family(
        "spooled_lines", "gauge", ("sink",), "Lines on disk, to be delivered.",
        _account(lambda account: account.spooled.lines),
    ),
    Family(
        "spooled_bytes", "gauge", ("sink",), "Bytes of these lines.",
        _account(lambda account: account.spooled.bytes),
    ),
    Family(
        "spool_disk_bytes", "gauge", ("sink",), "Bytes of the spool's files.",
        lambda d: [((worker.name,), worker.spool_disk_bytes) for worker in d.workers],
    ),
    Family(
        "spool_oldest_seconds", "gauge", ("sink",),
        "Age of the oldest line on disk; 0 without any.",
        lambda d: [((worker.name,), worker.spool_oldest_seconds) for worker in d.workers],
    ),
    Family(
        "spool_damaged_bytes", "counter", ("sink",),
        "Bytes in the spool that belong to no intact record.",
        _account(lambda account: account.damaged_bytes),
    ),
    # -- delivery
    Family(
        "sink_up", "gauge", ("sink",),
        "1 while writes are made; 0 while the circuit is open because the destination keeps "
        "failing.",
        lambda d: [((worker.name,), int(worker.is_up)) for worker in d.workers],
    ),
    Family(
        "writes_in_flight", "gauge", ("sink",), "Writes without a response yet.",
        _stats(lambda stats: stats.writes_in_flight),
    ),
    Family(
        "write_duration_seconds", "histogram", ("sink", "outcome"),
        "One attempt: `ok`, `partial` (some items refused), `transient`, `permanent`, `timeout`, "
        "or `cut` off by us, before a freeze or at the end.",
        lambda d: [((name, outcome), stats.write_seconds[outcome])
                   for name, stats in d.stats.sinks.items() for outcome in OUTCOMES],
    ),
    Family(
        "direct_writes", "counter", ("sink",),
        "Writes made as soon as the lines were read, without the queue and the sink's thread.",
        _stats(lambda stats: stats.direct_writes),
    ),
    Family(
        "slow_writes", "counter", ("sink",),
        "Slow direct writes (more than 5 ms). After one the sink's thread writes for a while.",
        _stats(lambda stats: stats.slow_writes),
    ),
    Family(
        "retries", "counter", ("sink",), "Attempts after the first for a batch.",
        _stats(lambda stats: stats.retries),
    ),
    Family(
        "sink_errors", "counter", ("sink", "kind", "code"),
        "Attempts in which the destination gave this code: `transient`, `permanent`, or a `bug` of "
        "the sink. At most 32 codes a sink, then `other`.",
        lambda d: [((name, *error), count) for name, stats in d.stats.sinks.items()
                   for error, count in stats.errors.items()],
    ),
    Family(
        "derived", "counter", ("sink", "kind", "outcome"),
        "`metrics` and `spans` that an `otlp` sink has `made` of platform events, and how many of "
        "them were `delivered` or `refused`. Made, but neither, are those that wait or were lost.",
        lambda d: [((name, *derived), count) for name, stats in d.stats.sinks.items()
                   for derived, count in stats.derived.items()],
    ),
    Family(
        "linger_seconds", "gauge", ("sink",),
        "Time that a batch waits to fill: an eighth of `linger_ms` under light load, all of it "
        "under full load.",
        lambda d: [((worker.name,), worker.linger_seconds) for worker in d.workers],
    ),
    Family(
        "batch_lines", "histogram", ("sink",), "Lines in a batch.",
        _stats(lambda stats: stats.batch_lines),
    ),
    Family(
        "batch_bytes", "histogram", ("sink",), "Bytes of a batch, as written.",
        _stats(lambda stats: stats.batch_bytes),
    ),
    Family(
        "delivery_latency_seconds", "histogram", ("sink",),
        "From the read from the socket to the destination's acknowledgement; one observation per "
        "line.",
        _stats(lambda stats: stats.delivery_seconds),
    ),
    # -- Lambda
    Family(
        "invocations", "counter", (), "INVOKE events seen.",
        _one(lambda d: d.stats.invocations),
    ),
    Family(
        "invocation_added_seconds", "histogram", (),
        "Time that telemetryd added to an invocation: from `platform.runtimeDone` to its `next`; 0 "
        "if `next` was sent before.",
        _one(lambda d: d.stats.added_seconds),
    ),
    Family(
        "flush_duration_seconds", "histogram", ("trigger",),
        "A flush of all sinks: after an `invocation`, by `timer`, at `shutdown`.",
        lambda d: [((trigger,), d.stats.flush_seconds[trigger]) for trigger in TRIGGERS],
    ),
)  # fmt: skip

PROCESS: Final = {
    "process_cpu_seconds_total": "Processor time used.",
    "process_resident_memory_bytes": "Memory resident now.",
    "process_virtual_memory_bytes": "Address space.",
    "process_start_time_seconds": "Time when the process started, Unix time.",
    "process_open_fds": "Open file descriptors.",
    "process_max_fds": "Most that may be open.",
}
"""Metrics that Prometheus' own client adds, under the names of every program."""

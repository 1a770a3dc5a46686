"""Writes docs/metrics.md from the tables of metrics, so that it lists those that exist.

python -m telemetryd.exposition.guide > docs/metrics.md
"""

from __future__ import annotations

import sys
from typing import Final

from telemetryd.exposition.catalogue import FAMILIES, PROCESS
from telemetryd.exposition.server import MAX_CONNECTIONS, SECONDS
from telemetryd.sinks.emf import guide as _emf_guide

_INTRODUCTION: Final = """\
# Metrics

In Lambda no client can connect, so the [`emf` sink](#cloudwatch-the-emf-sink) sends metrics. It
sends those of the function, from its platform events, and those of telemetryd itself.
`telemetryd listen` serves [`/metrics`](#prometheus-metrics) for Prometheus, and
[`/healthz`](#health-healthz) for probes. In both, the last line on stderr has the ledger and
[all figures](#the-ledgers-figures).
"""

_PROMETHEUS: Final = f"""\
## Prometheus: `/metrics`

`listen` serves `http://127.0.0.1:9464/metrics`. `metrics.listen` sets another address, or none. In
Lambda it is off unless set. The scraper chooses the format: Prometheus' text, or OpenMetrics. If
the address is in use, telemetryd logs that once and continues without `/metrics`.

```yaml
scrape_configs:
  - job_name: telemetryd
    static_configs:
      - targets: ["127.0.0.1:9464"]
```

telemetryd counts once per block, batch or attempt, with or without a scrape. A scrape only reads,
in a few milliseconds (`python -m bench.scrape`). Label values are fixed or bounded, and none comes
from received data. Lines add up, per sink:

    offered = filtered + sampled + enqueued
    enqueued + recovered = delivered + dropped + dead_lettered + failed_over + spooled + pending

There are no passwords and no encryption, so keep the address local. A connection gets one response
within {SECONDS:g} seconds. At most {MAX_CONNECTIONS} are open at a time.

"""

_ALERTS: Final = """\
Alert on:

```
rate(telemetryd_dropped_lines_total[5m]) > 0             # lines are being lost
rate(telemetryd_upstream_dropped_lines_total[5m]) > 0    # ... before they reach telemetryd
telemetryd_sink_up == 0                                  # a destination is down
telemetryd_queue_oldest_seconds > 60                     # delivery does not keep up
telemetryd_spool_oldest_seconds > 600                    # ... and the disk holds what waits
rate(telemetryd_read_paused_seconds_total[5m]) > 0.5     # the senders are delayed half of the time
```
"""

_HEALTH: Final = """\
## Health: `/healthz`

It answers 200 when telemetryd accepts lines and writes to every sink. It answers 503 with the
problems when

- the circuit of a sink is open, because its destination keeps failing;
- an internal error has left telemetryd counting and discarding;
- telemetryd is stopping, and still delivers.

```json
{
  "status": "unavailable",
  "problems": ["sink archive: the circuit is open, its destination keeps failing"],
  "sinks": {"archive": "down"},
  "reading": "yes"
}
```

Use it for readiness. telemetryd recovers from an open circuit without help, and a restart would
lose the lines in memory. For liveness, accept any response. `reading` is `paused` while a full
queue delays the senders, which is not a fault. If the next attempt of an open circuit is due, the
sink counts as up again. Only new lines can show its state.

## The ledger's figures

The ledger at exit has a member `figures`. Each document of the `emf` sink about telemetryd itself
has the same figures in its member `telemetryd`:

| Member | Meaning |
|---|---|
"""

FIGURES: Final = {
    "uptime_seconds": "Since telemetryd's first instruction.",
    "cpu_seconds": "Processor time used.",
    "peak_rss_bytes": "Peak resident memory.",
    "start_ms": "Milliseconds from telemetryd's first instruction to `registered`, to the first "
    "`next`, and to `up`. The interpreter's own start comes before.",
    "paused_ms, pauses": "How long and how often full queues stopped reading.",
    "malformed_events": "Life-cycle events, and members of responses, that could not be decoded.",
    "invocations": "INVOKE events received. The following figures need at least one.",
    "added_ms_mean, added_ms_max": "Milliseconds that telemetryd added to an invocation: from "
    "`platform.runtimeDone` to its `next`; 0 if `next` was sent before. If that event did not "
    "arrive: from the last telemetry of the invocation, which is the most that it can be.",
    "ends_missed": "Invocations whose end did not arrive in time, by cause; see "
    "[reliability.md](reliability.md#when-the-end-of-an-invocation-is-not-seen).",
    "unknown_requests": "Ends of invocations that did not begin here: before a reset, or forged.",
    "trailing_lines": "Lines that arrived after the flush at the end of their invocation; see "
    "[reliability.md](reliability.md#lines-behind-the-end-of-an-invocation).",
    "connections_beyond, connections_foreign": "Telemetry connections beyond the "
    "first; those to an address that is neither loopback nor the sandbox's.",
    "port_taken, sandbox_not_ours": "1 if the telemetry port was in use, and another is used; 1 if "
    "`sandbox.localdomain` is not an address of the sandbox.",
    "connections_held": "Those of other processes in the sandbox that waited while a queue was "
    "more than a quarter full.",
    "sinks.NAME.delivery_ms_mean, delivery_ms_max": "From the read from the socket to the "
    "destination's acknowledgement.",
    "sinks.NAME.queue_peak_bytes, queue_capacity_bytes": "Most bytes that the queue held, "
    "and may hold.",
    "sinks.NAME.writes, retries": "Attempts, and those of them that were retries.",
    "sinks.NAME.direct_writes, slow_writes": "Writes made as soon as the lines were read, and "
    "those that took longer than 5 ms; see [reliability.md](reliability.md#direct-writes).",
    "sinks.NAME.unjudged_lines": "Lines that passed unchanged because the sink's rules do not "
    "apply to them: they are not a JSON object with a type.",
    "sinks.NAME.errors": "Failed attempts by the destination's error, as `kind.code`.",
    "lines, sinks.NAME.lines": "Only in the documents: the ledger so far, in lines, without "
    "zeros. Drops by their reason; `pending` lines wait or are in flight.",
    "oldest_ms": "Only in the documents: age of the oldest line that waits or is in flight.",
}
"""The members of `core.figures.facts`, and of those that sinks are given."""


def render() -> str:
    """Return the whole document, in Markdown."""
    rows = [
        f"| `{family.full_name}` | {family.kind} | {', '.join(family.labels)} | {family.meaning} |"
        for family in FAMILIES
    ]
    rows += [
        f"| `{name}` | {'counter' if name.endswith('_total') else 'gauge'} | | {meaning} |"
        for name, meaning in PROCESS.items()
    ]
    table = "\n".join(["| Metric | Type | Labels | Meaning |", "|---|---|---|---|", *rows, "", ""])
    figures = "".join(
        f"| {', '.join(f'`{part}`' for part in names.split(', '))} | {meaning} |\n"
        for names, meaning in FIGURES.items()
    )
    prometheus = _PROMETHEUS + table + _ALERTS
    return "\n".join([_INTRODUCTION, prometheus, _HEALTH + figures, _emf_guide.render()])


if __name__ == "__main__":
    sys.stdout.write(render())

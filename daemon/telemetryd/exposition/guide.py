"""Writes docs/metrics.md from the tables of metrics, so that it can't tell of any that don't exist.

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

In Lambda no client can ask for metrics, so the [`emf` sink](#cloudwatch-the-emf-sink)
sends them: those of the function, out of its platform events, and those of telemetryd itself.
`telemetryd listen` is asked: [`/metrics`](#prometheus-metrics) is there for Prometheus,
[`/healthz`](#health-healthz) for probes. In both, the last line on stderr has
[all figures](#the-ledgers-figures) beside the ledger.
"""

_PROMETHEUS: Final = f"""\
## Prometheus: `/metrics`

`listen` serves `http://127.0.0.1:9464/metrics`; `metrics.listen` sets another address, or none. In
Lambda it is off unless set. The format is what the scraper prefers: Prometheus' text, or
OpenMetrics. If the address is taken, telemetryd says so once and continues without.

```yaml
scrape_configs:
  - job_name: telemetryd
    static_configs:
      - targets: ["127.0.0.1:9464"]
```

Everything is counted once per block, batch or attempt, whether somebody asks or not; a scrape only
reads, in a few milliseconds (`python -m bench.scrape`). Label values are known from the start or
bounded: no label comes from what was received. Lines add up, per sink:

    offered = filtered + enqueued
    enqueued + recovered = delivered + dropped + dead_lettered + failed_over + spooled + pending

There are no passwords and no encryption: keep the address local. A connection gets one answer and
{SECONDS:g} seconds, and there are at most {MAX_CONNECTIONS} at a time.

"""

_ALERTS: Final = """\
What to be alerted of:

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

200 when telemetryd takes lines and writes to every sink; 503 with what is wrong when

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

It is meant for readiness: telemetryd gets over an open circuit by itself, and a restart would cost
what waits in memory. For liveness, ask for any answer at all. `reading` is `paused` while a full
queue delays the senders, which is no fault. When an open circuit is due for its next attempt, the
sink counts as up again, because only new lines can tell.

## The ledger's figures

The ledger that is printed at the end has a member `figures`, as has, under the name `telemetryd`,
each document of the `emf` sink about telemetryd itself:

| Member | Meaning |
|---|---|
"""

FIGURES: Final = {
    "uptime_seconds": "Since telemetryd's first instruction.",
    "cpu_seconds": "Processor time used.",
    "peak_rss_bytes": "Most memory ever resident.",
    "start_ms": "Milliseconds from telemetryd's first instruction to `registered`, to the first "
    "`next`, and to `up`. The interpreter's own start comes before.",
    "paused_ms, pauses": "How long, and how often, reading was stopped by full queues.",
    "malformed_events": "Life-cycle events, and members of answers, that telemetryd could not make "
    "sense of.",
    "invocations": "INVOKE events seen. With it come the following ones.",
    "added_ms_mean, added_ms_max": "What telemetryd added to an invocation: from "
    "`platform.runtimeDone` to its `next`; 0 where that had gone out before. Where that event was "
    "awaited and never came, from the last telemetry of the invocation: the most it can have been.",
    "ends_missed": "Invocations whose end was awaited and not seen, by cause; see "
    "[reliability.md](reliability.md#when-the-end-of-an-invocation-is-not-seen).",
    "unknown_requests": "Ends of invocations that did not begin here: before a reset, or forged.",
    "connections_beyond, connections_foreign": "Telemetry connections beyond the first; those made "
    "to an address that is neither loopback nor the sandbox's.",
    "port_taken, sandbox_not_ours": "1 if the telemetry port could not be had, and a free one is "
    "used; 1 if `sandbox.localdomain` is no address of the sandbox.",
    "connections_held": "Those of other processes in the sandbox that had to wait while a queue "
    "was more than a quarter full.",
    "sinks.NAME.delivery_ms_mean, delivery_ms_max": "From the read from the socket to the "
    "destination's acceptance.",
    "sinks.NAME.queue_peak_bytes, queue_capacity_bytes": "The most the queue held, and may hold.",
    "sinks.NAME.writes, retries": "Attempts, and those after the first for a batch.",
    "sinks.NAME.unjudged_lines": "Lines that passed unchanged because the sink's rules could not "
    "be applied to them: no JSON object, or none with a type.",
    "sinks.NAME.errors": "Attempts by what the destination said, as `kind.code`.",
    "lines, sinks.NAME.lines": "Only in the documents: the ledger so far, in lines, zeros left "
    "out. Drops by their reason; `pending` is what waits or is in flight.",
    "oldest_ms": "Only in the documents: age of the oldest line that waits or is in flight.",
}
"""The members of `core.figures.facts`, and of those that sinks are given."""


def render() -> str:
    """The whole document, in Markdown."""
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

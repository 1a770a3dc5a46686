"""The part of docs/metrics.md about the EMF sink, from the table of its metrics."""

from __future__ import annotations

from typing import Final

from telemetryd.sinks._platform.invocations import IDLE_MS
from telemetryd.sinks.emf import prices as _emf_prices
from telemetryd.sinks.emf.catalogue import (
    DEFAULT_METRICS,
    DIMENSIONS,
    METRICS,
    PROPERTIES,
    SYSTEM_METRICS,
    Kind,
)

_KINDS: Final[dict[Kind, str]] = {"sum": "sum", "values": "each value", "level": "distinct values"}

_INTRODUCTION: Final = """\
## CloudWatch: the `emf` sink

The `emf` sink turns the platform events of a function into CloudWatch metrics. It writes embedded
metric format: JSON lines from which CloudWatch Logs extracts the numbers.

```toml
[sinks.metrics]
type = "emf"
```

By default telemetryd prints the lines, and Lambda delivers them to the function's log group. This
needs no call and no permission. You pay for the log lines and the metrics.
[configuration.md](configuration.md) has all settings.
"""

_USD: Final = f"{_emf_prices.METRIC:.2f}"
_DEFAULT: Final = len(DEFAULT_METRICS)
_DEFAULT_USD: Final = f"{_DEFAULT * _emf_prices.METRIC:.2f}"
_ALL: Final = len(METRICS) - len(SYSTEM_METRICS)
_ALL_USD: Final = f"{_ALL * _emf_prices.METRIC:.2f}"
_SYSTEM: Final = len(SYSTEM_METRICS) // 2
_SYSTEM_USD: Final = f"{_SYSTEM * _emf_prices.METRIC:.2f}"
_PRICE: Final = f"""\
### What they cost

CloudWatch bills each metric of each function: about {_USD} USD a month, the list price of
{_emf_prices.REGION} in {_emf_prices.AS_OF}. So only {_DEFAULT} are emitted unless you ask for more.
They cost about {_DEFAULT_USD} USD per function and month, less if some have no values. `AWS/Lambda`
does not have these metrics:

{", ".join(f"`{name}`" for name in DEFAULT_METRICS)}

`metrics` selects metrics, by name or with `*`: `metrics = ["errors", "telemetryd_*"]`. `["*"]` is
all {_ALL}, about {_ALL_USD} USD. [`[system]`](system.md) adds {_SYSTEM}, about {_SYSTEM_USD} USD.
A second dimension set doubles the price.
`telemetryd check --lambda` prints it for your configuration, from `price_metric`.
"""

_TABLE: Final = """\
### Names and units

The namespace is `telemetryd`, unless `namespace` sets another. A metric appears with its first
value, so a function that never fails has no `errors`. In alarms, treat missing data as good. In
metric math, use `FILL(errors, 0)`.
"""

_REST: Final = f"""\
"In a document" says how the values of invocations that share a document are combined. A sum is one
number: use the statistic `Sum`. Otherwise the document has an array of values, so that averages and
percentiles are exact.

### Dimensions and properties

Every document has the members {" and ".join(f"`{name}`" for name in DIMENSIONS)}, and the
configured `properties`. `dimensions` chooses among them; the default is `[["function_name"]]`.
CloudWatch bills each metric once for every combination of dimension values. A second set doubles
the bill, and `function_version` multiplies it by the number of versions in use. Other members add
only their bytes to the log, and Logs Insights can search them:

{{properties}}
### What is counted, and when

- Invocations that end together become one document. It has at most 100 values for a metric, and
  covers one minute (with `resolution = 1`, one second) and one combination of dimension values. The
  sink waits `linger_ms` (default: 1000) for more; the end of an invocation may end the wait. A
  document has the time of its first event, however late it arrives.
- An invocation is counted when it begins. Its failure is counted with the first event that reports
  it. Without such an event, the reason for which Lambda ends the process counts it. Its
  `platform.report` may arrive with the next invocation or never. It adds durations, memory and
  cost, and nothing twice. After a crash Lambda may send that report to a new process, which does
  not know the invocation. It then adds the same figures, and no invocation.
- An initialisation that fails is one of the `init_errors` and of the `errors`, even if no
  invocation follows. The invocation that waited for it may fail for the same reason. That is the
  same failure, and `errors` counts it once.
- `AWS/Lambda` `Errors` counts failed invocations only. `errors` also counts initialisations that
  failed although the retry inside the invocation succeeded. It also counts those of environments
  that never had an invocation (provisioned concurrency).
- Events count by their own times. With SnapStart, those of the snapshot's initialisation may arrive
  after those of the restore. Events older than the restore are not counted again.
- If Lambda dropped the `platform.start` of an invocation, the next event of it counts it.
- Managed Instances send only `platform.start` and `platform.report`. Their report has no memory and
  no billing. So there are no `runtime_duration`, `billed_duration`, memory metrics or cost.
- A handler that raises ends in `success` on on-demand functions, because its runtime caught the
  exception. CloudWatch's own `AWS/Lambda` metric `Errors` counts it. If `errors` is among the
  `metrics`, telemetryd searches the log for the error reports of the runtimes. It knows those of
  Python, Node.js, Java, .NET, Ruby, Go and PHP (Bref), in text and JSON. It does not count what
  handlers log (`logger.exception`, `console.error(text, error)`). Two reports look like lines that
  a handler may write: `console.error(error)` of one error with Node.js's JSON format, and
  `Console.Error.WriteLine(exception)` of .NET. They count if no log line follows before the
  invocation ends. So a handler that succeeds right after such a line counts as an error. One whose
  runtime or callbacks log something after the report does not. This searches every log line;
  `count_log_errors = false` turns it off.
- `cold_starts` leaves out environments that had been ready for more than {IDLE_MS // 1000} seconds.
  Lambda initialised them ahead of need, and no caller waited.
- The metrics that begin with `telemetryd_` are about telemetryd itself, since their last document.
  They have a document of their own, once a minute while there are events, and at exit. Each is
  billed like any other; `self_metrics = false` turns them off. All other figures of telemetryd are
  in the member `telemetryd` of the same document, which costs only its bytes. In Logs Insights use
  `stats max(telemetryd.start_ms.next) by bin(1h)`. By default there is such a document only if
  lines were lost. With `telemetryd_cpu_time` among the `metrics`, for example, there always is.
- The clock for ages may stop while an environment is frozen. So a line that waited through a freeze
  can be older than `telemetryd_delivery_latency` says.
- Megabytes are MiB, as in Lambda.
- CloudWatch accepts time stamps from two weeks ago to two hours ahead. Documents of older, replayed
  events have no effect. With `delivery = "logs"` they are refused as `too_old`.

### Delivery

`delivery = "logs"` calls PutLogEvents instead. The role needs
`logs:CreateLogStream` and `logs:PutLogEvents` on `log_group`, and `logs:CreateLogGroup` unless the
group exists; `telemetryd iam` prints the policy. Delivery is at-least-once: a call without a
response is repeated, and its values may count twice.

`forward_emf = true` also delivers the EMF documents that the function prints, unchanged. Use it
only if the function's role denies CloudWatch Logs, with `delivery = "logs"` to a group that it may
write to. Otherwise CloudWatch reads the documents itself, and counts them twice.

Printed documents have the mark `"logger":"telemetryd"`. With `extension` in `telemetry.types` they
return as events. telemetryd recognizes them by this mark, and drops them.
"""


def render() -> str:
    """Return this part of the page in Markdown."""
    rows = [
        f"| `{info.name}` | {info.unit} | {_KINDS[info.kind]} | {info.meaning} | {info.source} |"
        for info in METRICS
    ]
    header = ["| Metric | Unit | In a document | Meaning | Taken from |", "|---|---|---|---|---|"]
    properties = "".join(f"- `{name}`: {meaning}\n" for name, meaning in PROPERTIES.items())
    table = "\n".join([*header, *rows]) + "\n"
    rest = _REST.replace("{properties}", properties)
    return f"{_INTRODUCTION}\n{_PRICE}\n{_TABLE}\n{table}\n{rest}"

"""The part of docs/metrics.md about the EMF sink, from the table of its metrics."""

from __future__ import annotations

from typing import Final

from telemetryd.sinks.emf import prices as _emf_prices
from telemetryd.sinks.emf.catalogue import (
    DEFAULT_METRICS,
    DIMENSIONS,
    METRICS,
    PROPERTIES,
    Kind,
)
from telemetryd.sinks.emf.invocations import IDLE_MS

_KINDS: Final[dict[Kind, str]] = {"sum": "sum", "values": "each value", "level": "distinct values"}

_INTRODUCTION: Final = """\
## CloudWatch: the `emf` sink

The `emf` sink turns the platform events of a function into CloudWatch metrics, in embedded metric
format: JSON lines out of which CloudWatch Logs extracts the numbers.

```toml
[sinks.metrics]
type = "emf"
```

By default the lines are printed, and Lambda carries them to the function's log group: no call, no
permission, only the price of the log lines and of the metrics. All settings are in
[configuration.md](configuration.md).
"""

_USD: Final = f"{_emf_prices.METRIC:.2f}"
_DEFAULT: Final = len(DEFAULT_METRICS)
_DEFAULT_USD: Final = f"{_DEFAULT * _emf_prices.METRIC:.2f}"
_ALL_USD: Final = f"{len(METRICS) * _emf_prices.METRIC:.2f}"
_PRICE: Final = f"""\
### What they cost

CloudWatch bills each metric of each function: about {_USD} USD a month, the list price of
{_emf_prices.REGION} in {_emf_prices.AS_OF}. So only {_DEFAULT} are emitted unless you ask for more:
about {_DEFAULT_USD} USD per function and month, less if some have nothing to tell. They are those
that `AWS/Lambda` does not have:

{", ".join(f"`{name}`" for name in DEFAULT_METRICS)}

`metrics` lists others, by name or with `*`: `metrics = ["errors", "telemetryd_*"]`. `["*"]` is all
{len(METRICS)}, about {_ALL_USD} USD. A second dimension set doubles the price.
`telemetryd check --lambda` prints it for your configuration; `price_metric` is the price it
assumes.
"""

_TABLE: Final = """\
### Names and units

Namespace: `telemetryd`, or what `namespace` says. A metric appears once there is something to tell:
a function that never fails has no `errors`. In alarms, treat missing data as good; in metric math,
use `FILL(errors, 0)`.
"""

_REST: Final = f"""\
"In a document" says how invocations that share a document are put together: as one sum (look at
the statistic `Sum`), or as an array of values, so that averages and percentiles are exact.

### Dimensions and properties

Every document has the members {" and ".join(f"`{name}`" for name in DIMENSIONS)}, and the
configured `properties`. `dimensions` chooses among them; the default is `[["function_name"]]`.
CloudWatch bills each metric once for every combination of dimension values: adding a second set
doubles the bill, `function_version` multiplies it by the number of versions in use. Other members
can be searched with Logs Insights and cost nothing:

{{properties}}
### What is counted, and when

- Invocations that end together become one document: at most 100 values for a metric, one minute
  (with `resolution = 1`, one second), one combination of dimension values. `linger_ms` (1000 unless
  set) is how long the sink waits for more; the end of an invocation may end the wait. A document
  has the time of its first event, however late it arrives.
- An invocation is counted when it begins, its failure with the first event that tells of it, or
  with the reason for which Lambda ends the process. Its `platform.report` may come with the next
  invocation or never; when it comes it adds durations, memory and cost, and nothing twice. After a
  crash Lambda may hand that report to a new process, which knows of no such invocation: it adds the
  same figures, and no invocation.
- An initialisation that fails is one of the `init_errors` and of the `errors`, even if no
  invocation follows. If the invocation that waited for it fails for the same reason, that is the
  same failure, and `errors` counts it once.
- `AWS/Lambda` `Errors` counts failed invocations only: `errors` is higher by initialisations that
  failed although the retry inside the invocation succeeded, and by those of environments that
  never had an invocation (provisioned concurrency).
- Events count by their own times. With SnapStart, those of the snapshot's initialisation may arrive
  after those of the restore: what is older than the restore is not counted again.
- If Lambda dropped the `platform.start` of an invocation, the next event of it counts it.
- Managed Instances send `platform.start` and `platform.report` only, and the latter without memory
  and billing: there are no `runtime_duration`, `billed_duration`, memory metrics or cost.
- A handler that raises ends in `success` on on-demand functions, because its runtime caught the
  exception. CloudWatch's own `AWS/Lambda` metric `Errors` has it. Where `errors` is asked for, it
  is found in the log, in the error reports of the runtimes for Python, Node.js, Java, .NET, Ruby,
  Go and PHP (Bref), in text and JSON. What handlers log (`logger.exception`,
  `console.error(text, error)`) is not counted. Two reports can't be told from what a handler may
  write: `console.error(error)` of one lone error with Node.js's JSON format, and
  `Console.Error.WriteLine(exception)` of .NET. They count where no log line follows before the
  invocation ends: a handler that succeeds right after such a line is counted as an error, and one
  whose runtime or callbacks log something after the report is not. Every log line is looked at
  for that; `count_log_errors = false` spares that, and leaves these out.
- `cold_starts` leaves out environments that had been ready for more than {IDLE_MS // 1000} seconds:
  Lambda initialised them ahead of need, and no caller waited.
- The metrics that begin with `telemetryd_` are about telemetryd itself, since their last document.
  They come in a document of their own, once a minute while there are events and at the end of the
  process, and belong to no line. Each is billed like any other; `self_metrics = false` leaves them
  out. Everything else that telemetryd knows of itself is in the member `telemetryd` of the same
  document, which costs nothing but its bytes: in Logs Insights,
  `stats max(telemetryd.start_ms.next) by bin(1h)`. By default there is such a document only if
  lines were lost; with `telemetryd_cpu_time` among the `metrics`, for one, there always is.
- While an environment is frozen, the clock that ages are taken from may stand still: a line that
  waited through a freeze can be older than `telemetryd_delivery_latency` says.
- Megabytes are what Lambda calls so: MiB.
- CloudWatch accepts time stamps from two weeks ago to two hours ahead. Replayed older events make
  documents without effect; with `delivery = "logs"` they are refused as `too_old`.

### Delivery

`delivery = "logs"` calls PutLogEvents instead. The role needs
`logs:CreateLogStream` and `logs:PutLogEvents` on `log_group`, and `logs:CreateLogGroup` unless the
group exists; `telemetryd iam` prints the policy. Delivery is at-least-once: a call whose answer got
lost is repeated, and its values are counted again.

`forward_emf = true` also delivers the EMF documents which the function prints, unchanged. It is for
functions whose role denies them CloudWatch Logs and `delivery = "logs"` to a group it may write to;
elsewhere CloudWatch has read them already and would count them twice.

Printed documents carry `"logger":"telemetryd"`. With `extension` in `telemetry.types` they come
back as events; that mark is how they are recognised and dropped.
"""


def render() -> str:
    """The part, in Markdown."""
    rows = [
        f"| `{info.name}` | {info.unit} | {_KINDS[info.kind]} | {info.meaning} | {info.source} |"
        for info in METRICS
    ]
    header = ["| Metric | Unit | In a document | Meaning | Taken from |", "|---|---|---|---|---|"]
    properties = "".join(f"- `{name}`: {meaning}\n" for name, meaning in PROPERTIES.items())
    table = "\n".join([*header, *rows]) + "\n"
    rest = _REST.replace("{properties}", properties)
    return f"{_INTRODUCTION}\n{_PRICE}\n{_TABLE}\n{table}\n{rest}"

"""Shows telemetryd at work: a local Lambda, a real handler, telemetryd as its extension.

This is what `make run` runs. Twenty invocations, the environment frozen between them: a cold start,
one that raises, one that times out, some with JSON logs, one that prints 10,000 lines. Then the
environment shuts down, and what arrived in the file is compared with what was printed.

Exit status 1 if a line is missing or the ledger does not balance.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from telemetryd.local import LocalConfig, LocalLambda

HERE = Path(__file__).parent
OUT = HERE.parent / ".run"
TIMEOUT_SECONDS = 2

INVOCATIONS: list[dict[str, Any]] = [
    {"print": 3},
    {"print": 1, "log": "json"},
    {"print": 1, "log": "json"},
    {"raise": "no stock for sku-4711"},
    {"print": 2},
    {"print": 10_000},
    {"print": 1},
    {"sleep": 60},  # beyond the timeout
    {"print": 3},  # a new process in the same environment
    *({"print": 1, "log": "json"} for _ in range(11)),
]


class Invocation:
    """One row of the table, as its platform events tell it."""

    def __init__(self) -> None:
        self.cold = False
        self.status = ""
        self.raised = False
        self.log_lines = 0
        self.runtime_ms = 0.0
        self.metrics: dict[str, float] = {}

    @property
    def added_ms(self) -> float | None:
        """Milliseconds that extensions added after the runtime was done."""
        duration = self.metrics.get("durationMs")
        if duration is None or self.status == "timeout":
            return None
        return max(0.0, duration - self.runtime_ms)


def invocations(events: list[dict[str, Any]]) -> dict[str, Invocation]:
    """The table, from platform events and the log lines between them."""
    table: dict[str, Invocation] = {}
    current: Invocation | None = None
    cold = False
    for event in events:
        record = event["record"]
        match event["type"]:
            case "platform.initStart":
                cold = True
            case "platform.start":
                current = table.setdefault(record["requestId"], Invocation())
                current.cold, cold = cold, False
            case "platform.runtimeDone":
                row = table.setdefault(record["requestId"], Invocation())
                # the platform calls a handler's exception a success
                row.status = "raised" if row.raised else record["status"]
                row.runtime_ms = record.get("metrics", {}).get("durationMs", 0.0)
            case "platform.report":
                row = table.setdefault(record["requestId"], Invocation())
                row.metrics = record["metrics"]
            case "function" if current is not None:
                current.log_lines += 1
                text = record if isinstance(record, str) else json.dumps(record)
                current.raised = current.raised or "errorType" in text
    return table


def show(table: dict[str, Invocation]) -> None:
    """Print the table."""
    print(f"  {'#':>2} {'status':<9}{'start':<7}{'duration':>12}{'billed':>11}", end="")
    print(f"{'memory':>10}{'log lines':>11}{'added':>11}")
    for number, row in enumerate(table.values(), 1):
        metrics = row.metrics
        added = f"{row.added_ms:.2f} ms" if row.added_ms is not None else "-"
        print(
            f"  {number:>2} {row.status:<9}{'cold' if row.cold else 'warm':<7}"
            f"{metrics.get('durationMs', 0):>9.2f} ms{metrics.get('billedDurationMs', 0):>8.0f} ms"
            f"{metrics.get('maxMemoryUsedMB', 0):>7.0f} MB{row.log_lines:>11}{added:>11}"
        )


def summed(ledgers: list[dict[str, Any]]) -> dict[str, Counter[str]]:
    """Return the interesting leaves, added up over the processes."""
    total: dict[str, Counter[str]] = {}

    def add(label: str, leaf: dict[str, int]) -> None:
        total.setdefault(label, Counter()).update(leaf)

    for ledger in ledgers:
        add("received from Lambda", ledger["received"])
        for reason, leaf in ledger["rejected"].items():
            if leaf["lines"]:
                add(f"rejected: {reason}", leaf)
        for page in ledger["sinks"].values():
            add("delivered to the file", page["delivered"])
            for reason, leaf in page["dropped"].items():
                add(f"dropped: {reason}", leaf)
        add("dropped by Lambda, upstream", ledger["upstream_dropped"])
    return total


def cost(ledgers: list[dict[str, Any]]) -> dict[str, str]:
    """Return the costs of telemetryd, over all processes."""
    figures = [ledger["figures"] for ledger in ledgers if "figures" in ledger]
    told = [each for each in figures if each.get("invocations")]
    if not told:
        return {}
    starts = [each["start_ms"]["next"] for each in figures]
    invocations = sum(each["invocations"] for each in told)
    added = sum(each["added_ms_mean"] * each["invocations"] for each in told) / invocations
    return {
        "added after an invocation": f"{added:.1f} ms (at most "
        f"{max(each['added_ms_max'] for each in told):.1f} ms)",
        "from the start to `next`": f"{max(starts):.1f} ms at most",
        "processor time": f"{sum(each['cpu_seconds'] for each in figures):.2f} s",
        "memory": f"{max(each['peak_rss_bytes'] for each in figures) / 2**20:.0f} MiB at most",
    }


def progress(text: str) -> None:
    """Show the progress, if standard output is a terminal."""
    if sys.stdout.isatty():
        print(f"\r{text:<40}\r", end="", flush=True)


async def play(archive: Path) -> tuple[LocalLambda, list[dict[str, Any]]]:
    """Run the invocations. Return the ended environment, and telemetryd's log."""
    log: list[dict[str, Any]] = []

    def listen(kind: str, _: str, line: bytes) -> None:
        if kind == "extension":
            try:
                log.append(json.loads(line))
            except ValueError:
                print(f"  telemetryd printed: {line.decode(errors='replace')}")

    config = LocalConfig(
        handler="app.handler",
        task_root=HERE / "handler",
        extensions=[Path(sys.executable).with_name("telemetryd")],
        extension_env={
            "TELEMETRYD_SINKS__ARCHIVE__TYPE": "file",
            "TELEMETRYD_SINKS__ARCHIVE__PATH": str(archive),
        },
        timeout=TIMEOUT_SECONDS,
        log_format="json",
        echo=listen,
    )
    async with LocalLambda(config) as environment:
        for number, event in enumerate(INVOCATIONS, 1):
            progress(f"  invocation {number} of {len(INVOCATIONS)}")
            await environment.invoke(event)
        await environment.shutdown()
    progress("")
    return environment, log


def main() -> int:
    """Play, compare, show."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    archive = (OUT / "telemetry.ndjson").resolve()
    print("A local Lambda: a Python handler with telemetryd as its extension.\n")
    environment, log = asyncio.run(play(archive))
    if not archive.exists():
        print(f"nothing arrived in {archive}; telemetryd says:")
        print("\n".join(f"  {json.dumps(record)}" for record in log))
        print("\n".join(f"  {warning}" for warning in environment.warnings))
        return 1
    events = [json.loads(line) for line in archive.read_bytes().split(b"\n")[:-1]]
    show(invocations(events))
    ledgers = [record for record in log if record.get("event") == "ledger"]
    print(f"\n  the ledger, summed over {len(ledgers)} processes\n")
    for label, leaf in summed(ledgers).items():
        print(f"  {label:<32}{leaf['lines']:>8} lines{leaf['bytes']:>12} bytes")
    balanced = len(ledgers) == environment.generation and all(b["balanced"] for b in ledgers)
    print(f"  {'every process balances':<32}{'yes' if balanced else 'NO':>8}")
    print("\n  the cost of telemetryd\n")
    for label, figure in cost(ledgers).items():
        print(f"  {label:<32}{figure:>8}")

    arrived = Counter(event["type"] for event in events)
    emitted = Counter(event.type for event in environment.events)
    emitted["function"] = environment.lines.total("function")
    missing, surplus = emitted - arrived, arrived - emitted
    print(f"\n  {archive}\n")
    for event in events[:4]:
        line = json.dumps(event, separators=(",", ":"))
        print(f"  {line[:97]}{'...' if len(line) > 97 else ''}")  # noqa: PLR2004 - a screen's width
    verdict = "every line arrived"
    if missing or surplus:
        verdict = f"MISSING: {dict(missing)}, TOO MANY: {dict(surplus)}"
    print(f"  ... {len(events)} lines; {verdict}")
    for record in log:
        if record.get("level") in ("warning", "error"):
            print(f"\n  telemetryd says: {json.dumps(record)}")
    return 0 if balanced and not (missing or surplus) else 1


if __name__ == "__main__":
    sys.exit(main())

"""The questions that the documents leave open, and how the canary's record answers each.

`QUESTIONS` has one entry for each row of docs/assumptions.md, under the same name. An answer is one
sentence with the figures in it; "not seen in this run" where the record cannot tell.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from bulk import shown

Record = Mapping[str, Any]
UNKNOWN = "not seen in this run"


@dataclass(frozen=True)
class Run:
    """The results of one run of the canary."""

    where: str
    """`aws`, `local` or `emulator`."""
    tcp: Record
    http: Record
    telemetryd: str
    """Its `/metrics` as text; empty where it did not run or was not asked."""
    flood_lines: int
    """The number of lines that the function printed under load."""
    surroundings: Mapping[str, str]
    bulk: dict[str, Any] = field(default_factory=dict)
    """The fate of each request to `/ingest/bulk`; empty where it was not asked."""


@dataclass(frozen=True)
class Question:
    """One open question."""

    name: str
    title: str
    answer: Callable[[Run], str]


def as_markdown(run: Run) -> str:
    """Return the whole report, to paste into an issue."""
    lines = [f"## telemetryd canary: {run.where}", ""]
    lines += [f"- {name}: {value}" for name, value in run.surroundings.items()]
    lines += ["", "| question | observed |", "|---|---|"]
    for question in QUESTIONS:
        answer = question.answer(run).replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {question.title} (`{question.name}`) | {answer} |")
    return "\n".join(lines) + "\n"


# -- reading a record --------------------------------------------------------------------------


def _both(run: Run, read: Callable[[Record], str]) -> str:
    return (
        "; ".join(
            f"{name}: {read(record)}"
            for name, record in (("TCP", run.tcp), ("HTTP", run.http))
            if record
        )
        or UNKNOWN
    )


def _events(record: Record, kind: str) -> list[dict[str, Any]]:
    return [event for event in record.get("events", ()) if event["type"] == kind]


def _call(record: Record, name: str) -> dict[str, Any]:
    """The last answer to one call of an API; empty when it was never made."""
    found = [call for call in record.get("calls", ()) if call["call"] == name]
    return found[-1] if found else {}


def _median(values: Iterable[float]) -> str:
    found = list(values)
    return f"{statistics.median(found):.1f}" if found else "unknown"


def _addresses(record: Record, member: str) -> str:
    found = sorted({str(entry[member]) for entry in record.get("connections", ())})
    return ", ".join(found) or "no connection"


# -- the answers -------------------------------------------------------------------------------


def _sandbox_address(run: Run) -> str:
    names = (run.tcp or run.http).get("addresses", {})
    named = names.get("sandbox.localdomain", "unknown")
    dialled = _both(run, lambda record: _addresses(record, "local"))
    return f"dialled {dialled}; sandbox.localdomain is {named}"


def _platform_address(run: Run) -> str:
    api = (run.tcp or run.http).get("runtime_api", "unknown")
    peers = _both(run, lambda record: _addresses(record, "peer"))
    return f"the API is at {api}; telemetry comes from {peers}"


def _connection_time(run: Run) -> str:
    def read(record: Record) -> str:
        call, connections = _call(record, "telemetry"), record.get("connections", [])
        if not call or not connections:
            return UNKNOWN
        first = connections[0]["at"]
        during = call["sent_at"] <= first <= call["answered_at"]
        when = (
            "during the PUT" if during else f"{first - call['answered_at']:.1f} ms after its answer"
        )
        return f"first connection {when}"

    return _both(run, read)


def _connection_count(run: Run) -> str:
    def read(record: Record) -> str:
        connections = record.get("connections", [])
        ended = sum("end" in entry for entry in connections)
        rests = sum(entry.get("event") == "INVOKE" for entry in record.get("life", ()))
        return f"{len(connections)} connections, {ended} of them ended, over {rests} invocations"

    return _both(run, read)


def _protocol(run: Run) -> str:
    def read(record: Record) -> str:
        call = _call(record, "telemetry")
        return f"{call.get('status')} for schema {call.get('schema')}" if call else UNKNOWN

    return _both(run, read)


def _runtime_done(run: Run) -> str:
    def read(record: Record) -> str:
        started = {event.get("requestId") for event in _events(record, "platform.start")}
        ended = {event.get("requestId") for event in _events(record, "platform.runtimeDone")}
        waited = {
            entry["waited_for"]: entry["runtime_done_in_time"]
            for entry in record.get("life", ())
            if "waited_for" in entry
        }
        waits = waited.values()
        if waited:  # the invocation that asks for the report has not ended
            started = started & waited.keys()
        return (
            f"{len(started & ended)} of {len(started)} invocations had one, "
            f"{sum(waits)} of {len(waits)} within 2 s of INVOKE"
        )

    return _both(run, read)


def _end_lag(run: Run) -> str:
    """Arrival against the event's own time, both set to zero at the first `runtimeDone`."""

    def read(record: Record) -> str:
        life = {entry.get("requestId"): entry for entry in record.get("life", ())}
        lags = []
        for event in _events(record, "platform.runtimeDone"):
            duration = (event.get("metrics") or {}).get("durationMs")
            began = life.get(event.get("requestId"), {}).get("answered_at")
            if isinstance(duration, (int, float)) and began is not None:
                lags.append(event["at"] - began - duration)
        return f"median {_median(lags)} ms, longest {max(lags):.1f} ms" if lags else UNKNOWN

    return _both(run, read)


def _late_lines(run: Run) -> str:
    return _both(
        run, lambda record: str(record.get("counts", {}).get("function lines after runtimeDone", 0))
    )


def _order(run: Run) -> str:
    def read(record: Record) -> str:
        kinds = [event["type"].removeprefix("platform.") for event in record.get("events", ())]
        return ", ".join(kinds[:9]) or UNKNOWN

    return _both(run, read)


def _snapstart(run: Run) -> str:
    kinds = [event["type"] for event in run.tcp.get("events", ())]
    if "platform.restoreStart" not in kinds:
        return UNKNOWN
    restore = kinds.index("platform.restoreStart")
    init = kinds.index("platform.initStart") if "platform.initStart" in kinds else -1
    if init < 0:
        return "restoreStart came, initStart did not"
    return (
        "initStart came before restoreStart"
        if init < restore
        else "initStart came after restoreStart"
    )


def _half_surrogates(run: Run) -> str:
    def read(record: Record) -> str:
        seen = [f"{entry['as']} `{entry['bytes']}`" for entry in record.get("surrogates", ())]
        return ", ".join(seen) or UNKNOWN

    return _both(run, read)


def _logs_dropped(run: Run) -> str:
    def read(record: Record) -> str:
        arrived = record.get("counts", {}).get("flood lines", 0)
        dropped = _events(record, "platform.logsDropped")
        told = sum(event.get("droppedRecords") or 0 for event in dropped)
        reasons = sorted({str(event.get("reason")) for event in dropped})
        return f"{arrived} of {run.flood_lines} lines arrived, {told} reported as dropped" + (
            f" ({'; '.join(reasons)})" if reasons else ""
        )

    return _both(run, read)


def _cpu_share(run: Run) -> str:
    init, invoke = run.tcp.get("cpu_share_init"), run.tcp.get("cpu_share_invoke")
    memory = run.tcp.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
    return f"{init} of one CPU in init, {invoke} in an invocation, at {memory} MB"


def _refused_post(run: Run) -> str:
    posts = run.http.get("posts", [])
    refused = [post for post in posts if post["answered"] == HTTPStatus.SERVICE_UNAVAILABLE]
    if not refused:
        return UNKNOWN
    again = [post for post in posts if post["sent_again"]]
    if not again:
        return "the refused body was not sent again"
    return f"sent again {len(again)} times, first after {again[0]['at'] - refused[0]['at']:.0f} ms"


def _report_time(run: Run) -> str:
    """Return when `platform.report` arrives, compared with the `next` after its invocation."""

    def read(record: Record) -> str:
        arrived = [event["at"] for event in _events(record, "platform.report")]
        waits = [entry for entry in record.get("life", ()) if "next_asked_at" in entry]
        early = sum(
            any(wait["next_asked_at"] <= at <= wait["answered_at"] for wait in waits)
            for at in arrived
        )
        return f"{early} of {len(arrived)} reports came before the next INVOKE was answered"

    return _both(run, read)


def _added(run: Run) -> str:
    overheads = [
        span["durationMs"]
        for event in _events(run.tcp, "platform.report")
        for span in event.get("spans") or ()
        if span.get("name") == "extensionOverhead"
    ]
    own = [
        line.rpartition(" ")[2]
        for line in run.telemetryd.splitlines()
        if line.startswith("telemetryd_invocation_added_seconds_sum")
    ]
    said = f"; telemetryd counts {own[0]} s in all for itself" if own else ""
    return f"extensionOverhead: median {_median(overheads)} ms over {len(overheads)} reports{said}"


def _shutdown(run: Run) -> str:
    left = [
        entry["left_ms"]
        for record in (run.tcp, run.http)
        for entry in record.get("life", ())
        if entry.get("event") == "SHUTDOWN" and entry["left_ms"] is not None
    ]
    return f"{_median(left)} ms were left at SHUTDOWN" if left else UNKNOWN


def _bulk_skipped(run: Run) -> str:
    return shown(run.bulk, ("too-old", "no-json")) or UNKNOWN


def _bulk_limits(run: Run) -> str:
    return shown(run.bulk, ("long-line", "large-body")) or UNKNOWN


def _bulk_time(run: Run) -> str:
    told = shown(run.bulk, ("usual", "time"))
    behind = run.bulk.get("time", {}).get("behind_ms") if told else None
    if not behind:
        return told or UNKNOWN
    return f"{told}; the line of an hour ago has a timestamp of {behind[0] / 1000:.0f} s ago"


QUESTIONS = (
    Question(
        "sandbox-address", "At which address does the platform reach the sandbox?", _sandbox_address
    ),
    Question(
        "platform-address", "Where are the API and the sender of telemetry?", _platform_address
    ),
    Question("connection-time", "When does the platform connect?", _connection_time),
    Question(
        "connection-count", "Does it connect again, after a freeze for one?", _connection_count
    ),
    Question("protocol", "Is the subscription taken, by which schema?", _protocol),
    Question("runtime-done", "Does `platform.runtimeDone` always come?", _runtime_done),
    Question("end-lag", "How long after the end does it arrive?", _end_lag),
    Question("late-lines", "How many function lines come after it?", _late_lines),
    Question("order", "In which order do the first platform events come?", _order),
    Question("snapstart", "With SnapStart: is initStart before restoreStart?", _snapstart),
    Question("half-surrogates", "How does half of a surrogate pair arrive?", _half_surrogates),
    Question("logs-dropped", "What is lost under load, and is it reported?", _logs_dropped),
    Question("cpu-share", "Which share of a CPU has an extension?", _cpu_share),
    Question("refused-post", "What follows a 503 over HTTP?", _refused_post),
    Question("report-time", "When does `platform.report` come?", _report_time),
    Question("added", "How many milliseconds do the extensions add?", _added),
    Question("shutdown", "How long does SHUTDOWN leave?", _shutdown),
    Question("bulk-skipped", "How does `/ingest/bulk` report skipped lines?", _bulk_skipped),
    Question("bulk-limits", "Which limits has it?", _bulk_limits),
    Question("bulk-time", "Does it understand `time` without `timestamp`?", _bulk_time),
)

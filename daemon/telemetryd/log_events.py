"""The catalogue of log events: what each says, and what to do about it.

Written for those who alert on the log. `make docs` generates docs/log.md from it, and a test holds
it to the code. The daemon itself does not import this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

EventName: TypeAlias = Literal[
    "accept_failed",
    "answer_malformed",
    "answer_repaired",
    "circuit_closed",
    "circuit_opened",
    "close_failed",
    "configuration_invalid",
    "configuration_repaired",
    "configuration_warning",
    "connection_beyond",
    "connection_closed",
    "connection_foreign",
    "connection_held",
    "connection_opened",
    "connection_refused",
    "damage_found",
    "dead_letter_failed",
    "deadline_implausible",
    "degraded",
    "descriptor_limit_not_raised",
    "draining_cut_short",
    "end_missed",
    "end_not_awaited",
    "event_malformed",
    "event_untrusted",
    "flush_failed",
    "idle_connection_closed",
    "init_error_not_reported",
    "internal_error",
    "interpreter_not_started",
    "ledger",
    "ledger_unbalanced",
    "library_message",
    "line_rejected",
    "lines_dead_lettered",
    "lines_dropped",
    "lines_failed_over",
    "lines_spooled",
    "listening",
    "log_lines_skipped",
    "metrics_failed",
    "metrics_not_served",
    "metrics_served",
    "name_refused",
    "not_started",
    "platform_gone",
    "port_not_available",
    "reading_paused",
    "reading_resumed",
    "records_refused",
    "register_failed",
    "reload_failed",
    "reload_ignored",
    "reloaded",
    "request_unknown",
    "restart_needed",
    "restored",
    "rotation_failed",
    "sandbox_not_ours",
    "sink_bug",
    "sink_not_interruptible",
    "sink_not_open",
    "sink_not_ready",
    "sink_not_reopened",
    "spool_failed",
    "spool_recovered",
    "spool_unusable",
    "start_failed",
    "started",
    "stopping",
    "subscription_failed",
    "subscription_refused",
    "trust_given_up",
    "upstream_dropped",
    "write_failed",
    "write_retried",
]
"""The name of every event: a type checker finds one that is not here."""


@dataclass(frozen=True)
class LogEvent:
    """One event of the log."""

    name: EventName
    levels: tuple[str, ...]
    """Levels it is written at, the usual one first."""
    meaning: str
    action: str = ""
    """What the reader should do; empty where nothing need be done."""


EVENTS: Final = (
    # Start and end
    LogEvent("started", ("info",), "The extension is up. Times since its own start are in it."),
    LogEvent("listening", ("info",), "`telemetryd listen` takes connections."),
    LogEvent(
        "stopping",
        ("info",),
        "SHUTDOWN or a signal has come: telemetryd reads what is left, delivers, and ends.",
    ),
    LogEvent(
        "draining_cut_short",
        ("info",),
        "A second signal came: what is still queued is spooled or counted as dropped.",
    ),
    LogEvent("restored", ("info",), "SnapStart restored this environment from its snapshot."),
    LogEvent(
        "not_started",
        ("error",),
        "`telemetryd listen` can't start; `problems` lists why.",
        "Mend each problem; `telemetryd check` shows the configuration in effect.",
    ),
    LogEvent(
        "start_failed",
        ("error",),
        "The extension could not start, and `fail_closed` asks to fail the init.",
        "See `error`; without `fail_closed` the function would run without telemetry.",
    ),
    LogEvent(
        "degraded",
        ("error",),
        "After a failure, telemetry is read, counted and discarded. The function runs on.",
        "Report a bug with `error`.",
    ),
    LogEvent(
        "internal_error",
        ("error",),
        "A bug of telemetryd's. What it cost is in the ledger.",
        "Report it with `error`.",
    ),
    LogEvent(
        "ledger_unbalanced",
        ("error",),
        "The counts of the ledger do not meet: a bug of telemetryd's.",
        "Report it with the ledger.",
    ),
    # Configuration
    LogEvent(
        "configuration_invalid",
        ("error",),
        "The configuration has mistakes, listed in `problems`.",
        "Mend them; `telemetryd check --lambda` shows the same before deploying.",
    ),
    LogEvent(
        "configuration_repaired",
        ("error",),
        "In Lambda: faulty keys have their defaults, faulty sinks are left out.",
        "Mend the configuration; until then a sink in `left_out` gets nothing.",
    ),
    LogEvent(
        "configuration_warning",
        ("warning",),
        "The configuration is valid, but has something that may not be meant.",
        "Read `details`.",
    ),
    # The platform
    LogEvent(
        "register_failed",
        ("error",),
        "The platform refused the extension; the init fails.",
        "Read `fix`. Most often the file in /opt/extensions has another name.",
    ),
    LogEvent(
        "interpreter_not_started",
        ("error",),
        "The layer's interpreter can't run here. Its launcher keeps the function running.",
        "Read the reason: an image without glibc, or one older than 2.26, for example.",
    ),
    LogEvent(
        "name_refused",
        ("warning",),
        "The platform refused this program's own name, so that of its starter was used.",
        "Give the script in /opt/extensions the same name.",
    ),
    LogEvent(
        "subscription_failed",
        ("error",),
        "The Telemetry API could not be reached. No telemetry arrives; the function runs.",
    ),
    LogEvent(
        "subscription_refused",
        ("error", "warning"),
        "The Telemetry API refused the subscription. No telemetry arrives; the function runs.",
        "A warning with status 202 is normal under AWS's emulator. Otherwise read `answer`.",
    ),
    LogEvent(
        "port_not_available",
        ("warning",),
        "The telemetry port is taken, so a free one is used.",
        "Nothing, unless another program must know the port: set `telemetry.port`.",
    ),
    LogEvent(
        "init_error_not_reported",
        ("error",),
        "`fail_closed` could not tell the platform that the init failed.",
    ),
    LogEvent(
        "platform_gone",
        ("error",),
        "The Extensions API does not answer any more. telemetryd delivers what it has and ends.",
    ),
    LogEvent(
        "answer_malformed",
        ("error",),
        "An answer of the Extensions API made no sense; the next event is asked for again.",
    ),
    LogEvent(
        "answer_repaired",
        ("warning",),
        "Members of an answer of the Extensions API are of odd types; they count as absent.",
    ),
    LogEvent(
        "deadline_implausible",
        ("warning",),
        "The platform named a deadline that can't be meant; it counts as none.",
    ),
    LogEvent(
        "end_missed",
        ("warning",),
        "The end of an invocation was not seen within its bound; `reason` says why.",
        "A single one needs nothing. Repeated, lines arrive an invocation later.",
    ),
    LogEvent(
        "end_not_awaited",
        ("warning",),
        "Ends of invocations are not waited for, for the `reason` given.",
        "Lines are delivered alongside the invocations. Change the setting if that is not meant.",
    ),
    LogEvent(
        "request_unknown",
        ("info",),
        "A platform event names a request that never began here.",
    ),
    LogEvent(
        "upstream_dropped",
        ("warning",),
        "Lambda dropped lines before telemetryd could read them; the ledger counts them.",
        "Print less at once, give the function more memory, or raise `telemetry.buffering`.",
    ),
    LogEvent(
        "accept_failed",
        ("error",),
        "A connection could not be accepted. What is connected is still read.",
        "Raise the limit of open files, if `error` says so.",
    ),
    # Connections and lines
    LogEvent("connection_opened", ("debug",), "A sender has connected."),
    LogEvent("connection_closed", ("debug",), "A sender has gone."),
    LogEvent(
        "connection_refused",
        ("warning",),
        "There is no place, or no descriptor, for another connection; `reason` says which.",
        "Raise `telemetry.max_connections`, or the limit of open files; or set "
        "`telemetry.idle_seconds`.",
    ),
    # Who connects, in Lambda
    LogEvent(
        "connection_beyond",
        ("info",),
        "A telemetry connection beyond the first: Lambda needs one, any process can make more.",
    ),
    LogEvent(
        "connection_foreign",
        ("warning",),
        "A connection came to an address that is neither loopback nor the sandbox's.",
        "Set `telemetry.host` if nothing outside should reach the port.",
    ),
    LogEvent(
        "connection_held",
        ("warning",),
        "Another process in the sandbox sends more than the sinks take. It waits; Lambda does not.",
        "See which process connects to the telemetry port.",
    ),
    LogEvent(
        "event_untrusted",
        ("warning",),
        "A platform event came from a connection that is not the platform's, and is rejected.",
        "See which process connects; `telemetry.trust` decides.",
    ),
    LogEvent(
        "trust_given_up",
        ("error",),
        "No platform event came from the platform's connection; those of all are believed.",
        'Set `telemetry.trust = "any"` and report a bug.',
    ),
    LogEvent(
        "sandbox_not_ours",
        ("warning",),
        "`sandbox.localdomain` is no address of this sandbox; telemetry may never arrive.",
        "See what the name resolves to (`/etc/hosts`).",
    ),
    # Reload
    LogEvent(
        "reloaded",
        ("info",),
        "SIGHUP: files are open again, the configuration is read again; `applied` has changed.",
        "What `needs_restart` names changes with a restart.",
    ),
    LogEvent(
        "restart_needed",
        ("warning",),
        "The configuration has changes in `keys` that a running process can't take on.",
        "Restart telemetryd.",
    ),
    LogEvent("reload_ignored", ("info",), "SIGHUP came while telemetryd was ending."),
    LogEvent(
        "reload_failed",
        ("error",),
        "A reload failed in our own code; the work goes on as it was.",
        "Report a bug with `error`.",
    ),
    LogEvent(
        "sink_not_reopened",
        ("warning",),
        "After SIGHUP a sink could not open its file again; its next write tries again.",
        "See `error`: a path that is gone, or rights that have changed.",
    ),
    LogEvent(
        "log_lines_skipped",
        ("warning",),
        "Standard error took no lines for a while; so many of the log's are missing.",
        "See who reads it: a stopped terminal, a full pipe, a slow disk.",
    ),
    LogEvent(
        "reading_paused",
        ("debug",),
        "The queue of a sink that blocks is full: reading stops, and the senders are held up.",
    ),
    LogEvent("reading_resumed", ("debug",), "Such a queue has room again."),
    # Places
    LogEvent(
        "idle_connection_closed",
        ("info",),
        "A connection was silent for `telemetry.idle_seconds`, and is closed.",
    ),
    LogEvent(
        "descriptor_limit_not_raised",
        ("warning",),
        "The soft limit of open files could not be raised to the hard one.",
        "Raise it from outside: `ulimit -n`, `LimitNOFILE=`.",
    ),
    LogEvent(
        "line_rejected",
        ("warning",),
        "A line was too long, cut off, or not what it should be; `reason` says which.",
        "`dead_letter` keeps such lines.",
    ),
    LogEvent(
        "event_malformed",
        ("warning",),
        "A platform event could not be decoded. It is passed on unchanged.",
    ),
    # Sinks
    LogEvent(
        "sink_not_ready",
        ("warning",),
        "A sink could not be opened yet. Its lines wait.",
        "Read `error`; `telemetryd iam` prints the policy it needs.",
    ),
    LogEvent("sink_not_open", ("error",), "A sink was not open before the first `next`."),
    LogEvent(
        "sink_bug",
        ("error",),
        "A sink broke its contract. The batch it had is dropped as `bug`.",
        "Report it to the sink's author.",
    ),
    LogEvent(
        "sink_not_interruptible",
        ("warning",),
        "A sink holds up a flush or the end; it is not waited for.",
    ),
    LogEvent(
        "write_failed",
        ("warning",),
        "A destination refused a batch, or did not answer.",
        "Read `code`. Retryable failures are tried again.",
    ),
    LogEvent("write_retried", ("info",), "A batch was delivered after earlier failures."),
    LogEvent("flush_failed", ("warning",), "A sink could not flush what it had taken."),
    LogEvent("close_failed", ("warning",), "A sink could not be closed cleanly."),
    LogEvent(
        "records_refused",
        ("info",),
        "Kinesis refused some records of a request, for throttling for one. They are sent again.",
        "Add shards if it goes on.",
    ),
    LogEvent(
        "circuit_opened",
        ("error",),
        "A destination failed repeatedly and is left alone for a while.",
        "Read the failures before it. Lines are spooled, failed over or dropped, and counted.",
    ),
    LogEvent("circuit_closed", ("info",), "The destination takes lines again."),
    LogEvent(
        "rotation_failed",
        ("warning",),
        "A file could not be rotated or compressed. Lines go on to the current file.",
        "Read `error` and `path`.",
    ),
    # Lines that were not delivered
    LogEvent(
        "lines_dropped",
        ("error", "warning"),
        "Lines are lost; `reason` says why. A warning where the overflow policy asks for it.",
        "docs/reliability.md lists the reasons.",
    ),
    LogEvent("lines_failed_over", ("warning",), "Lines go to the failover instead."),
    LogEvent("lines_dead_lettered", ("warning",), "Lines go to the dead letter instead."),
    LogEvent(
        "dead_letter_failed",
        ("error",),
        "The dead letter can't be written. What should be in it is counted as dropped.",
        "Read `fix`.",
    ),
    # Spools
    LogEvent("lines_spooled", ("info",), "Lines wait on disk for the sink or the next process."),
    LogEvent(
        "spool_recovered",
        ("info", "warning"),
        "An earlier process left lines on disk; they are delivered first. A warning with damage.",
    ),
    LogEvent(
        "spool_failed",
        ("error",),
        "The spool could not be written. Lines wait in memory.",
        "Read `error` and `path`: a full disk, for one.",
    ),
    LogEvent(
        "spool_unusable",
        ("error",),
        "The spool's directory can't be used. The sink runs without a spool.",
        "Read `fix`.",
    ),
    LogEvent(
        "damage_found",
        ("warning",),
        "A file of the spool is damaged. Intact records are delivered, the rest is counted.",
    ),
    # Exposition
    LogEvent("metrics_served", ("info",), "`/metrics` and `/healthz` can be asked."),
    LogEvent(
        "metrics_not_served",
        ("warning",),
        "`/metrics` can't be served; everything else runs.",
        "Read `fix`.",
    ),
    LogEvent("metrics_failed", ("error",), "A scrape failed: a bug of telemetryd's.", "Report it."),
    LogEvent(
        "library_message",
        ("warning", "error"),
        "A library wrote to Python's `logging`; `source` names it.",
    ),
    LogEvent("ledger", ("info",), "The ledger, printed once at the end, without a level."),
)


_INTRODUCTION: Final = """\
# The log

telemetryd writes one JSON object a line to standard error: `ts`, `level`, `event`,
`"logger":"telemetryd"`, then facts. It never holds text of your log lines, or secrets. Lines of one
event, sink and cause are limited; `suppressed` counts the others. Alert on `event`: its meaning
stays, the wording of facts may change. `make docs` generates this page.

| event | level | what it says | what to do |
|---|---|---|---|"""


def main() -> None:
    """Print docs/log.md."""
    print(_INTRODUCTION)
    for event in sorted(EVENTS, key=lambda event: event.name):
        levels = ", ".join(event.levels)
        print(f"| `{event.name}` | {levels} | {event.meaning} | {event.action} |")


if __name__ == "__main__":
    main()

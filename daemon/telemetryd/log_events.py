"""The catalogue of log events: the meaning of each, and what to do.

Its readers alert on the log. `make docs` generates docs/log.md from it. A test compares it with the
code. The daemon does not import this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

EventName: TypeAlias = Literal[
    "accept_failed",
    "answer_malformed",
    "answer_repaired",
    "aws_client_chosen",
    "certificates_not_verified",
    "circuit_closed",
    "circuit_opened",
    "clock_corrected",
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
    "credentials_not_renewed",
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
    "hook_failed",
    "hook_lines_skipped",
    "hook_off",
    "http_malformed",
    "http_not_settled",
    "http_refused",
    "http_request_cut_off",
    "http_unreadable",
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
    "write_slow",
]
"""The name of every event. A type checker refuses any other."""


@dataclass(frozen=True)
class LogEvent:
    """One event of the log."""

    name: EventName
    levels: tuple[str, ...]
    """The levels that the event is written at, the usual one first."""
    meaning: str
    action: str = ""
    """The action that the reader should take. Empty: none."""


EVENTS: Final = (
    # Start and end
    LogEvent(
        "started",
        ("info",),
        "The extension has started. The facts include milliseconds since the process started.",
    ),
    LogEvent("listening", ("info",), "`telemetryd listen` accepts connections."),
    LogEvent(
        "stopping",
        ("info",),
        "telemetryd got SHUTDOWN or a signal. It reads the rest, delivers it, and exits.",
    ),
    LogEvent(
        "draining_cut_short",
        ("info",),
        "telemetryd got a second signal. Lines in the queues are spooled or dropped, and counted.",
    ),
    LogEvent("restored", ("info",), "SnapStart restored this environment from its snapshot."),
    LogEvent(
        "not_started",
        ("error",),
        "`telemetryd listen` can't start. `problems` lists the reasons.",
        "Fix each problem. `telemetryd check` shows the configuration in effect.",
    ),
    LogEvent(
        "start_failed",
        ("error",),
        "The extension could not start. `fail_closed` is set, so the init fails.",
        "Read `error`. Without `fail_closed` the function runs without telemetry.",
    ),
    LogEvent(
        "degraded",
        ("error",),
        "telemetryd failed. It reads, counts and discards telemetry. The function runs.",
        "Report a bug with `error`.",
    ),
    LogEvent(
        "internal_error",
        ("error",),
        "A bug in telemetryd. The ledger counts the lines that it cost.",
        "Report it with `error`.",
    ),
    LogEvent(
        "ledger_unbalanced",
        ("error",),
        "The ledger does not balance, because of a bug in telemetryd.",
        "Report it with the ledger.",
    ),
    # Configuration
    LogEvent(
        "configuration_invalid",
        ("error",),
        "The configuration is invalid. `problems` lists the faults.",
        "Fix them. `telemetryd check --lambda` shows them before you deploy.",
    ),
    LogEvent(
        "configuration_repaired",
        ("error",),
        "In Lambda: invalid keys have their defaults. `left_out` lists sinks that are off.",
        "Fix the configuration. The sinks in `left_out` get no lines until then.",
    ),
    LogEvent(
        "configuration_warning",
        ("warning",),
        "The configuration is valid, but may not do what you want.",
        "Read `details`.",
    ),
    # The platform
    LogEvent(
        "register_failed",
        ("error",),
        "The platform refused to register the extension. The init fails.",
        "Read `fix`. The usual cause is another name of the file in /opt/extensions.",
    ),
    LogEvent(
        "interpreter_not_started",
        ("error",),
        "The layer's interpreter can't start here. The function runs without telemetry.",
        "Read the reason. Common causes are an image without glibc, or with one before 2.26.",
    ),
    LogEvent(
        "name_refused",
        ("warning",),
        "The platform refused this file's name. telemetryd registered under its starter's name.",
        "Give the script in /opt/extensions the same name.",
    ),
    LogEvent(
        "subscription_failed",
        ("error",),
        "The Telemetry API can't be reached. No telemetry arrives. The function runs.",
    ),
    LogEvent(
        "subscription_refused",
        ("error", "warning"),
        "The Telemetry API refused the subscription. No telemetry arrives. The function runs.",
        "A warning with status 202 is normal under AWS's emulator. Otherwise read `answer`.",
    ),
    LogEvent(
        "port_not_available",
        ("warning",),
        "The telemetry port is in use. telemetryd listens on another one.",
        "Set `telemetry.port` if another program must know the port.",
    ),
    LogEvent(
        "init_error_not_reported",
        ("error",),
        "`fail_closed` is set, but the report of the failed init did not reach the platform.",
    ),
    LogEvent(
        "platform_gone",
        ("error",),
        "The Extensions API no longer answers. telemetryd delivers what it has and exits.",
    ),
    LogEvent(
        "answer_malformed",
        ("error",),
        "A response of the Extensions API is malformed. telemetryd asks for the next event again.",
    ),
    LogEvent(
        "answer_repaired",
        ("warning",),
        "Members of a response of the Extensions API have wrong types. telemetryd ignores them.",
    ),
    LogEvent(
        "deadline_implausible",
        ("warning",),
        "The platform sent an implausible deadline. telemetryd ignores it.",
    ),
    LogEvent(
        "end_missed",
        ("warning",),
        "The end of an invocation did not arrive in time. `reason` says why the wait ended.",
        "A single event needs no action. If it repeats, lines arrive one invocation later.",
    ),
    LogEvent(
        "end_not_awaited",
        ("warning",),
        "telemetryd does not wait for the ends of invocations. `reason` says why.",
        "Lines are delivered during invocations. Change the setting if you do not want that.",
    ),
    LogEvent(
        "request_unknown",
        ("info",),
        "A platform event names a request that did not start in this environment.",
    ),
    LogEvent(
        "upstream_dropped",
        ("warning",),
        "Lambda dropped lines before telemetryd read them. The ledger counts them.",
        "Print less at once, add memory to the function, or raise `telemetry.buffering`.",
    ),
    LogEvent(
        "accept_failed",
        ("error",),
        "telemetryd could not accept a connection. It still reads the open ones.",
        "If `error` names open files, raise their limit.",
    ),
    # Connections and lines
    LogEvent("connection_opened", ("debug",), "A sender connected."),
    LogEvent("connection_closed", ("debug",), "A sender closed its connection."),
    LogEvent(
        "connection_refused",
        ("warning",),
        "telemetryd refused a connection: too many are open, or descriptors ran out (`reason`).",
        "Raise `telemetry.max_connections` or the limit of open files, or set "
        "`telemetry.idle_seconds`.",
    ),
    # Who connects, in Lambda
    LogEvent(
        "connection_beyond",
        ("info",),
        "A telemetry connection beyond the first is open. Lambda needs only one.",
    ),
    LogEvent(
        "connection_foreign",
        ("warning",),
        "A connection arrived at an address that is neither loopback nor the sandbox's.",
        "Set `telemetry.host` to close the port to the outside.",
    ),
    LogEvent(
        "connection_held",
        ("warning",),
        "Another process in the sandbox sends faster than the sinks deliver. telemetryd pauses it.",
        "See which process connects to the telemetry port.",
    ),
    LogEvent(
        "http_malformed",
        ("warning", "debug"),
        "A part of a request's body was not a record, and was rejected. The response was 200, "
        "because Lambda would send the body again.",
        "Read `problem`, and the dead letter if there is one.",
    ),
    LogEvent(
        "http_not_settled",
        ("warning", "debug"),
        '`telemetry.http_ack = "spooled"`: lines were still in memory when the time for the '
        "response was over. The response was 200 for Lambda, and 503 for any other sender.",
        "Give the sink a spool, or find out why it is slow.",
    ),
    LogEvent(
        "http_refused",
        ("warning", "debug"),
        "`listen` refused a request, and accepted none of its records. `status` is the response.",
        "Read `problem`: the sender got the same text.",
    ),
    LogEvent(
        "http_unreadable",
        ("warning", "debug"),
        "A connection to the HTTP telemetry port did not send an HTTP request. It was closed.",
        'See which program connects. Lines over TCP need `telemetry.protocol = "tcp"`.',
    ),
    LogEvent(
        "http_request_cut_off",
        ("info",),
        "A connection ended before its request was complete. The sender got no response.",
    ),
    LogEvent(
        "event_untrusted",
        ("warning",),
        "telemetryd rejected a platform event, because its connection is not the platform's.",
        "See which process connects, or change `telemetry.trust`.",
    ),
    LogEvent(
        "trust_given_up",
        ("error",),
        "No platform event came from the platform's connection. All connections are trusted now.",
        'Set `telemetry.trust = "any"` and report a bug.',
    ),
    LogEvent(
        "sandbox_not_ours",
        ("warning",),
        "`sandbox.localdomain` is not an address of this sandbox. Telemetry may not arrive.",
        "Check what the name resolves to (`/etc/hosts`).",
    ),
    # Reload
    LogEvent(
        "reloaded",
        ("info",),
        "SIGHUP reopened files and reread the configuration. `applied` lists the changes.",
        "Restart telemetryd to apply the keys in `needs_restart`.",
    ),
    LogEvent(
        "restart_needed",
        ("warning",),
        "`keys` lists changes of the configuration that need a restart.",
        "Restart telemetryd.",
    ),
    LogEvent(
        "reload_ignored", ("info",), "telemetryd ignored SIGHUP, because it is shutting down."
    ),
    LogEvent(
        "reload_failed",
        ("error",),
        "A reload failed because of a bug in telemetryd. The old configuration stays in effect.",
        "Report a bug with `error`.",
    ),
    LogEvent(
        "sink_not_reopened",
        ("warning",),
        "A sink could not reopen its file on SIGHUP. It retries at its next write.",
        "Read `error`. The path may be gone, or its permissions changed.",
    ),
    LogEvent(
        "log_lines_skipped",
        ("warning",),
        "Standard error was blocked. telemetryd dropped lines of its log and counted them.",
        "Check its reader: a stopped terminal, a full pipe, or a slow disk.",
    ),
    LogEvent(
        "reading_paused",
        ("debug",),
        'A queue with `overflow = "block"` is full. telemetryd stops reading, and senders wait.',
    ),
    LogEvent(
        "reading_resumed", ("debug",), "The queue has room again. telemetryd continues reading."
    ),
    # Places
    LogEvent(
        "idle_connection_closed",
        ("info",),
        "telemetryd closed a connection that was silent for `telemetry.idle_seconds`.",
    ),
    LogEvent(
        "descriptor_limit_not_raised",
        ("warning",),
        "telemetryd could not raise the soft limit of open files to the hard limit.",
        "Raise it before the start, with `ulimit -n` or `LimitNOFILE=`.",
    ),
    LogEvent(
        "line_rejected",
        ("warning",),
        "telemetryd rejected a line that is too long, cut off, or malformed (`reason`).",
        "Set `dead_letter.path` to keep such lines.",
    ),
    LogEvent(
        "event_malformed",
        ("warning",),
        "telemetryd could not decode a platform event. It delivers the line unchanged.",
    ),
    # Sinks
    LogEvent(
        "sink_not_ready",
        ("warning",),
        "A sink could not open its destination. Its lines wait in the queue.",
        "Read `error`. `telemetryd iam` prints the policy that the sink needs.",
    ),
    LogEvent("sink_not_open", ("error",), "A sink was not open before the first `next`."),
    LogEvent(
        "hook_failed",
        ("warning",),
        "A call of a hook raised. After three in a row the hook is switched off.",
        "`error` has the exception and its place. Fix the hook.",
    ),
    LogEvent(
        "hook_lines_skipped",
        ("warning",),
        "A hook is slower than telemetry comes, so it does not get all events. Sinks get all.",
        "Let the hook do less for each event; `on_events` gets many at once.",
    ),
    LogEvent(
        "hook_off",
        ("error",),
        "A hook is not called any more: it could not be loaded, a call took longer than its "
        "budget, or three in a row failed.",
        "`error` says which. Fix the hook, or raise `budget_ms`.",
    ),
    LogEvent(
        "sink_bug",
        ("error",),
        "A sink broke its contract. Its batch is dropped under the reason `bug`.",
        "Report it to the sink's author.",
    ),
    LogEvent(
        "sink_not_interruptible",
        ("warning",),
        "A sink ignores the deadline of a flush or shutdown. telemetryd does not wait for it.",
    ),
    LogEvent(
        "write_failed",
        ("warning",),
        "A destination refused a batch or did not answer.",
        "Read `code`. telemetryd retries transient failures.",
    ),
    LogEvent("write_retried", ("info",), "telemetryd waits, then writes a failed batch again."),
    LogEvent(
        "write_slow",
        ("info",),
        "A direct write took `ms` milliseconds, in which nothing else ran. For some seconds the "
        "sink writes in its own thread.",
        "If it happens often, look at the disk.",
    ),
    LogEvent("flush_failed", ("warning",), "A sink could not flush lines that it had accepted."),
    LogEvent("close_failed", ("warning",), "A sink could not be closed cleanly."),
    LogEvent(
        "records_refused",
        ("info",),
        "A destination refused a part of a batch. Kinesis throttles some records, which are "
        "retried. An HTTP server refuses some lines, which took `requests` requests to find; those "
        "that are not retried are lost under `codes`.",
        "Kinesis: add shards if it continues. HTTP: `detail` has the status.",
    ),
    LogEvent(
        "circuit_opened",
        ("error",),
        "A destination accepts nothing. telemetryd probes it in `next_attempt_seconds`: 1, doubled "
        "up to 60, or 60 at once if it needs a change (`permanent`), or as long as it asks.",
        "Read `code` and the `write_failed` before it. `cut_off`: freezes came before any answer. "
        "Lines wait on disk or in memory, fail over, or are dropped and counted.",
    ),
    LogEvent(
        "aws_client_chosen",
        ("info",),
        "The environment needs another AWS client than the default. `reason` says why.",
        "Set `client` of the sink to choose yourself.",
    ),
    LogEvent(
        "clock_corrected",
        ("warning",),
        "The clock is wrong by `seconds`, by the date of an AWS service. Requests are signed with "
        "the time of the service.",
        "Set the clock.",
    ),
    LogEvent(
        "credentials_not_renewed",
        ("warning",),
        "The container's endpoint gave no new credentials. The old ones are still valid.",
        "Read `error`. telemetryd asks again in a minute.",
    ),
    LogEvent("circuit_closed", ("info",), "The destination accepts lines again."),
    LogEvent(
        "certificates_not_verified",
        ("warning",),
        "A client does not verify the certificates of its destination, as configured.",
        "Use this only for tests. Anyone on the network path can read and change the data.",
    ),
    LogEvent(
        "rotation_failed",
        ("warning",),
        "A file could not be rotated or compressed. Lines still go to the current file.",
        "Read `error` and `path`.",
    ),
    # Lines that were not delivered
    LogEvent(
        "lines_dropped",
        ("error", "warning"),
        "Lines are dropped (`reason`). It is a warning if the overflow policy requires it.",
        "docs/sinks.md, Errors and reasons, lists the reasons.",
    ),
    LogEvent("lines_failed_over", ("warning",), "Lines went to the failover instead."),
    LogEvent("lines_dead_lettered", ("warning",), "Lines went to the dead letter instead."),
    LogEvent(
        "dead_letter_failed",
        ("error",),
        "The dead letter can't be written. Its lines are counted as dropped.",
        "Read `fix`.",
    ),
    # Spools
    LogEvent(
        "lines_spooled",
        ("info",),
        "Lines were written to disk. The sink delivers them later, or the next process does.",
    ),
    LogEvent(
        "spool_recovered",
        ("info", "warning"),
        "An earlier process left lines on disk. They go first. A warning if some are damaged.",
    ),
    LogEvent(
        "spool_failed",
        ("error",),
        "The spool can't be written. Lines wait in memory.",
        "Read `error` and `path`. A common cause is a full disk.",
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
        "A file of the spool is damaged. Intact records are delivered, the others are counted.",
    ),
    # Exposition
    LogEvent("metrics_served", ("info",), "`/metrics` and `/healthz` are available."),
    LogEvent(
        "metrics_not_served",
        ("warning",),
        "`/metrics` is not available. Everything else works.",
        "Read `fix`.",
    ),
    LogEvent(
        "metrics_failed",
        ("error",),
        "A scrape failed because of a bug in telemetryd.",
        "Report it.",
    ),
    LogEvent(
        "library_message",
        ("warning", "error"),
        "A library wrote to Python's `logging`. `source` names it.",
    ),
    LogEvent(
        "ledger",
        ("info",),
        "The ledger, printed once at exit. It has no level. With `parked`, the layer's launcher "
        "printed it. With `degraded`, telemetry was counted and discarded.",
    ),
)


_INTRODUCTION: Final = """\
# The log

telemetryd writes its log to standard error, one JSON object a line: `ts`, `level`, `event`,
`"logger":"telemetryd"`, then facts. It never holds secrets or text of your log lines. Lines of one
event, sink (or hook) and cause are limited; `suppressed` counts the others. Alert on `event`: its
meaning is stable. The wording of facts may change. `make docs` generates this page.

| event | level | meaning | what to do |
|---|---|---|---|"""


def main() -> None:
    """Print docs/log.md."""
    print(_INTRODUCTION)
    for event in sorted(EVENTS, key=lambda event: event.name):
        levels = ", ".join(event.levels)
        print(f"| `{event.name}` | {levels} | {event.meaning} | {event.action} |")


if __name__ == "__main__":
    main()

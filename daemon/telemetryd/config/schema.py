"""The schema of the configuration: a frozen struct per section, limits and meaning on each key.

Platform limits have the name of their document in `Meta.extra["note"]`. The loader prints it with
the error. `Meta.extra["must"]` replaces the text for the allowed values if a range is not enough.
Rules between keys are in `problems`, which yields `"key: text"`.
"""

# No `from __future__ import annotations`: it leaves texts, which msgspec compiles at every start.
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, field

from telemetryd.sinks.base import MIB, Overflow, SinkConfig

Mode: TypeAlias = Literal["listen", "lambda"]
EventType: TypeAlias = Literal["platform", "function", "extension"]

KIB: Final = 1024
LAST_RESORT: Final = "last_resort"
"""The name of the sink that `lambda.last_resort` adds."""
LEAST_MEMORY: Final = 8 * MIB
MOST_MEMORY: Final = 256 * MIB
LONGEST_INVOCATION_MS: Final = 900_000

_FIRST_PORT: Final = 1025
_RESERVED_PORT: Final = 9001
_BUFFERING: Final = "platform limit, Lambda Telemetry API buffering"
_DESTINATION: Final = "platform limit, Lambda Telemetry API destination"
_SCHEMA: Final = "platform limit, Lambda Telemetry API schema versions"
_INVOCATION: Final = "a Lambda function runs for at most 15 minutes"
_SHUTDOWN: Final = "Lambda ends the Shutdown phase after 2 seconds"
_PORT: Final = f"0 (any free port) or {_FIRST_PORT} to 65535, but not {_RESERVED_PORT}"
_METRICS_ADDRESS: Final = "127.0.0.1:9464"
_ADDRESSES: Final[dict[Mode, tuple[str, int]]] = {
    "listen": ("127.0.0.1", 4243),
    "lambda": ("::", 28353),
}
"""The default addresses for telemetry. In Lambda the port is one that no other extension is
known to use, below the range of ephemeral ports, and the same after each reset; 4243 is what AWS's
samples use (`extension.early` has the same two values)."""
_RULE_NAME: Final = "^[a-z][a-z0-9_-]{0,23}$"
_HOOKS: Final = (
    'a table of at most 16 tables {type = "...", budget_ms = 1 to 60000, settings = {...}}, each '
    "under a name of 1 to 24 lower-case letters, digits, _ and -"
)
_REDACT: Final = (
    'a list of at most 64 names of built-in rules, such as "email", and tables {name = "order", '
    'pattern = "ORD-[0-9]{8}", replace = "label", "hash" or "last4"}; a name is 1 to 24 lower-case '
    "letters, digits, _ and -"
)
_EXIT: Final = "`listen` ends within 10 seconds of SIGTERM"


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections. `problems` yields `"key: text"` for rules no single type can state."""

    def problems(self) -> Iterable[str]:
        """Yield nothing: there is no rule between keys."""
        return ()


class Buffering(Section, frozen=True, kw_only=True):
    """`[telemetry.buffering]`: when Lambda sends a batch, whichever limit is hit first.

    Limits: AWS Lambda Developer Guide, "Lambda Telemetry API reference", Buffering. All three are
    always sent, because the documents disagree about the platform's own defaults.
    """

    max_items: Annotated[
        int,
        Meta(
            ge=1000,
            le=10_000,
            description="Events Lambda collects before it sends a batch.",
            extra={"note": _BUFFERING},
        ),
    ] = 10_000
    max_bytes: Annotated[
        int,
        Meta(
            ge=256 * KIB,
            le=MIB,
            description="Bytes Lambda collects before it sends a batch; it may exceed this by one "
            "event. The buffer is part of the function's memory.",
            extra={"note": _BUFFERING},
        ),
    ] = MIB
    timeout_ms: Annotated[
        int,
        Meta(
            ge=25,
            le=30_000,
            description="Milliseconds from the first event of a batch until Lambda sends it. 25 "
            "lets the end of an invocation arrive before the environment is frozen.",
            extra={"note": _BUFFERING},
        ),
    ] = 25


class Telemetry(Section, frozen=True, kw_only=True):
    """`[telemetry]`: what telemetryd receives, and where.

    Limits: AWS Lambda Developer Guide, "Lambda Telemetry API reference". For the TCP destination:
    the OpenAPI file that AWS publishes for the subscription request.
    """

    types: Annotated[
        tuple[EventType, ...],
        Meta(
            min_length=1,
            description="Kinds of events to subscribe to. `extension` is the output of all "
            "extensions, telemetryd included. It can't be combined with a `stdout` sink.",
        ),
    ] = ("platform", "function")
    protocol: Annotated[
        Literal["tcp", "http", "auto"],
        Meta(
            description="Protocol of the telemetry port. `tcp`: a JSON object a line. `http`: POST "
            "of an array of records, or of lines. `auto`: `tcp`, and `http` where Lambda refuses "
            "that; in `listen` the same as `tcp`."
        ),
    ] = "tcp"
    api: Annotated[
        Literal["telemetry", "logs"],
        Meta(
            description="API to subscribe to in Lambda. `logs`: the Telemetry API's predecessor, "
            "where only that exists. It has fewer events: nothing of the init, no status in "
            "reports. `schema_version` has no effect there."
        ),
    ] = "telemetry"
    http_ack: Annotated[
        Literal["queued", "spooled"],
        Meta(
            description="When an HTTP request is answered. `queued`: when its lines are in the "
            "queues; `spooled`: when every sink has delivered them, or has them on disk. In Lambda "
            "the answer waits for at most a second; `listen` answers 503 after 30 seconds."
        ),
    ] = "queued"
    token: Annotated[
        str,
        Meta(
            max_length=1024,
            description="Token that `listen` asks of a sender: `Authorization: Bearer "
            '<token>`. Empty: none. Needs `protocol = "http"`. No effect in Lambda, which sends '
            "none.",
        ),
    ] = ""
    max_body_bytes: Annotated[
        int,
        Meta(
            ge=MIB,
            le=64 * MIB,
            description="Largest body of an HTTP request that is accepted, decompressed. Lambda "
            "sends up to twice `telemetry.buffering.max_bytes`. At most `tail_budget_bytes`.",
        ),
    ] = 8 * MIB
    host: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    """Address to listen on. Not set: `127.0.0.1` in `listen`. In Lambda `::`, which means every
    address of the sandbox, IPv4 included, because Lambda connects to `sandbox.localdomain`. Without
    IPv6, `::` means `0.0.0.0`."""
    port: (
        Annotated[int, Meta(ge=0, le=65_535, extra={"must": _PORT, "note": _DESTINATION})] | None
    ) = None
    """TCP port to listen on; 0: any free port. Not set: 4243 in `listen`, 28353 in Lambda. In
    Lambda any free port replaces one that another extension uses, even at one address only."""
    schema_version: Annotated[
        Literal["2022-07-01", "2022-12-13", "2025-01-29"],
        Meta(
            description="Telemetry API schema to subscribe with. Managed Instances accept only "
            "the newest.",
            extra={"note": _SCHEMA},
        ),
    ] = "2025-01-29"
    max_line_bytes: Annotated[
        int,
        Meta(
            ge=KIB,
            le=64 * MIB,
            description="Longest line that is accepted. A longer one is discarded up to its "
            "newline, and counted.",
        ),
    ] = 4 * MIB
    tail_budget_bytes: Annotated[
        int,
        Meta(
            ge=KIB,
            le=1024 * MIB,
            description="Most bytes of unfinished lines, of all connections together. At least "
            "`max_line_bytes`.",
        ),
    ] = 16 * MIB
    max_connections: Annotated[
        int, Meta(ge=1, le=1024, description="Most connections open at the same time.")
    ] = 256
    trust: Annotated[
        Literal["any", "platform"],
        Meta(
            description="Connections whose platform events are trusted in Lambda. `any`: all; "
            "`platform`: those that are Lambda's, as far as telemetryd can tell. Events of others "
            "are rejected as `untrusted`. If Lambda's connections bring none, telemetryd trusts "
            "all and logs the error `trust_given_up`."
        ),
    ] = "any"
    idle_seconds: Annotated[
        int,
        Meta(
            ge=0,
            le=30 * 86_400,
            description="Seconds without a byte after which `listen` closes a connection; 0: "
            "never. A sender that does not expect it loses its next lines. TCP keepalive detects "
            "vanished peers in any case. No effect in Lambda.",
        ),
    ] = 0
    buffering: Buffering = Buffering()

    def problems(self) -> Iterator[str]:
        """Yield faults of types, port, host, and of the room for one longest line."""
        if len(set(self.types)) < len(self.types):
            yield "types: each type may be listed once (platform limit, Lambda Telemetry API types)"
        if any(char.isspace() or not char.isprintable() for char in self.host or ""):
            yield "host: must be one address or host name, without spaces"
        if self.port == _RESERVED_PORT or 0 < (self.port or 0) < _FIRST_PORT:
            yield f"port: must be {_PORT} ({_DESTINATION})"
        if self.token and self.protocol != "http":
            yield 'token: needs telemetry.protocol = "http", because lines over TCP carry no token'
        if self.token and not all("!" <= char <= "~" for char in self.token):
            yield "token: must be printable ASCII without spaces, as an HTTP header carries it"
        if self.protocol != "tcp" and self.max_body_bytes > self.tail_budget_bytes:
            yield (
                "max_body_bytes: must be at most telemetry.tail_budget_bytes, which is "
                f"{self.tail_budget_bytes}"
            )
        if self.tail_budget_bytes < self.max_line_bytes:
            if self.tail_budget_bytes == Telemetry().tail_budget_bytes:
                yield (
                    f"max_line_bytes: exceeds telemetry.tail_budget_bytes, which is "
                    f"{self.tail_budget_bytes} unless set: set telemetry.tail_budget_bytes to at "
                    f"least {self.max_line_bytes} as well"
                )
            else:
                yield (
                    f"tail_budget_bytes: must be at least telemetry.max_line_bytes, which is "
                    f"{self.max_line_bytes}"
                )


class Flush(Section, frozen=True, kw_only=True):
    """`[flush]`: when telemetryd flushes queued lines, and how long a flush may take."""

    strategy: Annotated[
        Literal["auto", "invocation", "continuous", "interval"],
        Meta(
            description="When to flush in Lambda. `invocation`: at the end of each invocation; "
            "`continuous`: during invocations, without a wait at their end; `interval`: every "
            "`interval_ms`; `auto`: `invocation` for a rare function, `continuous` for a busy "
            "one."
        ),
    ] = "auto"
    interval_ms: Annotated[
        int,
        Meta(
            ge=100,
            le=LONGEST_INVOCATION_MS,
            description="Milliseconds between flushes of the `interval` strategy.",
            extra={"note": _INVOCATION},
        ),
    ] = 5000
    max_age_ms: Annotated[
        int,
        Meta(
            ge=100,
            le=LONGEST_INVOCATION_MS,
            description="Milliseconds after which a queued line is flushed under any strategy.",
            extra={"note": _INVOCATION},
        ),
    ] = 10_000
    max_added_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=LONGEST_INVOCATION_MS,
            description="The most milliseconds a flush may add to an invocation.",
            extra={"note": _INVOCATION},
        ),
    ] = 200
    max_silence_ms: Annotated[
        int,
        Meta(
            ge=100,
            le=LONGEST_INVOCATION_MS,
            description="Milliseconds without telemetry after which telemetryd stops waiting for "
            "the end of an invocation: the function may still run, or the event was lost.",
            extra={"note": _INVOCATION},
        ),
    ] = 30_000
    margin_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=1500,
            description="Least milliseconds to finish before any deadline of the platform. The "
            "margin grows with the measured lag.",
            extra={"note": _SHUTDOWN},
        ),
    ] = 150
    shutdown_ms: Annotated[
        int,
        Meta(
            ge=100,
            le=9500,
            description="Most milliseconds that `telemetryd listen` drains after a signal that "
            "ends it.",
            extra={"note": _EXIT},
        ),
    ] = 8000


class Memory(Section, frozen=True, kw_only=True):
    """`[memory]`: the memory of the queues of all sinks together.

    Half is divided evenly, so that a slow sink can't take everything. Any sink may use the other
    half. Unfinished lines (`telemetry.tail_budget_bytes`) and the batch that each sink packs and
    sends (`batch_max_bytes`) come on top.
    """

    max_bytes: Annotated[int, Meta(ge=MIB, le=64 * 1024 * MIB)] | None = None
    """Most bytes of lines in all queues, waiting or in flight. Not set: in Lambda an eighth of the
    function's memory, but 8 to 256 MiB; 256 MiB in `listen`."""


class Metrics(Section, frozen=True, kw_only=True):
    """`[metrics]`: telemetryd's own metrics, for Prometheus and for probes.

    `/metrics` uses the Prometheus text format or OpenMetrics, `/healthz` answers 200 or 503; see
    [metrics.md](metrics.md). Neither has encryption or passwords, so keep the address local.
    """

    listen: Annotated[str, Meta(max_length=300)] | None = None
    """`address:port` to serve them at; port 0: any free port. Not set: `127.0.0.1:9464` in
    `listen`, none in Lambda, where no client could connect. Empty: none."""

    def problems(self) -> Iterator[str]:
        """Yield faults of the address and the port."""
        if self.listen and parse_address(self.listen) is None:
            yield "listen: must be address:port, such as 127.0.0.1:9464 or [::1]:9464, or empty"


class System(Section, frozen=True, kw_only=True):
    """`[system]`: what function and extensions use, as Lambda Insights measures it.

    At the end of each invocation the `emf` sink and the metrics of the `otlp` sink get CPU time,
    memory, network traffic, room in `/tmp`, open files and threads. `/metrics` has them at any
    time. See [system.md](system.md).
    """

    metrics: Annotated[
        bool,
        Meta(
            description="Measure. The `emf` sink then emits these metrics as well; CloudWatch "
            "bills each."
        ),
    ] = False
    names: Annotated[
        Literal["system", "insights"],
        Meta(
            description="Names in the `emf` sink. `system`: `system_cpu_user_time` and so on; "
            "`insights`: those of Lambda Insights, such as `cpu_user_time` and `rx_bytes`."
        ),
    ] = "system"


class Lambda(Section, frozen=True, kw_only=True):
    """`[lambda]`: how the extension follows the life cycle of the environment."""

    next: Annotated[
        Literal["auto", "early", "ready"],
        Meta(
            description="When the extension calls `next` for the first time. `early`: right after "
            "its subscription, so that it delays the init little; `ready`: when the sinks are "
            "open. `auto`: as `early`; but once telemetryd is up, if `start` is `auto` and the "
            "launcher of the layer has measured a large share of a CPU in the init."
        ),
    ] = "auto"
    start: Annotated[
        Literal["auto", "init", "park"],
        Meta(
            description="When the interpreter of the layer starts. `init`: during the init of the "
            "function; `park`: at the end of the first invocation, and the launcher registers and "
            "subscribes; `auto`: `park` where the launcher measures less than a third of a CPU "
            "during the init, otherwise `init`. Beside a configuration file that the layer was not "
            "built with, all mean `init`, as they do without the layer: see "
            "[layer.md](layer.md#parked-the-interpreter-starts-later)."
        ),
    ] = "auto"
    events: Annotated[
        Literal["auto", "shutdown"],
        Meta(
            description="Life cycle events to register for. `auto`: INVOKE and SHUTDOWN where the "
            "platform permits both; `shutdown`: SHUTDOWN only."
        ),
    ] = "auto"
    last_resort: Annotated[
        Literal["none", "print"],
        Meta(
            description="What happens at SHUTDOWN to the lines of a sink that has delivered "
            "nothing yet, if it has no failover. `none`: they are dropped and counted; `print`: "
            "they go to standard output, which Lambda adds to the function's log. The ledger "
            "counts them under the sink `last_resort`."
        ),
    ] = "none"


class DeadLetter(Section, frozen=True, kw_only=True):
    """`[dead_letter]`: an optional file for lines that can't be framed, decoded or delivered."""

    path: Annotated[
        str,
        Meta(
            max_length=4095,
            description="File for lines that can't be framed, decoded or delivered. Empty: none; "
            "such lines are only counted.",
        ),
    ] = ""
    max_bytes: Annotated[
        int,
        Meta(
            ge=64 * KIB,
            le=1024 * 1024 * MIB,
            description="Most bytes of the file. Beyond them, lines are only counted.",
        ),
    ] = 64 * MIB
    max_record_bytes: Annotated[
        int,
        Meta(
            ge=256,
            le=64 * MIB,
            description="Most bytes of one record. A longer one is truncated and marked.",
        ),
    ] = 256 * KIB

    def problems(self) -> Iterator[str]:
        """Yield faults of the path, and of the room for one longest record."""
        if "\0" in self.path:
            yield "path: must not contain a NUL character"
        if self.max_record_bytes > self.max_bytes:
            most = self.max_bytes
            yield f"max_record_bytes: must be at most dead_letter.max_bytes, which is {most}"


class Log(Section, frozen=True, kw_only=True):
    """`[log]`: telemetryd's own log on standard error, one JSON object per line."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="Least severe level that is written. The ledger is written at any level."),
    ] = "info"


class RedactRule(Section, frozen=True, kw_only=True):
    """A table in `redact`."""

    name: Annotated[str, Meta(pattern=_RULE_NAME)]
    """Name of a built-in rule, or of this one if it has a pattern. It is shown in the lines."""
    pattern: Annotated[str, Meta(max_length=1000)] = ""
    """Regular expression of what to mask; only its first group, if it has one."""
    replace: Literal["label", "hash", "last4"] = "label"
    """The form of what stands for a secret."""


class HookConfig(Section, frozen=True, kw_only=True):
    """A table in `hooks`."""

    type: Annotated[str, Meta(max_length=100)] = ""
    """Entry point in the group `telemetryd.hooks`. Empty: that of the hook's name."""
    budget_ms: Annotated[int, Meta(ge=1, le=60_000)] = 100
    """Most milliseconds of a call. A hook that takes longer is switched off."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Values for the hook itself."""


def as_rule(entry: str | RedactRule) -> RedactRule:
    """Return an entry of `redact` as a table."""
    return RedactRule(name=entry) if isinstance(entry, str) else entry


class Config(Section, frozen=True, kw_only=True):
    """The whole configuration. `sinks` holds the `Config` struct of each sink's class."""

    fail_closed: Annotated[
        bool,
        Meta(
            description="Fail the init of the function (`init/error`) when telemetryd can't work. "
            'Needs `lambda.next = "ready"`. By default the function runs without telemetry.'
        ),
    ] = False
    tags: dict[str, Any] = field(default_factory=dict)
    """Members of your own, such as `{stage = "prod", team = "shop"}`, that every sink adds to each
    line that is a JSON object. Text, numbers, `true` and `false`. A section `[tags]`, or a
    variable for each: `TELEMETRYD_TAGS__STAGE=prod`. See [fields.md](fields.md#tags)."""
    hooks: Annotated[
        dict[Annotated[str, Meta(pattern=_RULE_NAME)], HookConfig],
        Meta(
            max_length=16,
            description="Code of your own in the life cycle, see [hooks.md](hooks.md): a section "
            "`[hooks.<name>]` for each, with `type` (entry point in the group `telemetryd.hooks`; "
            "not set: the name), `budget_ms` (most milliseconds of a call, 1 to 60000, default "
            "100) and `settings` (a table for the hook itself).",
            extra={"must": _HOOKS},
        ),
    ] = field(default_factory=dict)
    redact: Annotated[
        tuple[str | RedactRule, ...],
        Meta(
            max_length=64,
            description="What lines must not say, see [redaction.md](redaction.md): names of "
            'built-in rules (`"email"`, `"card"`, `"aws_key"`, `"bearer"`, `"jwt"`, `"ipv4"`, '
            '`"ipv6"`, `"iban"`), and tables `{name = "order", pattern = "ORD-[0-9]{8}", '
            'replace = "hash"}`. `replace` is `label`, `hash` or `last4`. Lines are masked before '
            "any queue, spool or dead letter. In Lambda a fault here turns all sinks off.",
            extra={"must": _REDACT},
        ),
    ] = ()
    redact_salt: Annotated[
        str,
        Meta(
            max_length=1024,
            description='Secret that goes into `replace = "hash"`, so that no one can find out a '
            "value by trying. Empty: a random one for each process, so that hashes of different "
            "processes differ.",
        ),
    ] = ""
    telemetry: Telemetry = Telemetry()
    flush: Flush = Flush()
    memory: Memory = Memory()
    metrics: Metrics = Metrics()
    system: System = System()
    lambda_: Lambda = field(default=Lambda(), name="lambda")
    sinks: dict[str, SinkConfig] = field(default_factory=dict)
    dead_letter: DeadLetter = DeadLetter()
    log: Log = Log()

    def problems(self) -> Iterator[str]:
        """Yield broken rules between sections."""
        if self.fail_closed and self.lambda_.next != "ready":
            yield (
                'fail_closed: needs lambda.next = "ready", because init/error can be reported '
                "only before the first call of next (Lambda Extensions API)"
            )
        if self.redact:
            yield from self._redact_problems()
        yield from self._failover_problems()
        yield from self._tag_problems()
        if LAST_RESORT in self.sinks and self.lambda_.last_resort != "none":
            yield f"sinks.{LAST_RESORT}: is the name of what lambda.last_resort adds; take another"
        if "extension" in self.telemetry.types:
            for name, sink in self.sinks.items():
                if sink.type == "stdout":
                    yield (
                        f'telemetry.types: "extension" can\'t be combined with the stdout sink '
                        f"sinks.{name}: its output would return as extension events in an "
                        f"endless loop; remove one of them"
                    )

    def _tag_problems(self) -> Iterator[str]:
        if self.tags:
            from telemetryd.core.tags import tag_faults  # noqa: PLC0415 - only where there are tags

            yield from (f"tags: {fault}" for fault in tag_faults(self.tags))
        for name, sink in self.sinks.items():
            for both in sorted({*effective_tags(self, sink)} & {*sink.fields}):
                yield (
                    f"sinks.{name}.fields: {both!a} is also the name of a tag, which is added "
                    "instead; rename the tag, or leave out the field"
                )
            if sink.sample:
                from telemetryd.core.sample import MEMBER  # noqa: PLC0415 - only where sampled

                if MEMBER in effective_tags(self, sink):
                    yield (
                        f"sinks.{name}.sample: {MEMBER!a} is the name of a tag, but also of the "
                        "member that `sample` adds; rename the tag"
                    )

    def _redact_problems(self) -> Iterator[str]:
        from telemetryd.core.redaction.rules import BUILT_IN  # noqa: PLC0415 - only where used
        from telemetryd.core.redaction.search import fault_of  # noqa: PLC0415 - as above

        names = set()
        for rule in map(as_rule, self.redact):
            name = rule.name
            if name in names:
                yield f"redact: {name!a} is the name of two rules"
            names.add(name)
            if not rule.pattern and name not in BUILT_IN:
                yield (
                    f"redact: {name!a} is no built-in rule, and has no pattern; built-in are "
                    f"{', '.join(BUILT_IN)}"
                )
            elif rule.pattern and (fault := fault_of(rule.pattern)):
                yield f"redact: the pattern of {name!a} {fault}"

    def _failover_problems(self) -> Iterator[str]:
        for name, sink in self.sinks.items():
            seen, at = [name], sink.failover
            while at in self.sinks and at not in seen:
                seen.append(at)
                at = self.sinks[at].failover
            if sink.failover and sink.failover not in self.sinks:
                known = ", ".join(other for other in self.sinks if other != name) or "none other"
                yield f"sinks.{name}.failover: names no sink; sinks here: {known}"
            elif at == name:
                circle = " -> ".join((*seen, name))
                yield f"sinks.{name}.failover: {circle} is a circle of failovers"


def without_bad_failovers(config: Config) -> Config:
    """Return `config` with no failover that names no sink, or that goes round in a circle."""
    sinks = dict(config.sinks)
    for name in config.sinks:
        seen, at = [name], sinks[name].failover
        while at in sinks and at not in seen:
            seen.append(at)
            at = sinks[at].failover
        if sinks[name].failover and (sinks[name].failover not in sinks or at in seen):
            sinks[name] = msgspec.structs.replace(sinks[name], failover="")
    return msgspec.structs.replace(config, sinks=sinks)


def with_last_resort(config: Config, mode: Mode) -> Config:
    """Return `config` with the sink for what is printed in the end, if that is wanted in `mode`."""
    if mode != "lambda" or config.lambda_.last_resort == "none" or LAST_RESORT in config.sinks:
        return config
    sinks = {**config.sinks, LAST_RESORT: SinkConfig(type="stdout")}
    return msgspec.structs.replace(config, sinks=sinks)


def effective_memory(config: Config, mode: Mode, environ: Mapping[str, str]) -> int:
    """Return the bytes all queues may hold together in `mode`.

    In Lambda `AWS_LAMBDA_FUNCTION_MEMORY_SIZE` tells the function's memory in MB (AWS Lambda
    Developer Guide, "Defined runtime environment variables").
    """
    if config.memory.max_bytes is not None:
        return config.memory.max_bytes
    if mode == "listen":
        return MOST_MEMORY
    text = environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    function = int(text) * MIB if text.isascii() and text.isdigit() and len(text) < 8 else 0  # noqa: PLR2004 - no such number of MB
    return min(max(function // 8, LEAST_MEMORY), MOST_MEMORY)


def parse_address(text: str) -> tuple[str, int] | None:
    """Split `address:port` into its parts. None if it is anything else."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if not (colon and host and port.isascii() and port.isdigit() and len(port) < 6):  # noqa: PLR2004 - no such port
        return None
    if (":" in host) != bracketed or any(c.isspace() or not c.isprintable() for c in host):
        return None
    return (host, int(port)) if int(port) < 65_536 else None  # noqa: PLR2004 - as above


def effective_address(config: Config, mode: Mode) -> tuple[str, int]:
    """Return the address for telemetry in `mode`: host and port."""
    host, port = _ADDRESSES[mode]
    telemetry = config.telemetry
    return telemetry.host or host, port if telemetry.port is None else telemetry.port


def effective_metrics(config: Config, mode: Mode) -> str:
    """Return the address of `/metrics` in `mode`, as `address:port`; empty: not served."""
    if config.metrics.listen is not None:
        return config.metrics.listen
    return _METRICS_ADDRESS if mode == "listen" else ""


def effective_tags(config: Config, sink: SinkConfig) -> dict[str, Any]:
    """Return the tags that `sink` adds: those of all sinks, and its own."""
    return ({**config.tags} if sink.lets_lines_through else {}) | sink.tags


def effective_overflow(sink: SinkConfig, mode: Mode) -> Overflow:
    """Return the policy in `mode` for a full queue of `sink`.

    Unless set: `block` in `listen`; `drop_oldest` in Lambda, where an unread socket makes the
    platform drop whole batches (its emulator can even stall).
    """
    return sink.overflow or ("block" if mode == "listen" else "drop_oldest")

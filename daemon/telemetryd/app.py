"""The composition root: the only place that knows every class of the data path.

`Daemon` is everything between the socket and the sinks, in every mode. `listen` wraps it for use
outside Lambda.
"""

from __future__ import annotations

import asyncio
import os
import socket
from _random import Random  # without the distributions of `random`
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from telemetryd.clock import SYSTEM, Clock
from telemetryd.config import (
    Config,
    Mode,
    as_rule,
    effective_overflow,
    effective_tags,
    with_last_resort,
)
from telemetryd.core.budget import MemoryBudget
from telemetryd.core.fields import FieldAdder, RequestTracker, Scalar
from telemetryd.core.figures import FiguresReader, facts
from telemetryd.core.ledger import Count, Ledger
from telemetryd.core.line_filter import LineFilter
from telemetryd.core.peers import Peers
from telemetryd.core.router import RouteRules
from telemetryd.core.stats import DaemonStats, Trigger
from telemetryd.core.watch import LIFE_CYCLE, LOSSES, EventWatch
from telemetryd.delivery.losses import Losses
from telemetryd.delivery.queue import SinkQueue
from telemetryd.delivery.worker import CLOSE_SECONDS, DeliveryWorker
from telemetryd.errors import PermanentSinkError
from telemetryd.ingest.gate import Gate
from telemetryd.ingest.heap import keep_heap
from telemetryd.ingest.listener import MOST_READ_BYTES, Connection, TelemetryListener
from telemetryd.ingest.pipeline import Observer, Pipeline, Route
from telemetryd.log import Log, describe
from telemetryd.sinks.base import Batch, Overflow, Sink, SinkConfig, SinkContext, WriteResult
from telemetryd.sinks.registry import sink_class
from telemetryd.usage import usage

if TYPE_CHECKING:
    from telemetryd.core.flat import FlatReader, Flattener
    from telemetryd.core.redaction.redactor import Redactor
    from telemetryd.core.sample import Sampler
    from telemetryd.delivery.dead_letter import DeadLetter
    from telemetryd.hooks.hooks import Hooks
    from telemetryd.system import Names, SystemMetrics, SystemProbe

_LONGEST: Final = 10
"""Digits of a function's memory that are believed."""
_BATCH_PART: Final = 4
"""A batch is at most this part of its queue."""
_SETTLE_POLL_SECONDS: Final = 0.005
_FAILOVER_SHARE: Final = 0.4
"""Part of the time at the end that is kept for sinks that others fail over to."""


class Identity:
    """The function that this process serves, and a random id of the process.

    `account`: the function's, if the platform has told it.
    """

    def __init__(self, environ: Mapping[str, str], *, account: str = "") -> None:
        self.account = account
        self.function = environ.get("AWS_LAMBDA_FUNCTION_NAME", "local")
        self.version = environ.get("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        self.instance = os.urandom(16).hex()
        self.region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION", "")
        memory = environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
        self.memory_mb = int(memory) if memory.isdecimal() and len(memory) < _LONGEST else 0
        machine = os.uname().machine
        self.architecture = {"aarch64": "arm64"}.get(machine, machine)
        kind = environ.get("AWS_LAMBDA_INITIALIZATION_TYPE")
        self.one_at_a_time = kind != "lambda-managed-instances"

    @property
    def values(self) -> dict[str, Scalar]:
        """Return the values that `fields` may add to an event, as far as they are known."""
        known: dict[str, Scalar] = {
            "function": self.function,
            "version": self.version,
            "instance": self.instance,
            "region": self.region,
            "account": self.account,
            "memory_mb": self.memory_mb,
            "architecture": self.architecture,
        }
        return {name: value for name, value in known.items() if value}


class Daemon:
    """Listener, pipeline, queues, workers and sinks of one process."""

    def __init__(
        self,
        config: Config,
        sock: socket.socket,
        *,
        mode: Mode,
        memory_bytes: int,
        identity: Identity,
        log: Log,
        on_bug: Callable[[Exception], None],
        observer: Observer | None = None,
        peers: Peers | None = None,
        closes_foreign: bool = False,
        speaks_http: bool = False,
        started: float | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        """Assemble the parts. Nothing starts yet.

        `memory_bytes` is what all queues may hold together (`config.effective_memory`).
        `on_bug` learns of an exception that should be impossible, `observer` of what the life
        cycle follows, and goes with `peers`, who are the connections; `closes_foreign`: those
        made to an address that others can reach are closed. `speaks_http`: the telemetry port
        takes requests instead of lines. `started`: the monotonic second at
        which the process began, unless that is now.
        """
        wanted = config.sinks.keys()
        config = with_last_resort(config, mode)
        self._log = log
        log.conceal(partial(_find_secrets, config))
        self.clock = clock
        self._usage = partial(usage, clock.monotonic() if started is None else started, clock)
        self._on_bug = on_bug
        self.ledger = Ledger(tuple(config.sinks))
        self.stats = DaemonStats(config.sinks)
        self._dead_letter = _dead_letter(config, log, clock)
        self._held_by: set[str] = set()
        self._crowded_by: set[str] = set()
        self._stopping = False
        self._close_last: list[Callable[[], None]] = []
        self.budget = MemoryBudget(memory_bytes, len(config.sinks))
        self._queues: list[SinkQueue] = []
        self._names: Names = config.system.names
        self.system: Final = self._system_probe(config)
        self._workers = [
            self._worker(name, sink, mode, identity) for name, sink in config.sinks.items()
        ]
        self._identity = identity
        self._flat: FlatReader | None = None
        self._routes = [
            Route(worker, self._rules(sink, effective_tags(config, sink)))
            for worker, sink in zip(self._workers, config.sinks.values(), strict=True)
            if worker.name in wanted
        ]
        self._connect(config, wanted)
        self.hooks: Final = self._make_hooks(config, mode)
        pipeline = Pipeline(
            self.ledger,
            self._routes,
            dead_letter=self._dead_letter,
            observer=observer,
            trusts=peers.trusts if peers and config.telemetry.trust == "platform" else None,
            is_anothers=peers.is_anothers if peers else lambda _: False,
            watch=EventWatch(LIFE_CYCLE if observer else LOSSES),
            tracker=RequestTracker(
                one_at_a_time=identity.one_at_a_time, one_environment=mode == "lambda"
            ),
            drop_own_lines="extension" in config.telemetry.types,
            redactor=self._redactor(config),
            tap=self.hooks.on_block if self.hooks is not None else None,
            stats=self.stats,
            log=log,
        )
        self._pipeline = pipeline
        self._gate = (
            Gate(
                peers,
                observer,
                own_bytes=config.telemetry.max_body_bytes
                if speaks_http
                else config.telemetry.max_line_bytes,
                tail_budget_bytes=config.telemetry.tail_budget_bytes,
                closes_foreign=closes_foreign,
                stats=self.stats,
                log=log,
            )
            if peers is not None and observer is not None
            else None
        )
        keep_heap(memory_bytes)
        telemetry = config.telemetry
        self.listener = TelemetryListener(
            sock,
            pipeline,
            max_line_bytes=telemetry.max_line_bytes,
            tail_budget_bytes=telemetry.tail_budget_bytes,
            max_connections=telemetry.max_connections,
            # in Lambda silence is the rule, and the platform connects once
            idle_seconds=telemetry.idle_seconds if mode == "listen" else 0,
            spares_descriptors=mode == "listen",
            keep_bytes=self._dead_letter.max_record_bytes if self._dead_letter else 0,
            # a small queue gets small blocks: what it drops or has in flight comes in blocks
            read_bytes=min([MOST_READ_BYTES, *(each.capacity_bytes // 8 for each in self._queues)]),
            stats=self.stats,
            log=log,
            on_bug=on_bug,
            door=self._gate,
            clock=clock,
            connect=self._http(config, mode, log) if speaks_http else None,
        )

    def _http(
        self, config: Config, mode: Mode, log: Log
    ) -> Callable[[TelemetryListener], Connection]:
        """Return what makes a connection that speaks HTTP."""
        from telemetryd.ingest.http_connection import HttpConnection  # noqa: PLC0415 - where used
        from telemetryd.ingest.http_intake import Intake  # noqa: PLC0415 - as above

        telemetry = config.telemetry
        intake = Intake(
            lenient=mode == "lambda",
            token=telemetry.token,
            max_body_bytes=telemetry.max_body_bytes,
            max_line_bytes=telemetry.max_line_bytes,
        )
        settle = self.settle if telemetry.http_ack == "spooled" else None
        return partial(HttpConnection, intake=intake, stats=self.stats, log=log, settle=settle)

    async def settle(self, received_at: float, seconds: float) -> bool:
        """Wait until the lines read up to `received_at` are out of memory; False if they are not.

        They are then delivered, on disk, or counted as lost. `received_at` is a monotonic second;
        the wait takes at most `seconds`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        flushing = asyncio.gather(*(worker.flush(deadline) for worker in self._workers))
        try:
            while self._holds_up_to(received_at):
                if loop.time() >= deadline:
                    return False
                await asyncio.sleep(_SETTLE_POLL_SECONDS)
        finally:
            flushing.cancel()
        return True

    def _holds_up_to(self, received_at: float) -> bool:
        oldest = (worker.oldest_received_at() for worker in self._workers)
        return any(at is not None and at <= received_at for at in oldest)

    async def open(self, deadline: float) -> dict[str, str]:
        """Open the sinks ahead of `start`; those that can't be by `deadline`, and why."""
        found = await asyncio.gather(*(worker.open(deadline) for worker in self._workers))
        return {w.name: why for w, why in zip(self._workers, found, strict=True) if why}

    async def start(
        self, early: Sequence[socket.socket] = (), late: Sequence[socket.socket] = ()
    ) -> None:
        """Begin to deliver, then to read from `early` and `late`, and to accept others."""
        if self.hooks is not None:
            self.hooks.start()
        for worker in self._workers:
            worker.start()
        await self.listener.start(early, late)

    def prove(self, source: int) -> None:
        """Note that connection `source` sent something that only the platform should know."""
        if self._gate is not None and (budget := self._gate.prove(source)) is not None:
            self.listener.charge(source, budget)

    def close_last(self, close: Callable[[], None]) -> None:
        """Call `close` in `stop`, after delivery: for what watches the daemon to the end."""
        self._close_last.append(close)

    async def reopen(self, seconds: float) -> dict[str, str]:
        """Open again every file that has a name, as after logrotate; which sinks can't, and why."""
        if self._dead_letter is not None:
            self._dead_letter.close()  # the next record opens it
        deadline = asyncio.get_running_loop().time() + seconds
        found = await asyncio.gather(*(worker.reopen(deadline) for worker in self._workers))
        return {w.name: why for w, why in zip(self._workers, found, strict=True) if why}

    def adjust(self, config: Config) -> None:
        """Take on what of `config` can take effect at once (`reload.LIVE_KEYS`)."""
        self.listener.set_limits(
            max_connections=config.telemetry.max_connections,
            idle_seconds=config.telemetry.idle_seconds,
        )
        for route in self._routes:
            sink = config.sinks[route.worker.name]
            route.worker.adjust(sink)
            route.rules = self._rules(sink, effective_tags(config, sink))
        self._pipeline.reroute(self._routes)

    async def flush(self, deadline: float, trigger: Trigger) -> bool:
        """Deliver what is queued; False if some was left at `deadline` (loop time).

        At the end of an invocation, calls of hooks are awaited as well.
        """
        if self.hooks is None or trigger != "invocation":
            return await self._flush(deadline, trigger)
        flushed, _ = await asyncio.gather(
            self._flush(deadline, trigger), self.hooks.drain(deadline)
        )
        return flushed

    def skip_flush(self, trigger: Trigger) -> bool:
        """True if a flush would have nothing to do. Then it counts as done."""
        if self.hooks is not None or not all(worker.is_at_rest for worker in self._workers):
            return False
        self.stats.flush_seconds[trigger].observe(0.0)
        return True

    async def _flush(self, deadline: float, trigger: Trigger) -> bool:
        flushed, began = True, self.clock.monotonic()
        try:
            for stage in self._stages():
                flushed &= all(await asyncio.gather(*(worker.flush(deadline) for worker in stage)))
        finally:
            self.stats.flush_seconds[trigger].observe(self.clock.monotonic() - began)
        return flushed

    async def stop(
        self,
        *,
        quiet: float,
        read_until: float,
        deadline: float,
        grace: float = CLOSE_SECONDS,
        keep: bool = False,
        reason: str = "signal",
    ) -> bool:
        """Read what still comes, deliver, close, and print the ledger; whether it balances.

        Reading ends after `quiet` seconds of silence, more in the middle of a line, or at
        `read_until`, delivery at `deadline` (both loop time); what is left then is dropped as
        `shutdown`. Past the deadline a sink may take `grace` seconds to end its write, and as many
        to close. `keep`: the disk outlives this process, so that a spool is of use. `reason`: why
        it ends, see `Sink.own_items`.
        """
        self._stopping = True
        await self.listener.drain(quiet=quiet, deadline=read_until)
        await self.listener.close()
        began = self.clock.monotonic()
        stopping = [self._stop_workers(deadline, grace, keep=keep, reason=reason)]
        if self.hooks is not None:
            stopping.append(self.hooks.stop(reason, deadline))
        await asyncio.gather(*stopping)
        self.stats.flush_seconds["shutdown"].observe(self.clock.monotonic() - began)
        if self._dead_letter is not None:
            self._dead_letter.close()
        while self._close_last:
            self._close_last.pop()()
        return self.print_ledger()

    async def _stop_workers(
        self, deadline: float, grace: float, *, keep: bool, reason: str
    ) -> None:
        """Stop each after those that fail over to it, which leave it a share of the time."""
        loop = asyncio.get_running_loop()
        *earlier, last = self._stages() or ([],)
        for stage in earlier:
            until = deadline - (deadline - loop.time()) * _FAILOVER_SHARE
            stopping = (worker.stop(until, grace, keep=keep, reason=reason) for worker in stage)
            await asyncio.gather(*stopping)
        stopping = (worker.stop(deadline, grace, keep=keep, reason=reason) for worker in last)
        await asyncio.gather(*stopping)

    def _stages(self) -> list[list[DeliveryWorker]]:
        """Return the workers in stages. Each comes after those that fail over to it."""
        left, stages = list(self._workers), []
        while left:
            targets = {id(worker.heir) for worker in left if worker.heir is not None}
            stage = [worker for worker in left if id(worker) not in targets] or left
            stages.append(stage)
            left = [worker for worker in left if worker not in stage]
        return stages

    def print_ledger(self) -> bool:
        """Print the ledger as it stands; whether it balances."""
        statement = self.statement()
        self._log.statement("ledger", statement)
        return bool(statement["balanced"])

    def statement(self) -> dict[str, Any]:
        """Return the current ledger, in the form that is printed."""
        books = self.ledger.statement(
            self.pending(), unfinished_bytes=self.listener.unfinished_bytes
        )
        return books | {"figures": facts(self.stats, self._usage(), self.clock.monotonic())}

    def abandon(self, reason: str, *, keep: bool = False) -> None:
        """Count everything that is not settled as lost, at once: there is no time, or no loop.

        `keep`: what a spool can take is not lost.
        """
        self.listener.reject_unfinished()
        for stage in self._stages():
            for worker in stage:
                worker.abandon(reason, keep=keep)

    def begin_hold(self) -> bool:
        """Begin no write that a freeze could cut off, until `release_writes`.

        False if one is in flight already: then `hold_writes` is needed.
        """
        return all(worker.begin_hold() for worker in self._workers)

    async def hold_writes(self, answer_until: float) -> None:
        """Keep writes that a freeze could cut off from being in flight, until `release_writes`.

        What is sent, and only not answered, may be answered until `answer_until` (loop time).
        """
        await asyncio.gather(*(worker.hold(answer_until) for worker in self._workers))

    def release_writes(self) -> None:
        """Permit writes again after a freeze. Overdue ones begin at once."""
        for worker in self._workers:
            worker.release()

    def on_restore(self) -> None:
        """Renew ids that must be unique, after a restore from a snapshot (SnapStart)."""
        self._identity.instance = os.urandom(16).hex()
        for route in self._routes:
            route.worker.on_restore(self._identity.instance)
            if route.rules is not None and route.rules.shaper is not None:
                route.rules.shaper.renew(self._identity.values)

    def oldest_seconds(self, now: float) -> float:
        """Return the age of the oldest queued line, at the monotonic second `now`."""
        received = (worker.oldest_received_at() for worker in self._workers)
        return max((now - at for at in received if at is not None), default=0.0)

    @property
    def log_skipped_lines(self) -> int:
        """Return how many lines of the log standard error did not take."""
        return self._log.skipped_lines

    @property
    def is_discarding(self) -> bool:
        """True if lines are only counted: there is no sink, or there was a bug."""
        return self._pipeline.is_discarding

    @property
    def is_stopping(self) -> bool:
        """True if the shutdown has begun."""
        return self._stopping

    @property
    def workers(self) -> Sequence[DeliveryWorker]:
        """Return the workers, one for each sink."""
        return self._workers

    @property
    def queues(self) -> Mapping[str, SinkQueue]:
        """Return the queue of each sink, by name."""
        return {w.name: queue for w, queue in zip(self._workers, self._queues, strict=True)}

    def discard(self) -> None:
        """Read on, but only count: after a bug that makes everything else doubtful."""
        self._pipeline.discard()

    def pending(self) -> dict[str, Count]:
        """Return the lines that wait or are in flight, by sink."""
        return {worker.name: worker.pending() for worker in self._workers}

    def _redactor(self, config: Config) -> Redactor | None:
        """Return what masks lines, if anything is to be masked."""
        if not config.redact:
            return None
        from telemetryd.core.redaction.redactor import redactor  # noqa: PLC0415 - where configured

        rules = [(rule.name, rule.pattern, rule.replace) for rule in map(as_rule, config.redact)]
        made = redactor(rules, config.redact_salt.encode() or os.urandom(32))
        self.stats.redacted = made.counts
        return made

    def _system_probe(self, config: Config) -> SystemProbe | None:
        """Return what reads the figures of the system, if they are wanted."""
        if not config.system.metrics:
            return None
        from telemetryd.system import SystemProbe  # noqa: PLC0415 - only where configured

        return SystemProbe()

    def _system_metrics(self, kind: str) -> SystemMetrics | None:
        """Return what measures for a sink of type `kind`: each has its own last reading."""
        if self.system is None:
            return None
        from telemetryd.system import SystemMetrics  # noqa: PLC0415 - as above

        return SystemMetrics(self.system, self._names if kind == "emf" else "system")

    def _make_hooks(self, config: Config, mode: Mode) -> Hooks | None:
        """Return the hooks, if any is configured. Nothing of them is loaded yet."""
        if not config.hooks:
            return None
        from telemetryd.hooks.hooks import make_hooks  # noqa: PLC0415 - only where configured

        return make_hooks(
            config.hooks,
            values=self._identity.values,
            in_lambda=mode == "lambda",
            stats=self.stats,
            clock=self.clock,
            log=self._log,
        )

    def _worker(
        self, name: str, config: SinkConfig, mode: Mode, identity: Identity
    ) -> DeliveryWorker:
        context = SinkContext(
            name=name,
            function=identity.function,
            version=identity.version,
            instance=identity.instance,
            account=identity.account,
            salvage=partial(self._salvage, name),
            log=self._log,
            clock=self.clock,
            in_lambda=mode == "lambda",
            system=self._system_metrics(config.type),
            figures=FiguresReader(
                self.stats, self.ledger, self._usage, self.clock.monotonic, self.oldest_seconds
            ),
            count_derived=self.stats.sinks[name].count_derived,
        )
        queue = SinkQueue(
            config.queue_max_bytes,
            _overflow(config, mode),
            partial(self._hold_reading, name),
            self.budget,
            self.stats.sinks[name],
            on_crowded=partial(self._crowd, name),
            clock=self.clock,
        )
        self._queues.append(queue)
        largest = max(queue.capacity_bytes // _BATCH_PART, 1)
        if config.batch_max_bytes > largest:  # packing and sending take several times a batch
            config = msgspec.structs.replace(config, batch_max_bytes=largest)
        sink: Sink
        try:
            sink = sink_class(config.type)(config, context)
        except Exception as error:  # noqa: BLE001 - it costs its own lines, not those of others
            self._log.error("sink_bug", sink=name, error=describe(error))
            sink = _BrokenSink(config, context)
        return DeliveryWorker(
            sink,
            config,
            self.ledger.sinks[name],
            queue,
            stats=self.stats.sinks[name],
            losses=Losses(
                name, self.ledger.sinks[name], dead_letter=self._dead_letter, log=self._log
            ),
            log=self._log,
            rng=Random(identity.instance),  # jitter, not cryptography
            on_bug=self._on_bug,
        )

    def _rules(self, sink: SinkConfig, tags: Mapping[str, Scalar]) -> RouteRules | None:
        """Return the rules of a sink for its lines, None if it takes all as they are."""
        shaper: FieldAdder | Flattener | None = None
        values = self._identity.values
        if sink.format == "flat":
            from telemetryd.core.flat import FlatReader, Flattener  # noqa: PLC0415 - where used

            self._flat = self._flat or FlatReader(values, self.clock.wall)
            shaper = Flattener(self._flat, sink.fields, values, tags)
        elif sink.fields or tags:
            shaper = FieldAdder(sink.fields, values, tags)
        filters = sink.types or sink.min_level or sink.include or sink.exclude
        if not (filters or sink.sample or shaper):
            return None
        return RouteRules(
            LineFilter(
                types=sink.types,
                min_level=sink.min_level,
                include=sink.include,
                exclude=sink.exclude,
            ),
            shaper,
            _sampler(sink) if sink.sample else None,
        )

    def _connect(self, config: Config, wanted: Collection[str]) -> None:
        """Tell each worker which other one gets what it can't deliver."""
        by_name = {worker.name: worker for worker in self._workers}
        last_resort = next((each for each in self._workers if each.name not in wanted), None)
        for name in wanted:
            sink = config.sinks[name]
            if sink.failover:
                by_name[name].fail_over_to(by_name[sink.failover])
            elif last_resort is not None and sink.type != "stdout":
                by_name[name].leave_to(last_resort)

    def _salvage(self, sink: str, data: bytes, reason: str) -> bool:
        self._log.warning("damage_found", sink=sink, reason=reason, bytes=len(data))
        return self._dead_letter is not None and self._dead_letter.keep(
            data, reason=reason, sink=sink
        )

    def _hold_reading(self, sink: str, held: bool) -> None:
        """Stop reading for a full sink with `overflow = "block"`, or resume it."""
        (self._held_by.add if held else self._held_by.discard)(sink)
        self.listener.hold_reading(bool(self._held_by))
        self._log.debug("reading_paused" if held else "reading_resumed", sink=sink)

    def _crowd(self, sink: str, crowded: bool) -> None:
        """Note that a sink's queue is more than a quarter full, or has drained."""
        (self._crowded_by.add if crowded else self._crowded_by.discard)(sink)
        self.listener.crowd(bool(self._crowded_by))


class _BrokenSink(Sink):
    """Stands in for a sink whose constructor failed: its lines are lost under that reason."""

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        raise PermanentSinkError("bug", "the sink could not be made; see sink_bug")


def _overflow(config: SinkConfig, mode: Mode) -> Overflow:
    """Return what a full queue does. With a spool the oldest lines go to disk."""
    overflow = effective_overflow(config, mode)
    return "drop_oldest" if config.spool is not None and overflow == "drop_newest" else overflow


def _sampler(sink: SinkConfig) -> Sampler:
    from telemetryd.core.sample import Sampler, rule  # noqa: PLC0415 - only where configured

    return Sampler(
        [
            rule(type=each.type, level=each.level, match=each.match, keep=each.keep, by=each.by)
            for each in sink.sample
        ]
    )


def _find_secrets(config: Config) -> Iterator[str]:
    from telemetryd.masking import secrets_of  # noqa: PLC0415 - few processes need it

    return secrets_of(config, os.environ)


def _dead_letter(config: Config, log: Log, clock: Clock) -> DeadLetter | None:
    settings = config.dead_letter
    if not settings.path:
        return None
    from telemetryd.delivery.dead_letter import DeadLetter  # noqa: PLC0415 - only where configured

    return DeadLetter(
        settings.path,
        max_bytes=settings.max_bytes,
        max_record_bytes=settings.max_record_bytes,
        log=log,
        clock=clock,
    )

"""The extension once `next` is in flight: the daemon, the invocations, the shutdown.

    INVOKE    deliver while the function runs; at its end flush or not, as `[flush]` says; `next`
    SHUTDOWN  read until quiet, deliver, close, print the ledger, exit, before the deadline

Nothing that fails here may fail the function. With a broken configuration there are no sinks. After
an exception in our own code telemetry is counted and discarded. `next` is polled in any case.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import time
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import uvloop

from telemetryd import library_log
from telemetryd.app import Daemon, Identity
from telemetryd.clock import Clock
from telemetryd.config import (
    Config,
    effective_memory,
    effective_metrics,
    load,
    without_bad_failovers,
)
from telemetryd.config.sources import LOCAL_VARIABLE
from telemetryd.core import lifecycle
from telemetryd.core.ledger import UNTRUSTED
from telemetryd.core.lifecycle import LifeCycle, Limits, Moment, Pacer
from telemetryd.core.peers import Peers
from telemetryd.errors import EXIT_CONFIG, EXIT_OK, EXIT_UNAVAILABLE, ConfigError
from telemetryd.extension import ENDING_SIGNALS, hold_signals, release_signals
from telemetryd.extension.boot import (
    LARGE_SHARE,
    PARKED,
    REGISTER_FD,
    REGISTERED,
    Refused,
    Session,
)
from telemetryd.extension.early import Early
from telemetryd.extension.events_client import EventsClient, StoppedError
from telemetryd.ingest.addresses import SANDBOX, is_ours, sandbox_addresses
from telemetryd.log import Level, Log, describe
from telemetryd_proto.envelope import Envelope
from telemetryd_proto.errors import (
    DECODE_FAILURES,
    MISMATCH,
    MalformedAnswer,
    MalformedRecord,
    ProtocolError,
)
from telemetryd_proto.events import decode_record
from telemetryd_proto.extensions_api import NextEvent
from telemetryd_proto.framing import Block
from telemetryd_proto.records import Report, RestoreStart, RuntimeDone, Start
from telemetryd_proto.timestamps import parse_time

if TYPE_CHECKING:
    from telemetryd.core.lifecycle import Commands
    from telemetryd.log_events import EventName

T = TypeVar("T")

_MAX_FORETOLD: Final = 64
_SHUTDOWN_SECONDS: Final = 2.0
"""The time of a shutdown for which the platform names no deadline (Extensions API)."""
_QUIET_MARGIN_SECONDS: Final = 0.025
_TAIL_MARGIN_SECONDS: Final = 0.005
_READ_SHARE: Final = 0.7
"""Part of the time at shutdown that reading may take if the stream is never quiet."""
_LEAST_SECONDS: Final = 0.02
_PATIENCE_SECONDS: Final = 0.02
"""Time beyond its deadline that a sink's flush may take before telemetryd stops waiting."""
_ANSWER_SECONDS: Final = 0.1
"""Additional time for the response to a request that is sent when a flush's time is over."""
_OPEN_SECONDS: Final = 3.0
"""Time for sinks to open before the first `next`, of the 10 seconds that an init may take."""
_FOR_GOOD: Final = "spindown"
"""The `shutdownReason` after which the environment is gone, `/tmp` and all; a time-out or a failure
only resets it (Extensions API, Shutdown)."""
_SIGNAL: Final = "signal"
"""Stands for a reason where the platform gave none."""
_PRINTABLE: Final = 10**40
_ACCOUNT_DIGITS: Final = 12
_LONGEST_MS: Final = int(lifecycle.LONGEST_SECONDS * 1000)


def run(session: Session) -> int:
    """Serve until SHUTDOWN. Return the exit status."""
    for handed_over in (REGISTER_FD, PARKED, LARGE_SHARE, REGISTERED):
        os.environ.pop(handed_over, None)  # it would be treated as a setting that does not exist
    clock = Clock()
    log = Log("info", clock=clock)
    library_log.bridge(log)
    config = _config(session, log)
    if config is None:
        return EXIT_CONFIG
    log.set_level(config.log.level)
    # Not closed at the end: that would wait for whatever a sink has left running.
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    try:
        return runner.run(_serve(session, config, log, clock))
    except BaseException:  # what it leaves open is closed, so that no peer waits for it to read
        hold_signals()  # they would end the process before `fallback` handles them
        runner.get_loop().close()
        raise


def _config(session: Session, log: Log) -> Config | None:
    """Return the configuration, without sinks if it is invalid; None if the init was failed."""
    early_problems, session.settings.problems = session.settings.problems, []
    try:
        loaded = load(os.environ, mode="lambda", tolerant=True)
    except ConfigError as error:
        log.error("configuration_invalid", problems=error.problems)
        if session.settings.fail_closed and not session.next_sent:
            session.report_init_error("Extension.ConfigInvalid", "; ".join(error.problems))
            return None
        usable = error.usable if isinstance(error.usable, Config) else Config()
        usable = _with_subscribed_types(usable, session.settings)
        consequence = (
            "invalid keys have their defaults; a sink is off if the fault decides where its lines "
            "go, which lines it gets, or what is masked in them"
        )
        log.error(
            "configuration_repaired",
            sinks=list(usable.sinks),
            left_out=error.left_out,
            consequence=consequence,
        )
        if error.warnings:
            log.warning("configuration_warning", details=error.warnings)
        return usable
    if early_problems:  # a file that could be read only now, for one
        log.error("configuration_invalid", problems=early_problems)
    if loaded.warnings:
        log.warning("configuration_warning", details=loaded.warnings)
    return loaded.config


def _with_subscribed_types(config: Config, settings: Early) -> Config:
    """Return `config` with the subscribed types, without a sink that would read its own output.

    What the stdout sink prints would come back as `extension` events, without end.
    """
    sinks = config.sinks
    if "extension" in settings.types:
        sinks = {name: sink for name, sink in sinks.items() if sink.type != "stdout"}
    telemetry = msgspec.structs.replace(config.telemetry, types=settings.types)
    config = msgspec.structs.replace(config, telemetry=telemetry, sinks=sinks)
    return without_bad_failovers(config)


def _account_in(answer: bytes) -> str:
    """Return the account that the answer to `register` names, 12 digits; otherwise nothing."""
    try:
        members = msgspec.json.decode(answer)
    except DECODE_FAILURES:
        return ""  # an event tells it, with the first invocation
    account = members.get("accountId") if isinstance(members, dict) else None
    if not isinstance(account, str) or len(account) != _ACCOUNT_DIGITS:
        return ""
    return account if account.isascii() and account.isdigit() else ""


def _api_address(session: Session) -> str:
    """Return the API's address, "" if it is unknown."""
    try:
        if session.next_socket is not None:
            address: str = session.next_socket.getpeername()[0]
            return address
    except OSError:
        return ""
    return session.host if session.host.replace(".", "").isdigit() else ""


def _time_in(envelope: Envelope) -> float | None:
    """Return when an event was made, in seconds since the epoch; None if it does not say."""
    with suppress(MalformedRecord):
        return parse_time(envelope.time)
    return None


def _copies(sockets: Iterable[Any]) -> list[socket.socket]:
    return [socket.socket(fileno=os.dup(sock.fileno())) for sock in sockets]


def _forget_start() -> None:
    """Give the kernel back what only the start needed. The layer's interpreter can."""
    if "_layer" in sys.builtin_module_names:
        from _layer import forget_start  # type: ignore[import-not-found]  # noqa: PLC0415 - see layer/c/main.c

        forget_start()


async def _serve(session: Session, config: Config, log: Log, clock: Clock) -> int:
    extension = _Extension(session, config, log, clock)
    try:
        return await extension.serve()
    except BaseException:
        session.ledger = extension.abandon()  # `fallback` continues counting
        raise


class _Extension:
    """One process of the extension, from the loop's start to its end."""

    def __init__(self, session: Session, config: Config, log: Log, clock: Clock) -> None:
        assert session.listener is not None  # noqa: S101 - boot has bound it
        loop = asyncio.get_running_loop()
        for number, name in ENDING_SIGNALS.items():
            loop.add_signal_handler(number, self._stop, name)
        release_signals()  # before there is a sink: what it starts must be open to signals
        self._loop = loop
        self._session = session
        self._config = config
        self._log = log
        self._clock = clock
        self._batch_seconds = session.settings.timeout_ms / 1000
        self._margin = config.flush.margin_ms / 1000
        self._added_seconds = config.flush.max_added_ms / 1000 - self._batch_seconds
        """Most seconds to add after an invocation's end is known, a batch period after the end."""
        self._signal = ""
        """The name of the first that asked for the end."""
        self._noticed = asyncio.Event()
        self._told: set[str] = set()
        self._end: tuple[float, str] | None = None
        self._peers = Peers(_api_address(session), is_ours=is_ours)
        self._saw_platform = False
        copy = socket.socket(fileno=os.dup(session.listener.fileno()))
        copy.setblocking(False)
        self._daemon = Daemon(
            config,
            copy,
            mode="lambda",
            memory_bytes=effective_memory(config, "lambda", os.environ),
            identity=Identity(os.environ, account=_account_in(session.registered)),
            log=log,
            on_bug=self._on_bug,
            observer=self,
            peers=self._peers,
            closes_foreign=os.environ.get(LOCAL_VARIABLE) == "1",
            speaks_http=session.protocol == "http",
            started=session.started,
            clock=clock,
        )
        self._daemon.stats.port_taken = int(session.port_taken)
        self._daemon.stats.invocations = session.invocations
        self._foretold: dict[str, int] = {}
        """The connection that named a request before INVOKE did. Either may be read first."""
        self._cycle = LifeCycle(
            Pacer(
                config.flush.strategy,
                interval_seconds=config.flush.interval_ms / 1000,
                max_age_seconds=config.flush.max_age_ms / 1000,
                now=self._now().elapsed,
            ),
            Limits(
                batch=self._batch_seconds,
                added=self._added_seconds,
                silence=config.flush.max_silence_ms / 1000,
            ),
            told="INVOKE" in session.registered_events,
            sees_ends=session.subscribed
            and session.tells_ends
            and "platform" in session.settings.types
            and self._added_seconds >= 0,
            counts=self._daemon.stats,
        )
        if session.protocol == "http":  # it connects when it has something to send
            self._cycle.on_connections(1, lost=False)
        self._cycle.on_share(
            self._clock.monotonic() - session.busy_since,
            time.process_time() - session.busy_cpu,
        )
        self._client = EventsClient(session, self._on_odd_answer)

    async def serve(self) -> int:
        """Follow the life cycle to its end."""
        if self._session.settings.next == "ready" and not await self._open():
            return EXIT_UNAVAILABLE
        # Copies, as of the listener: should this come to an end, `fallback` reads on.
        early, late = map(_copies, (self._session.early, self._session.late))
        await self._daemon.start(early, late)
        timer = asyncio.create_task(self._flush_by_timer(), name="flush-by-timer")
        self._log_started()
        gc.freeze()  # modules and classes need not be looked at ever again
        gc.enable()
        _forget_start()
        if address := effective_metrics(self._config, "lambda"):
            from telemetryd.exposition import expose  # noqa: PLC0415 - seldom wanted in Lambda

            await expose(self._daemon, address, self._log)
        deadline, reason = await self._follow()
        self._session.ended = True
        timer.cancel()
        try:
            await self._shut_down(deadline, reason)
        except Exception as bug:  # noqa: BLE001 - the end has arrived in any case
            self._on_bug(bug)
            self._daemon.print_ledger()
        return EXIT_OK

    async def _open(self) -> bool:
        """Open the sinks before the first `next`; False when init has been failed for them."""
        until = self._loop.time() + _OPEN_SECONDS
        failed = await self._within(self._daemon.open(until), until)
        if failed is None:
            failed = {"": f"not open within {_OPEN_SECONDS} seconds"}
        for sink, error in failed.items():
            self._log.error("sink_not_open", sink=sink, error=error)
        if not (failed and self._session.settings.fail_closed):
            return True
        problem = "; ".join(f"sinks.{sink}: {error}" for sink, error in failed.items())
        self._session.report_init_error("Extension.SinkUnavailable", problem)
        return False

    def _log_started(self) -> None:
        session, start = self._session, self._daemon.stats.start_seconds
        start["registered"] = session.registered_after
        start["up"] = self._clock.monotonic() - session.started
        self._log.info(
            "started",
            port=session.listener.getsockname()[1] if session.listener else None,
            subscribed=session.subscribed,
            events=session.registered_events,
            registered_ms=round(session.registered_after * 1000, 1),
            next_ms=round(session.next_after * 1000, 1) if session.next_after else None,
            parked=session.parked,
            up_ms=round(start["up"] * 1000, 1),
        )
        named = sandbox_addresses()
        if named and not any(map(is_ours, named)):
            self._daemon.stats.sandbox_not_ours = 1
            self._log.warning(
                "sandbox_not_ours",
                addresses=named,
                detail=f"{SANDBOX}, where Lambda sends telemetry, is not one of our addresses",
                consequence="telemetry may not arrive; the function is not affected",
            )  # fmt: skip
        waits = self._config.flush.strategy != "continuous" and self._config.sinks
        # Without INVOKE there is nothing to await: on Managed Instances that is as it should be.
        told = session.subscribed and "INVOKE" in session.registered_events
        if waits and told and self._cycle.delivers_alongside:
            self._log.warning(
                "end_not_awaited",
                reason="telemetry.types has no platform events"
                if "platform" not in session.settings.types
                else "telemetry.buffering.timeout_ms exceeds flush.max_added_ms",
                consequence="lines are delivered during invocations, which do not wait for them",
            )

    def _now(self) -> Moment:
        return Moment(self._loop.time(), self._clock.elapsed(), self._clock.wall())

    def abandon(self) -> dict[str, Any]:
        """Count all that is left as lost; the ledger."""
        self._daemon.abandon("bug", keep=True)
        return self._daemon.statement()

    # -- what the life cycle commands ------------------------------------------------------------

    async def _follow(self) -> tuple[float, str]:
        """Execute commands until LEAVE: by which loop time to be gone, and why."""
        execute = {
            lifecycle.ASK: self._ask,
            lifecycle.AWAIT: self._await,
            lifecycle.TELL: self._tell,
            lifecycle.FLUSH: self._flush,
            lifecycle.HOLD: self._hold,
            lifecycle.RELEASE: self._release,
        }
        commands = self._cycle.start()
        while commands[0] != lifecycle.LEAVE:
            command, *rest = commands
            commands = (*rest, *await execute[command]())
        if self._end is None:
            self._log.info("stopping", signal=self._signal)
            return self._deadline(None), _SIGNAL
        return self._end

    async def _ask(self) -> Commands:
        """Ask for the next event, and take it."""
        try:
            event = await self._next_event()
        except (OSError, Refused) as error:
            self._log.error("platform_gone", error=repr(error)[:500])
            self._end = (self._deadline(None), _SIGNAL)
            return self._cycle.end(lifecycle.GONE)
        except (ProtocolError, ValueError) as error:
            # To leave would fail the function; the next answer may well make sense.
            self._log.error("answer_malformed", error=repr(error)[:500])
            return self._cycle.on_malformed()
        if event is None:
            return self._cycle.end(lifecycle.SIGNAL)
        if event.event_type == "SHUTDOWN":
            self._log.info("stopping", reason=event.shutdown_reason)
            reason = event.shutdown_reason or _SIGNAL
            self._end = (self._deadline(event.deadline_ms), reason)
            return self._cycle.end(lifecycle.SHUTDOWN)
        return self._on_invoke(event) if event.event_type == "INVOKE" else self._cycle.other()

    def _on_invoke(self, event: NextEvent) -> Commands:
        """Return what to do when an invocation begins."""
        try:
            if self._daemon.stats.invocations:  # the one before has told what it can
                self._doubt_trust()
            deadline = self._deadline(event.deadline_ms, most=lifecycle.LONGEST_SECONDS)
            oldest = self._daemon.oldest_seconds(self._clock.monotonic())
            if (source := self._foretold.pop(event.request_id or "", None)) is not None:
                self._daemon.prove(source)
            self._foretold.clear()
            if self._daemon.hooks is not None:
                self._daemon.hooks.on_invoke(event)
            return self._cycle.invoke(event.request_id or "", deadline, oldest, self._now())
        except Exception as bug:  # noqa: BLE001 - the function must get its `next`
            return self._fail(bug)

    async def _next_event(self) -> NextEvent | None:
        """Return the next event, None when a signal ends the process."""
        await self._client.ask()
        self._cycle.on_asked(self._now())
        self._daemon.stats.start_seconds["next"] = self._session.next_after
        try:
            return await self._client.answer()
        except StoppedError:
            return None

    async def _await(self) -> Commands:
        """Wait until something about the running invocation is to be decided."""
        try:
            return await self._look()
        except Exception as bug:  # noqa: BLE001 - as above
            return self._fail(bug)

    async def _look(self) -> Commands:
        loop, cycle, listener = self._loop, self._cycle, self._daemon.listener
        commands = cycle.tick(listener.unfinished_since(), loop.time())
        if commands[0] != lifecycle.AWAIT:
            return commands
        self._noticed.clear()
        due = cycle.due(listener.unfinished_since(), loop.time())
        timer = loop.call_at(due, self._noticed.set)
        await self._noticed.wait()
        timer.cancel()
        if loop.time() >= due:
            cycle.on_lag(loop.time() - due)
            await listener.catch_up()  # what has arrived in time is looked at first
        return commands

    def _doubt_trust(self) -> None:
        """Trust all peers if no trusted one has sent an event."""
        refused = self._daemon.ledger.rejected[UNTRUSTED].lines
        if refused and not self._saw_platform:
            self._saw_platform = True
            self._peers.trust_all()
            self._log.error(
                "trust_given_up",
                rejected=refused,
                reason="no platform event came from a connection that is the platform's",
                consequence="platform events of every connection are trusted from now on",
                fix='set telemetry.trust = "any", and please report what the log says',
            )  # fmt: skip

    async def _tell(self) -> Commands:
        """Log that an end was missed, once for each cause."""
        self._doubt_trust()
        cause = self._cycle.missed
        self._log_once(
            "warning", "end_missed",
            reason=cause,
            detail=lifecycle.CAUSES[cause],
            consequence="lines are delivered during invocations, without a wait for their ends, "
            "until an end is seen",
        )  # fmt: skip
        return ()

    async def _flush(self) -> Commands:
        """Wait for lines behind the end of an invocation, and deliver all that is queued."""
        latest = self._cycle.flush_until
        try:
            await asyncio.sleep(self._cycle.trailing_until - self._loop.time())
            self._cycle.on_lag(max(self._loop.time() - self._cycle.trailing_until, 0.0))
            flushed: bool | None = self._daemon.skip_flush("invocation")
            if not flushed:
                flushed = await self._within(self._daemon.flush(latest, "invocation"), latest)
            self._cycle.on_lag(max(self._loop.time() - latest - _PATIENCE_SECONDS, 0.0))
            return self._cycle.on_flush_end(self._now(), all_of_it=bool(flushed))
        except Exception as bug:  # noqa: BLE001 - as above
            return self._fail(bug)

    async def _hold(self) -> Commands:
        """Cancel the writes that a freeze would cut off."""
        try:
            if not self._daemon.begin_hold():
                until = min(self._loop.time() + _ANSWER_SECONDS, self._cycle.deadline)
                await self._within(self._daemon.hold_writes(until), until)
            return self._cycle.held()
        except Exception as bug:  # noqa: BLE001 - as above
            return self._fail(bug)

    async def _release(self) -> Commands:
        self._daemon.release_writes()
        return ()

    def _log_once(self, level: Level, event: EventName, **facts: str) -> None:
        """Log the event unless the same was logged, for the same reason."""
        key = event + facts.get("reason", "")
        if key not in self._told:
            self._told.add(key)
            self._log(level, event, **facts)

    def _fail(self, bug: Exception) -> Commands:
        self._on_bug(bug)
        return self._cycle.fail(owing=True)

    def _on_odd_answer(self, error: MalformedAnswer) -> None:
        self._daemon.stats.malformed_events += 1
        self._log.warning(
            "answer_repaired",
            error=str(error)[:500],
            consequence="members of wrong types are ignored",
        )  # fmt: skip

    def _deadline(self, deadline_ms: int | None, *, most: float = _SHUTDOWN_SECONDS) -> float:
        """Return the platform's epoch deadline as loop time, less the margin.

        Where there is none, `most` seconds are left, and so where it is a mistake: further from
        now, either way, than a function may run.
        """
        left = most
        if deadline_ms is not None:
            left_ms = deadline_ms - int(self._clock.wall() * 1000)
            if abs(left_ms) <= _LONGEST_MS:
                left = max(left_ms, 0) / 1000
            else:
                self._daemon.stats.malformed_events += 1
                shown = str(deadline_ms) if abs(deadline_ms) < _PRINTABLE else "beyond any date"
                self._log.warning("deadline_implausible", deadline_ms=shown)
        margin = self._cycle.margin(self._margin, left)
        return self._loop.time() + max(left - margin, _LEAST_SECONDS)

    async def _within(self, work: Coroutine[Any, Any, T], until: float) -> T | None:
        """Return the outcome of `work`, None if a sink that can't be interrupted delays it."""
        task = asyncio.ensure_future(work)
        patience = max(until - self._loop.time(), 0.0) + _PATIENCE_SECONDS
        await asyncio.wait({task}, timeout=patience)
        if task.done():
            return task.result()
        task.cancel()
        self._log.warning("sink_not_interruptible", consequence="telemetryd does not wait for it")
        return None

    # -- what telemetry tells (`ingest.pipeline.Observer`) ----------------------------------------

    def on_event(self, envelope: Envelope, block: Block, at: int) -> None:
        """Handle a life-cycle event."""
        self._saw_platform = True
        source = block.source
        try:
            record = decode_record(envelope, lenient=True)
        except ProtocolError as error:
            self._on_malformed(envelope, error.code, source)
            return
        if isinstance(record, (Start, RuntimeDone, Report)) and not record.request_id:
            self._on_malformed(envelope, MISMATCH, source)
            return
        if isinstance(record, (Start, RuntimeDone)):
            if self._cycle.has_begun(record.request_id):
                self._daemon.prove(source)
            elif len(self._foretold) < _MAX_FORETOLD:
                self._foretold.setdefault(record.request_id, source)
        if isinstance(record, Start):
            before = block.data.count(b"\n", 0, at) if self._cycle.awaits_start else 0
            self._cycle.on_start(record.request_id, before, _time_in(envelope))
        elif isinstance(record, (RuntimeDone, Report)):
            made = _time_in(envelope)
            self._on_end(record.request_id, made, is_report=isinstance(record, Report))
        elif isinstance(record, RestoreStart):
            self._log.info("restored", consequence="telemetryd uses new ids")
            self._daemon.on_restore()

    def _on_malformed(self, envelope: Envelope, code: str, source: int) -> None:
        self._daemon.stats.malformed_events += 1
        self._log.warning("event_malformed", type=envelope.type, code=code)
        if envelope.type == "platform.runtimeDone" and not self._peers.is_anothers(source):
            self.on_loss("event_malformed")

    def on_lines(self, count: int) -> None:
        """Note how many lines have arrived, after the events among them."""
        self._cycle.on_lines(count, self._loop.time())

    def on_loss(self, cause: str) -> None:
        """Note that telemetry was lost."""
        self._cycle.on_loss(cause)
        self._noticed.set()

    def on_connections(self, count: int, *, lost: bool) -> None:
        """Note how many connections are open. `lost`: the platform's may have ended."""
        if self._session.protocol == "tcp":
            self._cycle.on_connections(count, lost=lost)
        self._noticed.set()

    def _on_end(self, request_id: str, at: float | None, *, is_report: bool) -> None:
        if not self._cycle.on_end(request_id, at, self._clock.wall(), is_report=is_report):
            self._log_once(
                "info", "request_unknown",
                request_id=request_id[: lifecycle.MAX_ID],
                detail="this invocation did not begin here: a reset followed it, or the event is "
                "not the platform's",
            )  # fmt: skip
        self._noticed.set()

    async def _flush_by_timer(self) -> None:
        """Flush by the clock, where no end of an invocation is known or waited for."""
        flush = self._config.flush
        while True:
            by_interval = flush.strategy == "interval" or self._cycle.delivers_alongside
            seconds = (flush.interval_ms if by_interval else flush.max_age_ms) / 1000
            await asyncio.sleep(seconds)
            if "INVOKE" not in self._session.registered_events:
                self._doubt_trust()
            if await self._daemon.flush(self._loop.time() + seconds, "timer"):
                self._cycle.on_flushed(self._now())

    # -- the end ---------------------------------------------------------------------------------

    def _stop(self, name: str) -> None:
        self._signal = self._signal or name
        self._cycle.on_signal()
        self._noticed.set()
        self._client.stop()

    async def _shut_down(self, deadline: float, reason: str) -> None:
        keep = reason != _FOR_GOOD
        now = self._loop.time()
        quiet = self._batch_seconds + _QUIET_MARGIN_SECONDS if self._session.subscribed else 0.0
        read_until = now + (deadline - now) * _READ_SHARE
        # What a sink takes beyond the deadline is taken from the margin.
        margin = self._cycle.margin(self._margin, (deadline - now) / (1 - lifecycle.MOST_PART))
        grace = max(margin / 4, _LEAST_SECONDS)
        balanced = await self._within(
            self._daemon.stop(
                quiet=quiet,
                read_until=read_until,
                deadline=deadline,
                grace=grace,
                keep=keep,
                reason=reason,
            ),
            deadline + 2 * grace,
        )
        if balanced is None:
            self._daemon.abandon("shutdown", keep=keep)
            balanced = self._daemon.print_ledger()
        if not balanced:
            self._log.error("ledger_unbalanced", fix="please report this as a bug")

    def _on_bug(self, bug: Exception) -> None:
        self._log.error(
            "internal_error",
            error=describe(bug),
            consequence="telemetry is counted and discarded; the function is not affected",
            fix="please report this as a bug",
        )
        self._daemon.discard()
        self._cycle.on_bug()
        self._noticed.set()

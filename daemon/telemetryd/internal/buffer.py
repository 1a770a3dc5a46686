"""Lines of the function's own, to any sink, without an extension beside it.

    buffer = SinkBuffer("http", url="https://collector.example.com/v1/lines")

    @flush_on_return(buffer.flush)
    def handler(event, context):
        buffer.write({"metric": "orders", "value": 1})

A thread runs the sink under the worker that the daemon uses: batches, retries, a circuit, a bounded
queue, and an account in which every line ends once. Where the thread does not run, as in a forked
child, or behind a `close`, lines are dropped, and counted: the function's `write` never fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import secrets
import threading
import weakref
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from telemetryd.clock import Clock
from telemetryd.core.ledger import Count, SinkAccount
from telemetryd.core.stats import SinkStats
from telemetryd.delivery.losses import Losses
from telemetryd.delivery.queue import SinkQueue
from telemetryd.delivery.worker import DeliveryWorker
from telemetryd.errors import ConfigError
from telemetryd.internal.flushing import EACH_SECONDS, say
from telemetryd.log import Log
from telemetryd.sinks.base import SinkConfig, SinkContext
from telemetryd.sinks.registry import UnknownSinkType, sink_class
from telemetryd_proto.framing import Block

_CHUNK_BYTES: Final = 64 * 1024
"""Bytes that are collected before they are handed to the sink's thread."""
_START_SECONDS: Final = 5.0
"""Half of what Lambda gives the init."""
_CLOSE_SECONDS: Final = 0.5
_FLUSH_SECONDS: Final = 0.8 * EACH_SECONDS
_SLACK_SECONDS: Final = 0.1 * EACH_SECONDS
"""The rest of what a call has behind a handler: one that takes longer is not called any more."""
_LOSS: Final = "drop_oldest"
"""The overflow of a buffer. It has no other."""
_NO_THREAD: Final = "no_thread"
"""The reason for lines that nothing is there to deliver."""
_OF_THE_DAEMON: Final = frozenset(
    {
        "types", "min_level", "include", "exclude", "sample", "fields", "tags", "format",
        "failover", "spool", "overflow",
    }
)  # fmt: skip
"""Keys of all sinks that its router, or what it stores, needs."""


class SinkBuffer:
    """Collects lines for one sink. `write` never waits; all methods may be called in any thread."""

    def __init__(self, type: str, **settings: Any) -> None:  # noqa: A002 - the key's name
        """Make the sink with the keys of its section. Raises ConfigError with every problem.

        Without a thread to spare it says so, and drops the lines; so it does until the sink has
        started, if that takes long.
        """
        config = _config(type, settings)
        self._log = Log("warning")
        self._account = SinkAccount()
        self._undelivered: dict[str, Count] = {}
        """Lines that the sink's thread has not got, by reason."""
        self._handed = 0
        """Bytes that it has not yet taken."""
        self._max_bytes = config.queue_max_bytes
        self._lost = 0
        """Lines that were dropped until the last flush; of `_undelivered`: `_lost_here`."""
        self._lost_here = 0
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._lines: list[bytes] = []
        self._size = 0
        self._worker: DeliveryWorker | None = None
        self._errors: list[Exception] = []
        """The reason why the sink could not be made, if it could not."""
        self._is_late = False
        """True if no one waits for that reason any more."""
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(config, started), name=f"sink-{type}", daemon=True
        )
        _BUFFERS.add(self)
        try:
            self._thread.start()
        except RuntimeError as error:  # as many threads as the environment may have
            self._loop.close()
            say(f"SinkBuffer({type!r}) drops its lines: {error}")  # the log needs a thread, too
            return
        if not started.wait(_START_SECONDS):
            self._is_late = True
            say(f"SinkBuffer({type!r}) drops its lines until the sink has started")
        elif self._errors:
            self._thread.join(_CLOSE_SECONDS)
            raise self._errors[0]
        self._follow_restores()

    def _follow_restores(self) -> None:
        """Renew ids after each restore from a snapshot, which many environments share."""
        try:
            from snapshot_restore_py import (  # noqa: PLC0415 - only in Lambda's runtime
                register_after_restore,
            )
        except ImportError:
            return
        register_after_restore(self._on_restore)

    def _on_restore(self) -> None:
        worker = self._running()
        if worker is not None:
            self._loop.call_soon_threadsafe(worker.on_restore, secrets.token_hex(16))

    def _running(self) -> DeliveryWorker | None:
        """Return the sink's worker, if its thread is there to run it."""
        return self._worker if self._thread.is_alive() else None

    def write(self, line: str | bytes | dict[str, Any]) -> None:
        r"""Add a line. A dict becomes JSON. Newlines within a line become spaces.

        Raises TypeError if it is nothing of that, or a dict has what JSON has not.
        """
        data = _to_line(line)
        if not data:
            return
        with self._lock:
            self._lines.append(data + b"\n")
            self._size += len(data) + 1
            if self._size >= _CHUNK_BYTES:
                self._hand_over()

    def flush(self, seconds: float = _FLUSH_SECONDS) -> bool:
        """Deliver what was written; False if a line of it was not delivered within `seconds`.

        Such lines are delivered later, unless they were dropped: `account` says so. It returns in
        time for `flush_on_return`. With more `seconds`, register it with more, too.
        """
        with self._lock:
            self._hand_over()
            lost = sum(count.lines for count in self._undelivered.values())
            before, self._lost_here = self._lost_here, lost
        worker = self._running()
        if worker is None:
            return lost == before
        done = asyncio.run_coroutine_threadsafe(self._flush(worker, seconds), self._loop)
        try:
            return done.result(seconds + _SLACK_SECONDS) and lost == before
        except TimeoutError:
            return False

    def close(self, seconds: float = 2.0) -> dict[str, Any]:
        """Deliver for `seconds`, give up the rest, and return the account. Later lines are lost."""
        worker = self._running()
        with self._lock:
            self._hand_over()
        if worker is None:
            return self.account()
        stopping = asyncio.run_coroutine_threadsafe(self._stop(worker, seconds), self._loop)
        with contextlib.suppress(TimeoutError):  # the account says what is left
            stopping.result(seconds + 4 * _CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_SECONDS)
        return self.account()

    def account(self) -> dict[str, Any]:
        """Return where the lines went, in the form of the ledger's page of a sink."""
        worker = self._worker
        page = self._account.page(worker.pending() if worker is not None else Count())
        with self._lock:
            for reason, count in self._undelivered.items():
                dropped = page["dropped"].setdefault(reason, Count().leaf())
                for leaf in (page["offered"], page["enqueued"], dropped):
                    leaf["lines"] += count.lines
                    leaf["bytes"] += count.bytes
        return page

    def on_fork(self) -> None:
        """Begin again in a child. What was written is its parent's, which has the thread."""
        self._lock = threading.Lock()  # another thread may have held it
        self._lines, self._size, self._handed = [], 0, 0
        self._account, self._worker = SinkAccount(), None
        self._undelivered, self._lost_here = {}, 0

    def _hand_over(self) -> None:
        if not self._lines:
            return
        data, count = b"".join(self._lines), len(self._lines)
        self._lines, self._size = [], 0
        worker = self._running()
        if worker is None:
            self._give_up(_NO_THREAD, count, len(data))
        elif self._handed > self._max_bytes:  # the thread is stuck
            self._give_up("queue_full", count, len(data))
        else:
            self._handed += len(data)
            block = Block(data, count, received_at=Clock().monotonic())
            self._loop.call_soon_threadsafe(self._take, worker, block)

    def _give_up(self, reason: str, lines: int, size: int) -> None:
        if reason not in self._undelivered:  # said once
            say(f"a SinkBuffer drops lines ({self._thread.name}: {reason})")
        self._undelivered.setdefault(reason, Count()).add(lines, size)

    # -- in the sink's thread --------------------------------------------------------------------

    def _run(self, config: SinkConfig, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        context = SinkContext(
            name=config.type,
            function=os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "local"),
            version=os.environ.get("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            instance=secrets.token_hex(16),
            salvage=lambda _data, _reason: False,
            log=self._log,
        )
        try:
            self._loop.run_until_complete(self._start(config, context))
        except Exception as error:  # noqa: BLE001 - raised where the buffer is made
            self._errors.append(error)
            if self._is_late:
                say(f"SinkBuffer({config.type!r}) drops its lines: {error!r}")
        started.set()
        if not self._errors:
            self._loop.run_forever()
        self._loop.close()

    async def _start(self, config: SinkConfig, context: SinkContext) -> None:
        stats = SinkStats()
        worker = DeliveryWorker(
            sink_class(config.type)(config, context),
            config,
            self._account,
            SinkQueue(config.queue_max_bytes, "drop_oldest", lambda _: None, stats=stats),
            stats=stats,
            losses=Losses(config.type, self._account, dead_letter=None, log=self._log),
            log=self._log,
            rng=random.Random(),  # noqa: S311 - jitter, not cryptography
            on_bug=lambda bug: self._log.error("internal_error", error=repr(bug)[:500]),
        )
        worker.start()
        self._worker = worker

    def _take(self, worker: DeliveryWorker, block: Block) -> None:
        with self._lock:
            self._handed -= block.size
        worker.offer(block)

    async def _flush(self, worker: DeliveryWorker, seconds: float) -> bool:
        worker.release()
        is_done = await worker.flush(self._loop.time() + seconds)
        before, self._lost = self._lost, sum(each.lines for each in self._account.dropped.values())
        return is_done and self._lost == before

    async def _stop(self, worker: DeliveryWorker, seconds: float) -> None:
        await worker.stop(self._loop.time() + seconds)


_BUFFERS: Final[weakref.WeakSet[SinkBuffer]] = weakref.WeakSet()


def _on_fork() -> None:
    for each in _BUFFERS:
        each.on_fork()


os.register_at_fork(after_in_child=_on_fork)


def _to_line(line: str | bytes | dict[str, Any]) -> bytes:
    """Return a line, without its newline."""
    if isinstance(line, dict):
        try:
            return msgspec.json.encode(line)
        except UnicodeEncodeError:  # half a surrogate pair, which JSON can only spell out
            return json.dumps(line).encode()
    if not isinstance(line, str | bytes):
        raise TypeError(f"a line is text, bytes or a dict, not {type(line).__name__}")
    data = line.encode("utf-8", "replace") if isinstance(line, str) else line
    return data.rstrip(b"\n").replace(b"\n", b" ")


def _without_effect(config: SinkConfig) -> Iterator[str]:
    """Yield the keys that are set, but that only the daemon follows: it routes, this does not."""
    for field in msgspec.structs.fields(config):
        value = getattr(config, field.name)
        if field.name in _OF_THE_DAEMON and value and value not in (field.default, _LOSS):
            yield f"{field.name}: has no effect here: each line goes to the sink as it is"


def _config(kind: str, settings: dict[str, Any]) -> SinkConfig:
    try:
        cls = sink_class(kind).Config
        config = msgspec.convert({"type": kind, **settings}, cls)
    except (UnknownSinkType, msgspec.ValidationError) as error:
        raise ConfigError((f"SinkBuffer({kind!r}): {error}",)) from error
    rules = (
        *config.shared_problems(), *getattr(config, "problems", tuple)(), *_without_effect(config),
    )  # fmt: skip
    if rules:
        raise ConfigError(tuple(f"SinkBuffer({kind!r}): {rule}" for rule in rules))
    return config

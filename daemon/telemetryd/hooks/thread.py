"""One hook in its thread: calls in order, within a budget, and what becomes of a broken one.

The loop posts calls and never waits for the thread, but for a bounded time before a freeze and at
the end. A thread can't be ended from outside: a hook that hangs gets no more calls, and the process
ends without it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final, TypeAlias

from telemetryd.core.stats import HookStats
from telemetryd.hooks.base import Event, Hook, HookContext
from telemetryd.hooks.registry import HookUnavailable, hook_class
from telemetryd.log import DaemonLog, describe
from telemetryd_proto.envelope import decode_block
from telemetryd_proto.errors import ProtocolError
from telemetryd_proto.events import decode_record
from telemetryd_proto.framing import Block
from telemetryd_proto.records import Report, RuntimeDone

Call: TypeAlias = tuple[str, tuple[Any, ...]]

INIT_SECONDS: Final = 5.0
"""Budget of the import and of `on_init`."""
_MAX_FAILURES: Final = 3
"""Exceptions in a row, of one method, that switch a hook off."""
_MAX_CALLS: Final = 256
_MAX_BYTES: Final = 4 * 1024 * 1024
"""Calls, and bytes of telemetry, that wait for a hook. Beyond them telemetry is not handed over."""
_ROUNDING_SECONDS: Final = 0.01
"""Time by which a timer may come early, and more: a call is then certainly over its budget."""
_RUN_LATER: Final = 0x20 | 0x80 | 0x200
"""Flags of the code of generators, coroutines and asynchronous generators (`inspect.CO_...`)."""
_ON_EVENTS: Final = ("on_events", "on_runtime_done", "on_report")
_METHODS: Final = ("on_init", "on_invoke", *_ON_EVENTS, "on_shutdown")


class HookThread:
    """A hook and its thread. All methods are called on the loop, but `_run` and what it calls."""

    def __init__(
        self,
        kind: str,
        context: HookContext,
        *,
        budget_seconds: float,
        stats: HookStats,
        clock: Callable[[], float],
        log: DaemonLog,
    ) -> None:
        self._kind = kind
        self._context = context
        self._budget = budget_seconds
        self._stats = stats
        self._clock = clock
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[Call] = SimpleQueue()
        self._waiting = 0
        self._bytes = 0
        self._begun: float | None = None
        """When the call began that is being made. Only the thread sets it, once it runs."""
        self._thawed_at = 0.0
        """When the environment was last known to run again after a freeze."""
        self._limit = INIT_SECONDS
        self._idle = asyncio.Event()
        self._is_off = False
        self._has_ended = False
        self._skips = False
        self._failures: dict[str, int] = {}
        """Exceptions in a row, by method."""
        self._called: list[str] = []
        """The methods that were called for one post, each once. Only for the thread."""
        self._methods: dict[str, Callable[..., object]] = {}
        self._pid = os.getpid()

    def start(self) -> None:
        """Begin to load the hook, and to call its `on_init`."""
        self._waiting = 1
        self._begun = self._clock()
        name = f"hook-{self._context.name}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def post(self, method: str, *arguments: object) -> None:
        """Have `method` called, unless the hook is off, or has had its last call."""
        if self._is_on() and not self._has_ended:
            self._has_ended = method == "on_shutdown"
            self._waiting += 1
            self._idle.clear()
            self._calls.put((method, arguments))

    def hand_over(self, block: Block) -> None:
        """Have the events of `block` handed over, unless too much waits already."""
        if self._has_ended or not self._is_on():
            return
        if self._waiting >= _MAX_CALLS or self._bytes + len(block.data) > _MAX_BYTES:
            self._stats.skipped_lines += block.lines
            if not self._skips:
                self._skips = True
                self._log.warning(
                    "hook_lines_skipped", hook=self._context.name,
                    consequence="it gets no events until it has caught up; sinks get all of them",
                )  # fmt: skip
            return
        self._skips = False
        self._bytes += len(block.data)
        self.post("on_events", block)

    def restart_clock(self) -> None:
        """Forget how long the present call has taken: a freeze may have been the most of it."""
        self._thawed_at = self._clock()

    async def drain(self, until: float) -> None:
        """Wait until all calls are made, at most for the budget, and until `until` (loop time)."""
        if not self._is_on() or not self._waiting:
            return
        limit = min(until, self._loop.time() + self._budget + _ROUNDING_SECONDS)
        try:
            async with asyncio.timeout_at(limit):
                await self._idle.wait()
        except TimeoutError:
            self._is_on()

    def _is_on(self) -> bool:
        """Switch the hook off if a call takes longer than its budget; True if it is on."""
        begun = self._begun
        if not self._is_off and begun is not None:
            taken = self._clock() - max(begun, self._thawed_at)
            if taken > self._limit:
                self._switch_off("too_slow", f"a call took longer than {self._limit:g} seconds")
        return not self._is_off

    def _switch_off(self, reason: str, error: str) -> None:
        if self._is_off:
            return
        self._is_off = True
        self._stats.off = 1
        self._idle.set()
        self._log.error(
            "hook_off", hook=self._context.name, reason=reason, error=error,
            consequence="it is not called any more; telemetry is not affected",
        )  # fmt: skip

    # -- in the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        error = self._guard(self._load)
        self._begun, self._limit = None, self._budget
        self._tell(self._on_loaded, error)
        while error is None:
            method, arguments = self._calls.get()
            size = 0
            self._called = []
            begun = self._begun = self._clock()
            if method == "on_events":
                size = len(arguments[0].data)
                failure = self._guard(self._make_events, arguments[0])
            else:
                failure = self._guard(self._call, method, *arguments)
            seconds = self._clock() - max(begun, self._thawed_at)
            self._begun = None
            self._tell(self._on_done, self._called, size, seconds, failure)

    def _guard(self, function: Callable[..., object], *arguments: object) -> str | None:
        """Return the error of a call in words; None if there was none."""
        try:
            function(*arguments)
        except HookUnavailable as error:
            found: str | None = str(error)
        except BaseException as error:  # noqa: BLE001 - SystemExit too is the hook's, not ours
            found = self._words_for(error)
        else:
            found = None
        if os.getpid() != self._pid:  # it forked, and this is the copy
            os._exit(0)
        return found

    def _words_for(self, error: BaseException) -> str:
        """Return what a call raised, in words. A call with arguments it does not take is ours."""
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        # Not by __file__, which modules of the layer have not.
        is_ours = place is not None and place.tb_frame.f_globals is globals()
        if is_ours and isinstance(error, TypeError):
            called = self._called[-1] if self._called else "the class"
            return f"{called} takes other arguments than those in docs/hooks.md"
        return describe(error)

    def _load(self) -> None:
        made = hook_class(self._kind)(self._context)
        for method in _METHODS:
            function = getattr(made, method, None)
            if callable(function) and getattr(function, "__func__", None) is not getattr(
                Hook, method
            ):
                if _runs_later(function):
                    raise HookUnavailable(
                        f"{method} is async or a generator, and would never run; it must be a "
                        "plain function, which may block"
                    )
                self._methods[method] = function
        self._call("on_init")

    def _call(self, method: str, *arguments: object) -> None:
        function = self._methods.get(method)
        if function is not None:
            self._stats.calls += 1
            if method not in self._called:
                self._called.append(method)
            function(*arguments)

    def _make_events(self, block: Block) -> None:
        """Call those methods that events are for, each with its own."""
        if not any(method in self._methods for method in _ON_EVENTS):
            return
        events = _events_of(block)
        for event in events:
            if isinstance(event.record, RuntimeDone):
                self._call("on_runtime_done", event.record)
            elif isinstance(event.record, Report):
                self._call("on_report", event.record)
        if events:
            self._call("on_events", events)

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            return  # the loop is closed: the process ends

    # -- and back on the loop --------------------------------------------------------------------

    def _on_loaded(self, error: str | None) -> None:
        self._settle()
        if error is not None:
            self._stats.failures += 1
            self._switch_off("not_started", error)

    def _on_done(self, called: Sequence[str], size: int, seconds: float, error: str | None) -> None:
        self._bytes -= size
        self._settle()
        self._stats.seconds += seconds
        failed = "" if error is None else called[-1] if called else "on_events"
        for method in called:
            if method != failed:  # what a hook does not have, or does well, excuses no other
                self._failures[method] = 0
        if failed:
            self._stats.failures += 1
            count = self._failures[failed] = self._failures.get(failed, 0) + 1
            self._log.warning("hook_failed", hook=self._context.name, error=error)
            if count >= _MAX_FAILURES:
                self._switch_off("failures", f"{_MAX_FAILURES} calls in a row failed")
        if seconds > self._budget:
            self._switch_off("too_slow", f"a call took longer than {self._budget:g} seconds")

    def _settle(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._idle.set()


def _runs_later(function: Callable[..., object]) -> bool:
    """True if a call of `function` only makes an object: that of a coroutine, or a generator."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return code is not None and bool(code.co_flags & _RUN_LATER)


def _events_of(block: Block) -> Sequence[Event]:
    events: list[Event] = []
    for envelope in decode_block(block.data, block.lines):
        if envelope is None:
            continue
        try:
            record = decode_record(envelope, lenient=True)
        except ProtocolError:
            continue  # counted by who reads the events that matter; a hook gets what makes sense
        events.append(Event(envelope.time, envelope.type, record))
    return events

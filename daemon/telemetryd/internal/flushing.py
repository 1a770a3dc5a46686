"""Flushes registered callables after each invocation: the decorator, and who waits for whom.

    INVOKE arrives     the extension's thread holds the environment, until the handler has ended
    the handler ends   the thread is told, while the runtime sends the response
    the thread         flushes, within bounds, and asks for the next event: now Lambda may freeze

Both know the request by its id, so it does not matter which of them hears of it first. Where no
thread follows (no Lambda, Managed Instances, a refusal), the handler itself flushes before it
returns.

What the function returns or raises is what it would be without this. The calls around the handler
raise nothing, and its errors have no frame of this module.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
import types
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from telemetryd.internal.registration import register

Handler = TypeVar("Handler", bound=Callable[..., Any])

TOTAL_SECONDS: Final = 2.0
"""Most seconds that all callables may add to an invocation."""
EACH_SECONDS: Final = 1.0
"""Most seconds of one callable, unless it was registered with another bound."""
_MARGIN_SECONDS: Final = 0.1
"""Before the function's deadline."""
_BEGIN_SECONDS: Final = 1.0
"""Time after INVOKE in which the handler begins. After that the thread waits no more."""
_MAX_SAID: Final = 20
_MAX_CALLABLES: Final = 64
_MAX_NAME: Final = 200


class Flushes:
    """Counts of one process."""

    def __init__(self) -> None:
        self.invocations = 0
        """Invocations after which callables were called."""
        self.failures = 0
        """Calls that raised."""
        self.hung = 0
        """Calls that did not return in time. Those callables are not called any more; if only the
        function's deadline was too near, not until they have returned."""
        self.skipped = 0
        """Calls for which no time was left before the function's deadline, or that still ran."""
        self.in_handler = 0
        """Of `invocations`: those that flushed before the handler returned."""
        self.seconds = 0.0
        """Duration of all."""
        self.refused = 0
        """Callables that were not registered, because there were too many."""

    def __repr__(self) -> str:
        return f"Flushes({', '.join(f'{name}={value}' for name, value in vars(self).items())})"


class _Registered:
    __slots__ = ("call", "name", "seconds", "thread")

    def __init__(self, call: Callable[[], object], seconds: float) -> None:
        if not callable(call):
            raise TypeError(f"{call!r} can't be called; pass the function, such as metrics.flush")
        if not _is_bound(seconds):
            raise ValueError(f"seconds must be a number above 0, not {seconds!r}")
        self.call = call
        self.name = _name_of(call)
        self.seconds = seconds
        self.thread: threading.Thread | None = None
        """That of a call which the function's deadline has cut off."""


class _NotAwaitedError(Exception):
    """A call has returned a coroutine or a generator, which nothing runs."""


class Engine:
    """The callables of a process, and the turn between handler and extension."""

    def __init__(self) -> None:
        self.flushes = Flushes()
        self._registered: list[_Registered] = []
        self._hung: list[_Registered] = []
        """Their threads are left behind."""
        self._lock = threading.Condition()
        self._is_following: bool | None = None
        """None: it was not tried yet."""
        self._begun: dict[str, int] = {}
        """Requests whose handler runs, with the depth of wrapped calls."""
        self._ended = ""
        """The request whose handler has ended last."""
        self._missed = ""
        """The request that the extension's thread did not wait for."""
        self._is_nameless = False
        """True if a handler has begun last that got no request's id, as behind a framework."""
        self._said = 0

    def add(self, call: Callable[[], object], seconds: float = EACH_SECONDS) -> None:
        """Call `call` after each invocation, for at most `seconds`. Adding it twice is once."""
        added = _Registered(call, seconds)
        if not _has(self._registered, added):
            if len(self._registered) >= _MAX_CALLABLES:
                # No error: a handler that registers in each invocation would fail at the 65th only.
                self.flushes.refused += 1
                self._say(f"{added.name} is not called, because {_MAX_CALLABLES} others are")
                return
            self._registered.append(added)

    def follow(self) -> None:
        """Register the internal extension, once in a process."""
        with self._lock:
            if self._is_following is None:
                self._is_following = register(self._on_invoke, self._on_gone, self._say)

    def begin(self, request: str) -> None:
        """Note that the handler of `request` begins."""
        with self._lock:
            if request and self._ended not in ("", request) and self._is_following:
                # Lambda has begun another invocation, although the thread has not heard of the last
                self._is_following = False
                self._say("Lambda has sent it no event, so it flushes before the handler returns")
            if not self._begun:
                self._is_nameless = not request
            self._begun[request] = self._begun.get(request, 0) + 1
            self._lock.notify_all()

    def end(self, request: str, deadline: float, *, is_leaving: bool = False) -> None:
        """Note that it has ended; flush if no thread does. `deadline`: wall seconds, 0: unknown.

        `is_leaving`: the handler ends the process, so this is the last chance to flush.
        """
        with self._lock:
            depth = self._begun.pop(request, 0) - 1
            if depth > 0:
                self._begun[request] = depth
                return  # a wrapped call within another one
            if depth < 0:
                return  # of the process that has forked this one, which flushes itself
            if not is_leaving and self._hand_over(request):
                return
        self.flushes.in_handler += 1
        self.flush(deadline)
        if is_leaving:  # or not, if something in between keeps it
            with self._lock:
                self._hand_over(request)

    def _hand_over(self, request: str) -> bool:
        """Tell the thread that the handler has ended. False if no thread waits for it."""
        if not self._is_following or not request or request == self._missed:
            return False
        self._ended = request
        self._lock.notify_all()
        return True

    def flush(self, deadline: float, besides: Sequence[_Registered] = ()) -> None:
        """Call what is registered, and `besides`, one after the other.

        It takes until `deadline` (wall seconds; 0: unknown) at most. It never raises: the handler
        has its answer, and without the thread that asks for `next` the function would time out.
        """
        try:
            self._flush(deadline, besides)
        except Exception as error:  # noqa: BLE001 - as above; it is counted, and named
            self.flushes.failures += 1
            self._say(f"a flush ended early: {type(error).__name__}")

    def _flush(self, deadline: float, besides: Sequence[_Registered]) -> None:
        began = time.monotonic()
        left = TOTAL_SECONDS
        if deadline:
            left = min(left, deadline - _MARGIN_SECONDS - time.time())
        until = began + left
        self.flushes.invocations += 1
        others = [each for each in besides if not _has(self._registered, each)]
        for each in [*self._registered, *others]:
            seconds = min(each.seconds, until - time.monotonic())
            if self._is_left(each):
                self.flushes.skipped += 1
            elif seconds <= 0:
                self.flushes.skipped += 1
                self._say(f"no time was left to call {each.name}")
            else:
                self._call(each, seconds)
        self.flushes.seconds += time.monotonic() - began

    def _is_left(self, each: _Registered) -> bool:
        """True if a thread of this callable is left behind; of too many, for any that is new."""
        if each.thread is not None and each.thread.is_alive():
            return True
        return _has(self._hung, each) or len(self._hung) >= _MAX_CALLABLES

    def _call(self, each: _Registered, seconds: float) -> None:
        """Call it in a thread, because only a thread can be left behind."""
        errors: list[BaseException] = []
        thread = threading.Thread(target=_guard, args=(each.call, errors), daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # as many threads as the environment may have
            self.flushes.failures += 1
            self._say(f"{each.name} was not called: {error}")
            return
        thread.join(seconds)
        if thread.is_alive():
            self.flushes.hung += 1
            self._leave(each, thread, seconds)
        elif errors:
            self.flushes.failures += 1
            if isinstance(errors[0], _NotAwaitedError):
                self._say(
                    f"{each.name} is async or a generator, and does nothing here; "
                    "pass a plain function"
                )
            else:
                self._say(f"{each.name} raised {type(errors[0]).__name__}")

    def _leave(self, each: _Registered, thread: threading.Thread, seconds: float) -> None:
        """Leave a call behind: for good, unless it had less time than it was promised."""
        said = f"{each.name} took longer than {seconds:.3g} s"
        if seconds < each.seconds:
            each.thread = thread
            self._say(f"{said}, all that was left; it is called again when it has returned")
            return
        self._hung.append(each)
        if each in self._registered:
            self._registered.remove(each)
        self._say(f"{said}; it is not called any more")

    def _on_invoke(self, request: str, deadline_ms: int) -> None:
        """Wait until the handler has ended, and flush. In the thread that asks for `next`."""
        with self._lock:
            if not self._is_following:
                return  # the handler flushes
            if self._missed == request:  # Lambda repeats an event under the same id
                self._missed = ""

            def has_begun() -> bool:
                return request in self._begun or self._ended == request

            self._lock.wait_for(lambda: has_begun() or self._is_nameless, _BEGIN_SECONDS)
            if not has_begun():
                self._is_nameless = False
                self._missed = request
                return
            self._lock.wait_for(lambda: self._ended == request or not self._is_following)
            if self._ended != request:
                return
            self._ended = ""
        self.flush(deadline_ms / 1000)

    def _on_gone(self) -> None:
        """Flush in the handler from now on: no thread asks for `next` any more."""
        with self._lock:
            self._is_following = False

    def on_fork(self) -> None:
        """Follow nothing in a child: it has no thread, and what has begun is its parent's."""
        self._lock = threading.Condition()  # the thread may have held it
        if self._is_following:
            self._is_following = False
        self._begun.clear()
        self._ended = ""

    def _say(self, text: str) -> None:
        self._said += 1
        if self._said <= _MAX_SAID:
            say(text)


def say(text: str) -> None:
    """Write a line where the process was given its standard error, if that is open.

    `sys.stderr` may be the function's own, which raises, or which no one reads.
    """
    with contextlib.suppress(OSError):
        os.write(2, f"telemetryd.internal: {text}\n".encode("utf-8", "backslashreplace"))


def _guard(call: Callable[[], object], errors: list[BaseException]) -> None:
    try:
        made = call()
    except BaseException as error:  # noqa: BLE001 - it is counted, and named by its type
        errors.append(error)
        return
    if isinstance(made, (types.CoroutineType, types.GeneratorType)):
        made.close()  # or Python warns that nothing has awaited it
        errors.append(_NotAwaitedError())


def _is_bound(seconds: object) -> bool:
    """True if it is a number above 0; who calls has perhaps no types."""
    return isinstance(seconds, (int, float)) and seconds > 0


def _name_of(call: object) -> str:
    """Return what messages call it: one line, also if its class can't say."""
    try:
        name = getattr(call, "__qualname__", None) or repr(call)
        return " ".join(str(name).split())[:_MAX_NAME]
    except Exception:  # noqa: BLE001 - an odd `__repr__` must not end the import of a function
        return type(call).__name__


def _has(some: Sequence[_Registered], one: _Registered) -> bool:
    return any(_is_same(each.call, one.call) for each in some)


def _is_same(one: object, other: object) -> bool:
    try:
        return one is other or bool(one == other)
    except Exception:  # noqa: BLE001 - as above
        return False


_ENGINE: Final = Engine()
os.register_at_fork(after_in_child=_ENGINE.on_fork)


def flushes() -> Flushes:
    """Return the counts of this process."""
    return _ENGINE.flushes


def on_return(call: Callable[[], object], *, seconds: float = EACH_SECONDS) -> None:
    """Call `call` after each invocation of a handler that is wrapped or decorated."""
    _ENGINE.add(call, seconds)


class flush_on_return:  # noqa: N801 - it is used as a decorator and in `with`
    """Flushes after a handler: a decorator, or a context manager.

    Each of `callables` is called without arguments, for at most `seconds`, also if the handler
    raises. Those that `on_return` has registered are called as well. In `with` they are called at
    the end of the block only, so the caller of the function waits for them.
    """

    def __init__(self, *callables: Callable[[], object], seconds: float = EACH_SECONDS) -> None:
        self._own = [_Registered(call, seconds) for call in callables]

    def __call__(self, handler: Handler) -> Handler:
        """Return the handler, with the flush behind it."""
        for each in self._own:
            _ENGINE.add(each.call, each.seconds)
        _ENGINE.follow()

        def flushing(*args: Any, **named: Any) -> Any:
            # Lambda gives two; a test of the function gives what the handler takes.
            context = args[1] if len(args) > 1 else named.get("context")
            request = _request_of(context)
            _ENGINE.begin(request)
            is_leaving = False
            try:
                return handler(*args, **named)
            except BaseException as error:
                is_leaving = isinstance(error, SystemExit)
                _hide_frame(error)
                raise
            finally:
                _ENGINE.end(request, _deadline_of(context), is_leaving=is_leaving)

        with contextlib.suppress(Exception):  # a handler may be an object with odd attributes
            functools.update_wrapper(flushing, handler)
        return flushing  # type: ignore[return-value]

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        """Flush."""
        _ENGINE.flushes.in_handler += 1
        _ENGINE.flush(0.0, self._own)


def _hide_frame(error: BaseException) -> None:
    """Remove the caller's frame from a traceback that is raised again: the handler's is the first.

    From Python 3.11 on. Before that the frame stays.
    """
    frame = error.__traceback__
    if frame is not None:
        BaseException.with_traceback(error, frame.tb_next)  # a frozen error takes no assignment


def _request_of(context: Any) -> str:
    """Return the request's id; nothing if there is none, as outside Lambda."""
    try:
        return str(getattr(context, "aws_request_id", "") or "")
    except Exception:  # noqa: BLE001 - the context of a test, perhaps
        return ""


def _deadline_of(context: Any) -> float:
    """Return when the function times out, in wall seconds; 0 if that is not known."""
    try:
        return time.time() + float(context.get_remaining_time_in_millis()) / 1000
    except Exception:  # noqa: BLE001 - not Lambda's context
        return 0.0

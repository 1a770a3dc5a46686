"""What is called after a handler, for how long, and what is not called again."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest.mock import MagicMock

import pytest

from helpers.lifecycle import until
from telemetryd.internal import flushing
from telemetryd.internal.flushing import Engine, flush_on_return


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    monkeypatch.setattr(flushing, "_ENGINE", made)
    return made


def test_what_a_block_calls_is_not_called_after_other_blocks(engine: Engine) -> None:
    """A handler may make its callables anew in each invocation."""
    called: list[int] = []
    for number in range(100):
        with flush_on_return(partial(called.append, number)):
            pass
    assert called == list(range(100))
    assert (engine.flushes.in_handler, engine.flushes.skipped) == (100, 0)


def test_a_block_leaves_few_threads_behind(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flushing, "_MAX_CALLABLES", 3)
    end = threading.Event()
    for _ in range(6):
        with flush_on_return(lambda: end.wait(60), seconds=0.01):
            pass
    end.set()
    assert (engine.flushes.hung, engine.flushes.skipped) == (3, 3)


def test_a_block_that_hangs_once_is_not_called_again(engine: Engine) -> None:
    end = threading.Event()
    block = flush_on_return(end.wait, seconds=0.01)
    for _ in range(3):
        with block:
            pass
    end.set()
    assert (engine.flushes.hung, engine.flushes.skipped) == (1, 2)


def test_a_call_that_only_the_deadline_has_cut_off_is_called_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushing, "TOTAL_SECONDS", 1.0)
    end = threading.Event()
    called: list[bool] = []

    def call() -> None:
        called.append(end.wait())

    engine.add(call, seconds=60)
    engine.flush(0.0)
    engine.flush(0.0)
    assert (engine.flushes.hung, engine.flushes.skipped, called) == (1, 1, [])
    end.set()
    until(lambda: len(called) == 1)

    def is_called_again() -> bool:
        engine.flush(0.0)
        return len(called) == 2

    until(is_called_again)
    assert engine.flushes.hung == 1


def test_a_generator_does_nothing_and_is_named(
    engine: Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    def later() -> Iterator[int]:
        yield 1

    engine.add(later)
    engine.flush(0.0)
    assert engine.flushes.failures == 1
    assert "later is async or a generator" in capfd.readouterr().err
    assert "failures=1" in repr(engine.flushes)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), None, "1"])
def test_a_bound_that_is_none_is_refused_where_it_is_given(engine: Engine, seconds: Any) -> None:
    """In the thread of the extension it would end it, and every invocation would time out."""
    with pytest.raises(ValueError, match="seconds must be a number above 0"):
        engine.add(print, seconds=seconds)
    with pytest.raises(ValueError, match="seconds must be a number above 0"):
        flush_on_return(print, seconds=seconds)


def test_without_a_thread_to_spare_it_is_said(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    engine.add(print)
    engine.flush(0.0)
    assert engine.flushes.failures == 1
    assert "print was not called: can't start new thread" in capfd.readouterr().err


def test_whatever_goes_wrong_the_flush_returns(
    engine: Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    engine.flush("a secret")  # type: ignore[arg-type]
    assert engine.flushes.failures == 1
    said = capfd.readouterr().err
    assert "a flush ended early: TypeError" in said
    assert "secret" not in said


def test_an_odd_callable_is_called_as_any_other(
    engine: Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    class Odd:
        def __call__(self) -> None:
            raise ValueError

        def __eq__(self, other: object) -> bool:
            raise OSError

        def __repr__(self) -> str:
            raise OSError

        __hash__ = None  # type: ignore[assignment]

    engine.add(print)
    engine.add(Odd())
    with flush_on_return(Odd()):
        pass
    assert engine.flushes.failures == 2
    assert "Odd raised ValueError" in capfd.readouterr().err


def test_too_many_callables_are_said_and_counted(
    engine: Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    """A handler that registers in each invocation works until the 65th, and then too."""
    for number in range(66):
        engine.add(partial(print, number))
    assert engine.flushes.refused == 2
    assert "is not called, because 64 others are" in capfd.readouterr().err


def test_what_is_said_needs_no_stream_of_the_function(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    engine.add(lambda: int("no number"))
    engine.flush(0.0)
    assert "raised ValueError" in capfd.readouterr().err


def test_an_error_of_the_handler_has_no_frame_of_ours(engine: Engine) -> None:
    @flush_on_return()
    def handler(event: Any, context: Any) -> None:
        raise LookupError

    with pytest.raises(LookupError) as raised:
        handler({}, None)
    names = [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
    assert names == ["test_an_error_of_the_handler_has_no_frame_of_ours", "handler"]


def test_a_handler_takes_the_arguments_that_it_takes(engine: Engine) -> None:
    """As a test of the function may call it."""

    @flush_on_return()
    def handler(payload: Any, context: Any = None, *, stage: str = "test") -> Any:
        return payload, context, stage

    assert handler("a") == ("a", None, "test")
    assert handler(payload="a", context=5, stage="live") == ("a", 5, "live")
    assert engine.flushes.in_handler == 2


def test_a_handler_without_a_request_id_is_not_waited_for(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A framework may call it without Lambda's context. Each second that is waited is billed."""
    monkeypatch.setattr(flushing, "_BEGIN_SECONDS", 3600)
    engine._is_following = True
    for request in ("a", "b"):
        engine.begin("")
        engine.begin("")
        engine.end("", 0.0)
        engine.end("", 0.0)
        engine._on_invoke(request, 0)
    assert engine.flushes.in_handler == engine.flushes.invocations == 2
    engine.begin("c")
    engine.begin("")  # within the handler: a call of another one
    engine.end("", 0.0)
    engine.end("c", 0.0)
    engine._on_invoke("c", 0)
    assert (engine.flushes.in_handler, engine.flushes.invocations) == (3, 4)


def test_an_exit_that_something_keeps_leaves_no_thread_waiting(engine: Engine) -> None:
    engine._is_following = True
    engine.begin("a")
    engine.end("a", 0.0, is_leaving=True)
    engine._on_invoke("a", 0)
    assert (engine.flushes.in_handler, engine.flushes.invocations) == (1, 2)


class OddContext:
    """As of a test: no attribute can be read."""

    def __getattr__(self, name: str) -> Any:
        raise OSError(name)


class OddHandler:
    """A handler whose attributes can't be read."""

    def __call__(self, event: Any, context: Any) -> Any:
        """Return the event."""
        return event

    @property
    def __name__(self) -> str:
        raise OSError


@pytest.mark.parametrize("make", [OddContext, MagicMock, int])
def test_an_odd_handler_and_context_change_no_answer(engine: Engine, make: type[Any]) -> None:
    assert flush_on_return()(OddHandler())("answer", make()) == "answer"
    assert engine.flushes.in_handler == 1


def test_a_child_flushes_what_it_begins_and_not_what_its_parent_has_begun(engine: Engine) -> None:
    engine._is_following = True
    engine.begin("a")
    engine.on_fork()
    engine.end("a", 0.0)
    assert engine.flushes.invocations == 0
    engine.begin("a")
    engine.end("a", 0.0)
    assert engine.flushes.in_handler == 1


def test_where_no_event_arrives_the_next_handler_flushes(
    engine: Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    """Lambda begins no invocation before the thread has asked for its event."""
    engine._is_following = True
    for request in ("a", "b", "c"):
        engine.begin(request)
        engine.end(request, 0.0)
    assert engine.flushes.in_handler == 2
    assert capfd.readouterr().err.count("Lambda has sent it no event") == 1
    engine._on_invoke("d", 0)  # late, and it waits for nothing
    assert engine.flushes.invocations == 2


def test_an_event_that_is_repeated_under_its_id_is_flushed_behind_its_handler(
    engine: Engine,
) -> None:
    """As Lambda does with an asynchronous invocation that has failed."""
    engine._is_following = True
    done: list[str] = []
    engine.add(lambda: done.append("flushed"))
    for _ in range(2):
        following = threading.Thread(target=engine._on_invoke, args=("a", 0))
        following.start()
        engine.begin("a")
        following.join(0.1)  # it waits for the handler
        done.append("handled")
        engine.end("a", 0.0)
        following.join()
    assert done == ["handled", "flushed"] * 2
    assert engine.flushes.in_handler == 0


def test_an_event_that_is_repeated_after_it_was_missed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushing, "_BEGIN_SECONDS", 0.01)
    engine._is_following = True
    engine._on_invoke("a", 0)
    engine.begin("a")
    engine.end("a", 0.0)
    assert engine.flushes.in_handler == 1
    monkeypatch.setattr(flushing, "_BEGIN_SECONDS", 60)
    following = threading.Thread(target=engine._on_invoke, args=("a", 0))
    following.start()
    until(lambda: not engine._missed)
    engine.begin("a")
    engine.end("a", 0.0)
    following.join(60)
    assert not following.is_alive()
    assert engine.flushes.in_handler == 1

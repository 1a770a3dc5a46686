"""What is called after a handler, for how long, and what is not called again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

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
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    def later() -> Iterator[int]:
        yield 1

    engine.add(later)
    engine.flush(0.0)
    assert engine.flushes.failures == 1
    assert "later is async or a generator" in capsys.readouterr().err
    assert "failures=1" in repr(engine.flushes)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), None, "1"])
def test_a_bound_that_is_none_is_refused_where_it_is_given(engine: Engine, seconds: Any) -> None:
    """In the thread of the extension it would end it, and every invocation would time out."""
    with pytest.raises(ValueError, match="seconds must be a number above 0"):
        engine.add(print, seconds=seconds)
    with pytest.raises(ValueError, match="seconds must be a number above 0"):
        flush_on_return(print, seconds=seconds)


def test_without_a_thread_to_spare_it_is_said(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    engine.add(print)
    engine.flush(0.0)
    assert engine.flushes.failures == 1
    assert "print was not called: can't start new thread" in capsys.readouterr().err


def test_whatever_goes_wrong_the_flush_returns(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    class Odd:
        def __call__(self) -> None: ...

        def __eq__(self, other: object) -> bool:
            raise OSError("a secret")

        __hash__ = None  # type: ignore[assignment]

    engine.add(print)
    block = flush_on_return(Odd())
    with block:
        pass
    assert engine.flushes.failures == 1
    said = capsys.readouterr().err
    assert "a flush ended early: OSError" in said
    assert "secret" not in said


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

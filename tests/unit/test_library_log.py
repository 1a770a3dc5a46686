"""What libraries log reaches telemetryd's own log, at once or when `logging` is there."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from telemetryd import library_log
from telemetryd.log import Log, flush


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The root logger's handlers are the test's own, and the interpreter's hooks."""
    root = logging.getLogger()
    before, hooks = root.handlers[:], (threading.excepthook, sys.unraisablehook)
    yield
    root.handlers[:] = before
    threading.excepthook, sys.unraisablehook = hooks


def logged(action: Callable[[Log], None]) -> list[dict[str, object]]:
    """The lines of a log that `action` is given."""
    read_end, write_end = os.pipe()
    try:
        action(Log(fd=write_end))
        flush()
        os.set_blocking(read_end, False)
        return [json.loads(text) for text in os.read(read_end, 65536).splitlines()]
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_warning_of_a_library_is_a_line_of_the_log() -> None:
    """With its level and its name; what is less than a warning is none."""

    def action(log: Log) -> None:
        library_log.bridge(log)
        logging.getLogger("some.library").info("not this")
        logging.getLogger("some.library").error("%d failed", 3)

    (line,) = logged(action)
    assert line["event"] == "library_message"
    assert (line["level"], line["library"], line["message"]) == (
        "error",
        "some.library",
        "3 failed",
    )


def test_where_logging_loads_later_the_handler_is_set_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in the layer, where something else stands in for it until then."""
    callbacks: list[Callable[[], None]] = []
    monkeypatch.setattr(logging, "when_loaded", callbacks.append, raising=False)
    root = logging.getLogger()
    before = root.handlers[:]

    def action(log: Log) -> None:
        library_log.bridge(log)
        assert root.handlers == before
        callbacks.pop()()
        logging.getLogger("some.library").warning("now")

    (line,) = logged(action)
    assert line["message"] == "now"


class _Breaks:
    def __del__(self) -> None:
        raise ValueError("not for others")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_the_interpreter_would_print_is_a_line_without_foreign_texts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A thread that fails, and an exception that no one can catch."""

    def fail() -> None:
        raise ValueError("not for others")

    def action(log: Log) -> None:
        library_log.bridge(log)
        thread = threading.Thread(target=fail, name="worker")
        thread.start()
        thread.join()
        _Breaks()

    failed, ignored = logged(action)
    assert (failed["reason"], failed["message"]) == ("thread_failed", "a thread failed: worker")
    assert str(failed["error"]).startswith("ValueError in fail (test_library_log.py:")
    assert ignored["reason"] == "exception_ignored"
    assert "not for others" not in f"{failed}{ignored}{capsys.readouterr().err}"

"""What libraries log reaches telemetryd's own log, at once or when `logging` is there."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator

import pytest

from telemetryd import library_log
from telemetryd.log import Log, flush


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The root logger's handlers are the test's own."""
    root = logging.getLogger()
    before = root.handlers[:]
    yield
    root.handlers[:] = before


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

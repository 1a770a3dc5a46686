"""Has what libraries log come out in telemetryd's own log, without loading `logging` for it."""

from __future__ import annotations

import logging
import sys
import threading
from functools import partial

from telemetryd.log import Log, describe


def bridge(log: Log) -> None:
    """Send what libraries log through `logging` to `log`, from warnings on.

    And what the interpreter would print itself, with the text of foreign exceptions: that a thread
    has failed, or what can't be raised.

    In the layer something else stands in for `logging` until anything of it is needed
    (layer/facades); most environments end before that.
    """
    threading.excepthook = partial(_on_thread_failure, log)
    sys.unraisablehook = partial(_on_unraisable, log)
    when_loaded = getattr(logging, "when_loaded", None)
    if when_loaded is None:
        _bridge(log)
    else:
        when_loaded(partial(_bridge, log))


def _on_thread_failure(log: Log, failure: threading.ExceptHookArgs) -> None:
    name = "" if failure.thread is None else failure.thread.name
    _tell(log, "thread_failed", f"a thread failed: {name}", failure.exc_value)


def _on_unraisable(log: Log, failure: sys.UnraisableHookArgs) -> None:
    message = failure.err_msg or "an exception was ignored"
    _tell(log, "exception_ignored", message, failure.exc_value)


def _tell(log: Log, reason: str, message: str, error: BaseException | None) -> None:
    if error is not None and not isinstance(error, SystemExit):
        log.error(
            "library_message", library="python", reason=reason, message=message,
            error=describe(error),
        )  # fmt: skip


def _bridge(log: Log) -> None:
    from telemetryd.logging_bridge import LoggingBridge  # noqa: PLC0415 - needs all of `logging`

    logging.getLogger().addHandler(LoggingBridge(log))

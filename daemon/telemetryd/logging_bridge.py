"""A handler for `logging`: what libraries log, asyncio above all, goes to telemetryd's own log."""

from __future__ import annotations

import logging

from telemetryd.log import Level, Log


class LoggingBridge(logging.Handler):
    """Sends what libraries log through `logging` (asyncio, above all) the same way."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line for `record`."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a library's wrong format string must not fail its caller
            message = str(record.msg)
        facts = {"library": record.name, "message": message[:2000]}
        if record.exc_info and record.exc_info[1] is not None:
            facts["error"] = repr(record.exc_info[1])[:500]
        level: Level = "error" if record.levelno >= logging.ERROR else "warning"
        self._log(level, "library_message", **facts)

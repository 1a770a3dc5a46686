"""The hook `error_bursts`: tells a webhook when a function logs many errors in a short time."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections import deque
from collections.abc import Sequence

from telemetryd.hook import Event, Hook, HookContext, LogRecord

_ERROR = re.compile(r"\b(?:ERROR|FATAL|CRITICAL)\b")


class ErrorBursts(Hook):
    """Counts errors in a window of time. Settings: `url`, `limit`, and seconds."""

    def __init__(self, context: HookContext) -> None:
        super().__init__(context)
        settings = context.settings
        self._url = str(settings["url"])
        self._limit = int(settings.get("limit", 20))
        self._window = float(settings.get("window_seconds", 60))
        self._quiet = float(settings.get("quiet_seconds", 300))
        self._errors: deque[float] = deque(maxlen=self._limit)
        self._quiet_until = 0.0

    def on_events(self, events: Sequence[Event]) -> None:
        """Count errors. This is called once for many events."""
        now = time.monotonic()
        for event in events:
            if isinstance(event.record, LogRecord) and _ERROR.search(_text_of(event.record)):
                self._errors.append(now)
        is_burst = len(self._errors) == self._limit and now - self._errors[0] <= self._window
        if is_burst and now >= self._quiet_until:
            self._quiet_until = now + self._quiet
            self._tell(f"{self._limit} errors within {self._window:g} seconds")

    def _tell(self, text: str) -> None:
        body = json.dumps({"function": self.context.function, "text": text}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url, body, headers)  # noqa: S310 - as configured
        with urllib.request.urlopen(request, timeout=1):  # noqa: S310 - as above
            self._errors.clear()


def _text_of(record: LogRecord) -> str:
    return record.body if isinstance(record.body, str) else json.dumps(record.body)

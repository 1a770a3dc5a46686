"""Follows the life cycle from within the runtime's process: an internal extension.

It registers for INVOKE while the function is imported, as the Extensions API asks for: "Internal
extensions" run in the runtime's process, and must register before the runtime asks for its first
event. A thread registers and polls `next`. Lambda freezes the environment only when this thread,
too, has asked for the next event. So the thread is there before Lambda knows of it, and ends only
when there is nothing more to ask.

Whatever the API answers, the function is imported, and `register` returns after so many seconds.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Final

NAME: Final = "telemetryd-internal"
"""The name it registers by. No file in /opt/extensions may have it."""
_VERSION: Final = "/2020-01-01/extension"
_REGISTER_SECONDS: Final = 2.0
_MAX_ANSWER: Final = 64 * 1024
_MAX_TRIES: Final = 5
"""Of `next`, one after the other without an event."""
_PAUSE_SECONDS: Final = 0.05
"""Before the second of them. Each further one waits twice as long."""

OnInvoke = Callable[[str, int], None]


def register(on_invoke: OnInvoke, on_gone: Callable[[], None], say: Callable[[str], None]) -> bool:
    """Register, and call `on_invoke` for each invocation, in a thread. It raises nothing.

    It gets the request's id, and the deadline in milliseconds since the epoch. `on_gone` is called
    when there is no next event. False if this is not Lambda, or Lambda refuses, as on Managed
    Instances; `say` gets the reason.
    """
    address = os.environ.get("AWS_LAMBDA_RUNTIME_API", "")
    if not address:
        return False
    following = _Following(address, on_invoke, on_gone, say)
    thread = threading.Thread(target=following.run, name=NAME, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # as many threads as the environment may have
        following.refuse(f"it could not register ({error})")
        return False
    if following.answered.wait(_REGISTER_SECONDS):
        return following.is_registered
    following.refuse(f"Lambda has not registered it within {_REGISTER_SECONDS:g} s")
    return False


class _Following:
    """The work of the thread. It follows a late answer too, because Lambda waits for its `next`."""

    def __init__(
        self,
        address: str,
        on_invoke: OnInvoke,
        on_gone: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self.answered = threading.Event()
        """Set when `is_registered` is final."""
        self.is_registered = False
        self._address = address
        self._on_invoke = on_invoke
        self._on_gone = on_gone
        self._say = say
        self._refusal = threading.Lock()

    def refuse(self, reason: str) -> None:
        """Say why it is not registered: the first reason only."""
        if self._refusal.acquire(blocking=False):
            self._say(f"{reason}, so it flushes before the handler returns")

    def run(self) -> None:
        """Register, and poll `next` until the process ends, or the platform does."""
        try:
            identifier = self._register()
        except Exception as error:  # noqa: BLE001 - the function runs whatever the API is
            self.refuse(f"it could not register ({_short(error)})")
            identifier = ""
        self.is_registered = bool(identifier)
        self.answered.set()
        if identifier:
            self._follow(identifier)

    def _register(self) -> str:
        """Return the extension's identifier; nothing if Lambda refuses."""
        connection = http.client.HTTPConnection(self._address, timeout=_REGISTER_SECONDS)
        body = json.dumps({"events": ["INVOKE"]})
        name = {"Lambda-Extension-Name": NAME}
        with contextlib.closing(connection):
            connection.request("POST", _VERSION + "/register", body, name)
            answer = connection.getresponse()
            text = answer.read(_MAX_ANSWER)
            identifier: str = answer.headers.get("Lambda-Extension-Identifier", "")
        if answer.status == 200 and identifier:  # noqa: PLR2004 - OK
            return identifier
        reason = _line(text.decode("utf-8", "replace"))
        self.refuse(f"Lambda refuses it ({answer.status} {reason})")
        return ""

    def _follow(self, identifier: str) -> None:
        """Poll `next`. A registered extension that asks no more would delay every invocation."""
        headers = {"Lambda-Extension-Identifier": identifier}
        connection = http.client.HTTPConnection(self._address, timeout=None)
        tries, reason = 0, ""
        while tries < _MAX_TRIES:
            if tries:
                time.sleep(_PAUSE_SECONDS * 2 ** (tries - 1))
            try:
                request, deadline_ms = _next_invoke(connection, headers)
            except Exception as error:  # noqa: BLE001 - said below, and it asks again
                tries, reason = tries + 1, _short(error)
                connection.close()
                continue
            tries = 0
            self._on_invoke(request, deadline_ms)
        self._say(f"it gets no next event ({reason}), so it flushes before the handler returns")
        self._on_gone()


class _OddAnswerError(Exception):
    """An answer to `next` that is no INVOKE."""


def _next_invoke(
    connection: http.client.HTTPConnection, headers: dict[str, str]
) -> tuple[str, int]:
    """Return the next invocation's id and deadline. Raises whatever is wrong with the answer."""
    connection.request("GET", _VERSION + "/event/next", headers=headers)
    answer = connection.getresponse()
    text = answer.read(_MAX_ANSWER)
    if answer.status != 200:  # noqa: PLR2004 - OK
        raise _OddAnswerError(f"{answer.status} {text.decode('utf-8', 'replace')}")
    event: Any = json.loads(text)
    if not isinstance(event, dict) or event.get("eventType") != "INVOKE":
        raise _OddAnswerError("an answer that is no INVOKE")
    return str(event["requestId"]), int(event.get("deadlineMs") or 0)


def _short(error: Exception) -> str:
    text = _line(str(error))
    return text if isinstance(error, _OddAnswerError) else f"{type(error).__name__}: {text}"


def _line(text: str) -> str:
    """Return the beginning of a text, in one line."""
    return " ".join(text.split())[:200]

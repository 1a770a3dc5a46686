"""Follows the life cycle from within the runtime's process: an internal extension.

It registers for INVOKE while the function is imported, as the Extensions API asks for: "Internal
extensions" run in the runtime's process, and must register before the runtime asks for its first
event. A thread polls `next`. Lambda freezes the environment only when this thread, too, has asked
for the next event.
"""

from __future__ import annotations

import http.client
import json
import os
import threading
from collections.abc import Callable
from typing import Any, Final

NAME: Final = "telemetryd-internal"
"""The name it registers by. No file in /opt/extensions may have it."""
_VERSION: Final = "/2020-01-01/extension"
_REGISTER_SECONDS: Final = 2.0
_MAX_ANSWER: Final = 64 * 1024


def register(
    on_invoke: Callable[[str, int], None], on_gone: Callable[[], None], say: Callable[[str], None]
) -> bool:
    """Register, and call `on_invoke` for each invocation, in a thread.

    It gets the request's id, and the deadline in milliseconds since the epoch. `on_gone` is called
    when there is no next event. False if this is not Lambda, or Lambda refuses, as on Managed
    Instances; `say` gets the reason.
    """
    address = os.environ.get("AWS_LAMBDA_RUNTIME_API", "")
    if not address:
        return False
    try:
        connection = http.client.HTTPConnection(address, timeout=_REGISTER_SECONDS)
        body = json.dumps({"events": ["INVOKE"]})
        connection.request("POST", _VERSION + "/register", body, {"Lambda-Extension-Name": NAME})
        answer = connection.getresponse()
        text = answer.read(_MAX_ANSWER)
        identifier = answer.headers.get("Lambda-Extension-Identifier", "")
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        say(f"it could not register ({error!r}), so it flushes before the handler returns")
        return False
    if answer.status != 200 or not identifier:  # noqa: PLR2004 - OK
        reason = text.decode("utf-8", "replace")[:200]
        say(
            f"Lambda refuses it ({answer.status} {reason}), so it flushes before the handler "
            "returns"
        )
        return False
    following = threading.Thread(
        target=_follow, args=(address, identifier, on_invoke, on_gone), name=NAME, daemon=True
    )
    following.start()
    return True


def _follow(
    address: str,
    identifier: str,
    on_invoke: Callable[[str, int], None],
    on_gone: Callable[[], None],
) -> None:
    """Poll `next` until the process ends, or the platform does."""
    connection = http.client.HTTPConnection(address, timeout=None)
    headers = {"Lambda-Extension-Identifier": identifier}
    while (event := _next_event(connection, headers)) is not None:
        if event.get("eventType") == "INVOKE":
            on_invoke(str(event.get("requestId") or ""), int(event.get("deadlineMs") or 0))
    on_gone()


def _next_event(
    connection: http.client.HTTPConnection, headers: dict[str, str]
) -> dict[str, Any] | None:
    """Return the next event; None if there is none: the process is about to end."""
    try:
        connection.request("GET", _VERSION + "/event/next", headers=headers)
        answer = connection.getresponse()
        text = answer.read(_MAX_ANSWER)
        event = json.loads(text) if answer.status == 200 else None  # noqa: PLR2004 - OK
    except (OSError, http.client.HTTPException, ValueError):
        return None
    return event if isinstance(event, dict) else None

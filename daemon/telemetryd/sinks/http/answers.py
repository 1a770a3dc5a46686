"""The meaning of an answer to the delivery worker."""

# ruff: noqa: PLR2004 - status codes of HTTP (RFC 9110)
from __future__ import annotations

from typing import Final, NamedTuple

from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.http_client.dates import retry_after
from telemetryd.http_client.messages import Answer
from telemetryd.sinks._entries import ACCEPTED, Verdict
from telemetryd.sinks._posting import MAX_RETRY_AFTER, TOO_LARGE, is_page

__all__ = ["ACCEPTED", "Reply", "Verdict", "judge", "meaning"]

_BATCH: Final = {400: "invalid_request", 413: TOO_LARGE, 422: "invalid_request"}
"""Refusals of these lines. Others may be accepted."""
_SINK: Final = {
    401: "credentials_refused",
    403: "access_denied",
    404: "not_found",
    410: "not_found",
}
"""Refusals of whatever is sent, until somebody changes something."""


class Reply(NamedTuple):
    """An answer, and what is needed to understand it."""

    answer: Answer
    authority: str
    """The name of the destination, for texts."""
    now: float
    """Seconds since the epoch."""
    lines: int
    """Lines in the request."""


def judge(reply: Reply) -> Verdict:
    """Return what became of the lines, as far as the status says it.

    Raises SinkError if it is not about these lines.
    """
    problem = meaning(reply.answer, reply.authority, reply.now)
    if problem is None:
        return ACCEPTED
    if isinstance(problem, PermanentSinkError) and not problem.stops_sink:
        return Verdict(refusal=problem)
    raise problem


def meaning(answer: Answer, authority: str, now: float) -> SinkError | None:
    """Return the error that `answer` stands for; None if the lines are delivered.

    `authority` names the destination in the text; `now` is in seconds since the epoch. The body of
    the answer is not shown, because it may repeat lines.
    """
    status = answer.status
    text = f"{authority} answered {status}"
    if status < 300:
        if is_page(answer):
            return TransientSinkError(
                "garbled_answer", f"{text} with a web page: something on the way answered"
            )
        return None
    if status < 400:
        return PermanentSinkError(
            "redirected", f"{text}: redirects are not followed; correct `url`", stops_sink=True
        )
    if status in (408, 425, 429) or status >= 500:
        code = "throttled" if status == 429 else "server_error"
        seconds = retry_after(answer.headers, now, most=MAX_RETRY_AFTER)
        return TransientSinkError(code, text, retry_after=seconds)
    if status in _BATCH:
        return PermanentSinkError(_BATCH[status], text)
    return PermanentSinkError(_SINK.get(status, "refused"), text, stops_sink=True)

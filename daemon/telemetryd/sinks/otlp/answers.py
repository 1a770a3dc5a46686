"""The meaning of an answer of an OTLP server.

Source: OTLP specification, "OTLP/HTTP Response". Only 429, 502, 503 and 504 are tried again. A
success may say that some records were rejected, without saying which: they are not sent again.
"""

# ruff: noqa: PLR2004 - status codes of HTTP (RFC 9110)
from __future__ import annotations

from typing import Final

from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.http_client.dates import retry_after
from telemetryd.http_client.messages import Answer
from telemetryd.sinks._posting import MAX_RETRY_AFTER, TOO_LARGE, is_page
from telemetryd_proto.otlp.answers import NOTHING, NotAnAnswer, Refusal, refusal

PARTIAL: Final = "partial"

_RETRIED: Final = {429: "throttled", 502: "server_error", 503: "server_error", 504: "server_error"}
_BATCH: Final = {400: "invalid_request", 413: TOO_LARGE, 422: "invalid_request"}
"""Refusals of these records. Others may be accepted."""
_SINK: Final = {
    401: "credentials_refused",
    403: "access_denied",
    404: "not_found",
    405: "not_found",
    410: "not_found",
    415: "unsupported_media_type",
}
"""Refusals of whatever is sent, until somebody changes something."""


def error_of(answer: Answer, authority: str, now: float) -> SinkError | None:
    """Return the error that `answer` stands for; None if the request was accepted.

    `authority` names the destination in the text; `now` is in seconds since the epoch. The body of
    the answer is not shown, because it may repeat lines.
    """
    status = answer.status
    text = f"{authority} answered {status}"
    if status < 300:
        return None
    if status < 400:
        return PermanentSinkError(
            "redirected", f"{text}: redirects are not followed; correct `endpoint`", stops_sink=True
        )
    if status in _RETRIED:
        seconds = retry_after(answer.headers, now, most=MAX_RETRY_AFTER)
        return TransientSinkError(_RETRIED[status], text, retry_after=seconds)
    if status in _BATCH:
        return PermanentSinkError(_BATCH[status], text)
    if status >= 500:
        return PermanentSinkError(
            "server_error", f"{text}, which OTLP forbids to try again", stops_sink=True
        )
    return PermanentSinkError(_SINK.get(status, "refused"), text, stops_sink=True)


def refusal_in(answer: Answer, authority: str, *, is_json: bool) -> Refusal:
    """Return what a success says that was rejected. Raises TransientSinkError for no OTLP answer.

    Servers may answer in the other form than they were asked in, and say so.
    """
    text = f"{authority} answered {answer.status}"
    if is_page(answer):
        raise TransientSinkError(
            "garbled_answer", f"{text} with a web page: something on the way answered"
        )
    if not answer.body.strip():
        return NOTHING
    kind = answer.headers.get("content-type", "").lower()
    if "json" in kind or "protobuf" in kind:
        is_json = "json" in kind
    elif answer.body.startswith(b"{"):  # as no message of protobuf does
        is_json = True
    try:
        return refusal(answer.body, is_json=is_json)
    except NotAnAnswer as error:
        raise TransientSinkError(
            "garbled_answer", f"{text} with what is no answer of OTLP: {error}"
        ) from error

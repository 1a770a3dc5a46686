"""The meaning of error codes of AWS services to the delivery worker, for both clients.

Codes after "Common Error Types" of the services' API references and the error lists of Kinesis
`PutRecords` and CloudWatch Logs `PutLogEvents`; which are retried after botocore's standard retry
mode.
"""

from __future__ import annotations

from typing import Final

from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError

_MAX_RETRY_AFTER: Final = 60.0

_THROTTLED: Final = frozenset(
    {
        "BandwidthLimitExceeded", "EC2ThrottledException", "KMSThrottlingException",
        "LimitExceededException", "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException", "RequestLimitExceeded", "RequestThrottled",
        "RequestThrottledException", "SlowDown", "ThrottledException", "Throttling",
        "ThrottlingException", "TooManyRequestsException", "TransactionInProgressException",
    }
)  # fmt: skip
_SERVER: Final = frozenset(
    {
        "InternalError", "InternalFailure", "InternalFailureException", "InternalServerError",
        "RequestTimeout", "RequestTimeoutException", "ServiceUnavailable",
        "ServiceUnavailableException", "OperationAbortedException",
    }
)  # fmt: skip
_EXPIRED: Final = frozenset(
    {
        "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "RequestExpired",
        "UnrecognizedClientException",
    }
)  # fmt: skip
_SKEWED: Final = frozenset({"RequestInTheFuture", "RequestTimeTooSkewed"})
_REFUSED: Final = {
    "AccessDenied": "access_denied",
    "AccessDeniedException": "access_denied",
    "NotAuthorized": "access_denied",
    "OptInRequired": "access_denied",
    "IncompleteSignature": "credentials_refused",
    "InvalidSignatureException": "credentials_refused",
    "MissingAuthenticationToken": "credentials_refused",
    "MissingAuthenticationTokenException": "credentials_refused",
    "SignatureDoesNotMatch": "credentials_refused",
    "ResourceNotFoundException": "not_found",
    "KMSAccessDeniedException": "kms_key_unusable",
    "KMSDisabledException": "kms_key_unusable",
    "KMSInvalidStateException": "kms_key_unusable",
    "KMSNotFoundException": "kms_key_unusable",
    "KMSOptInRequired": "kms_key_unusable",
}
_TOO_LARGE: Final = 413
"""Content Too Large (RFC 9110): about this request, whichever service says so."""
_CLOCK_WORDS: Final = ("Signature expired", "Signature not yet current")


def meaning(code: str, status: int, text: str, retry_after: str = "") -> SinkError:
    """Return what an answer of `status` with the error `code` means.

    `text` is for people. `retry_after`: the header of that name, or empty.
    """
    if code in _THROTTLED or status == 429:  # noqa: PLR2004 - Too Many Requests, RFC 6585
        return TransientSinkError("throttled", text, retry_after=_seconds(retry_after))
    if code in _EXPIRED:
        return TransientSinkError("credentials_expired", text)
    if code in _SKEWED or any(words in text for words in _CLOCK_WORDS):
        # a request that was signed before a freeze; the next one is signed with a new time
        return TransientSinkError("clock_skew", text)
    if code in _REFUSED:
        return PermanentSinkError(_REFUSED[code], text, stops_sink=True)
    if code in _SERVER or status >= 500 or status in (0, 408):  # noqa: PLR2004 - RFC 9110
        return TransientSinkError("server_error", text, retry_after=_seconds(retry_after))
    return _refusal(code, status, text)


def _refusal(code: str, status: int, text: str) -> SinkError:
    """Return the error of a refused request: the service's, if the answer has an error code."""
    if code in ("", str(status)) and status != _TOO_LARGE:  # by who knows whom
        return TransientSinkError("garbled_answer", text)
    return PermanentSinkError("invalid_request", text)


def _seconds(retry_after: str) -> float:
    """Return the seconds the service asks us to wait (RFC 9110, Retry-After), 0 if it does not."""
    try:
        seconds = float(retry_after or "0")
    except ValueError:  # a date: no AWS service sends one
        return 0.0
    return min(seconds, _MAX_RETRY_AFTER) if seconds > 0 else 0.0  # which "nan" is not

"""Converts errors of aiobotocore to those of the delivery worker.

Codes after "Common Error Types" of the services' API references and the error lists of Kinesis
`PutRecords` and CloudWatch Logs `PutLogEvents`; which are retried after botocore's standard retry
mode. Imports botocore; only `_aws` may import this, and only when a sink is opened.
"""

from __future__ import annotations

import errno
import ssl
from typing import Final

from botocore import exceptions as aws
from botocore.parsers import ResponseParserError

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

_TRANSIENT: Final[tuple[tuple[type[Exception], str], ...]] = (
    (aws.ConnectTimeoutError, "connect_timeout"),
    (aws.ReadTimeoutError, "read_timeout"),
    (aws.EndpointConnectionError, "unreachable"),
    (aws.ProxyConnectionError, "proxy_unreachable"),
    (aws.ConnectionClosedError, "connection_lost"),
    (aws.HTTPClientError, "connection_lost"),
    (aws.ConnectionError, "unreachable"),
    (aws.CredentialRetrievalError, "credentials_unavailable"),
    (aws.MetadataRetrievalError, "credentials_unavailable"),
    (ResponseParserError, "garbled_answer"),
    (TimeoutError, "read_timeout"),
    (OSError, "connection_lost"),
)
_PERMANENT: Final[tuple[tuple[type[Exception], str], ...]] = (
    (aws.NoCredentialsError, "no_credentials"),
    (aws.PartialCredentialsError, "no_credentials"),
    (aws.NoRegionError, "no_region"),
    (aws.ParamValidationError, "invalid_request"),
    (aws.BotoCoreError, "aws_configuration"),
)
_UNREADABLE: Final = (AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""Exceptions of botocore's parsers for JSON that has not the form that they expect."""
_CUT_OFF: Final = (errno.ECONNRESET, errno.EPIPE)


def sink_error(error: Exception) -> SinkError:
    """The SinkError that stands for `error`; an exception of no known kind is transient."""
    if isinstance(error, aws.ClientError):
        return _from_answer(error)
    if isinstance(error, aws.SSLError):
        return _tls(error)
    for kind, code in _TRANSIENT:
        if isinstance(error, kind):
            return TransientSinkError(
                "connection_lost" if _was_cut_off(error) else code, _text(error)
            )
    for kind, code in _PERMANENT:
        if isinstance(error, kind):
            stops = code != "invalid_request"
            return PermanentSinkError(code, _text(error), stops_sink=stops)
    if isinstance(error, _UNREADABLE):
        return TransientSinkError("garbled_answer", repr(error))
    return TransientSinkError("aws_error", repr(error))


def _from_answer(error: aws.ClientError) -> SinkError:
    """The service answered, with an error."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    metadata = error.response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    text = _text(error)
    retry_after = _retry_after(metadata.get("HTTPHeaders", {}))
    if code in _THROTTLED or status == 429:  # noqa: PLR2004 - Too Many Requests, RFC 6585
        return TransientSinkError("throttled", text, retry_after=retry_after)
    if code in _EXPIRED:
        return TransientSinkError("credentials_expired", text)
    if code in _SKEWED or any(words in text for words in _CLOCK_WORDS):
        # a request that was signed before a freeze; botocore signs the next one with a new time
        return TransientSinkError("clock_skew", text)
    if code in _REFUSED:
        return PermanentSinkError(_REFUSED[code], text, stops_sink=True)
    if code in _SERVER or status >= 500 or status in (0, 408):  # noqa: PLR2004 - RFC 9110
        return TransientSinkError("server_error", text, retry_after=retry_after)
    return _from_refusal(code, status, text)


def _from_refusal(code: str, status: int, text: str) -> SinkError:
    """The request was refused, by the service if the answer has a code of an error."""
    if code in ("", str(status)) and status != _TOO_LARGE:  # by who knows whom
        return TransientSinkError("garbled_answer", text)
    return PermanentSinkError("invalid_request", text)


def _was_cut_off(error: Exception) -> bool:
    """True if there was a connection. aiobotocore reports a reset as if there had been none."""
    cause = getattr(error, "kwargs", {}).get("error")
    return getattr(cause, "errno", 0) in _CUT_OFF


def _tls(error: aws.SSLError) -> SinkError:
    """A certificate that does not verify will not tomorrow; a handshake can fail by accident."""
    inner: BaseException | None = error.kwargs.get("error")
    cause = getattr(inner, "certificate_error", inner)
    text = f"{_text(error)}; a CA bundle can be named in AWS_CA_BUNDLE"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return PermanentSinkError("tls_certificate", text, stops_sink=True)
    return TransientSinkError("tls_error", text)


def _retry_after(headers: dict[str, str]) -> float:
    """Seconds the service asks us to wait (RFC 9110, Retry-After), 0 if it does not."""
    try:
        seconds = float(headers.get("retry-after", "0"))
    except ValueError:  # a date: no AWS service sends one
        return 0.0
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER)


def _text(error: Exception) -> str:
    return str(error) or repr(error)

"""Converts errors of aiobotocore to those of the delivery worker.

Imports botocore; only `aws.full` may import this, and only when a sink is opened.
"""

from __future__ import annotations

import errno
import ssl
from typing import Final

from botocore import exceptions as aws
from botocore.parsers import ResponseParserError

from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.sinks.aws.codes import meaning

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
    """Return the SinkError for `error`. An unknown exception is transient."""
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
    """Return the error in the service's answer."""
    metadata = error.response.get("ResponseMetadata", {})
    return meaning(
        str(error.response.get("Error", {}).get("Code", "")),
        int(metadata.get("HTTPStatusCode", 0)),
        _text(error),
        metadata.get("HTTPHeaders", {}).get("retry-after", ""),
    )


def _was_cut_off(error: Exception) -> bool:
    """True if there was a connection. aiobotocore reports a reset as if there had been none."""
    cause = getattr(error, "kwargs", {}).get("error")
    return getattr(cause, "errno", 0) in _CUT_OFF


def _tls(error: aws.SSLError) -> SinkError:
    """Return a permanent error for a certificate, a transient one for a failed handshake."""
    inner: BaseException | None = error.kwargs.get("error")
    cause = getattr(inner, "certificate_error", inner)
    text = f"{_text(error)}; a CA bundle can be named in AWS_CA_BUNDLE"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return PermanentSinkError("tls_certificate", text, stops_sink=True)
    return TransientSinkError("tls_error", text)


def _text(error: Exception) -> str:
    return str(error) or repr(error)

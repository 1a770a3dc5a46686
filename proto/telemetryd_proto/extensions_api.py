"""The Lambda Extensions API: paths, headers, requests and answers.

Source: Lambda Developer Guide, "Using the Lambda Extensions API to create extensions"; where prose
and AWS's open-source runtime interface emulator differ, what the emulator does is accepted too.

The base URL is `http://` and the value of `AWS_LAMBDA_RUNTIME_API`. Content types are not to be
relied upon: AWS's emulator sends JSON as `text/plain` at times.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from telemetryd_proto.errors import DECODE_FAILURES, MalformedAnswer, failure_code
from telemetryd_proto.records import TraceContext

if TYPE_CHECKING:
    from collections.abc import Callable

REGISTER_PATH: Final = "/2020-01-01/extension/register"
"""POST; answered by 200."""
NEXT_PATH: Final = "/2020-01-01/extension/event/next"
"""GET without a body; answered by 200 after any length of time, frozen hours included."""
INIT_ERROR_PATH: Final = "/2020-01-01/extension/init/error"
"""POST, between register and the first next; answered by 202. Fatal to the environment."""
EXIT_ERROR_PATH: Final = "/2020-01-01/extension/exit/error"
"""POST, after register; answered by 202. Fatal to the environment."""

NAME_HEADER: Final = "Lambda-Extension-Name"
"""Register: the file name of the executable in `/opt/extensions`."""
ACCEPT_FEATURE_HEADER: Final = "Lambda-Extension-Accept-Feature"
"""Register: comma-separated features; unknown ones are ignored."""
ACCOUNT_ID_FEATURE: Final = "accountId"
"""The feature that adds the account's id to the answer."""
IDENTIFIER_HEADER: Final = "Lambda-Extension-Identifier"
"""The header in the response to `register`, and in every later request."""
EVENT_IDENTIFIER_HEADER: Final = "Lambda-Extension-Event-Identifier"
"""The header in responses to `next`. AWS's emulator leaves it out of SHUTDOWN."""
FUNCTION_ERROR_TYPE_HEADER: Final = "Lambda-Extension-Function-Error-Type"
"""Init and exit error: required, in the form of `FUNCTION_ERROR_TYPE`."""

FUNCTION_ERROR_TYPE: Final = re.compile(r"Extension\.[A-Z][a-zA-Z]+")
"""The pattern for all of `FUNCTION_ERROR_TYPE_HEADER`. The platform replaces any other value."""

MAX_EXTENSIONS: Final = 10
"""Internal and external extensions of one function together."""


class LifecycleEvent(StrEnum):
    """Events an extension can register for. Managed Instances have SHUTDOWN only."""

    INVOKE = "INVOKE"
    SHUTDOWN = "SHUTDOWN"


class ShutdownReason(StrEnum):
    """Reasons why an environment ends; the values of `NextEvent.cause`."""

    SPINDOWN = "spindown"
    TIMEOUT = "timeout"
    FAILURE = "failure"
    OTHER = "other"


class ExtensionError(StrEnum):
    """Error types of the API, to be compared by `same_error`; sent with 403, `INTERNAL` with 500.

    An open set: an API may send others.
    """

    MISSING_IDENTIFIER = "Extension.MissingExtensionIdentifier"
    INVALID_IDENTIFIER = "Extension.InvalidExtensionIdentifier"
    UNKNOWN_IDENTIFIER = "Extension.UnknownExtensionIdentifier"
    INVALID_NAME = "Extension.InvalidExtensionName"
    INVALID_EVENT_TYPE = "Extension.InvalidEventType"
    """Also means INVOKE on Managed Instances: register again with SHUTDOWN alone."""
    INVALID_STATE = "Extension.InvalidExtensionState"
    ALREADY_REGISTERED = "Extension.AlreadyRegistered"
    REGISTRATION_CLOSED = "Extension.RegistrationClosed"
    TOO_MANY_EXTENSIONS = "Extension.TooManyExtensions"
    MISSING_HEADER = "Extension.MissingHeader"
    INVALID_REQUEST = "InvalidRequestFormat"
    INTERNAL = "InternalServerError"
    """The environment is over: exit."""


class RegisterRequest(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Body of register."""

    events: tuple[str, ...] = ()
    """Values of `LifecycleEvent`. Without SHUTDOWN an extension is killed without notice."""


class RegisterResponse(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel", omit_defaults=True
):
    """Answer to register; the identifier comes in a header."""

    function_name: str | None = None
    function_version: str | None = None
    handler: str | None = None
    """May be empty or absent, as with container images."""
    account_id: str | None = None
    """The account, if `ACCOUNT_ID_FEATURE` asked for it."""


class NextEvent(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel", omit_defaults=True
):
    """Answer to next: INVOKE, SHUTDOWN, or an event yet unknown."""

    event_type: str
    """See `LifecycleEvent`; an open set."""
    deadline_ms: int | None = None
    """Unix epoch milliseconds: when the function times out, or the extension is killed."""
    request_id: str | None = None
    """INVOKE only."""
    invoked_function_arn: str | None = None
    """INVOKE only; with the qualifier the caller used."""
    tracing: TraceContext | None = None
    """INVOKE only, when the invocation is traced."""
    shutdown_reason: str | None = None
    """SHUTDOWN only, as sent; `cause` makes sense of it."""

    @property
    def cause(self) -> ShutdownReason:
        """`shutdown_reason` as one of a closed set.

        The service sends lower case, the guide prints upper case, AWS's emulator has words of its
        own: `SandboxTerminated`, `Timeout`, `ReserveFail`, `ReleaseFail`.
        """
        return _CAUSES.get((self.shutdown_reason or "").lower(), ShutdownReason.OTHER)


_CAUSES: Final = {
    "spindown": ShutdownReason.SPINDOWN,
    "sandboxterminated": ShutdownReason.SPINDOWN,
    "timeout": ShutdownReason.TIMEOUT,
    "failure": ShutdownReason.FAILURE,
    "reservefail": ShutdownReason.FAILURE,
    "releasefail": ShutdownReason.FAILURE,
}


class ErrorReport(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Body of init error and exit error; optional."""

    error_message: str
    error_type: str
    stack_trace: tuple[str, ...] = ()


class StatusResponse(msgspec.Struct, frozen=True, gc=False):
    """Answer to init error and exit error."""

    status: str = "OK"


class ErrorResponse(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Body of a refusal, by this API or the Telemetry API; not always valid JSON."""

    error_type: str
    error_message: str | None = None


_Answer = TypeVar("_Answer")

_decode_register: Final = msgspec.json.Decoder(RegisterResponse, strict=False).decode
_decode_next: Final = msgspec.json.Decoder(NextEvent, strict=False).decode
_decode_error: Final = msgspec.json.Decoder(ErrorResponse).decode
_ERROR_TYPE: Final = re.compile(r"[A-Za-z0-9_.]{1,128}")
_ERROR_TYPE_MEMBER: Final = re.compile(rb'"errorType"\s*:\s*"([A-Za-z0-9_.]{1,128})"')


def decode_register(body: bytes) -> RegisterResponse:
    """Decode the answer to register.

    Raises:
        MalformedAnswer: the body is no such answer.

    """
    return _decode(_decode_register, body, "register")


def decode_next(body: bytes, *, lenient: bool = False) -> NextEvent:
    """Decode the answer to next.

    `lenient`: a member that does not fit reads as None, but for the event's type, and what is no
    JSON is loosened (`loose`).

    Raises:
        MalformedAnswer: the body is no such answer.

    """
    return _decode(_decode_next_leniently if lenient else _decode_next, body, "next")


def _decode_next_leniently(body: bytes) -> NextEvent:
    from telemetryd_proto.fit import fit_struct  # noqa: PLC0415 - few answers need it
    from telemetryd_proto.loose import loosen  # noqa: PLC0415 - as above

    event: NextEvent | None = fit_struct(NextEvent, msgspec.json.decode(loosen(body)))
    return _decode_next(body) if event is None else event  # which tells what is wrong


def error_type(body: bytes) -> str:
    """Read the error type of a refusal's body.

    AWS's emulator sends bodies with unescaped quotes in the message; what is not JSON is searched
    for the member.

    Returns:
        At most 128 letters, digits, dots and underscores; empty when there is none to be found.

    """
    try:
        found = _decode_error(body).error_type
    except DECODE_FAILURES:
        member = _ERROR_TYPE_MEMBER.search(body)
        return member[1].decode("ascii") if member else ""
    return found if _ERROR_TYPE.fullmatch(found) else ""


def same_error(actual: str, expected: str) -> bool:
    """True if two error types mean the same: their last parts are equal.

    The prefix differs between API, service and emulator: `ValidationError`,
    `Telemetry.ValidationError`, `Logs.ValidationError`.
    """
    return actual.rpartition(".")[2] == expected.rpartition(".")[2]


def _decode(decode: Callable[[bytes], _Answer], body: bytes, operation: str) -> _Answer:
    try:
        return decode(body)
    except DECODE_FAILURES as error:
        detail = "invalid UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise MalformedAnswer(
            f"answer to {operation}: {detail}", code=failure_code(error)
        ) from error

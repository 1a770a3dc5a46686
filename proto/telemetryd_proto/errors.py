"""Errors for invalid data from a peer.

ProtocolError
    MalformedRecord    an event's record or time stamp that does not fit its type
    MalformedAnswer    an answer of the Extensions API that does not fit its form

Malformed *lines* are no exceptions: on the hot path they are values (see `envelope`).
Messages name positions and types, never values, so that they can be logged.
"""

from typing import ClassVar, Final

import msgspec

NOT_JSON: Final = "not_json"
NOT_UTF8: Final = "not_utf8"
TOO_DEEP: Final = "too_deep"
MISMATCH: Final = "mismatch"
BAD_TIME: Final = "bad_time"

# What msgspec's decoders raise on bad input. Malformed JSON and values of a wrong type are
# DecodeErrors; invalid UTF-8 and deep nesting come as Python's own errors.
DECODE_FAILURES: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class ProtocolError(Exception):
    """A peer sent what the protocol does not allow. Always one of the subclasses.

    Attributes:
        code: why, as one of the class's `CODES`: a closed set, fit for a metric's label.

    """

    CODES: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, message: str, *, code: str) -> None:
        if code not in self.CODES:
            allowed = ", ".join(sorted(self.CODES)) or "none: raise a subclass"
            raise ValueError(f"{type(self).__name__} has no code {code!r}; it has {allowed}")
        super().__init__(message)
        self.code = code


class MalformedRecord(ProtocolError):  # noqa: N818 - reads as what it is: a malformed record
    """An event's record or time stamp does not fit its type."""

    CODES: ClassVar[frozenset[str]] = frozenset({NOT_JSON, NOT_UTF8, TOO_DEEP, MISMATCH, BAD_TIME})


class MalformedAnswer(ProtocolError):  # noqa: N818 - reads as what it is: a malformed answer
    """An answer of the Extensions API does not fit its form."""

    CODES: ClassVar[frozenset[str]] = frozenset({NOT_JSON, NOT_UTF8, TOO_DEEP, MISMATCH})


def failure_code(error: Exception) -> str:
    """Name why a document did not decode.

    Args:
        error: one of `DECODE_FAILURES`.

    Returns:
        One of `NOT_JSON`, `NOT_UTF8`, `TOO_DEEP`, `MISMATCH`.

    """
    if isinstance(error, msgspec.ValidationError):
        return MISMATCH
    if isinstance(error, UnicodeDecodeError):
        return NOT_UTF8
    if isinstance(error, RecursionError):
        return TOO_DEEP
    return NOT_JSON

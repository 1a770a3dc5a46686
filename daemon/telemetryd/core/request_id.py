"""The request id in a log record: one table of the members that runtimes and loggers name it by.

What is found is a candidate: `requestId` is also what API Gateway calls the ids of its own, and a
handler may print the id of another invocation. `fields.RequestTracker` knows which to believe.

Sources of the rows:

* `requestId`: the JSON format of Lambda's runtimes (awslambdaric, aws-lambda-ric, .NET, Ruby)
* `AWSRequestId`: Java's runtime (`JsonLogFormatter`), aws-lambda-java-log4j2 (`LambdaJSONFormat`)
* `awsRequestId`: pino-lambda, and loggers of Node.js that add `context.awsRequestId`
* `aws_request_id`: Python loggers (python-json-logger, structlog) that add the attribute
* `AwsRequestId`: loggers of .NET and Go that add the member of their context
* `function_request_id`: Powertools for Python, TypeScript and Java; `FunctionRequestId` and
  `functionRequestId`: Powertools for .NET in its other spellings
* `faas.invocation_id`, `faas.execution`: OpenTelemetry, "Function as a Service" attributes
* `reqId`, `invokeid`: Fastify's logger, older runtimes of Node.js
* nested: Java's `mdc` and `contextMap`, Rust's `span`, Serilog's `Properties`, .NET's `Scopes`,
  loguru's `record.extra`, `message` of a runtime: wherever the name of the member says it
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import msgspec

from telemetryd.core.loose import decode_loosely

_MEMBERS: Final = (
    "requestId",
    "AWSRequestId",
    "awsRequestId",
    "aws_request_id",
    "AwsRequestId",
    "function_request_id",
    "lambda_request_id",
    "FunctionRequestId",
    "functionRequestId",
    "request_id",
    "RequestId",
    "faas.invocation_id",
    "faas.execution",
)
"""Members of the record itself, the likeliest first."""

_NESTED: Final = re.compile(
    rb"""(?xi) "(?: [\w.-]{0,24}? (?: req(?:uest)? | invoke ) [_.-]? id
               | (?:faas[._])? (?:invocation|execution) (?:[_.-]? id)? )" \s*+ : \s*+
         "([^"\\]{1,128})\""""
)
"""A member at any depth whose name says it."""
_MAX_NESTED: Final = 16

_ESCAPED: Final = rb"\u00"
"""A character that need not be spelled so, in a name perhaps."""

_Named = msgspec.defstruct(
    "_Named",
    [(f"m{at}", Any, msgspec.field(default=None, name=name)) for at, name in enumerate(_MEMBERS)],
    gc=False,
)
_decode: Final = msgspec.json.Decoder(_Named).decode
_decode_any: Final = msgspec.json.Decoder().decode


class _Message(msgspec.Struct, gc=False):
    message: Any = None


_decode_message: Final = msgspec.json.Decoder(_Message).decode


def ids_of_object(data: bytes) -> Iterator[str]:
    """Yield what may be request ids in a record, an object in JSON, the likeliest first.

    One after the other, for the first is mostly the one, and what is nested costs most to find.
    """
    if (
        b"\\" in data
        and _ESCAPED in data
        and (spelled := decode_loosely(_decode_any, data)) is not None
    ):
        data = msgspec.json.encode(spelled)
    if not _may_name(data):
        return
    yield from _ids_in(data)
    found = decode_loosely(_decode_message, data) if b'"{' in data else None
    if found is not None and isinstance(found.message, str) and found.message[:1] == "{":
        yield from _ids_in(found.message.encode())


def _may_name(data: bytes) -> bool:
    """False if no member in `data` can be named as an id is.

    The search for one byte, or for a rare beginning, costs a fraction of that for a word.
    """
    return (
        (b"q" in data and (b"equest" in data or b"eqId" in data or b"eq_id" in data))
        or (b"Q" in data and b"EQUEST" in data)
        or (b"nvo" in data and (b"nvocation" in data or b"nvoke" in data))
        or (b"xec" in data and b"xecution" in data)
    )


def _ids_in(data: bytes) -> Iterator[str]:
    named = decode_loosely(_decode, data)
    if named is None:
        return
    for value in msgspec.structs.astuple(named):
        if value is not None and isinstance(value, str):
            yield value
    for found in islice(_NESTED.finditer(data), _MAX_NESTED):
        yield found[1].decode("utf-8", "replace")

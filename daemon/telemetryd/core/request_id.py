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
* nested: Java's `mdc` and `contextMap`, Rust's `span`, Serilog's `Properties`, .NET's `Scopes`,
  loguru's `record.extra`, `message` of a runtime: wherever the name of the member says it
"""

from __future__ import annotations

import re
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

_HINTS: Final = (b"equest", b"EQUEST", b"nvocation", b"xecution")
_NESTED: Final = re.compile(
    rb"""(?xi) "(?: [\w.-]{0,24}? request [_.-]? id
               | (?:faas[._])? (?:invocation|execution) (?:[_.-]? id)? )" \s*+ : \s*+
         "([^"\\]{1,128})\""""
)
"""A member at any depth whose name says it."""
_MAX_NESTED: Final = 16

_Named = msgspec.defstruct(
    "_Named",
    [(f"m{at}", Any, msgspec.field(default=None, name=name)) for at, name in enumerate(_MEMBERS)],
    gc=False,
)
_decode: Final = msgspec.json.Decoder(_Named).decode


def ids_of_object(data: bytes) -> list[str]:
    """Return what may be request ids in a record, an object in JSON, the likeliest first."""
    if not any(hint in data for hint in _HINTS):
        return []
    named = decode_loosely(_decode, data)
    if named is None:
        return []
    ids = [value for value in msgspec.structs.astuple(named) if isinstance(value, str) and value]
    for count, found in enumerate(_NESTED.finditer(data)):
        if count >= _MAX_NESTED:
            break
        ids.append(found[1].decode("utf-8", "replace"))
    return ids

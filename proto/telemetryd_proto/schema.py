"""JSON Schemas (draft 2020-12) of what is sent and received, generated from the types.

They describe what the platform documents. The decoders are more lenient: numbers may be strings.
"""

from __future__ import annotations

import json
from inspect import cleandoc
from typing import Any, Final

import msgspec

from telemetryd_proto.envelope import Envelope
from telemetryd_proto.events import RECORD_TYPES
from telemetryd_proto.extensions_api import (
    ErrorReport,
    NextEvent,
    RegisterRequest,
    RegisterResponse,
)
from telemetryd_proto.flat import FlatLine
from telemetryd_proto.records import Fault, LogRecord
from telemetryd_proto.telemetry_api import SubscriptionRequest

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_ROOTS: Final[dict[str, type[msgspec.Struct]]] = {
    "event": Envelope,
    "subscription-request": SubscriptionRequest,
    "register-request": RegisterRequest,
    "register-response": RegisterResponse,
    "next-event": NextEvent,
    "error-report": ErrorReport,
    "flat": FlatLine,
}
_ANY_JSON: Final = (Fault, LogRecord)  # on the wire they are their body, any JSON value


def generate() -> dict[str, dict[str, Any]]:
    """Build all schemas.

    Returns:
        File name to schema: `event` is one line of the stream with the records of all types known,
        `flat` one line of the flat format, the others are bodies of requests and answers.

    """
    return {f"{name}.schema.json": _document(name, root) for name, root in _ROOTS.items()}


def render() -> dict[str, str]:
    """Build all schemas as text: file name to its content, the same for the same types."""
    return {
        name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in generate().items()
    }


def _document(name: str, root: type[msgspec.Struct]) -> dict[str, Any]:
    records = RECORD_TYPES if root is Envelope else {}
    typed = [record for record in records.values() if record not in _ANY_JSON]
    _, components = msgspec.json.schema_components([root, *typed], ref_template="#/$defs/{name}")
    for record in _ANY_JSON if records else ():
        components[record.__name__] = {"title": record.__name__, "description": record.__doc__}
    definitions = {key: _tidy(value) for key, value in sorted(components.items())}
    document: dict[str, Any] = {"$schema": _DRAFT, "$id": f"urn:telemetryd:{name}"}
    document |= definitions.pop(root.__name__)
    if records:
        document["allOf"] = [
            {
                "if": {"properties": {"type": {"const": event}}},
                "then": {"properties": {"record": {"$ref": f"#/$defs/{record.__name__}"}}},
            }
            for event, record in records.items()
        ]
    if definitions:
        document["$defs"] = definitions
    return document


def _tidy(schema: dict[str, Any]) -> dict[str, Any]:
    """Keep of a docstring, which each type has, what readers of the schema need: a paragraph."""
    first = cleandoc(schema["description"]).split("\n\n")[0]
    return schema | {"description": " ".join(first.split())}

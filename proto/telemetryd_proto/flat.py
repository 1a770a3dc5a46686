"""The flat schema: one row for each line, whatever the line is.

Each member is always there, in this order, and has always the same JSON type or is null. So readers
that infer a schema find the same one in every file. What varies is text: `attributes` and `tags`
hold JSON.
"""

# No `from __future__ import annotations`: it leaves texts, which msgspec compiles at every start.
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

Level: TypeAlias = Literal["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"]


class FlatLine(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A line in the flat schema."""

    time: Annotated[
        str,
        Meta(
            description="Time of the event, RFC 3339 in UTC, as `2026-03-14T10:15:29.012Z`. If the "
            "line has none, the time at which telemetryd read it.",
            pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3,9}Z$",
        ),
    ]
    type: Annotated[
        str | None,
        Meta(description="Type of the event, such as `function` or `platform.report`."),
    ]
    level: Annotated[Level | None, Meta(description="Level of a log line, by one set of names.")]
    message: Annotated[
        str | None,
        Meta(
            description="Text of a log line without its last newline, or the message of an object. "
            "JSON if the message is neither."
        ),
    ]
    request_id: Annotated[str | None, Meta(description="Id of the invocation.")]
    trace_id: Annotated[
        str | None, Meta(description="Id of its trace, 32 hexadecimal digits (W3C, OpenTelemetry).")
    ]
    tenant_id: Annotated[str | None, Meta(description="Its tenant, with tenant isolation.")]
    function: Annotated[str, Meta(description="Name of the function.")]
    version: Annotated[str, Meta(description="Version of the function.")]
    instance: Annotated[str, Meta(description="Id of the process of telemetryd.")]
    duration_ms: Annotated[
        float | None, Meta(description="`metrics.durationMs` of a platform event.")
    ]
    billed_ms: Annotated[
        float | None, Meta(description="`metrics.billedDurationMs` of a platform event.")
    ]
    memory_mb: Annotated[
        int | None, Meta(description="`metrics.memorySizeMB` of a platform event, MiB.")
    ]
    max_memory_mb: Annotated[
        int | None, Meta(description="`metrics.maxMemoryUsedMB` of a platform event, MiB.")
    ]
    init_ms: Annotated[
        float | None, Meta(description="`metrics.initDurationMs` of a platform event.")
    ]
    status: Annotated[str | None, Meta(description="`status` of a platform event.")]
    error_type: Annotated[
        str | None, Meta(description="`errorType` of a platform event, or of a logged object.")
    ]
    attributes: Annotated[
        str | None,
        Meta(
            description="JSON: the record exactly as it came, if it is an object; of a line that "
            "is no event, the whole object."
        ),
    ]
    record_id: Annotated[
        str,
        Meta(
            description="Unique id of the line: two rows with the same one are the same line.",
            pattern="^[0-9a-f]{32}-[0-9]{1,20}$",
        ),
    ]
    tags: Annotated[
        str | None, Meta(description="JSON: an object of the configured tags and further fields.")
    ]


COLUMNS: tuple[str, ...] = FlatLine.__struct_fields__

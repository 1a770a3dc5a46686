"""The meaning of members of a log record to OTLP: one table of names, for all loggers.

Sources: the JSON format of Lambda's runtimes; Powertools; pino, winston, log4js; structlog, loguru;
log4j2, logstash-logback-encoder; Serilog's compact format; zap, zerolog, slog; OpenTelemetry's own
log appenders; Elastic Common Schema; Datadog's and X-Ray's injection of ids into logs.
"""

from __future__ import annotations

from typing import Final

MESSAGE, LEVEL, TIME, REQUEST, TRACE, SPAN, FLAGS, DATADOG, ERROR, STACK, NUMBER = range(11)
_ECS_TRACE, _ECS_SPAN = 11, 12

ECS: Final = {_ECS_TRACE: TRACE, _ECS_SPAN: SPAN}
"""Objects with an `id` (Elastic Common Schema), to the role of that."""

_NAMES: Final = {
    MESSAGE: "message msg Message MESSAGE @message @m short_message",
    LEVEL: (
        "level severity levelname log_level severityText severity_text log.level lvl level_name "
        "@l @level Level LogLevel logLevel loglevel"
    ),
    NUMBER: "severityNumber severity_number SeverityNumber",
    TIME: "timestamp time @timestamp @t ts Timestamp",
    REQUEST: (
        "requestId AWSRequestId awsRequestId aws_request_id AwsRequestId function_request_id "
        "lambda_request_id FunctionRequestId functionRequestId request_id RequestId "
        "faas.invocation_id faas.execution"
    ),
    TRACE: (
        "trace_id traceId TraceId traceid trace.id otelTraceID @tr xray_trace_id xrayTraceId "
        "XRayTraceId"
    ),
    SPAN: "span_id spanId SpanId spanid span.id otelSpanID @sp",
    FLAGS: "trace_flags traceFlags otelTraceSampled",
    _ECS_TRACE: "trace",
    _ECS_SPAN: "span",
    DATADOG: "dd dd.trace_id dd.span_id",
    ERROR: "errorMessage errorType",
    STACK: "stackTrace",
}

ROLES: Final = {name: role for role, names in _NAMES.items() for name in names.split()}
"""Name of a member to its meaning."""

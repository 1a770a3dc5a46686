"""OTLP, the protocol of OpenTelemetry: messages written by hand, as protobuf or as JSON.

The message types are few and stable since OTLP 1.0. To write them by hand costs less than the
protobuf library, and nothing is imported.

    wire            numbers, tags and lengths of protobuf
    values          AnyValue and KeyValue, in both forms
    requests        resource, scope and the request around log records, metrics or spans
    answers         what a server answers: partial success, status
    metrics         sums and histograms
    spans           spans, and ids that are the same for the same facts
    trace_context   trace and span ids from headers and from text

Source: opentelemetry-proto 1.x, and the OTLP specification's "JSON Protobuf Encoding".
"""

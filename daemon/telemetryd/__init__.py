"""telemetryd: AWS Lambda telemetry extension and TCP NDJSON listener.

Nothing is imported here: the extension registers with Lambda before anything heavy is loaded.
"""

__version__ = "0.1.0"

DOCS = "https://github.com/telemetryd/telemetryd/blob/main/docs"
"""The address of the documentation, for users without a checkout."""

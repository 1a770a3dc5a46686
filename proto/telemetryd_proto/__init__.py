"""The Lambda Telemetry protocol as msgspec types: framing, events, and the two APIs.

Pure: bytes in, values out; no I/O, no clock.
"""

"""`telemetryd replay`: delivers stored lines: a spool, a dead letter or any NDJSON file.

`sources` reads them. `handover` passes them to one sink, under the worker that the daemon uses.
`bookmark` stores the position, `progress` shows it, and `command` combines these.
"""

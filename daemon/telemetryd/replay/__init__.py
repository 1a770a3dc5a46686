"""`telemetryd replay`: delivers what was kept, a spool, a dead letter or any NDJSON file.

`sources` reads them, `delivery` hands them to one sink under the worker that the daemon uses,
`bookmark` remembers how far that came, `progress` shows it, `command` puts these together.
"""

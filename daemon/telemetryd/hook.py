"""The public names for a hook of your own, which needs no other module of telemetryd.

    from telemetryd.hook import Hook, Report

    class SlowInvocations(Hook):
        def on_report(self, report: Report) -> None:
            if report.metrics and (report.metrics.duration_ms or 0) > 1000:
                print(f"{report.request_id} took {report.metrics.duration_ms} ms")

`docs/hooks.md` teaches it. It is stable, by semantic versioning; the modules behind it are
telemetryd's own business.
"""

from telemetryd.hooks.base import Event, Hook, HookContext
from telemetryd_proto.events import Record
from telemetryd_proto.extensions_api import NextEvent
from telemetryd_proto.records import LogRecord, Report, RuntimeDone, Start

__all__ = [
    "Event",
    "Hook",
    "HookContext",
    "LogRecord",
    "NextEvent",
    "Record",
    "Report",
    "RuntimeDone",
    "Start",
]

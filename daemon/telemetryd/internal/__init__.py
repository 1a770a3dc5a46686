"""An internal extension for Python functions: flush what a function buffers before the freeze.

    from telemetryd.internal import flush_on_return

    @flush_on_return(metrics.flush)
    def handler(event, context): ...

The flush begins when the handler has returned or raised, and Lambda does not freeze the environment
before it has ended. The caller does not wait for it. Docs: docs/internal.md.

This package needs only the standard library, and Python 3.9 or newer, because it runs in the
function's Python. `SinkBuffer` alone needs all of telemetryd.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from telemetryd.internal.flushing import Flushes, flush_on_return, flushes, on_return

if TYPE_CHECKING:
    from telemetryd.internal.buffer import SinkBuffer

__all__ = ["Flushes", "SinkBuffer", "flush_on_return", "flushes", "on_return"]


def __getattr__(name: str) -> type[SinkBuffer]:
    """Load what only some functions need, when it is asked for."""
    if name == "SinkBuffer":
        from telemetryd.internal.buffer import SinkBuffer  # noqa: PLC0415 - see above

        return SinkBuffer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

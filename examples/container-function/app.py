"""The function of the example: it prints, and telemetryd delivers what it prints."""

from __future__ import annotations

from typing import Any


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Print one line, and answer with the event."""
    print(f"{context.function_name}: order accepted: {event}")
    return {"event": event}

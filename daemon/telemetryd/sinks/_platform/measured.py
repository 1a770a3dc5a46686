"""The numbers that one event adds to the metrics of its function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class Measured(msgspec.Struct, gc=False):
    """The numbers of one event."""

    function: str
    version: str
    values: list[tuple[str, float]]
    """Metric names and what was measured."""
    request_id: str | None = None
    error_type: str | None = None
    facts: Mapping[str, Any] | None = None
    """Figures that telemetryd reports about itself."""

"""Prices of an invocation and a metric, in US dollars.

Sources: "AWS Lambda Pricing", on-demand; "Amazon CloudWatch Pricing", custom metrics; of each the
first tier. Other regions, tiers and purchase options differ, hence every price can be configured.
"""

from __future__ import annotations

from typing import Final

import msgspec

REGION: Final = "us-east-1"
"""The region of these prices."""
AS_OF: Final = "2026-11"
"""The month of the price lists."""

METRIC: Final = 0.30
"""One custom metric for a month: one combination of name and dimension values."""
REQUEST: Final = 0.000_000_2
"""US dollars for one request."""
X86_64_GB_SECOND: Final = 0.000_016_666_7
"""One GB-second on x86_64."""
ARM64_GB_SECOND: Final = 0.000_013_333_4
"""One GB-second on arm64."""

_MIB_PER_GB: Final = 1024
_MS_PER_SECOND: Final = 1000


class Prices(msgspec.Struct, frozen=True, gc=False):
    """Prices of the architecture this process runs on, in US dollars."""

    request: float
    gb_second: float

    def invocation(self, billed_ms: float, memory_mb: float) -> float:
        """Return the cost of an invocation that is billed for `billed_ms` with `memory_mb` MiB."""
        gb_seconds = billed_ms / _MS_PER_SECOND * memory_mb / _MIB_PER_GB
        return self.request + gb_seconds * self.gb_second

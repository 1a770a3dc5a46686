"""Counts the output of an `emf` sink (embedded metric format) as CloudWatch would."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

DURATION: Final = "duration"
_REPORT: Final = b'"type":"platform.report"'


def values(printed: Path, metric: str = DURATION) -> int:
    """Count the values of `metric` in all documents. Raises ValueError if one is not JSON."""
    count = 0
    with printed.open("rb") as lines:
        for line in lines:
            document = json.loads(line)
            value = document.get(metric, [])
            count += len(value) if isinstance(value, list) else 1
    return count


def reports(lines: Iterable[bytes]) -> int:
    """Return how many of `lines` report the end of an invocation."""
    return sum(_REPORT in line for line in lines)


def differences(printed: Path, lines: Iterable[bytes]) -> str | None:
    """Return a fault of the documents, given the lines that were sent, or None."""
    found, wanted = values(printed), reports(lines)
    if found != wanted:
        return f"the documents hold {found:,} durations, and {wanted:,} reports were sent"
    return None

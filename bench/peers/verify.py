"""Checks that a peer wrote what it was sent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

_READ_BYTES: Final = 1024 * 1024


class Counted:
    """Counts the lines of a growing file. It reads each byte once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._lines = 0

    def lines(self) -> int:
        """The newlines in the file so far."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                while data := file.read(_READ_BYTES):
                    self._offset += len(data)
                    self._lines += data.count(b"\n")
        return self._lines


def differences(
    protocol: str, sent: Sequence[bytes], output: Path, first: bytes = b""
) -> str | None:
    """The first difference between `output` and `sent`, repeated as often as it was; or None.

    A TCP peer writes the very bytes. An HTTP peer may encode an event once more: see `essence`. The
    line `first` comes before all others.
    """
    count = 0
    with output.open("rb") as file:
        if (found := file.read(len(first))) != first:
            return f"the file begins with {found!r} and should begin with {first!r}"
        for count, line in enumerate(file, 1):
            wanted = sent[(count - 1) % len(sent)]
            if line != wanted and (protocol == "tcp" or essence(line) != essence(wanted)):
                return f"line {count} is {line!r} and should be {wanted!r}"
    if count == 0 or count % len(sent):
        return f"{count} lines, which is no multiple of the {len(sent)} sent"
    return None


def essence(line: bytes) -> tuple[datetime, str, Any]:
    """Return what every re-encoding keeps: the moment, the type, the log record or request id.

    Typed decoders drop the members of a platform record that they do not know.
    """
    event = json.loads(line)
    record = event["record"]
    if event["type"].startswith("platform."):
        record = record.get("requestId")
    return datetime.fromisoformat(event["time"]), event["type"], record

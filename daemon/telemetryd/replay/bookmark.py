"""The position up to which a file has been replayed. It is stored beside the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from telemetryd_proto.errors import DECODE_FAILURES

SUFFIX: Final = ".replayed"


class _Place(msgspec.Struct, frozen=True):
    sink: str
    inode: int
    offset: int
    size: int = -1
    """That of the file, once everything in it was settled."""


class Bookmark:
    """The place in `file` for `sink`. A file that was replaced or cut begins at its start."""

    def __init__(self, file: Path, sink: str) -> None:
        self.path = file.with_name(f"{file.name}.{sink}{SUFFIX}")
        self._file = file
        self._sink = sink

    def read(self, *, is_packed: bool = False) -> int | None:
        """Return the offset up to which all unpacked data is settled; None: all of it.

        Raises OSError.
        """
        stat = self._file.stat()
        try:
            place = msgspec.json.decode(self.path.read_bytes(), type=_Place)
        except (FileNotFoundError, *DECODE_FAILURES):
            return 0
        known = place.sink == self._sink and place.inode == stat.st_ino and place.offset >= 0
        if not known or place.size > stat.st_size:
            return 0
        if place.size == stat.st_size:
            return None
        return place.offset if is_packed or place.offset <= stat.st_size else 0

    def write(self, offset: int, size: int = -1) -> None:
        """Note that all data before `offset` is settled; with `size`, all of a file of this size.

        Raises OSError.
        """
        place = _Place(self._sink, self._file.stat().st_ino, offset, size)
        fresh = self.path.with_name(f"{self.path.name}.new")
        fresh.unlink(missing_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.encode(place) + b"\n")
        fresh.replace(self.path)

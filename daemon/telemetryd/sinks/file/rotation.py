"""Rotated files: their names, their compression, and which to delete. Blocking calls.

A rotated file is named `<path>.<UTC time>`. The names of one path have the order in which the files
were rotated, whatever the clock is: a file's time is later than that of all existing ones.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, suppress
from typing import IO, Final, Literal, Protocol, TypeAlias

from telemetryd import trust
from telemetryd.clock import SYSTEM

Compression: TypeAlias = Literal["none", "gzip", "zstd"]


class _Writable(Protocol):
    def write(self, data: bytes, /) -> int: ...


_SUFFIX: Final = re.compile(r"\.(\d{8}T\d{6})\.(\d{6})Z(\.gz|\.zst)?")
_PARTIAL: Final = ".partial"
_COPY_BYTES: Final = 256 * 1024
_PARTIAL_FLAGS: Final = os.O_RDWR | os.O_CREAT
_SOURCE_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_GZIP_LEVEL: Final = 1
"""Telemetry shrinks by 6.3; the next levels take 1.5 times the CPU and more for a few per cent.
Besides, what takes long is cut off by the end of the process."""
_MEMBER_BYTES: Final = 16 * 1024 * 1024
"""Compressed at a time, as a gzip member or zstd frame of its own: what a cut-off loses at most."""
_LAST_MICROS: Final = 253_402_300_800_000_000
"""The year 10000, whose digits sort before those of 9999."""


class CutOffError(Exception):
    """A compression was told to stop; the file is as it was."""


def rotate(path: str, now: float) -> str:
    """Give the file at `path` the name it keeps: `<path>.<UTC time>`. Returns the new path.

    The time is `now`, or just after that of the last rotated file where that is later: the clock
    was ahead then, or is behind.
    """
    micros = max(int(now * 1_000_000), _latest_micros(path) + 1)
    while True:
        seconds, fraction = divmod(micros, 1_000_000)
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds))
        rotated = f"{path}.{stamp}.{fraction:06d}Z"
        if not any(os.path.lexists(rotated + ending) for ending in ("", *_ENDINGS)):
            os.rename(path, rotated)  # noqa: PTH104
            return rotated
        micros += 1


def list_rotated(path: str) -> list[str]:
    """Return the rotated files of `path` that may be ours, compressed or not, oldest first."""
    directory, base = os.path.split(path)
    with os.scandir(directory or ".") as entries:
        names = [
            entry.name
            for entry in entries
            if entry.name.startswith(base) and _SUFFIX.fullmatch(entry.name, len(base))
        ]
    paths = (os.path.join(directory, name) for name in sorted(names))  # noqa: PTH118 - pathlib takes 2 ms
    return [each for each in paths if trust.is_trusted(each)]


def _latest_micros(path: str) -> int:
    """Return the time in the name of the last rotated file, in microseconds; -1 without any."""
    for rotated in reversed(list_rotated(path)):
        found = _SUFFIX.fullmatch(rotated, len(path))
        if found is None:
            continue
        from calendar import timegm  # noqa: PLC0415 - most paths have no rotated file at the start

        with suppress(ValueError, OverflowError):  # such as the 99th of a month
            seconds = timegm(time.strptime(found[1], "%Y%m%dT%H%M%S"))
            micros = seconds * 1_000_000 + int(found[2])
            if micros + 1 < _LAST_MICROS:
                return micros
    return -1


def compress(
    path: str,
    compression: Compression,
    is_stopped: Callable[[], bool] = lambda: False,
    wall: Callable[[], float] = SYSTEM.wall,
) -> None:
    """Replace the file at `path` by its compressed form, `<path>.gz` or `<path>.zst`.

    The original goes only after the compressed file is complete and on the disk. When that fails it
    stays, and what was written of the other goes; when it is cut off both stay, and the next call
    continues from there. Where another process is at it, nothing is done. Raises OSError;
    CutOffError once `is_stopped`.
    """
    opener, ending = _COMPRESSORS[compression]
    if not os.path.lexists(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    if os.path.lexists(f"{path}{ending}"):
        if _holds(f"{path}{ending}", path):  # only the removal was missing
            os.unlink(path)  # noqa: PTH108
            return
        path = rotate(path, wall())  # a file of this name came back, as after a clock's step
    partial = f"{path}{ending}{_PARTIAL}"
    source_fd = os.open(path, _SOURCE_FLAGS)
    with os.fdopen(source_fd, "rb") as source:
        trust.check_file(path, os.fstat(source_fd), os.stat(os.path.dirname(path) or "."))  # noqa: PTH116, PTH120
        fd = _claim(partial)
        if fd is None:
            return
        try:
            with os.fdopen(fd, "r+b") as target:
                _go_on(source, target)
                while pieces := _member(source, is_stopped):
                    with opener(target) as packed:
                        for data in pieces:
                            packed.write(data)
                if not target.tell():  # an empty file is no compressed file
                    with opener(target):
                        pass
                target.flush()
                os.fsync(target.fileno())
                os.rename(partial, f"{path}{ending}")  # noqa: PTH104
        except CutOffError:
            raise
        except BaseException:
            os.unlink(partial)  # noqa: PTH108
            raise
    os.unlink(path)  # noqa: PTH108


def _go_on(source: IO[bytes], target: IO[bytes]) -> None:
    """Seek both files to the end of the whole members that `target` already has of `source`."""
    from telemetryd.unpack import DamagedFileError, Unpacked  # noqa: PLC0415 - after a cut-off only

    stream = Unpacked(target.read)
    given = end = 0
    with suppress(DamagedFileError, ImportError):
        while (piece := stream.read(_COPY_BYTES)) and source.read(len(piece)) == piece:
            given, end = stream.whole
    source.seek(given)
    target.truncate(end)
    target.seek(end)


def _member(source: IO[bytes], is_stopped: Callable[[], bool]) -> Iterator[bytes] | None:
    """Return the next pieces of `source`, to be compressed as one; None at its end."""
    first = source.read(_COPY_BYTES)
    return itertools.chain([first], _pieces(source, is_stopped)) if first else None


def _pieces(source: IO[bytes], is_stopped: Callable[[], bool]) -> Iterator[bytes]:
    for _ in range(_MEMBER_BYTES // _COPY_BYTES - 1):
        if is_stopped():
            raise CutOffError
        if data := source.read(_COPY_BYTES):
            yield data


def _claim(partial: str) -> int | None:
    """Open and lock `partial`; None if another process writes to it."""
    while True:
        fd = trust.open_file(partial, _PARTIAL_FLAGS)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            there = os.stat(partial, follow_symlinks=False)  # noqa: PTH116
        except BlockingIOError:
            os.close(fd)
            return None
        except FileNotFoundError:  # finished, or given up, between the two calls
            os.close(fd)
            continue
        if os.path.samestat(there, os.fstat(fd)):
            return fd
        os.close(fd)


def _holds(packed: str, path: str) -> bool:
    """True if the file `packed` is ours and has exactly the content of the file at `path`."""
    if not trust.is_trusted(packed):
        return False
    try:
        with open(packed, "rb") as compressed, open(path, "rb") as plain:  # noqa: PTH123
            from telemetryd.unpack import Unpacked  # noqa: PLC0415 - as above

            stream = Unpacked(compressed.read)
            while piece := stream.read(_COPY_BYTES):
                if plain.read(len(piece)) != piece:
                    return False
            return not plain.read(1)
    except (OSError, ImportError):
        return False


def is_compressed(path: str) -> bool:
    """True if only the compressed form of `path` exists."""
    return not os.path.lexists(path) and any(os.path.lexists(path + e) for e in _ENDINGS)


def find_unfinished(
    bases: Iterable[str], current: str, compression: Compression, *, whole_files: bool
) -> Iterator[str]:
    """Yield files that an earlier process left uncompressed. Remove useless `.partial` files.

    `bases` are paths as that of `current`, of other dates and processes as well: those that a
    running process writes to are left alone. `whole_files`: the files at other paths, their date
    over, are to be compressed too.
    """
    for base in bases:
        if base != current and _is_in_use(base):
            continue
        candidates = [each for each in list_rotated(base) if not each.endswith(_ENDINGS)]
        if base != current and whole_files and trust.is_trusted(base):
            candidates.append(base)
        useful = [f"{each}{_ending(compression)}{_PARTIAL}" for each in candidates]
        for partial in _partials(base):
            if compression == "none" or partial not in useful:
                _remove(partial)
        if compression != "none":
            yield from candidates


def _ending(compression: Compression) -> str:
    return "" if compression == "none" else _COMPRESSORS[compression][1]


def _partials(base: str) -> list[str]:
    directory, name = os.path.split(base)
    with os.scandir(directory or ".") as entries:
        return [
            entry.path
            for entry in entries
            if entry.name.startswith(name) and _PARTIAL_NAME.fullmatch(entry.name, len(name))
        ]


def _is_in_use(path: str) -> bool:
    """True if a process has opened the file at `path` for appending."""
    try:
        fd = os.open(path, _SOURCE_FLAGS)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _remove(partial: str) -> None:
    """Remove a half-written file, unless it is another user's, or somebody is writing it."""
    if not trust.is_trusted(partial):
        return
    with suppress(OSError):
        fd = os.open(partial, _SOURCE_FLAGS)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(partial)  # noqa: PTH108
        finally:
            os.close(fd)


def delete_old(path: str, keep: int) -> list[str]:
    """Delete all but the last `keep` rotated files of `path`; the names of the deleted."""
    rotated = list_rotated(path)
    doomed = rotated[: max(0, len(rotated) - keep)]
    for each in doomed:
        with suppress(FileNotFoundError):
            os.unlink(each)  # noqa: PTH108
    return [os.path.basename(each) for each in doomed]  # noqa: PTH119 - pathlib takes 2 ms


def _gzip(target: IO[bytes]) -> AbstractContextManager[_Writable]:
    import gzip  # noqa: PLC0415 - only for those who compress

    return closing(gzip.GzipFile("", "wb", compresslevel=_GZIP_LEVEL, fileobj=target, mtime=0))


def _zstd(target: IO[bytes]) -> AbstractContextManager[_Writable]:
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - only for those who compress

        return zstd.ZstdFile(target, "wb", level=3)
    import zstandard  # noqa: PLC0415 - an extra

    return zstandard.ZstdCompressor(level=3).stream_writer(target, closefd=False)


def zstd_available() -> bool:
    """True if the interpreter can compress with zstd."""
    import importlib.util  # noqa: PLC0415 - only for those who compress

    module = "_zstd" if sys.version_info >= (3, 14) else "zstandard"
    return importlib.util.find_spec(module) is not None


_COMPRESSORS: Final[
    dict[Compression, tuple[Callable[[IO[bytes]], AbstractContextManager[_Writable]], str]]
] = {"gzip": (_gzip, ".gz"), "zstd": (_zstd, ".zst")}
_ENDINGS: Final = tuple(ending for _, ending in _COMPRESSORS.values())
_PARTIAL_NAME: Final = re.compile(r"(\.\d{8}T\d{6}\.\d{6}Z)?(\.gz|\.zst)\.partial")

"""Rotated files: their names, their compression, and which to delete. Blocking calls."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, suppress
from typing import IO, Final, Literal, Protocol, TypeAlias

Compression: TypeAlias = Literal["none", "gzip", "zstd"]


class _Writable(Protocol):
    def write(self, data: bytes, /) -> int: ...


_SUFFIX: Final = re.compile(r"\.\d{8}T\d{6}\.\d{6}Z(\.gz|\.zst)?")
_COPY_BYTES: Final = 256 * 1024
_PARTIAL_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW


def rotate(path: str, now: float) -> str:
    """Give the file at `path` the name it keeps: `<path>.<UTC time>`. Returns the new path."""
    while True:
        seconds, micros = divmod(int(now * 1_000_000), 1_000_000)
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds))
        rotated = f"{path}.{stamp}.{micros:06d}Z"
        if not any(os.path.exists(rotated + ending) for ending in ("", ".gz", ".zst")):  # noqa: PTH110
            os.rename(path, rotated)  # noqa: PTH104
            return rotated
        now += 1e-6


def compress(path: str, compression: Compression) -> None:
    """Replace the file at `path` by its compressed form, `<path>.gz` or `<path>.zst`.

    The original goes only after the compressed file is complete and on the disk; when that fails,
    it stays, and what was written of the other goes.
    """
    import shutil  # noqa: PLC0415 - 3 ms, which a start has no use for

    opener, ending = _COMPRESSORS[compression]
    partial = f"{path}{ending}.partial"
    fd = os.open(partial, _PARTIAL_FLAGS, 0o600)
    try:
        with os.fdopen(fd, "wb") as target:
            with opener(target) as packed, open(path, "rb") as source:  # noqa: PTH123
                shutil.copyfileobj(source, packed, _COPY_BYTES)
            target.flush()
            os.fsync(target.fileno())
        os.rename(partial, f"{path}{ending}")  # noqa: PTH104
    except BaseException:
        os.unlink(partial)  # noqa: PTH108
        raise
    os.unlink(path)  # noqa: PTH108


def delete_old(path: str, keep: int) -> list[str]:
    """Delete all but the newest `keep` rotated files of `path`; the names of the deleted."""
    directory, base = os.path.split(path)
    rotated = sorted(
        entry.name
        for entry in os.scandir(directory or ".")
        if entry.name.startswith(base) and _SUFFIX.fullmatch(entry.name, len(base))
    )
    doomed = rotated[: max(0, len(rotated) - keep)]
    for name in doomed:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))  # noqa: PTH108, PTH118 - pathlib takes 2 ms
    return doomed


def _gzip(target: IO[bytes]) -> AbstractContextManager[_Writable]:
    import gzip  # noqa: PLC0415 - only for those who compress

    return closing(gzip.GzipFile("", "wb", compresslevel=6, fileobj=target, mtime=0))


def _zstd(target: IO[bytes]) -> AbstractContextManager[_Writable]:
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - only for those who compress

        return zstd.ZstdFile(target, "wb", level=3)
    import zstandard  # noqa: PLC0415 - an extra

    return zstandard.ZstdCompressor(level=3).stream_writer(target, closefd=False)


def zstd_available() -> bool:
    """Whether the interpreter can compress with zstd."""
    import importlib.util  # noqa: PLC0415 - only for those who compress

    module = "_zstd" if sys.version_info >= (3, 14) else "zstandard"
    return importlib.util.find_spec(module) is not None


_COMPRESSORS: Final[
    dict[Compression, tuple[Callable[[IO[bytes]], AbstractContextManager[_Writable]], str]]
] = {"gzip": (_gzip, ".gz"), "zstd": (_zstd, ".zst")}

"""`type = "file"`: appends unchanged lines to a file, which it can rotate and compress."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from telemetryd.errors import TransientSinkError
from telemetryd.sinks._thread import SinkThread
from telemetryd.sinks.base import (
    DELIVERED,
    MIB,
    Batch,
    Failure,
    Sink,
    SinkConfig,
    SinkContext,
    WriteResult,
)
from telemetryd.sinks.file import rotation as _rotation
from telemetryd.sinks.file.append_file import AppendFile, as_sink_error
from telemetryd.sinks.file.path import bases, expand, template_problems


class FileConfig(SinkConfig, frozen=True, kw_only=True):
    """`[sinks.<name>]` with `type = "file"`."""

    tuning: ClassVar[frozenset[str]] = SinkConfig.tuning | {
        "compression", "fsync", "keep", "rotate_bytes", "rotate_seconds",
    }  # fmt: skip

    path: str
    """The file. `{function}`, `{version}`, `{instance}` and `{date}` are replaced."""
    rotate_bytes: Annotated[int, Meta(ge=0, le=1024 * 1024 * MIB)] = 0
    """Start a new file before this one grows beyond so many bytes; 0: never."""
    rotate_seconds: Annotated[int, Meta(ge=0, le=366 * 86_400)] = 0
    """Start a new file when this one is so many seconds old, in whichever process; 0: never."""
    keep: Annotated[int, Meta(ge=0, le=100_000)] = 0
    """How many rotated files to keep; 0: all. If `path` has `{date}`: of each date."""
    compression: _rotation.Compression = "none"
    """How to compress a file when it is rotated, or when its `{date}` has passed. If the process
    ends before, the next one finishes the compression."""
    fsync: Literal["never", "flush", "always"] = "never"
    """When to call `fsync`: never, at each flush, or at each write."""

    def problems(self) -> Iterator[str]:
        """Yield broken rules between keys."""
        for problem in template_problems(self.path):
            yield f"path: {problem}"
        rotates = self.rotate_bytes or self.rotate_seconds
        if self.keep and not rotates:
            yield "keep: needs rotate_bytes or rotate_seconds"
        if self.compression != "none" and not rotates and "{date}" not in self.path:
            yield "compression: applies to rotated files; set rotate_bytes or rotate_seconds"
        if self.compression == "zstd" and not _rotation.zstd_available():
            yield "compression: zstd is not installed; pip install zstandard"


class FileSink(Sink):
    """Appends blocks in a thread of its own."""

    Config = FileConfig
    survives_freeze = True

    def __init__(self, config: FileConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self._config = config
        self._clock = context.clock
        self._is_dated = "{date}" in config.path
        self._syncs_always = config.fsync == "always"
        self.needs_flush = config.fsync != "never"
        self._opened_by = context
        """The context by which the path was made; another has been set by a restore."""
        self._writer = SinkThread(f"sink-{context.name}")
        self._housekeeper = SinkThread(f"sink-{context.name}-rotation")
        self._file: AppendFile | None = None
        self._begun_ms = 0
        """The time when the file was created, in milliseconds since boot."""
        self._left_behind: list[str] = []
        self._tidying: asyncio.Task[None] | None = None
        self._is_recovered = False
        """True if the files of an earlier process have been checked."""
        self._is_ending = False

    async def open(self) -> None:
        """Open the file, so that a wrong path is known at the start."""
        await self._writer.run(self._ready, 0)
        self._is_ending = False
        self._tidy_soon()

    async def reopen(self) -> None:
        """Release the file, and open what is at the path now: after logrotate's `create`."""
        await self._writer.run(self._reopen)

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """Append every item; those that found no room are refused, to be tried again."""
        payloads = [item.payload for item in batch.items]
        kept, error = await self._writer.run(self._append, payloads)
        self._tidy_soon()
        if error is None:
            return DELIVERED
        if not kept:
            raise error
        return WriteResult(
            tuple(
                Failure(index, error.code, retryable=True) for index in range(kept, len(payloads))
            )
        )

    async def probe(self) -> str:
        """See whether the file could be written, without making it."""
        from telemetryd.sinks.file.probe import try_file  # noqa: PLC0415 - `check --probe` only

        path = expand(self._config.path, self.context, self._clock.wall())
        return await self._writer.run(try_file, path, self._config.batch_max_bytes)

    def write_direct(self, data: bytes) -> bool:
        """Append `data` at once, where the file is at hand and nothing else is due."""
        file = self._file
        if file is None or self._syncs_always or self._writer.is_busy:
            return False
        try:
            if not file.is_local or file.torn or not self._is_current(file, len(data)):
                return False
        except OSError:  # the thread meets it too, and reports it
            return False
        return file.append_direct(data)

    def _is_current(self, file: AppendFile, incoming: int) -> bool:
        """True if `_ready` would return this very file."""
        if self._is_dated or self.context is not self._opened_by:
            path = expand(self._config.path, self.context, self._clock.wall())
            if path != file.path:
                return False
        return file.look() and not self._is_due(file, incoming)

    async def flush(self, *, deadline: float) -> None:
        """Write the lines to the disk, if `fsync` requires it."""
        if self.needs_flush:
            await self._writer.run(self._sync)

    async def close(self) -> None:
        """Close the file, when what was asked of the threads is done.

        Compression that is cut off leaves the file as it was, for the next process.
        """
        try:
            await self._writer.run(self._close)
            if self._tidying is not None:
                await self._tidying
        finally:
            self._is_ending = True
            self._writer.close()
            self._housekeeper.close()

    # -- in the writer thread ----------------------------------------------------------------

    def _ready(self, incoming: int) -> AppendFile:
        """Return the open file that the next `incoming` bytes belong to."""
        now = self._clock.wall()
        path = expand(self._config.path, self.context, now)
        try:
            file = self._file
            if file is not None and file.path != path:  # the {date} has changed
                self._left_behind.append(file.path)
                self._close()
            elif file is not None and (not file.look() or file.torn):
                self._close()
            elif file is not None and self._is_due(file, incoming):
                self._rotate(path, now)
            if self._file is None:
                opened = self._open_file(path)
                if self._is_due(opened, incoming):  # as an earlier process has left it
                    self._rotate(path, now)
            return self._file or self._open_file(path)
        except OSError as error:
            raise as_sink_error(error, path) from error

    def _reopen(self) -> None:
        try:
            self._close()
        except OSError as error:  # what `fsync` says of a file that is gone; the next one matters
            self.context.log.warning("close_failed", sink=self.context.name, error=str(error))
        self._ready(0)

    def _open_file(self, path: str) -> AppendFile:
        self._opened_by = self.context
        self._file = file = AppendFile(path, self.context.salvage)
        if self._config.rotate_seconds:
            self._begun_ms = file.begun_ms(self._clock.moment())
        return file

    def _is_due(self, file: AppendFile, incoming: int) -> bool:
        config = self._config
        if not file.size:
            return False
        if config.rotate_bytes and file.size + incoming > config.rotate_bytes:
            return True
        if not config.rotate_seconds:
            return False
        return self._clock.moment().steady_ms - self._begun_ms >= config.rotate_seconds * 1000

    def _rotate(self, path: str, now: float) -> None:
        try:
            rotated = _rotation.rotate(path, now)
        except OSError as error:  # continue in the same file: lines matter more than its size
            self._log_rotation_failed(path, error)
        else:
            self._left_behind.append(rotated)
            self._close()

    def _append(self, payloads: Sequence[bytes]) -> tuple[int, TransientSinkError | None]:
        file = self._ready(sum(map(len, payloads)))
        kept, error = file.append(payloads)
        if error is not None:
            return kept, as_sink_error(error, file.path)
        if self._config.fsync == "always":
            self._sync()
        return kept, None

    def _sync(self) -> None:
        if self._file is not None:
            try:
                self._file.sync()
            except OSError as error:
                raise as_sink_error(error, self._file.path) from error

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            try:
                if self._config.fsync != "never":
                    file.sync()
            finally:
                file.close()

    # -- rotated files -------------------------------------------------------------------------

    def _tidy_soon(self) -> None:
        """Start to compress and delete rotated files, as configured."""
        wanted = self._left_behind or not self._is_recovered
        if wanted and (self._tidying is None or self._tidying.done()):
            self._tidying = asyncio.create_task(self._tidy(), name="tidy-rotated-files")

    async def _tidy(self) -> None:
        if not self._is_recovered:
            self._is_recovered = True
            await self._carefully(self._recover, self._config.path)
        while self._left_behind:
            path = self._left_behind.pop(0)
            await self._carefully(self._tidy_one, path)

    async def _carefully(self, call: Callable[[str], None], path: str) -> None:
        try:
            await self._housekeeper.run(call, path)
        except _rotation.CutOffError:
            return
        except Exception as error:  # noqa: BLE001 - whatever a compressor raises
            self._log_rotation_failed(path, error)  # the file stays as it is: nothing is lost

    def _recover(self, template: str) -> None:
        """Find what an earlier process rotated and did not compress, or not to its end."""
        compression, context = self._config.compression, self.context
        current = expand(template, context, self._clock.wall())
        others = sorted(bases(template, context))
        by_date = "{date}" in template
        found = _rotation.find_unfinished(others, current, compression, whole_files=by_date)
        self._left_behind += [path for path in found if path not in self._left_behind]
        if self._config.keep:
            _rotation.delete_old(current, self._config.keep)

    def _tidy_one(self, path: str) -> None:
        if self._config.compression != "none" and not _rotation.is_compressed(path):
            _rotation.compress(
                path, self._config.compression, lambda: self._is_ending, self._clock.wall
            )
        if self._config.keep:
            current = expand(self._config.path, self.context, self._clock.wall())
            _rotation.delete_old(current, self._config.keep)

    def _log_rotation_failed(self, path: str, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or repr(error)
        self.context.log.warning("rotation_failed", sink=self.context.name, path=path, error=reason)

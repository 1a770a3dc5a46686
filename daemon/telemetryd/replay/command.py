"""The command: finds out what PATH is, delivers it, and says what came of it."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import Coroutine, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import uvloop

from telemetryd.config import Config, as_rule, load
from telemetryd.delivery.dead_letter import DeadLetter
from telemetryd.errors import EXIT_OK, EXIT_TEMPFAIL, ReplayError, SinkError
from telemetryd.log import Log
from telemetryd.masking import hide, secrets_of
from telemetryd.replay.bookmark import Bookmark
from telemetryd.replay.handover import Replay, spooled_lines
from telemetryd.replay.progress import Progress
from telemetryd.replay.sources import Piece, Source, pieces
from telemetryd.sinks._thread import SinkThread
from telemetryd.sinks.base import SinkConfig, SpoolConfig
from telemetryd.spool.segment import SUFFIX
from telemetryd.spool.segment_log import LOCK, SpoolLog
from telemetryd.unpack import is_packed

if TYPE_CHECKING:
    from telemetryd.core.redaction.redactor import Redactor

STDIN: Final = "-"
"""The path of standard input."""
_HEAD_BYTES: Final = 16
_MOST_BYTES: Final = 1024 * 1024 * 1024 * 1024
_LONGEST_MS: Final = 1 << 62
"""The maximum age of replayed lines. It is large, because the user asked for them."""


def replay(
    path: str, sink: str, environ: Mapping[str, str], err: TextIO, *, all_sinks: bool = False
) -> int:
    """Deliver what is in `path` to the configured `sink`; the exit status.

    0: all of it; EX_TEMPFAIL (75): call again to continue. Raises TelemetrydError: it can't begin.
    """
    config = load(environ).config
    if sink not in config.sinks:
        known = ", ".join(config.sinks)
        raise ReplayError(f"--sink {sink}: no sink of this name is configured; there is: {known}")
    run = _Run(Path(path), sink, config, err, all_sinks=all_sinks)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            finished = runner.run(run.run())
    except BlockingIOError as error:
        raise ReplayError(
            f"{path}: a running telemetryd has this spool open; stop that first"
        ) from error
    except OSError as error:
        raise ReplayError(f"{error.filename or path}: {error.strerror or error}") from error
    except ImportError as error:
        raise ReplayError(f"{path}: {error}") from error
    except SinkError as error:
        why = hide(error.detail or error.code, secrets_of(config, environ))
        raise ReplayError(f"sinks.{sink} can't be used now: {why}") from error
    return EXIT_OK if finished else EXIT_TEMPFAIL


class _Run:
    """One call of the command."""

    def __init__(
        self, path: Path, sink: str, config: Config, err: TextIO, *, all_sinks: bool
    ) -> None:
        self._path = path
        self._sink = sink
        self._config = config
        self._err = err
        self._all_sinks = all_sinks
        self._left_out = 0
        self._lost = 0
        self._log = Log("warning")
        self._log.conceal(lambda: secrets_of(config, os.environ))

    async def run(self) -> bool:
        """Deliver everything. Return True if that succeeded."""
        if self._path.is_dir():
            if any(self._path.glob(f"*{SUFFIX}")):
                return await self._spool()
            return self._nothing()
        if self._path == Path(STDIN):
            return await self._pipe(0)
        if stat.S_ISREG(self._path.stat().st_mode):
            return await self._file()
        return await self._pipe(self._path)

    async def _file(self) -> bool:
        path = self._path
        end = path.stat().st_size
        with path.open("rb") as file:
            packed = is_packed(file.read(_HEAD_BYTES))
        bookmark = Bookmark(path, self._sink)
        start = bookmark.read(is_packed=packed)
        if start is None or (start == end and not packed):
            self._say(
                f"{path}: everything in it has been replayed to {self._sink}; to do so again, "
                f"delete {bookmark.path}"
            )
            return True
        if start:
            self._say(f"{path}: continuing at byte {start:,}, as {bookmark.path} says")
        replay = self._replay()
        progress = Progress(self._err, end)
        done, read = start, 0

        def on_settled(piece: Piece) -> None:
            nonlocal done, read
            done, read = piece.end, piece.read
            self._left_out += piece.left_out
            bookmark.write(done)
            progress.show(read, replay.account.delivered.lines)

        source = pieces(Source(path, start), start, self._wanted)
        try:
            finished = await self._play(replay, replay.lines(source, on_settled))
        finally:
            source.close()
        if finished:
            bookmark.write(done, end)
            read = end
        progress.finish(read, replay.account.delivered.lines)
        return self._summary(replay, finished=finished, rest=f"from byte {done:,}")

    async def _pipe(self, file: Path | int) -> bool:
        """Replay a pipe. It is read once, so lines that are read and not delivered are lost."""
        replay = self._replay(keeps_lost=True)
        progress = Progress(self._err, None)
        read = 0

        def on_settled(piece: Piece) -> None:
            nonlocal read
            read = piece.read
            self._left_out += piece.left_out
            progress.show(read, replay.account.delivered.lines)

        reader = SinkThread("read-pipe")
        source = pieces(Source(file), 0, self._wanted)
        try:
            finished = await self._play(replay, replay.lines(source, on_settled, reader))
        finally:
            reader.close()
        self._lost = replay.lost_lines
        progress.finish(read, replay.account.delivered.lines)
        return self._summary(replay, finished=finished, rest="with the rest of the pipe")

    @property
    def _wanted(self) -> str | None:
        """The sink whose lines of a dead letter are replayed; None: all."""
        return None if self._all_sinks else self._sink

    def _nothing(self) -> bool:
        """Report a directory without segments: an empty spool, or none. Raises ReplayError."""
        path = self._path
        if (path / LOCK).exists():
            self._say(f"{path}: the spool is empty, everything that was in it has been delivered")
            return True
        spools = sorted(each.parent.name for each in path.glob(f"*/{LOCK}"))
        hint = f"; it has the spools {', '.join(spools)}, name one of them" if spools else ""
        raise ReplayError(f"{path}: holds no segments (*{SUFFIX}) of a spool{hint}")

    async def _spool(self) -> bool:
        name, _, kind = self._path.name.rpartition(".")
        config = self._config.sinks[self._sink]
        if not name:
            raise ReplayError(
                f"{self._path}: a spool's directory is named <sink>.<type>, which says how it was "
                f"packed; give it that name again"
            )
        spooled = SpoolLog(str(self._path), max_bytes=_MOST_BYTES)
        spooled.open()
        total = spooled.count.bytes
        spooled.close()
        progress = Progress(self._err, total)
        if kind != config.type:
            return await self._foreign_spool(name, kind, progress)
        spool = SpoolConfig(
            path=str(self._path.resolve().parent), max_bytes=_MOST_BYTES, max_age_ms=_LONGEST_MS
        )
        replay = self._replay(spool=spool, name=name)
        finished = await self._play(replay, replay.spool(progress.show))
        left = replay.account.spooled.bytes
        progress.finish(max(total - left, 0), replay.account.delivered.lines)
        rest = f"with {replay.account.spooled.lines:,} lines"
        return self._summary(replay, finished=finished, rest=rest)

    async def _foreign_spool(self, name: str, kind: str, progress: Progress) -> bool:
        """Replay a spool that a sink of another type has packed, which unpacks the lines."""
        packer = self._config.sinks.get(name)
        if packer is None or packer.type != kind:
            raise ReplayError(
                f"{self._path}: was packed by a sink {name} of type {kind}, which has to be "
                f"configured, to unpack it; sinks.{self._sink} is of another type"
            )
        unpacker = self._replay(name=name, config=packer).sink
        replay = self._replay()
        done = 0

        def unpack_spool() -> Generator[Piece]:
            for blocks, unreadable in spooled_lines(self._path, unpacker):
                yield Piece(blocks, sum(len(block.data) for block in blocks), unreadable)

        def on_settled(piece: Piece) -> None:
            nonlocal done
            done += piece.end
            self._left_out += piece.left_out
            progress.show(done, replay.account.delivered.lines)

        source = unpack_spool()
        try:
            finished = await self._play(replay, replay.lines(source, on_settled))
        finally:
            source.close()
        progress.finish(done, replay.account.delivered.lines)
        return self._summary(replay, finished=finished, rest="with the rest of the spool")

    # -- one replay ----------------------------------------------------------------------------

    def _replay(
        self,
        *,
        spool: SpoolConfig | None = None,
        name: str = "",
        config: SinkConfig | None = None,
        keeps_lost: bool = False,
    ) -> Replay:
        """Return a replay to the requested sink, or to the one of `name` and `config`.

        What leaves a spool or a pipe (`keeps_lost`) and is refused goes to the dead letter; what is
        in a file stays there.
        """
        letter = self._config.dead_letter
        dead_letter = None
        if (spool is not None or keeps_lost) and letter.path:
            dead_letter = DeadLetter(
                letter.path,
                max_bytes=letter.max_bytes,
                max_record_bytes=letter.max_record_bytes,
                log=self._log,
            )
        return Replay(
            name or self._sink,
            config or self._config.sinks[self._sink],
            dead_letter=dead_letter,
            log=self._log,
            spool=spool,
            redactor=_redactor(self._config),
        )

    async def _play(self, replay: Replay, delivery: Coroutine[None, None, bool]) -> bool:
        """Run `delivery` until it ends, or Ctrl-C ends it in an orderly way."""
        loop = asyncio.get_running_loop()

        def stop() -> None:
            replay.stop_asked = True

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        try:
            await replay.open()
        except BaseException:
            delivery.close()
            raise
        try:
            finished = await delivery
            self._lost = replay.lost_lines
        finally:
            await replay.close()
        return finished

    def _summary(self, replay: Replay, *, finished: bool, rest: str) -> bool:
        text = f"{replay.account.delivered.lines:,} lines delivered to {self._sink}"
        if self._lost:
            reasons = ", ".join(replay.account.dropped) or "see the dead letter"
            text += f", {self._lost:,} refused for good ({reasons})"
        if self._left_out:
            text += f", {self._left_out:,} left out: cut, malformed or too long"
        self._say(text)
        if not finished:
            why = "stopped" if replay.stop_asked else f"{self._sink} takes nothing now"
            self._say(f"{why}; the same command continues {rest}")
        return finished

    def _say(self, text: str) -> None:
        self._err.write(f"telemetryd replay: {text}\n")
        self._err.flush()


def _redactor(config: Config) -> Redactor | None:
    """Return what masks lines, which may be older than the rules."""
    if not config.redact:
        return None
    from telemetryd.core.redaction.redactor import redactor  # noqa: PLC0415 - where configured

    rules = [(rule.name, rule.pattern, rule.replace) for rule in map(as_rule, config.redact)]
    return redactor(rules, config.redact_salt.encode() or os.urandom(32))

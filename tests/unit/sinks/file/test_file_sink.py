"""The file sink on real files: rotation, dates, damage, and whatever may happen to the path."""

# ruff: noqa: D102 - the names say it
from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from telemetryd.clock import Clock, Moment
from telemetryd.core.ledger import Count
from telemetryd.errors import TransientSinkError
from telemetryd.sinks.base import DELIVERED, Batch, Failure, WriteResult
from telemetryd.sinks.file.sink import FileConfig, FileSink
from telemetryd.testing import (
    LOOPS,
    LogBook,
    LoopFactory,
    Rig,
    batch_of,
    block,
    context,
    data_of,
    dead_letter_at,
    numbered_blocks,
    run,
)
from telemetryd_proto.framing import Block

FAR = 3600.0
MIDNIGHT = 1773532800.0  # 2026-03-15T00:00:00Z


class HandClock(Clock):
    """`now`: epoch seconds, moved by hand. The time since boot goes with them, unless it is set."""

    def __init__(self, now: float = MIDNIGHT - 3600) -> None:
        super().__init__(wall=lambda: self.now, moment=self._moment_now)
        self.now = now
        self.set_moment: Moment | None = None

    def _moment_now(self) -> Moment:
        if self.set_moment is not None:
            return self.set_moment
        millis = int(self.now * 1000)
        return Moment("a boot", millis - int(MIDNIGHT * 1000) + 86_400_000, millis)


class Bench:
    """A file sink at `<tmp>/<name>` with its clock, log and salvage."""

    def __init__(self, directory: Path, name: str = "out", **keys: Any) -> None:
        self.path = directory / name
        self.clock = HandClock()
        self.log = LogBook()
        self.salvaged: list[bytes] = []
        self.found = b""
        """What was in the file right after a direct write."""
        self.config = msgspec.convert({"type": "file", "path": str(self.path), **keys}, FileConfig)
        self.sink = FileSink(self.config, context(self.log, self.salvage, clock=self.clock))

    def salvage(self, data: bytes, reason: str) -> bool:
        self.salvaged.append(data)
        return True

    async def write(self, blocks: Sequence[Block]) -> WriteResult:
        return await self.sink.write(batch_of(self.sink, blocks), attempt=1, deadline=FAR)

    def play(self, *steps: Sequence[Block] | Callable[[], object]) -> None:
        """Write blocks, call what is not blocks, in turn; close."""

        async def scenario() -> None:
            for step in steps:
                if callable(step):
                    step()
                else:
                    assert await self.write(step) == DELIVERED
            await self.sink.close()

        run(asyncio.new_event_loop, scenario())

    def names(self) -> list[str]:
        return sorted(entry.name for entry in self.path.parent.iterdir())


def line(text: str) -> list[Block]:
    return [block(text.encode())]


# -- configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"path": ""}, "path: must name a file"),
        ({"path": "x", "keep": 3}, "keep: needs rotate_bytes or rotate_seconds"),
        ({"path": "x", "compression": "gzip"}, "compression: applies to rotated files"),
    ],
)
def test_rules_between_keys(keys: dict[str, Any], problem: str) -> None:
    (found,) = msgspec.convert({"type": "file", **keys}, FileConfig).problems()
    assert found.startswith(problem)


@pytest.mark.parametrize(
    "keys",
    [
        {"path": "x"},
        {"path": "x", "rotate_bytes": 1, "keep": 3, "compression": "zstd"},
        {"path": "x", "rotate_seconds": 1, "keep": 3, "compression": "gzip"},
        {"path": "x.{date}", "compression": "gzip"},
    ],
)
def test_keys_that_go_together(keys: dict[str, Any]) -> None:
    assert list(msgspec.convert({"type": "file", **keys}, FileConfig).problems()) == []


# -- the path ------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["../../escape", "..", "", "$LATEST", "/etc/passwd", ".x"])
def test_no_name_of_a_function_leaves_the_directory(tmp_path: Path, function: str) -> None:
    config = FileConfig(type="file", path=str(tmp_path / "logs" / "{function}" / "{version}.log"))
    sink = FileSink(config, context(function=function))

    async def scenario() -> None:
        await sink.write(batch_of(sink, line("x")), attempt=1, deadline=FAR)
        await sink.close()

    run(asyncio.new_event_loop, scenario())
    (made,) = tmp_path.rglob("*.log")
    assert made.parent.parent == tmp_path / "logs"
    assert not made.parent.name.startswith(".")


@pytest.mark.parametrize("obstacle", ["fifo", "symlink", "directory", "file_as_parent", "locked"])
def test_an_obstacle_at_the_path_is_retried_and_delivery_resumes_when_it_goes(
    tmp_path: Path, obstacle: str
) -> None:
    path = tmp_path / "dir" / "out"
    path.parent.mkdir()
    codes = {
        "fifo": "not_a_file", "symlink": "permission", "directory": "io_error",
        "file_as_parent": "io_error", "locked": "locked",
    }  # fmt: skip
    holder = Bench(tmp_path / "dir")
    bench = Bench(tmp_path / "dir")
    rig = Rig(bench.sink, bench.config, log=bench.log)

    async def scenario() -> None:
        if obstacle == "fifo":
            os.mkfifo(path)
        elif obstacle == "symlink":
            path.symlink_to(tmp_path / "target")
        elif obstacle == "directory":
            path.mkdir()
        elif obstacle == "file_as_parent":
            path.parent.rmdir()
            path.parent.write_bytes(b"")
        else:
            await holder.write(line("theirs"))
        failed = asyncio.Event()
        rig.log.on_event["write_failed"] = failed.set
        rig.worker.start()
        rig.offer(line("ours"))
        await failed.wait()
        if obstacle == "directory":
            path.rmdir()
        elif obstacle == "file_as_parent":
            path.parent.unlink()
        elif obstacle == "locked":
            await holder.sink.close()
        else:
            path.unlink()
        assert await rig.flush()
        await rig.stop()

    run(asyncio.new_event_loop, scenario())
    rig.check_end()
    assert rig.lines() == {"delivered": 1}
    assert {facts["code"] for facts in rig.log.facts("write_failed")} == {codes[obstacle]}
    assert not (tmp_path / "target").exists()
    assert path.read_bytes() == (b"theirs\n" if obstacle == "locked" else b"") + b"ours\n"


def test_permission_errors_end_in_a_drop_with_reason(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("elsewhere")
    bench = Bench(tmp_path, retry_max_elapsed_ms=0)
    rig = Rig(bench.sink, bench.config, log=bench.log)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(numbered_blocks(2))
        await rig.flush()
        await rig.stop()

    run(asyncio.new_event_loop, scenario())
    rig.check_end()
    assert rig.lines() == {"dropped.permission": 6}


@pytest.mark.parametrize("how", ["removed", "renamed", "replaced", "directory removed"])
def test_a_file_taken_away_under_us_is_made_anew(tmp_path: Path, how: str) -> None:
    bench = Bench(tmp_path / "dir")

    def take_away() -> None:
        bench.path.rename(tmp_path / "moved")
        if how == "removed":
            (tmp_path / "moved").unlink()
        elif how == "replaced":
            bench.path.write_bytes(b"theirs\n")
        elif how == "directory removed":
            bench.path.parent.rmdir()

    bench.play(line("one"), take_away, line("two"))
    assert bench.path.read_bytes() == (b"theirs\n" if how == "replaced" else b"") + b"two\n"
    if how != "removed":
        assert (tmp_path / "moved").read_bytes() == b"one\n"


def test_a_file_emptied_under_us_is_written_on_from_its_start(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rotate_bytes=100)
    bench.play(line("x" * 90), lambda: os.truncate(bench.path, 0), line("y" * 50))
    assert bench.path.read_bytes() == b"y" * 50 + b"\n"
    assert bench.names() == ["out"]


def test_a_torn_last_line_is_cut_off_before_the_first_line_is_written(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"whole\ntorn")
    bench = Bench(tmp_path)
    bench.play(line("next"))
    assert bench.path.read_bytes() == b"whole\nnext\n"
    assert bench.salvaged == [b"torn"]


def test_a_file_with_half_an_item_that_could_not_be_cut_off_is_repaired_before_the_next(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path)

    def tear() -> None:
        assert bench.sink._file is not None
        with bench.path.open("ab") as file:
            file.write(b"half an it")
        bench.sink._file.torn = True

    bench.play(line("one"), tear, line("two"))
    assert bench.path.read_bytes() == b"one\ntwo\n"
    assert bench.salvaged == [b"half an it"]


def test_the_salvage_of_a_torn_line_reaches_the_real_dead_letter(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"torn \xff")
    letters = tmp_path / "dead"
    letter = dead_letter_at(letters)
    config = FileConfig(type="file", path=str(tmp_path / "out"))
    sink = FileSink(
        config,
        context(salvage=lambda data, reason: letter.keep(data, reason=reason, sink="archive")),
    )

    async def scenario() -> None:
        await sink.open()
        await sink.close()

    run(asyncio.new_event_loop, scenario())
    letter.close()
    record = json.loads(letters.read_bytes())
    assert (record["reason"], record["sink"], record["bytes"]) == ("torn", "archive", 6)


def test_no_room_for_all_items_is_a_partial_failure_and_none_is_torn(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for a full disk; lifted, the rest is delivered, nothing twice."""
    code = """
        import asyncio, resource, sys
        from telemetryd.log import EventLog
        from telemetryd.sinks.base import Batch, DELIVERED, Item, SinkContext
        from telemetryd.sinks.file.sink import FileConfig, FileSink

        sink = FileSink(
            FileConfig(type="file", path=sys.argv[1]),
            SinkContext(name="a", function="f", version="1", instance="i",
                        salvage=lambda data, reason: False, log=EventLog()))
        items = tuple(Item(bytes([65 + n]) * 299 + b"\\n", 1, 300) for n in range(6))

        async def main():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
            result = await sink.write(Batch("b", items), attempt=1, deadline=9e9)
            assert [(f.index, f.code, f.retryable) for f in result.failures] == [
                (3, "disk_full", True), (4, "disk_full", True), (5, "disk_full", True)], result
            try:
                await sink.write(Batch("b", items[3:]), attempt=2, deadline=9e9)
            except Exception as error:
                assert (type(error).__name__, error.code) == ("TransientSinkError", "disk_full")
            else:
                raise AssertionError("written beyond the limit")
            resource.setrlimit(resource.RLIMIT_FSIZE, (-1, resource.RLIM_INFINITY))
            assert await sink.write(Batch("b", items[3:]), attempt=3, deadline=9e9) == DELIVERED
            await sink.close()

        asyncio.run(main())
    """
    path = tmp_path / "out"
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)], check=True)
    assert path.read_bytes() == b"".join(bytes([65 + n]) * 299 + b"\n" for n in range(6))


# -- rotation ------------------------------------------------------------------------------------


def test_nothing_is_rotated_unless_asked(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.play(*(line("x" * 1000) for _ in range(50)))
    assert bench.names() == ["out"]


def test_rotation_by_size_keeps_files_within_it_and_loses_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rotate_bytes=1000)
    blocks = numbered_blocks(100)
    bench.play(*([each] for each in blocks))
    files = [tmp_path / name for name in (*bench.names()[1:], "out")]
    assert len(files) > 3
    assert all(file.stat().st_size <= 1000 for file in files)
    assert b"".join(file.read_bytes() for file in files) == data_of(blocks)


def test_a_batch_larger_than_the_limit_gets_a_file_of_its_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rotate_bytes=10)
    bench.play(line("x" * 100), line("y" * 100))
    assert bench.path.read_bytes() == b"y" * 100 + b"\n"
    assert len(bench.names()) == 2


def test_rotation_by_age(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rotate_seconds=60)

    def later(seconds: float) -> Callable[[], None]:
        def move() -> None:
            bench.clock.now += seconds

        return move

    bench.play(line("one"), later(59), line("two"), later(1), line("three"), later(-500), line("4"))
    assert bench.path.read_bytes() == b"three\n4\n"
    (rotated,) = [name for name in bench.names() if name != "out"]
    assert rotated == "out.20260314T230100.000000Z"
    assert (tmp_path / rotated).read_bytes() == b"one\ntwo\n"


@LOOPS
def test_rotated_files_are_compressed_and_all_but_the_newest_deleted(
    tmp_path: Path, loop_factory: LoopFactory
) -> None:
    bench = Bench(tmp_path, rotate_bytes=200, keep=2, compression="gzip")
    blocks = [block(b"%03d" % number + b"x" * 150) for number in range(8)]
    rig = Rig(bench.sink, bench.config, log=bench.log)

    async def scenario() -> None:
        rig.worker.start()
        for each in blocks:
            bench.clock.now += 1
            rig.offer([each])
            assert await rig.flush()
        await rig.stop()

    run(loop_factory, scenario())
    rig.check_end()
    rotated = [name for name in bench.names() if name != "out"]
    assert [Path(name).suffix for name in rotated] == [".gz", ".gz"]
    kept = [gzip.decompress((tmp_path / name).read_bytes()) for name in rotated]
    assert [*kept, bench.path.read_bytes()] == [each.data for each in blocks[-3:]]


def test_rotation_that_fails_is_said_and_lines_go_on_in_the_same_file(tmp_path: Path) -> None:
    """A name that is too long once it is rotated can't be given: the lines matter more."""
    bench = Bench(tmp_path, name="n" * 250, rotate_bytes=10)
    bench.play(line("one" * 5), line("two" * 5))
    assert bench.path.read_bytes() == b"oneoneoneoneone\ntwotwotwotwotwo\n"
    assert bench.log.facts("rotation_failed")[0]["error"] == "File name too long"


def test_compression_that_fails_leaves_the_rotated_file(tmp_path: Path) -> None:
    bench = Bench(tmp_path, name="n" * 231, rotate_bytes=10, compression="gzip")
    bench.play(line("one" * 5), line("two" * 5))
    rotated, _ = sorted(bench.names(), key=len, reverse=True)
    assert (tmp_path / rotated).read_bytes() == b"oneoneoneoneone\n"
    assert len(bench.log.facts("rotation_failed")) == 1


def test_a_new_date_is_a_new_file_and_the_old_one_is_compressed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, name="out-{date}.log", compression="gzip")

    def pass_midnight() -> None:
        bench.clock.now = MIDNIGHT

    bench.play(line("before"), pass_midnight, line("after"))
    assert bench.names() == ["out-2026-03-14.log.gz", "out-2026-03-15.log"]
    old, new = (tmp_path / name for name in bench.names())
    assert gzip.decompress(old.read_bytes()) == b"before\n"
    assert new.read_bytes() == b"after\n"


# -- life ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["never", "flush", "always"])
def test_every_fsync_policy_delivers_and_flushes(tmp_path: Path, policy: str) -> None:
    bench = Bench(tmp_path, fsync=policy, rotate_bytes=10)

    async def scenario() -> None:
        await bench.sink.flush(deadline=FAR)
        for text in ("one" * 5, "two" * 5):
            assert await bench.write(line(text)) == DELIVERED
            await bench.sink.flush(deadline=FAR)
        await bench.sink.close()

    run(asyncio.new_event_loop, scenario())
    assert len(bench.names()) == 2


def test_a_forced_write_that_fails_is_the_batchs_failure(tmp_path: Path) -> None:
    """A pipe in place of the file's descriptor can be written and can't be forced to a disk."""
    bench = Bench(tmp_path, fsync="always")

    async def scenario() -> None:
        await bench.sink.open()
        assert bench.sink._file is not None
        read_end, write_end = os.pipe()
        ours = os.dup(bench.sink._file._fd)
        bench.sink._file.look = lambda: True  # type: ignore[method-assign]  # it is another now
        os.dup2(write_end, bench.sink._file._fd)
        with pytest.raises(TransientSinkError) as caught:
            await bench.write(line("x"))
        assert caught.value.code == "io_error"
        os.dup2(ours, bench.sink._file._fd)
        for fd in (read_end, write_end, ours):
            os.close(fd)
        await bench.sink.close()

    run(asyncio.new_event_loop, scenario())


@pytest.mark.parametrize(("policy", "forced"), [("never", False), ("flush", True)])
def test_a_file_that_is_left_is_forced_to_the_disk_where_asked(
    tmp_path: Path, policy: str, forced: bool
) -> None:
    """Its descriptor is a pipe's by then, which can't be forced: the attempt shows."""
    bench = Bench(tmp_path, fsync=policy)

    async def scenario() -> None:
        await bench.sink.open()
        assert bench.sink._file is not None
        read_end, write_end = os.pipe()
        os.dup2(write_end, bench.sink._file._fd)
        if forced:
            with pytest.raises(OSError):
                await bench.sink.close()
        else:
            await bench.sink.close()
        for fd in (read_end, write_end):
            os.close(fd)

    run(asyncio.new_event_loop, scenario())


@LOOPS
def test_a_killed_writer_leaves_whole_lines_and_at_most_one_torn(
    tmp_path: Path, loop_factory: LoopFactory
) -> None:
    code = """
        import asyncio, sys
        from telemetryd.log import EventLog
        from telemetryd.sinks.base import Batch, Item, SinkContext
        from telemetryd.sinks.file.sink import FileConfig, FileSink

        sink = FileSink(
            FileConfig(type="file", path=sys.argv[1]),
            SinkContext(name="a", function="f", version="1", instance="i",
                        salvage=lambda data, reason: False, log=EventLog()))

        async def main():
            n = 0
            while True:
                lines = b"".join(b"%08d\\n" % (n + i) for i in range(1000))
                n += 1000
                await sink.write(Batch("b", (Item(lines, 1000, 9000),)), attempt=1, deadline=9e9)
                print(n, flush=True)

        asyncio.run(main())
    """
    bench = Bench(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(bench.path)], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        acknowledged = int([writer.stdout.readline() for _ in range(20)][-1])
        writer.kill()

    async def scenario() -> None:
        assert await bench.write(line("after")) == DELIVERED
        await bench.sink.close()

    run(loop_factory, scenario())
    *lines, last = bench.path.read_bytes().splitlines(keepends=True)
    assert last == b"after\n"
    assert lines == [b"%08d\n" % number for number in range(len(lines))]
    assert len(lines) >= acknowledged


def test_partial_refusals_name_the_rest_of_the_batch_in_order(tmp_path: Path) -> None:
    """What the worker settles from a partial result is what the file really holds."""
    bench = Bench(tmp_path)
    result = WriteResult((Failure(1, "disk_full", retryable=True),))
    blocks = numbered_blocks(2)

    class FullOnce(FileSink):
        full = True

        async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
            if self.full:
                self.full = False
                first = Batch(batch.batch_id, batch.items[:1])
                await super().write(first, attempt=attempt, deadline=deadline)
                return result
            return await super().write(batch, attempt=attempt, deadline=deadline)

    sink = FullOnce(bench.config, context(bench.log))
    rig = Rig(sink, bench.config, log=bench.log)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(blocks)
        assert await rig.flush()
        await rig.stop()

    run(asyncio.new_event_loop, scenario())
    rig.check_end()
    assert rig.leaves() == {"delivered": Count(6, len(data_of(blocks)))}
    assert bench.path.read_bytes() == data_of(blocks)


# -- what an earlier process has left --------------------------------------------------------------


def opened(bench: Bench) -> None:
    """A process that opens the file, and ends."""

    async def scenario() -> None:
        await bench.sink.open()
        await bench.sink.close()

    run(asyncio.new_event_loop, scenario())


def test_the_age_of_a_file_is_known_to_the_next_process(tmp_path: Path) -> None:
    for number, seconds in enumerate((0, 40, 80)):
        bench = Bench(tmp_path, rotate_seconds=60)
        bench.clock.now += seconds
        bench.play(line(f"{number}"))
    assert bench.path.read_bytes() == b"2\n"
    assert sorted(bench.names())[1:] == ["out.20260314T230120.000000Z"]


@pytest.mark.parametrize("step", [-86_400, 86_400])
def test_a_clock_that_steps_between_processes_makes_no_file_older(
    tmp_path: Path, step: int
) -> None:
    first = Bench(tmp_path, rotate_seconds=60)
    first.play(line("1"))
    second = Bench(tmp_path, rotate_seconds=60)
    before = second.clock.moment()
    second.clock.now += step
    second.clock.set_moment = before._replace(wall_ms=before.wall_ms + step * 1000)
    second.play(line("2"))
    assert second.path.read_bytes() == b"1\n2\n"
    second.clock.set_moment = before._replace(steady_ms=before.steady_ms + 60_000)
    second.play(line("3"))
    assert second.path.read_bytes() == b"3\n"


def test_a_file_of_another_boot_or_program_is_as_old_as_can_be_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rotate_seconds=60)
    bench.path.write_bytes(b"another program's\n")
    os.utime(bench.path, (bench.clock.now - 61,) * 2)
    bench.play(line("1"))
    assert bench.path.read_bytes() == b"1\n"
    later = Bench(tmp_path, rotate_seconds=60)
    then = later.clock.moment()
    later.clock.set_moment = then._replace(boot="another", wall_ms=then.wall_ms + 60_000)
    later.play(line("2"))
    assert later.path.read_bytes() == b"2\n"


def test_what_was_rotated_and_not_compressed_is_at_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "out.20260101T000000.000001Z").write_bytes(b"old\n")
    (tmp_path / "out.20260101T000000.000001Z.gz.partial").write_bytes(b"\x1f\x8bcut off")
    opened(Bench(tmp_path, rotate_bytes=100, compression="gzip"))
    assert [name for name in os.listdir(tmp_path) if name != "out"] == [  # noqa: PTH208
        "out.20260101T000000.000001Z.gz"
    ]


def test_files_of_days_and_processes_that_are_over_are_compressed_at_the_next_start(
    tmp_path: Path,
) -> None:
    name = "{date}/out-{instance}"
    old = tmp_path / "2026-03-01" / f"out-{'a' * 32}"
    old.parent.mkdir()
    old.write_bytes(b"old\n")
    Path(f"{old}.bak").write_bytes(b"someone's")
    bench = Bench(tmp_path, name, compression="gzip")
    opened(bench)
    assert sorted(path.name for path in old.parent.iterdir()) == [
        f"{old.name}.bak", f"{old.name}.gz",
    ]  # fmt: skip


def test_more_rotated_files_than_are_kept_are_deleted_at_the_next_start(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"out.20260101T000000.00000{number}Z").write_bytes(b"old\n")
    opened(Bench(tmp_path, rotate_bytes=100, keep=1))
    assert sorted(os.listdir(tmp_path)) == ["out", "out.20260101T000000.000003Z"]  # noqa: PTH208


# -- direct writes -------------------------------------------------------------------------------


def direct(bench: Bench, *before: Callable[[], object], data: bytes = b"direct\n") -> bool:
    """Open the sink, write `first`, call `before`, and write `data` at once; what that returned."""

    async def scenario() -> bool:
        await bench.sink.open()
        await bench.write(line("first"))
        for step in before:
            step()
        written = bench.sink.write_direct(data)
        bench.found = bench.path.read_bytes() if bench.path.exists() else b""
        await bench.sink.close()
        return written

    return run(asyncio.new_event_loop, scenario())


def test_a_file_at_hand_is_written_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rotate_bytes=1000, rotate_seconds=3600, fsync="flush")
    assert direct(bench)
    assert bench.found == b"first\ndirect\n"


def test_a_sink_that_is_not_open_writes_nothing_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert not bench.sink.write_direct(b"direct\n")
    direct(bench)
    assert not bench.sink.write_direct(b"closed\n")
    assert bench.path.read_bytes() == b"first\ndirect\n"


@pytest.mark.parametrize(
    ("keys", "before"),
    [
        ({"fsync": "always"}, lambda _: None),
        ({"rotate_bytes": 12}, lambda _: None),
        ({"rotate_seconds": 60}, lambda bench: setattr(bench.clock, "now", MIDNIGHT - 3500)),
        ({}, lambda bench: bench.path.rename(bench.path.with_name("moved"))),
        ({}, lambda bench: bench.path.unlink()),
        ({}, lambda bench: setattr(bench.sink._file, "torn", True)),
        ({}, lambda bench: setattr(bench.sink._file, "is_local", False)),
    ],
    ids=["fsync", "rotate_bytes", "rotate_seconds", "moved", "deleted", "torn", "distant"],
)  # fmt: skip
def test_where_there_is_more_to_do_the_thread_does_it(
    tmp_path: Path, keys: dict[str, Any], before: Callable[[Bench], object]
) -> None:
    bench = Bench(tmp_path, **keys)
    assert not direct(bench, lambda: before(bench))
    assert b"direct" not in bench.found


def test_a_date_that_has_changed_is_a_file_for_the_thread(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "{date}")
    assert direct(bench) is True
    assert not direct(bench, lambda: setattr(bench.clock, "now", MIDNIGHT + 1))
    assert (tmp_path / "2026-03-14").read_bytes() == b"first\ndirect\nfirst\n"


def test_after_a_restore_the_file_of_the_new_instance_is_for_the_thread(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "{instance}")
    assert not direct(bench, lambda: bench.sink.on_restore("f" * 32))
    (path,) = tmp_path.iterdir()
    assert path.read_bytes() == b"first\n"


def test_after_a_restore_a_file_of_the_same_name_is_written_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert direct(bench, lambda: bench.sink.on_restore("f" * 32))


def test_while_the_thread_is_at_the_file_nothing_is_written_at_once(tmp_path: Path) -> None:
    """It may close it: after SIGHUP, for one. A call that was given up still runs."""
    bench = Bench(tmp_path)
    began, may_end = threading.Event(), threading.Event()

    def block_thread() -> None:
        began.set()
        may_end.wait()

    async def scenario() -> None:
        await bench.sink.open()
        for is_given_up in (False, True):
            call = asyncio.ensure_future(bench.sink._writer.run(block_thread))
            await asyncio.sleep(0)
            assert not bench.sink.write_direct(b"waits\n")
            began.wait()
            if is_given_up:
                call.cancel()
                await asyncio.wait({call})
            assert not bench.sink.write_direct(b"runs\n")
            may_end.set()
            while bench.sink._writer.is_busy:  # noqa: ASYNC110 - it ends with a call-back
                await asyncio.sleep(0)
            assert bench.sink.write_direct(b"over\n")
            began.clear()
            may_end.clear()
        await bench.sink.close()

    run(asyncio.new_event_loop, scenario())
    assert bench.path.read_bytes() == b"over\nover\n"


def test_what_a_full_disk_took_of_a_direct_write_is_cut_off_and_written_once() -> None:
    """RLIMIT_FSIZE cuts the write short, then refuses it, as a full disk does with ENOSPC."""
    code = """
        import asyncio, os, resource, signal, sys, tempfile, msgspec
        from telemetryd.core.ledger import Count
        from telemetryd.sinks.file.sink import FileConfig, FileSink
        from telemetryd.testing import LogBook, Rig, block, context

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        path = tempfile.mkdtemp() + "/out"
        config = msgspec.convert({"type": "file", "path": path}, FileConfig)
        log = LogBook()
        rig = Rig(FileSink(config, context(log)), config, log=log)
        failed = asyncio.Event()
        log.on_event["write_failed"] = failed.set

        async def main():
            rig.worker.start()
            assert await rig.flush()
            while rig.sink._file is None:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)
            rig.offer([block(b"a" * 99)])
            assert rig.stats.direct_writes == 1, "it is at hand"
            resource.setrlimit(resource.RLIMIT_FSIZE, (250, resource.RLIM_INFINITY))
            rig.offer([block(b"b" * 99, b"c" * 99)])
            assert os.path.getsize(path) == 100, "nothing of it is left there"
            rig.check_balance()
            await failed.wait()
            resource.setrlimit(resource.RLIMIT_FSIZE, (-1, resource.RLIM_INFINITY))
            assert await rig.flush()
            rig.offer([block(b"d" * 99)])
            await rig.stop()

        asyncio.run(main())
        rig.check_end()
        assert rig.lines() == {"delivered": 4}
        data = open(path, "rb").read()
        assert data == b"".join(each * 99 + b"\\n" for each in (b"a", b"b", b"c", b"d")), data
        assert rig.stats.errors == {("transient", "disk_full"): 1}, rig.stats.errors
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)

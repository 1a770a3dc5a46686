"""`SinkBuffer`: lines of a function's own to a sink, and what is wrong said where it is made."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import snapshot_restore_py

from helpers.lifecycle import until
from telemetryd.errors import ConfigError
from telemetryd.internal import SinkBuffer, flushing
from telemetryd.internal import buffer as buffer_module
from telemetryd.sinks.file.sink import FileSink
from telemetryd.sinks.null import NullSink


def test_each_line_arrives_and_is_accounted_for(tmp_path: Path) -> None:
    out = tmp_path / "out"
    buffer = SinkBuffer("file", path=str(out))
    buffer.write({"metric": "orders"})
    buffer.write("two\nlines\n")
    buffer.write(b"bytes")
    buffer.write("")
    assert buffer.flush(60)
    first, *rest = out.read_text().splitlines()
    assert json.loads(first) == {"metric": "orders"}
    assert rest == ["two lines", "bytes"]
    account = buffer.close()
    assert account["delivered"]["lines"] == account["offered"]["lines"] == 3
    assert account["pending"]["lines"] == 0
    assert buffer.close() == account


def test_any_text_is_a_line_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    buffer = SinkBuffer("file", path=str(out))
    for text in ({"half": "\ud83d"}, "half \ud83d", b"\xff"):
        buffer.write(text)
    for wrong in (None, 5, ["x"]):
        with pytest.raises(TypeError, match="text, bytes or a dict"):
            buffer.write(wrong)  # type: ignore[arg-type]
    assert buffer.flush(60)
    assert out.read_bytes() == b'{"half": "\\ud83d"}\nhalf ?\n\xff\n'
    assert buffer.close()["delivered"]["lines"] == 3


def test_a_flush_whose_lines_are_dropped_says_so(tmp_path: Path) -> None:
    buffer = SinkBuffer("file", path=str(tmp_path), retry_max_elapsed_ms=0)  # a directory
    buffer.write("one")
    assert not buffer.flush(60)
    assert buffer.flush(60)  # nothing was written since
    account = buffer.close()
    assert account["dropped"]
    assert account["delivered"]["lines"] == account["pending"]["lines"] == 0


def test_after_a_restore_from_a_snapshot_its_ids_are_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Environments that come of one snapshot would give different lines the same ids."""
    renewed: list[str] = []
    monkeypatch.setattr(NullSink, "on_restore", lambda _, instance: renewed.append(instance))
    monkeypatch.setattr(snapshot_restore_py, "_after_restore_registry", [])
    buffer = SinkBuffer("null")
    for hook, arguments, keys in 2 * snapshot_restore_py.get_after_restore():
        hook(*arguments, **keys)
    buffer.close()
    assert [len(each) for each in renewed] == [32, 32]
    assert renewed[0] != renewed[1]
    for hook, arguments, keys in snapshot_restore_py.get_after_restore():
        hook(*arguments, **keys)  # of a buffer that is closed


@pytest.mark.parametrize(
    "setting",
    [
        {"format": "flat"}, {"fields": ["function"]}, {"tags": {"a": 1}}, {"include": ["x"]},
        {"sample": [{"keep": 0.1}]}, {"min_level": "error"}, {"types": ["platform"]},
        {"spool": {"path": "/spool"}}, {"failover": "b"}, {"overflow": "block"},
    ],
)  # fmt: skip
def test_a_setting_that_only_the_daemon_follows_is_refused(
    tmp_path: Path, setting: dict[str, object]
) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(setting))}: has no effect here"):
        SinkBuffer("file", path=str(tmp_path / "out"), **setting)


@pytest.mark.parametrize("settings", [{}, {"path": 3}, {"path": "/x", "min_level": "loud"}])
def test_a_wrong_setting_is_an_error_where_the_buffer_is_made(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"SinkBuffer\('file'\)"):
        SinkBuffer("file", **settings)


def test_an_unknown_sink_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="known types"):
        SinkBuffer("fil")


def test_a_sink_that_can_not_be_made_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no such device")

    monkeypatch.setattr(FileSink, "__init__", fail)
    with pytest.raises(OSError, match="no such device"):
        SinkBuffer("file", path=str(tmp_path / "out"))


def assert_adds_up(account: dict[str, Any]) -> None:
    """All that was offered has ended somewhere, once."""
    dropped = sum(count["lines"] for count in account["dropped"].values())
    ended = account["delivered"]["lines"] + account["pending"]["lines"] + dropped
    assert account["offered"]["lines"] == account["enqueued"]["lines"] == ended


def test_without_a_thread_to_spare_lines_are_dropped_and_counted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The function runs, and one line says what it does without."""
    threading.stack_size(1 << 50)  # more than there can be
    try:
        buffer = SinkBuffer("file", path=str(tmp_path / "out"))
    finally:
        threading.stack_size(0)
    for _ in range(2000):
        buffer.write(b"x" * 99)
    assert not buffer.flush()
    assert buffer.flush()  # nothing was written since
    account = buffer.close()
    assert account["dropped"] == {"no_thread": {"lines": 2000, "bytes": 200_000}}
    assert_adds_up(account)
    assert "can't start new thread" in capfd.readouterr().err


def test_lines_behind_a_close_are_dropped_and_counted(tmp_path: Path) -> None:
    buffer = SinkBuffer("file", path=str(tmp_path / "out"))
    buffer.write("one")
    buffer.close()
    for _ in range(2000):
        buffer.write(b"x" * 99)
    assert not buffer.flush()
    account = buffer.close()
    assert account["delivered"]["lines"] == 1
    assert account["dropped"]["no_thread"]["lines"] == 2000
    assert_adds_up(account)


def test_a_child_leaves_its_parents_lines_alone_and_counts_its_own(tmp_path: Path) -> None:
    out = tmp_path / "out"
    buffer = SinkBuffer("file", path=str(out))
    buffer.write("the parent's")
    child = os.fork()
    if child == 0:
        buffer.write("the child's")
        flushed = buffer.flush()
        account = buffer.close()
        os._exit(account["offered"]["lines"] * 10 + flushed)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 10
    assert buffer.flush(60)
    buffer.close()
    assert out.read_text() == "the parent's\n"


def test_lines_that_a_stuck_thread_does_not_take_are_bounded(tmp_path: Path) -> None:
    buffer = SinkBuffer("file", path=str(tmp_path / "out"), queue_max_bytes=200_000)
    end = threading.Event()
    buffer._loop.call_soon_threadsafe(end.wait, 60)
    for _ in range(20_000):
        buffer.write(b"x" * 99)
    assert buffer._handed < 400_000
    end.set()
    assert not buffer.flush(60)
    account = buffer.close()
    assert account["offered"]["lines"] == 20_000
    assert account["dropped"]["queue_full"]["lines"] > 15_000
    assert_adds_up(account)


@pytest.mark.parametrize("fails", [False, True])
def test_a_sink_that_starts_late_delays_the_init_so_long_only(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    fails: bool,
) -> None:
    """The lines until then are counted."""
    end = threading.Event()
    make = FileSink.__init__

    def wait(*arguments: Any) -> None:
        end.wait(60)
        if fails:
            raise OSError("no such device")
        make(*arguments)

    monkeypatch.setattr(FileSink, "__init__", wait)
    monkeypatch.setattr(buffer_module, "_START_SECONDS", 0.01)
    buffer = SinkBuffer("file", path=str(tmp_path / "out"))
    buffer.write("too early")
    assert not buffer.flush()
    end.set()
    if fails:
        buffer._thread.join(60)
        assert "drops its lines: OSError('no such device')" in capfd.readouterr().err
    else:
        until(lambda: buffer._running() is not None)
        buffer.write("in time")
        assert buffer.flush(60)
    account = buffer.close()
    assert (account["dropped"]["no_thread"]["lines"], account["delivered"]["lines"]) == (
        1, 0 if fails else 1,
    )  # fmt: skip
    assert_adds_up(account)


def test_a_destination_that_hangs_is_flushed_to_again() -> None:
    calls: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        buffer = SinkBuffer("http", url=f"http://127.0.0.1:{hanging.getsockname()[1]}/lines")
        engine = flushing.Engine()
        engine.add(lambda: calls.append(buffer.flush(0.01)))
        for _ in range(3):
            buffer.write("a line")
            engine.flush(0.0)
        account = buffer.close(0)
    assert calls == [False] * 3
    assert account["offered"]["lines"] == 3
    assert_adds_up(account)


def test_a_flush_takes_less_than_a_call_may() -> None:
    """A call that takes longer is not called any more, and its lines would be lost."""
    (seconds,) = SinkBuffer.flush.__defaults__ or ()
    assert seconds + buffer_module._SLACK_SECONDS < flushing.EACH_SECONDS

"""`SinkBuffer`: lines of a function's own to a sink, and what is wrong said where it is made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import snapshot_restore_py

from telemetryd.errors import ConfigError
from telemetryd.internal import SinkBuffer
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

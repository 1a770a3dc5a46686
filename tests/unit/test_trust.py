"""What may be written to where others may write as well."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import msgspec
import pytest

from telemetryd.commands.check import check
from telemetryd.errors import TransientSinkError
from telemetryd.sinks.file.sink import FileConfig, FileSink
from telemetryd.spool.segment_log import SpoolLog
from telemetryd.testing import LogBook, context, dead_letter_at
from telemetryd.trust import UntrustedError, make_directory, open_file

FLAGS = os.O_RDWR | os.O_CREAT
STRANGER = 12345
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    directory = tmp_path / "shared"
    directory.mkdir()
    directory.chmod(0o1777)
    return directory


def attempt(path: Path) -> None:
    os.close(open_file(str(path), FLAGS))


def test_what_we_make_ourselves_is_ours(shared: Path) -> None:
    attempt(shared / "new")
    attempt(shared / "new")
    assert (shared / "new").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o666, 0o662, 0o664, 0o622])
def test_a_file_that_others_may_write_is_refused_where_they_could_have_made_it(
    shared: Path, tmp_path: Path, mode: int
) -> None:
    for directory in (shared, tmp_path):
        (directory / "file").touch()
        (directory / "file").chmod(mode)
    with pytest.raises(UntrustedError, match="may be written to by others"):
        attempt(shared / "file")
    attempt(tmp_path / "file")  # as logrotate's `create 0664` makes it


@needs_root
def test_a_file_of_another_user(shared: Path, tmp_path: Path) -> None:
    for directory in (shared, tmp_path):
        (directory / "file").touch(0o600)
        os.chown(directory / "file", STRANGER, STRANGER)
    with pytest.raises(UntrustedError, match="belongs to another user"):
        attempt(shared / "file")
    attempt(tmp_path / "file")


@needs_root
def test_a_directory_of_another_user_is_shared(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, STRANGER, STRANGER)
    attempt(theirs / "ours")
    (theirs / "file").touch(0o600)
    os.chown(theirs / "file", STRANGER, STRANGER)
    with pytest.raises(UntrustedError):
        attempt(theirs / "file")


def test_links(shared: Path, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_bytes(b"precious")
    (shared / "hard").hardlink_to(target)
    (shared / "soft").symlink_to(target)
    with pytest.raises(UntrustedError, match="hard link"):
        attempt(shared / "hard")
    with pytest.raises(OSError, match="symbolic"):
        attempt(shared / "soft")
    assert target.read_bytes() == b"precious"


@needs_root
@pytest.mark.parametrize("deeper", ["", "/a/b"])
def test_a_way_through_what_another_user_has_made(
    shared: Path, tmp_path: Path, deeper: str
) -> None:
    (tmp_path / "target").mkdir()
    (shared / "link").symlink_to(tmp_path / "target")
    attempt(shared / "link" / "file")  # our own link
    os.chown(shared / "link", STRANGER, STRANGER, follow_symlinks=False)
    (shared / "directory").mkdir()
    os.chown(shared / "directory", STRANGER, STRANGER)
    (tmp_path / "detour").symlink_to(shared / "link")
    for way in (shared / "link", shared / "directory", tmp_path / "detour"):
        with pytest.raises(UntrustedError, match="belongs to another user"):
            make_directory(f"{way}{deeper}")
        with pytest.raises(UntrustedError):
            attempt(Path(f"{way}{deeper}") / "new")
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["file"]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match="symbolic links"):
        attempt(tmp_path / "a" / "file")


def test_what_opens_files_asks(shared: Path) -> None:
    """The file sink, the dead letter, and the spool, its lock and its segments."""
    for name in ("sink", "dead"):
        (shared / name).touch()
        (shared / name).chmod(0o666)
    config = msgspec.convert({"type": "file", "path": str(shared / "sink")}, FileConfig)

    async def scenario() -> None:
        sink = FileSink(config, context())
        try:
            await sink.open()
        finally:
            await sink.close()

    with pytest.raises(TransientSinkError) as caught:
        asyncio.run(scenario())
    assert caught.value.code == "permission"
    assert "may be written to by others" in caught.value.detail
    log = LogBook()
    letter = dead_letter_at(shared / "dead", log)
    assert not letter.keep(b"line\n", reason="r")
    assert "may be written to by others" in log.facts("dead_letter_failed")[0]["error"]
    assert (shared / "dead").read_bytes() == (shared / "sink").read_bytes() == b""


@needs_root
def test_a_spool_that_another_user_has_prepared(shared: Path, tmp_path: Path) -> None:
    spool = shared / "telemetryd" / "s.t"
    spool.mkdir(parents=True)
    spool.chmod(0o700)
    os.chown(spool.parent, STRANGER, STRANGER)
    with pytest.raises(PermissionError):
        SpoolLog(str(spool), max_bytes=1 << 20).open()
    (shared / "link").symlink_to(tmp_path)
    os.chown(shared / "link", STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(PermissionError):
        SpoolLog(str(shared / "link" / "s.t"), max_bytes=1 << 20).open()
    own = tmp_path / "s.t"
    own.mkdir(0o700)
    planted = own / "0000000100000000.spool"
    planted.write_bytes(b"tldspool" + bytes(24))
    os.chown(planted, STRANGER, STRANGER)
    problems: list[OSError] = []
    log = SpoolLog(str(own), max_bytes=1 << 20, on_error=problems.append)
    log.open()
    log.close()
    assert [type(problem) for problem in problems] == [UntrustedError]


def test_check_warns_of_files_that_others_may_write(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (shared / "sink", tmp_path / "dead"):
        path.touch()
        path.chmod(0o664)
    environ = {
        "TELEMETRYD_SINKS__A__TYPE": "file",
        "TELEMETRYD_SINKS__A__PATH": str(shared / "sink"),
        "TELEMETRYD_DEAD_LETTER__PATH": str(tmp_path / "dead"),
    }
    assert check(environ, sys.stdout, sys.stderr, default_paths=()) == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if "# warning" in line]
    assert len(warnings) == 2
    assert f"dead_letter.path: {tmp_path}/dead may be written to by others: others" in warnings[0]
    assert "sinks.a.path:" in warnings[1]
    assert "until then it is not used" in warnings[1]

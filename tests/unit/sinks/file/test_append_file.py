"""The append-only file: what it refuses to be, torn ends repaired, what a full disk leaves."""

# ruff: noqa: D102 - the names say it
from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from telemetryd.errors import TransientSinkError
from telemetryd.sinks.file.append_file import AppendFile, as_sink_error
from telemetryd.testing import no_dead_letter


class Salvage:
    """A dead letter that takes everything, or nothing."""

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.kept: list[tuple[bytes, str]] = []

    def __call__(self, data: bytes, reason: str) -> bool:
        self.kept.append((data, reason))
        return self.takes


def in_child(code: str, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `code`, which may change limits of its process, in a Python of its own."""
    prelude = "from telemetryd.sinks.file.append_file import AppendFile\nimport os, sys\n"
    return subprocess.run(
        [sys.executable, "-c", prelude + textwrap.dedent(code), *map(str, arguments)],
        check=check, capture_output=True, text=True,
    )  # fmt: skip


def test_a_new_file_is_private_and_its_directories_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "out"
    file = AppendFile(str(path), no_dead_letter)
    assert file.append([b"one\n", b"two\n"]) == (2, None)
    file.sync()
    file.close()
    assert path.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_appends_to_what_is_there_and_thousands_of_items_at_once(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before\n")
    path.chmod(0o640)
    items = [b"%d\n" % number for number in range(5000)]
    file = AppendFile(str(path), no_dead_letter)
    assert file.size == 7
    assert file.append([*items, b""]) == (5001, None)
    assert file.append([]) == (0, None)
    file.close()
    assert path.read_bytes() == b"before\n" + b"".join(items)
    assert file.size == path.stat().st_size
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("obstacle", ["fifo", "device"])
def test_what_is_not_a_regular_file_is_refused_without_hanging(
    tmp_path: Path, obstacle: str
) -> None:
    path = tmp_path / "out"
    if obstacle == "fifo":
        os.mkfifo(path)
    else:
        path = Path("/dev/null")
    with pytest.raises(TransientSinkError, match="not a regular file") as caught:
        AppendFile(str(path), no_dead_letter)
    assert caught.value.code == "not_a_file"


def test_a_symbolic_link_is_never_followed(tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "out"
    path.symlink_to(target)
    with pytest.raises(OSError) as caught:
        AppendFile(str(path), no_dead_letter)
    assert as_sink_error(caught.value, "p").code == "permission"
    assert not target.exists()


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        AppendFile(str(tmp_path), no_dead_letter)


def test_a_file_another_process_writes_is_refused_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "out"
    code = """
        file = AppendFile(sys.argv[1], lambda data, reason: False)
        file.append([b"theirs\\n"])
        print("locked", flush=True)
        sys.stdin.read()
    """
    prelude = "from telemetryd.sinks.file.append_file import AppendFile\nimport sys\n"
    with subprocess.Popen(
        [sys.executable, "-c", prelude + textwrap.dedent(code), str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as other:  # fmt: skip
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(TransientSinkError, match="another process") as caught:
            AppendFile(str(path), no_dead_letter)
        assert caught.value.code == "locked"
        other.kill()
    file = AppendFile(str(path), no_dead_letter)
    assert file.append([b"ours\n"]) == (1, None)
    file.close()
    assert path.read_bytes() == b"theirs\nours\n"


@pytest.mark.parametrize(
    ("content", "torn"),
    [
        (b"whole\nto", b"to"),
        (b"nothing but torn", b"nothing but torn"),
        (b"whole\n" + b"x" * 200_000, b"x" * 200_000),
        (b"x" * 65_535 + b"\n" + b"y" * 65_536, b"y" * 65_536),
        (b"whole\n\0\0\0", b"\0\0\0"),
    ],
)
def test_a_torn_last_line_goes_to_the_dead_letter(
    tmp_path: Path, content: bytes, torn: bytes
) -> None:
    path, salvage = tmp_path / "out", Salvage()
    path.write_bytes(content)
    file = AppendFile(str(path), salvage)
    file.append([b"next\n"])
    file.close()
    assert salvage.kept == [(torn, "torn")]
    assert path.read_bytes() == content.removesuffix(torn) + b"next\n"


def test_without_a_dead_letter_a_torn_last_line_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"whole\ntorn")
    file = AppendFile(str(path), Salvage(takes=False))
    assert file.size == 11
    file.append([b"next\n"])
    file.close()
    assert path.read_bytes() == b"whole\ntorn\nnext\n"


@pytest.mark.parametrize("content", [b"", b"\n", b"whole\n", b"x" * 100_000 + b"\n"])
def test_a_whole_file_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path, salvage = tmp_path / "out", Salvage()
    path.write_bytes(content)
    AppendFile(str(path), salvage).close()
    assert salvage.kept == []
    assert path.read_bytes() == content


@pytest.mark.parametrize("before", [b"", b"line\n"])
def test_an_end_too_large_to_be_a_line_of_ours_is_ended_and_never_read(
    tmp_path: Path, before: bytes
) -> None:
    path, salvage = tmp_path / "out", Salvage()
    size = 9 * 1024 * 1024
    path.write_bytes(before)
    os.truncate(path, size)
    AppendFile(str(path), salvage).close()
    assert salvage.kept == []
    assert path.stat().st_size == size + 1
    assert path.read_bytes().endswith(b"\0\n")


def test_a_full_disk_keeps_whole_items_only_and_says_which(tmp_path: Path) -> None:
    """RLIMIT_FSIZE cuts a write short and then fails with EFBIG, as a full disk with ENOSPC."""
    path = tmp_path / "out"
    in_child(
        """
        import errno, resource
        file = AppendFile(sys.argv[1], lambda data, reason: False)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        items = [bytes([65 + n]) * 299 + b"\\n" for n in range(6)]
        kept, error = file.append(items)
        assert (kept, error.errno, file.size, file.torn) == (3, errno.EFBIG, 900, False), file.size
        kept, error = file.append(items[3:])
        assert (kept, error.errno, file.size) == (0, errno.EFBIG, 900)
        assert file.append([b"small\\n"]) == (1, None)
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, resource.RLIM_INFINITY))
        assert file.append(items[3:]) == (3, None)
        """,
        path,
    )
    expected = [bytes([65 + n]) * 299 + b"\n" for n in range(6)]
    assert path.read_bytes() == b"".join([*expected[:3], b"small\n", *expected[3:]])


def test_cutting_back_never_grows_a_file_that_somebody_emptied(tmp_path: Path) -> None:
    """`copytruncate` and the like: what we remember of the size is no longer true."""
    path = tmp_path / "out"
    in_child(
        """
        import resource
        file = AppendFile(sys.argv[1], lambda data, reason: False)
        file.append([b"x" * 899 + b"\\n"])
        os.truncate(sys.argv[1], 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        kept, error = file.append([b"a\\n", b"b" * 1500 + b"\\n"])
        assert (kept, file.size) == (1, 2)
        """,
        path,
    )
    assert path.read_bytes() == b"a\n"


def test_a_half_item_that_can_not_be_cut_off_is_known(tmp_path: Path) -> None:
    """A descriptor closed by accident stands for whatever keeps `ftruncate` from working."""
    file = AppendFile(str(tmp_path / "out"), no_dead_letter)
    file.append([b"whole\n"])
    os.write(file._fd, b"half")
    read_only = os.open(file.path, os.O_RDONLY)
    os.dup2(read_only, file._fd)
    file._cut_back(4)
    assert file.torn
    os.close(read_only)
    file.close()


@pytest.mark.parametrize("how", ["removed", "replaced", "parent_gone"])
def test_it_notices_when_the_path_names_another_file(tmp_path: Path, how: str) -> None:
    path = tmp_path / "dir" / "out"
    file = AppendFile(str(path), no_dead_letter)
    assert file.look()
    if how == "parent_gone":
        path.parent.rename(tmp_path / "elsewhere")
    else:
        path.rename(tmp_path / "elsewhere")
    if how == "replaced":
        path.write_bytes(b"")
    assert not file.look()
    file.close()


def test_it_learns_the_size_somebody_else_gave_it(tmp_path: Path) -> None:
    file = AppendFile(str(tmp_path / "out"), no_dead_letter)
    file.append([b"0123456789\n"])
    os.truncate(file.path, 0)
    assert file.look()
    assert file.size == 0
    file.close()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EFBIG, "disk_full"),
        (errno.EACCES, "permission"),
        (errno.EROFS, "permission"),
        (errno.ELOOP, "permission"),
        (errno.EIO, "io_error"),
        (None, "io_error"),
    ],
)
def test_error_codes(number: int | None, code: str) -> None:
    error = as_sink_error(OSError(number, "why"), "/a/path")
    assert error.code == code
    assert "/a/path" in error.detail


def test_a_writer_that_is_killed_leaves_lines_that_the_next_repairs(tmp_path: Path) -> None:
    path = tmp_path / "out"
    code = """
        file = AppendFile(sys.argv[1], lambda data, reason: False)
        file.append([b"%06d\\n" % n for n in range(1000)])
        print("begun", flush=True)
        n = 1000
        while True:
            file.append([b"%06d\\n" % n])
            n += 1
    """
    prelude = "from telemetryd.sinks.file.append_file import AppendFile\nimport sys\n"
    with subprocess.Popen(
        [sys.executable, "-c", prelude + textwrap.dedent(code), str(path)], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.kill()
    with path.open("ab") as torn:
        torn.write(b"0000")
    salvage = Salvage()
    AppendFile(str(path), salvage).close()
    lines = path.read_bytes().splitlines(keepends=True)
    assert lines == [b"%06d\n" % number for number in range(len(lines))]
    assert len(lines) >= 1000
    assert salvage.kept == [(b"0000", "torn")]

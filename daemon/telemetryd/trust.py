"""Opens files for writing, in directories where others may write as well.

In such a directory (for example `/tmp`) another user may have put a file, a link or a directory
under the name that we use: to read what we write, or to redirect it. There, existing files must
belong to us or root, must not be writable by others, and must not be links. In directories of our
own an administrator may arrange files freely.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_MAX_LINKS: Final = 40
"""Symbolic links followed on the way to a directory, as the kernel does."""


class UntrustedError(PermissionError):
    """Something at a path may be under another user's control. The text says what to do."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(
            errno.EPERM,
            f"{path} {what}; remove it, or use a directory where no other user may write",
            path,
        )


def make_directory(path: str) -> None:
    """Make `path` and what is missing above it, for this user alone. Raises OSError.

    UntrustedError: a part of the way lies where others may write, and is not ours.
    """
    check_way(path)
    os.makedirs(path, mode=0o700, exist_ok=True)  # noqa: PTH103 - pathlib takes 2 ms


def open_file(path: str, flags: int, mode: int = 0o600) -> int:
    """Open a file for writing, like `os.open`, but never through a link. Raises OSError.

    UntrustedError: it lies where others may write, and may be theirs.
    """
    directory, name = os.path.split(path)
    check_way(directory or ".")
    at = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=at)
        try:
            check_file(path, os.fstat(fd), os.fstat(at))
        except BaseException:
            os.close(fd)
            raise
    finally:
        os.close(at)
    return fd


def check_file(path: str, file: os.stat_result, directory: os.stat_result) -> None:
    """Raise UntrustedError where `file`, which lies in `directory`, may be another user's."""
    if is_shared(directory):
        check_owned(path, file)


def check_owned(path: str, file: os.stat_result) -> None:
    """Raise UntrustedError where `file`, whatever directory it lies in, is another user's."""
    if not _is_ours(file):
        raise UntrustedError(path, "belongs to another user")
    if file.st_mode & _OTHERS_MAY_WRITE:
        raise UntrustedError(path, "may be written to by others")
    if stat.S_ISREG(file.st_mode) and file.st_nlink > 1:
        raise UntrustedError(path, "has another name somewhere (a hard link)")


def is_trusted(path: str) -> bool:
    """True if the file at `path` exists and `open_file` would open it."""
    try:
        file = os.lstat(path)
        check_file(path, file, os.stat(os.path.dirname(path) or "."))  # noqa: PTH116, PTH120
    except OSError:
        return False
    return stat.S_ISREG(file.st_mode)


def concern(path: str) -> str:
    """Return a warning about the file at `path` before it is written to; empty if there is none."""
    try:
        check_way(os.path.dirname(path) or ".")  # noqa: PTH120 - as above
        file = os.lstat(path)
        directory = os.stat(os.path.dirname(path) or ".")  # noqa: PTH116, PTH120
        check_file(path, file, directory)
    except UntrustedError as error:
        return f"{error.strerror}; until then it is not used"
    except OSError:
        return ""
    try:
        check_owned(path, file)
    except UntrustedError as error:
        return (
            f"{(error.strerror or '').partition(';')[0]}: others may read or change what is in it"
        )
    return ""


def is_shared(directory: os.stat_result) -> bool:
    """True if users who are neither we nor root may put files into `directory`.

    Its group may: who is in that is for the administrator to say.
    """
    return not _is_ours(directory) or bool(directory.st_mode & stat.S_IWOTH)


def check_way(directory: str) -> None:
    """Raise UntrustedError where a part of the way to `directory` may be another user's.

    That is a directory or a link which lies where anybody may write, and is not ours or root's.
    What is missing is no matter.
    """
    todo = [part for part in directory.split("/") if part][::-1]
    here = "/" if directory.startswith("/") else "."
    links = 0
    while todo:
        part = todo.pop()
        path = os.path.join(here, part)  # noqa: PTH118 - as above
        try:
            entry = os.lstat(path)
            parent = os.stat(here)  # noqa: PTH116 - as above
        except (FileNotFoundError, NotADirectoryError):
            return  # to be made, by us
        if parent.st_mode & stat.S_IWOTH and not _is_ours(entry):
            raise UntrustedError(path, "belongs to another user")
        if stat.S_ISLNK(entry.st_mode) and links < _MAX_LINKS:
            links += 1
            target = os.readlink(path)  # noqa: PTH115 - as above
            here = "/" if target.startswith("/") else here
            todo += [part for part in target.split("/") if part][::-1]
        else:
            here = path


def _is_ours(file: os.stat_result) -> bool:
    return file.st_uid in (os.geteuid(), 0)

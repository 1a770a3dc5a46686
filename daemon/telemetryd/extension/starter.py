"""Which file in /opt/extensions started us, when the platform has refused the name of our own.

The platform starts every file there and waits until each has registered under its name. Where a
script starts a program that lies elsewhere, or beside it, the program knows only its own. Loaded
after such a refusal alone, when the function would not start: a wrong guess makes nothing worse.
"""

from __future__ import annotations

import posix
import sys

TYPE_CHECKING = False  # type checkers take it for typing's, which costs time to import
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EXTENSIONS = "/opt/extensions"
"""Every file there is an extension, which has to register under the file's name."""
_MAX_SCRIPT_BYTES = 64 * 1024


def name_of_starter(program: str, refused: str, directory: str = EXTENSIONS) -> str:
    """The name of the file in `directory` that must have started `program`; empty if unknown.

    The only file there, or else the only script that mentions `program`, the path we were started
    by; or if none does, `refused`, the name we had from it.
    """
    try:
        with posix.scandir(directory) as entries:
            files = [(entry.name, entry.path) for entry in entries if entry.is_file()]
    except OSError:
        return ""
    others = [(name, path) for name, path in files if name != refused]
    if len(files) == 1:
        return others[0][0] if others else ""
    scripts = list(_scripts(others))
    for mark in (program, refused):
        bytes_of_mark = mark.encode(sys.getfilesystemencoding(), "surrogateescape")
        found = [name for name, text in scripts if bytes_of_mark in text]
        if found:
            return found[0] if len(found) == 1 else ""
    return ""


def _scripts(files: Sequence[tuple[str, str]]) -> Iterator[tuple[str, bytes]]:
    """The names of those of the files that are scripts, each with the beginning of its text."""
    for name, path in files:
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs start-up time
                text = file.read(_MAX_SCRIPT_BYTES)
        except OSError:
            continue
        if text.startswith(b"#!"):
            yield name, text

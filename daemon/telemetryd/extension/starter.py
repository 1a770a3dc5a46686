"""Finds the file in /opt/extensions that started us, if the platform refused our own name.

The platform starts every file there and waits until each has registered under its name. A script
may start a program that is elsewhere, or beside it. Then the program knows only its own name. This
module is loaded only after the platform has refused that name, when the function would not start. A
wrong guess takes another extension's place, and does not make that worse.
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
    """Return the name of the file in `directory` that started `program`; empty if unknown.

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
    for mark in (program, refused) if "/" in program else (refused,):
        name_bytes = mark.encode(sys.getfilesystemencoding(), "surrogateescape")
        found = [name for name, text in scripts if _mentions(text, name_bytes)]
        if found:
            return found[0] if len(found) == 1 else ""
    return ""


def _mentions(text: bytes, name: bytes) -> bool:
    """True if `text` holds `name`, not as a part of a longer name."""
    at = text.find(name)
    while at >= 0:
        end = at + len(name)
        if not (_is_of_name(text[max(at - 1, 0) : at]) or _is_of_name(text[end : end + 1])):
            return True
        at = text.find(name, end)
    return False


def _is_of_name(byte: bytes) -> bool:
    return byte.isalnum() or byte in (b"_", b"-", b".")


def _scripts(files: Sequence[tuple[str, str]]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the first bytes of each file that is a script."""
    for name, path in files:
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs start-up time
                text = file.read(_MAX_SCRIPT_BYTES)
        except OSError:
            continue
        if text.startswith(b"#!"):
            yield name, text

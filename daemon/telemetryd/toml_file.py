"""Reads a configuration file that may be anything: a pipe, a device, text that exhausts a parser.

It imports almost nothing, because the extension reads its file before it asks for `next`.
"""

from __future__ import annotations

import posix

TYPE_CHECKING = False  # type checkers take it for typing's, which costs time to import
if TYPE_CHECKING:
    from typing import Any

MAX_BYTES = 256 * 1024
MAX_DOTS, MAX_DOTS_OF_SECTION = 256, 64
"""In one line: `tomllib` takes time and memory with the square of a key's parts, and for each key
of a section with the section's parts."""
MAX_DEPTH = 32
_WHOLE = 1 << 63
"""TOML's whole numbers have 64 bits (TOML 1.0, "Integer")."""
_KINDS = {0o010000: "a pipe", 0o020000: "a device", 0o040000: "a directory", 0o060000: "a device"}
_KIND, _REGULAR = 0o170000, 0o100000


class NoTable(ValueError):  # noqa: N818 - a state of the file, not of ours
    """The file holds no configuration; the text says why, and may quote it.

    `unread`: it is not even a file that holds something. `data`: what it holds, if it was read.
    """

    def __init__(self, text: str, *, unread: bool = False) -> None:
        super().__init__(text)
        self.unread = unread
        self.data = b""

    def may_have(self, word: bytes) -> bool:
        """True unless the whole file was read, and does not have this word of ASCII."""
        is_whole = 0 < len(self.data) <= MAX_BYTES
        return not is_whole or word in self.data.replace(b"\0", b"")  # as UTF-16 has them


def read(path: str) -> dict[str, Any]:
    """Return the table in the file at `path`. Raises OSError, ValueError, NoTable.

    Never waits for a writer: only regular files are opened.
    """
    _check_kind(posix.stat(path))
    fd = posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY)
    try:
        _check_kind(posix.fstat(fd))
        data = b""
        while len(data) <= MAX_BYTES and (more := posix.read(fd, MAX_BYTES + 1)):
            data += more
    finally:
        posix.close(fd)
    try:
        return parse(data)
    except NoTable as error:
        error.data = data
        raise


def _check_kind(status: posix.stat_result) -> None:
    kind = status.st_mode & _KIND
    if kind != _REGULAR:
        found = _KINDS.get(kind, "a socket")
        raise NoTable(f"can't be read: {found}, not a regular file", unread=True)


def parse(data: bytes) -> dict[str, Any]:
    """Return the table that `data` writes in TOML. Raises NoTable."""
    import tomllib  # noqa: PLC0415 - only where a file exists: most functions have none

    if len(data) > MAX_BYTES:
        raise NoTable(f"larger than {MAX_BYTES} bytes, not read")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before) - before.rfind(b"\n")
        byte = f"byte 0x{data[error.start]:02x} (at line {line}, column {column})"
        raise NoTable(f"invalid TOML: not UTF-8: {byte}") from None
    for number, written in enumerate(text.split("\n"), 1):
        most = MAX_DOTS_OF_SECTION if written.lstrip().startswith("[") else MAX_DOTS
        if written.count(".") > most:
            raise NoTable(f"invalid TOML: more than {most} dots in a line (at line {number})")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NoTable(f"invalid TOML: {error}") from None
    except RecursionError:
        raise NoTable("invalid TOML: nested too deeply") from None
    except ValueError:  # sys.set_int_max_str_digits: such a number takes minutes to read
        raise NoTable("invalid TOML: a number has too many digits") from None
    if found := fault(table):
        raise NoTable(f"invalid TOML: {found}")
    return table


def fault(table: object) -> str:
    """Return the fault of a `table` that is too deep or has too large a number; else ""."""
    level, depth = [table], 0
    while level:
        if depth > MAX_DEPTH:
            return f"nested deeper than {MAX_DEPTH} levels"
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, int) and not -_WHOLE <= value < _WHOLE:
                return "a whole number of more than 64 bits"
        level, depth = below, depth + 1
    return ""

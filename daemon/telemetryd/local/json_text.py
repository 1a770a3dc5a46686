"""Checks if a text is JSON by its grammar, whatever a decoder makes of it.

A decoder refuses more than the grammar does: half a surrogate pair, a number beyond its range, many
levels. The platform passes such a record on unchanged, so it must not count as plain text here.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

_skip = msgspec.json.Decoder(msgspec.Raw).decode

_TOKEN: Final = re.compile(
    r"""[ \t\n\r]*+(?:
        (?P<string>"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+")
      | (?P<scalar>-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null)
      | (?P<mark>[][{},:])
      | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_CLOSES: Final = {"}": "{", "]": "["}


def is_object(text: str) -> bool:
    """True if the text is one JSON object."""
    return text.startswith("{") and is_json(text)


def is_json(text: str) -> bool:
    """True if the text is one JSON value."""
    try:
        _skip(text)
    except (msgspec.DecodeError, RecursionError):
        return _is_json(text)
    return True


def _is_json(text: str) -> bool:
    """Read token by token, in time that grows with the text and no faster."""
    open_: list[str] = []
    wanted = "value"
    position = 0
    while token := _TOKEN.match(text, position):
        position = token.end()
        kind, mark = token.lastgroup, token["mark"]
        if kind == "end":
            return wanted == "end"
        if wanted == "colon":
            if mark != ":":
                return False
            wanted = "value"
        elif wanted in ("key", "first key") and kind == "string":
            wanted = "colon"
        elif wanted in ("value", "first item") and (kind != "mark" or mark in ("{", "[")):
            if mark:
                open_.append(mark)
            wanted = {None: _after(open_), "{": "first key", "[": "first item"}[mark]
        elif wanted == "comma" and mark == ",":
            wanted = "key" if open_[-1] == "{" else "value"
        elif _may_close(wanted, mark, open_):
            open_.pop()
            wanted = _after(open_)
        else:
            return False
    return False


def _after(open_: list[str]) -> str:
    return "comma" if open_ else "end"


def _may_close(wanted: str, mark: str | None, open_: list[str]) -> bool:
    return (
        mark in _CLOSES
        and wanted in ("comma", "first key", "first item")
        and open_[-1] == _CLOSES[mark]
    )

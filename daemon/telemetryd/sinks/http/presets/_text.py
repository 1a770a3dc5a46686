"""Lines as text, for formats that carry them in JSON strings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from telemetryd.sinks.http.formats import Lines

encode: Final = msgspec.json.Encoder().encode


def text_of(lines: Lines) -> str:
    """Return the text of `lines`. Bytes that are no UTF-8 become U+FFFD."""
    try:
        return lines.data.decode()
    except UnicodeDecodeError:
        return lines.data.decode(errors="replace")


def split(text: str) -> list[str]:
    """Return the lines of `text`, without the newline that ends each."""
    found = text.split("\n")
    found.pop()
    return found


def members(values: Mapping[str, str]) -> str:
    """Return members of a JSON object, each with a comma behind it."""
    return "".join(f"{encode(k).decode()}:{encode(v).decode()}," for k, v in values.items())


def too_long(labels: Mapping[str, str], name: int, value: int) -> Iterator[str]:
    """Yield what is wrong with the lengths of labels, at most so many characters each."""
    for key, text in labels.items():
        if len(key) > name or len(text) > value:
            yield f"{key[:40]}: a name has at most {name} characters, a value {value}"

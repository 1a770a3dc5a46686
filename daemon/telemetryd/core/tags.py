"""Rules for `tags`: static members of a user's own. Imported only where there are some."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

MAX_TAGS: Final = 32
MAX_NAME: Final = 64
MAX_TEXT: Final = 256
MAX_BYTES: Final = 4096
"""Bytes of all tags of a sink, as JSON: they are added to each line."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_EVENT: Final = frozenset({"time", "type", "record"})
_LARGEST: Final = 2**63


def tag_faults(tags: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with `tags`, in words that follow their key."""
    if len(tags) > MAX_TAGS:
        yield f"at most {MAX_TAGS} tags; found {len(tags)}"
        return
    faults = {name: fault for name, value in tags.items() if (fault := _fault(name, value))}
    yield from (f"{name[:MAX_NAME]!a} {fault}" for name, fault in faults.items())
    if not faults and (size := len(msgspec.json.encode(tags))) > MAX_BYTES:
        yield f"at most {MAX_BYTES} bytes as JSON, because each line gets them; found {size}"


def _fault(name: str, value: Any) -> str:
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        return (
            f"is no name for a tag: 1 to {MAX_NAME} letters, digits, and the signs _ . - and a "
            "letter or _ first"
        )
    if name in _EVENT:
        return "is a member of every event, so a tag needs another name"
    return _fault_of_value(value)


def _fault_of_value(value: Any) -> str:
    if isinstance(value, str):
        fits, limit = len(value) <= MAX_TEXT, f"printable text of at most {MAX_TEXT} characters"
        fits = fits and value.isprintable()
    elif isinstance(value, int):
        fits, limit = -_LARGEST <= value < _LARGEST, "a number of at most 64 bits"
    elif isinstance(value, float):
        fits, limit = math.isfinite(value), "a finite number"
    else:
        fits, limit = False, "text, a number, or true or false"
    return "" if fits else f"must be {limit}"

r"""Halves of surrogate pairs, which JSON can spell and Unicode text can't hold.

`JSON.stringify` of Node.js and `json.dumps` of Python write `\ud83d` for one that lost its other
half. msgspec refuses the whole text then.
"""

from __future__ import annotations

import re
from typing import Final

_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair
    rb"|(u[dD][89a-fA-F][0-9a-fA-F]{2})"  # a half
    rb"|.)",  # any other escape, so that an escaped backslash does not begin one
    re.DOTALL,
)
_REPLACEMENT: Final = rb"\ufffd"


def without_lone_surrogates(text: bytes) -> bytes:
    """Return the JSON `text` with U+FFFD for each half of a surrogate pair. Takes one pass."""
    return _ESCAPE.sub(lambda found: _REPLACEMENT if found[1] else found[0], text)

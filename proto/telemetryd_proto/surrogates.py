r"""Halves of surrogate pairs, which JSON can spell and Unicode text can't hold.

`JSON.stringify` of Node.js and `json.dumps` of Python write them: `\ud83d` of a text that was cut
within a character, `\udce9` of a file name that is no UTF-8. RFC 8259, section 8.2, permits them
and leaves open what a reader makes of them; msgspec refuses the whole text.
"""

from __future__ import annotations

import re
from typing import Final

# A text, compiled where it is needed: few processes ever meet such a half.
_SURROGATE: Final = rb"""(?x) (?<!\\)((?:\\\\)*+)     # an even number: the next backslash escapes
    (?: (\\u[dD][89abAB][0-9a-fA-F]{2} \\u[dD][c-fC-F][0-9a-fA-F]{2})        # a whole pair
      | \\u[dD][89a-fA-F][0-9a-fA-F]{2} )                                    # half of one
    """


def without_lone_surrogates(text: bytes) -> bytes:
    """Return the JSON `text` with U+FFFD for each half of a surrogate pair. Takes one pass.

    Lengths stay. The very same object where there is none.
    """
    if rb"\ud" not in text and rb"\uD" not in text:
        return text
    changed = re.sub(_SURROGATE, _whole, text)
    return text if changed == text else changed


def _whole(found: re.Match[bytes]) -> bytes:
    return found[0] if found[2] else found[1] + rb"\ufffd"

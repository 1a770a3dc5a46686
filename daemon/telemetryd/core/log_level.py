"""The level of a log line, where it can be told.

Structured records name it; of text, the layouts of Lambda's own runtimes are recognised (Python:
`[LEVEL]<tab>time<tab>...`; Node.js: `time<tab>request<tab>LEVEL<tab>...`). Anything else has none.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from telemetryd_proto.envelope import Envelope

LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_RANKS: Final = {
    **{name: rank for rank, name in enumerate(LEVELS)},
    "WARNING": LEVELS.index("WARN"),
    "CRITICAL": LEVELS.index("FATAL"),
}
_TEXT: Final = re.compile(rb'"(?:\[([A-Z]{4,8})\]|[^"\\]{1,40}\\t[^"\\]{1,40}\\t([A-Z]{4,8}))\\t')


class _Leveled(msgspec.Struct, gc=False):
    level: str | None = None


_decode: Final = msgspec.json.Decoder(_Leveled).decode


def rank_of(name: str) -> int | None:
    """The rank of a level by its name in any case; None for an unknown one."""
    return _RANKS.get(name.upper())


def rank_of_line(envelope: Envelope) -> int | None:
    """The rank of a `function` or `extension` line; None where it can't be told."""
    raw = bytes(envelope.record)
    if raw.startswith(b"{"):
        try:
            level = _decode(raw).level
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return rank_of(level) if level else None
    found = _TEXT.match(raw)
    return rank_of((found[1] or found[2]).decode()) if found else None

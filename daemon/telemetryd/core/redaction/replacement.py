"""The text that stands in a line where a secret was."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Final, Literal, TypeAlias

With: TypeAlias = Literal["label", "hash", "last4"]
Replace: TypeAlias = Callable[[bytes], bytes]
"""Returns what stands for a secret: ASCII without quotes and backslashes."""

_SHORTEST: Final = 12
"""Characters of which the last four may be shown: a third of them at most."""
_SHORT: Final = 4
"""A secret of fewer bytes is replaced by no more, so that lines do not grow without a bound."""
_MASK: Final = b"***"
_HASH_BYTES: Final = 8


def replacement(name: str, kind: With, salt: bytes) -> Replace:
    """Return the function for a rule of this name. `salt`: at most 64 bytes."""
    label = b"[redacted:%b]" % name.encode()
    if kind == "hash":
        return lambda secret: b"[%b:%b]" % (name.encode(), _hash(secret, salt))
    if kind == "last4":
        return lambda secret: _last_four(secret, label)
    return lambda secret: label if len(secret) >= _SHORT else _MASK


def _hash(secret: bytes, salt: bytes) -> bytes:
    return blake2b(secret, digest_size=_HASH_BYTES, key=salt).hexdigest().encode()


def _last_four(secret: bytes, label: bytes) -> bytes:
    shown = secret[-4:]
    if len(secret) < _SHORTEST or not shown.isalnum():
        return label if len(secret) >= _SHORT else _MASK
    return b"****" + shown

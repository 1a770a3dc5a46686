"""The licences and notices of what is inside, which most of them ask to be passed on."""

from __future__ import annotations

from collections.abc import Iterable

from layer.cache import HERE
from layer.inside import Part


def texts(parts: Iterable[Part]) -> dict[str, bytes]:
    """The texts by file name, telemetryd's own among them."""
    found = {"telemetryd.txt": (HERE.parent / "LICENSE").read_bytes()}
    for part in parts:
        found |= part.texts
    return dict(sorted(found.items()))

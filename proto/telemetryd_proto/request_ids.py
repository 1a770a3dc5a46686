"""The longest request id. Ids are stored, copied into lines, and sent on."""

from __future__ import annotations

from typing import Final

MAX_REQUEST_ID: Final = 128
"""Characters; Lambda's have 36. A longer one is none: cut off, it could be another invocation's."""


def usable_id(request_id: str | None) -> str:
    """Return `request_id`, or an empty string for none and for one that is too long."""
    return request_id if request_id and len(request_id) <= MAX_REQUEST_ID else ""

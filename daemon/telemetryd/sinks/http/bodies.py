"""The bodies of the http sink's requests."""

from __future__ import annotations

from collections.abc import Sequence

from telemetryd.sinks._attempt import Bodies
from telemetryd.sinks._entries import Entry
from telemetryd.sinks.base import Batch
from telemetryd.sinks.http.formats import Format, Lines


class FormatBodies(Bodies):
    """Makes bodies in a format."""

    def __init__(self, form: Format, max_bytes: int) -> None:
        super().__init__(
            max_bytes,
            surplus=form.surplus,
            separator=len(form.separator),
            max_lines=form.max_lines,
        )
        self._form = form

    def encode(self, batch: Batch, entry: Entry) -> bytes:
        """Return the fragment for the lines of `entry`."""
        item = entry.item
        return self._form.encode(
            Lines(
                entry.payload, entry.lines, batch.key(entry.index), entry.first,
                getattr(item, "is_json", False), getattr(item, "packed_at", 0),
            )
        )  # fmt: skip

    def join(self, fragments: Sequence[bytes]) -> Sequence[bytes]:
        """Return a body, in pieces."""
        form = self._form
        if form.separator:  # not by `join`: that would copy the whole body
            pieces = [form.separator] * (2 * len(fragments) - 1)
            pieces[::2] = fragments
            fragments = pieces
        return [form.opening, *fragments, form.closing] if form.surplus else fragments

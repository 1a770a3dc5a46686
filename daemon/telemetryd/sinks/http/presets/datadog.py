"""Datadog: `POST /api/v2/logs`.

Source: "Send logs" of its API reference. Each line is the message of an entry; Datadog parses a
message that is JSON. It says nothing about single entries, and cuts those above 1 MB.
"""

from __future__ import annotations

from typing import Final

import msgspec

from telemetryd.sinks.http.formats import Format, Lines
from telemetryd.sinks.http.presets import Labels, Preset
from telemetryd.sinks.http.presets._text import encode, members, split, text_of
from telemetryd.sinks.http.presets._times import milliseconds, stamps

_FIRST: Final = b'{"timestamp":'
"""The begin of an entry. It is nowhere else: in a text, quotation marks are escaped."""


class _Entry(msgspec.Struct, gc=False):
    timestamp: int
    message: str


def _make(labels: Labels) -> Format:
    head = f'{{{members(labels)}"timestamp":'.encode()

    def entries(lines: Lines) -> bytes:
        text = text_of(lines)
        each = split(text)
        times = map(int, milliseconds(stamps(each, lines.packed_at)))
        return encode(list(map(_Entry, times, each)))[1:-1].replace(_FIRST, head)

    return Format(
        "application/json", entries, opening=b"[", separator=b",", closing=b"]", max_lines=1000
    )


PRESET: Final = Preset(
    path="/api/v2/logs",
    token_header="DD-API-KEY",  # noqa: S106 - the name of a header
    token_prefix="",
    labels={"ddsource": "lambda", "ddtags": "", "hostname": "", "service": "{function}"},
    has_free_labels=False,
    max_body_bytes=5_000_000,
    limits=(
        "5 MB a request before compression, 1000 lines a request; a line above 1 MB is cut; lines "
        "of the last 18 hours"
    ),
    duplicates="it does not: a request that is sent again arrives twice",
    make=_make,
    compressions=("none", "gzip", "zstd"),
)

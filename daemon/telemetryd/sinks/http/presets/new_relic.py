"""New Relic: `POST /log/v1`, in its detailed form.

Source: "Introduction to the Log API". Each line is the message of an entry; New Relic parses a
message that is JSON. It answers 202 before it looks at entries, and says nothing about them.
"""

from __future__ import annotations

from typing import Final

import msgspec

from telemetryd.sinks.http.formats import Format, Lines
from telemetryd.sinks.http.presets import Labels, Preset
from telemetryd.sinks.http.presets._text import encode, split, text_of, too_long
from telemetryd.sinks.http.presets._times import milliseconds, stamps


class _Entry(msgspec.Struct, gc=False):
    timestamp: int
    message: str


def _make(labels: Labels) -> Format:
    opening = b'[{"common":{"attributes":%b},"logs":[' % encode(labels)
    return Format(
        "application/json", _entries, opening=opening, separator=b",", closing=b"]}]"
    )  # fmt: skip


def _entries(lines: Lines) -> bytes:
    each = split(text_of(lines))
    times = map(int, milliseconds(stamps(each, lines.packed_at)))
    return encode(list(map(_Entry, times, each)))[1:-1]


PRESET: Final = Preset(
    path="/log/v1",
    token_header="Api-Key",  # noqa: S106 - the name of a header
    token_prefix="",
    labels={"service.name": "{function}", "logtype": ""},
    has_free_labels=True,
    max_body_bytes=1_000_000,
    limits=(
        "1 MB a request, compressed; 255 attributes, names of 255 characters, values of 4094; "
        "lines of the last 48 hours"
    ),
    duplicates="it does not: a request that is sent again arrives twice",
    make=_make,
    problems=lambda labels: too_long(labels, 255, 4094),
)

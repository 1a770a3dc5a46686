"""Grafana Loki: `POST /loki/api/v1/push`, as JSON.

Sources: "Ingest logs" in Loki's HTTP API, "Enforce rate limits and push request validation", and
`limits_config` in its configuration reference. A line is text for Loki, so every line is taken as
it is. Loki stores what it can of a request and answers 400 if it refused anything; lines that
arrive again with the same time and text are dropped, so a request may be sent in parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from telemetryd.errors import PermanentSinkError
from telemetryd.sinks.http.answers import Reply, Verdict, judge
from telemetryd.sinks.http.formats import Format, Lines
from telemetryd.sinks.http.presets import Labels, Preset
from telemetryd.sinks.http.presets._text import encode, split, text_of, too_long
from telemetryd.sinks.http.presets._times import nanoseconds, stamps

MAX_LABELS: Final = 15
_NAME: Final = r"[a-zA-Z_][a-zA-Z0-9_]*"
_REASONS: Final = (
    (b"timestamp too old", "too_old"),
    (b"too far behind", "out_of_order"),
    (b"out of order", "out_of_order"),
    (b"timestamp too new", "too_new"),
    (b"max entry size", "line_too_long"),
)
"""Words of Loki's answers, and the reason each is counted under."""
_BAD_REQUEST: Final = 400


def _make(labels: Labels) -> Format:
    opening = b'{"streams":[{"stream":%b,"values":[' % encode(labels)
    return Format(
        "application/json", _values, opening=opening, separator=b",", closing=b"]}]}",
        judge=_judge,
    )  # fmt: skip


def _values(lines: Lines) -> bytes:
    text = text_of(lines)
    each = split(text)
    times = nanoseconds(stamps(each, lines.packed_at))
    return encode(list(zip(times, each, strict=True)))[1:-1]


def _judge(reply: Reply) -> Verdict:
    verdict = judge(reply)
    if verdict.refusal is None or reply.answer.status != _BAD_REQUEST:
        return verdict
    body = reply.answer.body.lower()
    for words, code in _REASONS:
        if words in body:
            return Verdict(refusal=PermanentSinkError(code, f"{verdict.refusal.detail}: {code}"))
    return verdict


def _problems(labels: Labels) -> Iterator[str]:
    if not 0 < len(labels) <= MAX_LABELS:
        yield f"must have 1 to {MAX_LABELS} labels, because Loki takes no more"
    for name in labels:
        if not re.fullmatch(_NAME, name):
            yield f"{name!r} is not a name of a label: letters, digits and _, no digit first"
    if any("{instance}" in value for value in labels.values()):
        yield "{instance} would make a stream of each environment; leave it out"
    yield from too_long(labels, 1024, 2048)


PRESET: Final = Preset(
    path="/loki/api/v1/push",
    token_header="Authorization",  # noqa: S106 - the name of a header
    token_prefix="Bearer ",  # noqa: S106
    labels={"service_name": "{function}"},
    has_free_labels=True,
    max_body_bytes=3 * 1024 * 1024,
    limits=(
        f"4 MiB a request between its components, 256 KiB a line, {MAX_LABELS} labels, lines of "
        "the last 7 days up to 10 minutes ahead, 4 MB/s a tenant, 3 MB/s a stream; a server may "
        "have others"
    ),
    duplicates="the same line at the same time in the same stream is stored once",
    make=_make,
    problems=_problems,
)

"""Honeycomb: `POST /1/batch/<dataset>`.

Source: "Events API". Each line is an event with the members of the line as columns; one that is no
JSON object has the column `message`. Honeycomb answers for each event.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from telemetryd.errors import TransientSinkError
from telemetryd.sinks._entries import LineFault
from telemetryd.sinks.http.answers import ACCEPTED, Reply, Verdict, judge
from telemetryd.sinks.http.formats import Format, Lines
from telemetryd.sinks.http.presets import Labels, Preset
from telemetryd.sinks.http.presets._text import encode, split, text_of
from telemetryd.sinks.http.presets._times import dates, stamps
from telemetryd_proto.errors import DECODE_FAILURES

_DATASET: Final = r"[A-Za-z0-9._~-]{1,255}"
_ACCEPTED_BELOW: Final = 300
_THROTTLED: Final = 429
_SERVER: Final = 500


class _Result(msgspec.Struct, gc=False):
    status: int


_decode: Final = msgspec.json.Decoder(list[_Result]).decode


def _events(lines: Lines) -> bytes:
    each = split(text_of(lines))
    times = dates(stamps(each, lines.packed_at))
    made = [
        f'{{"time":"{time}","data":{_data(line, is_json=lines.is_json)}}}'
        for time, line in zip(times, each, strict=True)
    ]
    return ",".join(made).encode()


def _data(line: str, *, is_json: bool) -> str:
    if is_json and line.lstrip()[:1] == "{":
        return line
    return f'{{"message":{encode(line).decode()}}}'


def _judge(reply: Reply) -> Verdict:
    verdict = judge(reply)
    if verdict is not ACCEPTED:
        return verdict
    text = f"{reply.authority} answered {reply.answer.status}"
    try:
        results = _decode(reply.answer.body)
    except DECODE_FAILURES:
        raise TransientSinkError("garbled_answer", f"{text}, but not to a batch") from None
    if len(results) != reply.lines:
        raise TransientSinkError("garbled_answer", f"{text}, but not for each event")
    faults = list(_faults(results))
    if not faults:
        return ACCEPTED
    return Verdict(faults, f"{text}; of {reply.lines} events {len(faults)} are not accepted")


def _faults(results: list[_Result]) -> Iterator[LineFault]:
    for line, result in enumerate(results):
        status = result.status
        if status < _ACCEPTED_BELOW:
            continue
        if status == _THROTTLED:
            yield LineFault(line, "throttled", retryable=True)
        elif status >= _SERVER:
            yield LineFault(line, "server_error", retryable=True)
        else:
            yield LineFault(line, "invalid_request", retryable=False)


def _make(_labels: Labels) -> Format:
    return Format(
        "application/json", _events, json="known", opening=b"[", separator=b",", closing=b"]",
        judge=_judge,
    )  # fmt: skip


def _problems(labels: Labels) -> Iterator[str]:
    dataset = re.sub(r"\{(function|version)\}", "x", labels.get("dataset", ""))
    if not re.fullmatch(_DATASET, dataset):
        yield "dataset: must be the name of a dataset, of letters, digits, dots and dashes"


PRESET: Final = Preset(
    path="/1/batch/{dataset}",
    token_header="X-Honeycomb-Team",  # noqa: S106 - the name of a header
    token_prefix="",
    labels={"dataset": "{function}"},
    has_free_labels=False,
    max_body_bytes=5_000_000,
    limits="5 MB a request, 1 MB and 2000 columns an event, 64 KB a text, before compression",
    duplicates="it does not: a request that is sent again arrives twice",
    make=_make,
    compressions=("none", "gzip", "zstd"),
    problems=_problems,
)

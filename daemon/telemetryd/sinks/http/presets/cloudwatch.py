"""CloudWatch Logs, experimental: `POST /ingest/bulk`, NDJSON signed with SigV4.

Source: "Sending logs using the NDJSON endpoint" in the CloudWatch Logs User Guide. It reads a
numeric `timestamp` in milliseconds, which is put in front of each line, and takes its own time
where there is none. A line that is no JSON object becomes the member `message` of one, since an
array would become several events. The page does not say how skipped lines are reported, nor any
limit: those of PutLogEvents are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from telemetryd.errors import PermanentSinkError
from telemetryd.sinks.aws.codes import meaning
from telemetryd.sinks.http.answers import Reply, Verdict, judge
from telemetryd.sinks.http.formats import Format, Lines
from telemetryd.sinks.http.presets import Labels, Preset
from telemetryd.sinks.http.presets._text import encode, split, text_of
from telemetryd.sinks.http.presets._times import milliseconds, stamps
from telemetryd_proto.errors import DECODE_FAILURES

MAX_LINES: Final = 10_000
"""Of PutLogEvents, as `max_body_bytes` less 26 bytes a line."""
_NAME: Final = r"[^:*\x00-\x1f\x7f-\uffff]{1,512}"
_LAMBDA: Final = '{"time":"'
"""The begin of a line of Lambda, which has no `timestamp` beside `time`."""
_REFUSALS: Final = range(400, 500)
_BY_STATUS: Final = (401, 413)
"""Statuses that say all there is to say: the token or signature is refused, or the size."""


class _Stamped(msgspec.Struct, gc=False):
    timestamp: msgspec.Raw = msgspec.Raw()


class _Said(msgspec.Struct, gc=False):
    type: str = msgspec.field(default="", name="__type")


_decode: Final = msgspec.json.Decoder(_Said).decode
_decode_line: Final = msgspec.json.Decoder(_Stamped).decode


def _events(lines: Lines) -> bytes:
    text = text_of(lines)
    each = split(text)
    times = milliseconds(stamps(each, lines.packed_at))
    made: list[str] = []
    for time, line in zip(times, each, strict=True):
        # the usual case is written out: a call for each line would double the work
        if lines.is_json and line[:9] == _LAMBDA:
            made.append(f'{{"timestamp":{time},{line[1:]}\n')
        else:
            made.append(f"{_event(line, time, is_json=lines.is_json)}\n")
    return "".join(made).encode()


def _event(line: str, time: str, *, is_json: bool) -> str:
    stripped = line.strip()
    if not is_json or stripped[:1] != "{":
        return f'{{"timestamp":{time},"message":{encode(line).decode()}}}'
    if '"timestamp"' in line and _has_timestamp(line):
        return line
    rest = stripped[1:].lstrip()
    return f'{{"timestamp":{time}{"" if rest[:1] == "}" else ","}{rest}'


def _has_timestamp(line: str) -> bool:
    """True if the line has a member of that name: a second one would be ambiguous."""
    try:
        return bool(bytes(_decode_line(line).timestamp))
    except (msgspec.DecodeError, RecursionError):
        return True


def _judge(reply: Reply) -> Verdict:
    answer = reply.answer
    if answer.status not in _REFUSALS or answer.status in _BY_STATUS:
        return judge(reply)
    try:
        kind = _decode(answer.body).type
    except DECODE_FAILURES:
        return judge(reply)
    code = kind.partition(":")[0].rpartition("#")[2]
    if not code:
        return judge(reply)
    error = meaning(code, answer.status, f"{reply.authority} answered {answer.status}: {code}")
    if isinstance(error, PermanentSinkError) and not error.stops_sink:
        return Verdict(refusal=error)
    raise error


def _make(_labels: Labels) -> Format:
    return Format("application/x-ndjson", _events, json="known", judge=_judge, max_lines=MAX_LINES)


def _problems(labels: Labels) -> Iterator[str]:
    for name in ("log_group", "log_stream"):
        value = re.sub(r"\{\w+\}", "x", labels.get(name, ""))
        if not re.fullmatch(_NAME, value):
            yield f"{name}: must be a name of 1 to 512 characters; it must exist in CloudWatch Logs"


PRESET: Final = Preset(
    path="/ingest/bulk",
    token_header="Authorization",  # noqa: S106 - the name of a header
    token_prefix="Bearer ",  # noqa: S106
    labels={"log_group": "", "log_stream": ""},
    has_free_labels=False,
    max_body_bytes=786_432,
    limits=(
        "not documented for this endpoint; those of PutLogEvents are kept: 1 MiB and 10,000 lines "
        "a request, lines of the last 14 days up to 2 hours ahead"
    ),
    duplicates="it does not: a request that is sent again arrives twice",
    make=_make,
    problems=_problems,
    compressions=("none",),
    service="logs",
    headers={"log_group": "x-aws-log-group", "log_stream": "x-aws-log-stream"},
)

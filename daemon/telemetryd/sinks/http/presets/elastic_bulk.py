"""Elasticsearch and OpenSearch: `POST /<index>/_bulk`.

Source: "Bulk API" of both. Each line is a document that is created under an id of its own, so that
one that is there already (409) has been delivered before. A line that is no JSON object becomes the
member `message` of one. Each document has `@timestamp`, which data streams need.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from telemetryd.errors import PermanentSinkError, TransientSinkError
from telemetryd.sinks._entries import LineFault
from telemetryd.sinks.http.answers import ACCEPTED, Reply, Verdict, judge
from telemetryd.sinks.http.formats import Format, Lines
from telemetryd.sinks.http.presets import Labels, Preset
from telemetryd.sinks.http.presets._text import encode, split, text_of
from telemetryd.sinks.http.presets._times import dates, stamps
from telemetryd_proto.errors import DECODE_FAILURES

_INDEX: Final = r"(?![-_+.])[a-z0-9][a-z0-9._-]{0,254}"
_EXISTS: Final = 409
_THROTTLED: Final = 429
_ACCEPTED_BELOW: Final = 300
_OF_INDEX: Final = {401: "credentials_refused", 403: "access_denied", 404: "not_found"}
"""Statuses of items that say nothing about a line."""
_SERVER: Final = 500
_SUFFIX: Final = "_exception"


class _Error(msgspec.Struct, gc=False):
    type: str = ""


class _Result(msgspec.Struct, gc=False):
    status: int
    error: _Error | str | None = None


class _Item(msgspec.Struct, gc=False):
    create: _Result


class _Dated(msgspec.Struct, gc=False):
    date: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="@timestamp")


class _Said(msgspec.Struct, gc=False):
    errors: bool
    items: msgspec.Raw = msgspec.Raw(b"[]")


_decode: Final = msgspec.json.Decoder(_Said).decode
_decode_items: Final = msgspec.json.Decoder(list[_Item]).decode
_decode_line: Final = msgspec.json.Decoder(_Dated).decode


def _documents(lines: Lines) -> bytes:
    text = text_of(lines)
    each = split(text)
    times = dates(stamps(each, lines.packed_at))
    key, number = lines.key, lines.first
    is_plain = lines.is_json and '"@timestamp"' not in text
    made: list[str] = []
    for time, line in zip(times, each, strict=True):
        # the usual case is written out: a call for each line would double the work
        if is_plain and line[:2] == '{"':
            document = f'{{"@timestamp":"{time}",{line[1:]}'
        else:
            document = _document(line, time, is_json=lines.is_json)
        made.append(f'{{"create":{{"_id":"{key}-{number}"}}}}\n{document}\n')
        number += 1
    return "".join(made).encode()


def _document(line: str, time: str, *, is_json: bool) -> str:
    stripped = line.strip()
    if not is_json or stripped[:1] != "{":
        return f'{{"@timestamp":"{time}","message":{encode(line).decode()}}}'
    if '"@timestamp"' in line and _has_date(line):
        return line
    rest = stripped[1:].lstrip()
    return f'{{"@timestamp":"{time}"{"" if rest[:1] == "}" else ","}{rest}'


def _has_date(line: str) -> bool:
    """True if the line itself has that member, and not only its record: two would be ambiguous."""
    try:
        return bool(bytes(_decode_line(line).date))
    except DECODE_FAILURES:
        return True


def _judge(reply: Reply) -> Verdict:
    answer, text = reply.answer, f"{reply.authority} answered {reply.answer.status}"
    verdict = judge(reply)
    if verdict is not ACCEPTED:
        return verdict
    try:
        said = _decode(answer.body)
        results = _decode_items(said.items) if said.errors else []
    except DECODE_FAILURES:
        raise TransientSinkError("garbled_answer", f"{text}, but not to a bulk request") from None
    if not said.errors:
        return ACCEPTED
    if len(results) != reply.lines:
        raise TransientSinkError("garbled_answer", f"{text}, but not for each document")
    faults = list(_faults(results))
    codes = {fault.code for fault in faults}
    if len(faults) == reply.lines and len(codes) == 1 and codes <= set(_OF_INDEX.values()):
        (code,) = codes
        raise PermanentSinkError(code, f"{text}: no document is accepted", stops_sink=True)
    return Verdict(faults, f"{text}; of {reply.lines} documents {len(faults)} are not accepted")


def _faults(results: list[_Item]) -> Iterator[LineFault]:
    for line, item in enumerate(results):
        status = item.create.status
        if status < _ACCEPTED_BELOW or status == _EXISTS:
            continue
        if status == _THROTTLED:
            yield LineFault(line, "throttled", retryable=True)
        elif status >= _SERVER:
            yield LineFault(line, "server_error", retryable=True)
        else:
            yield LineFault(line, _OF_INDEX.get(status) or _code(item.create), retryable=False)


def _code(result: _Result) -> str:
    kind = result.error.type if isinstance(result.error, _Error) else ""
    return kind.removesuffix(_SUFFIX) or "invalid_request"


def _make(_labels: Labels) -> Format:
    return Format("application/x-ndjson", _documents, json="known", judge=_judge)


def _problems(labels: Labels) -> Iterator[str]:
    index = labels.get("index", "").replace("{function}", "x").replace("{version}", "x")
    if not re.fullmatch(_INDEX, index):
        yield "index: must be the name of an index or data stream, in lower case"


PRESET: Final = Preset(
    path="/{index}/_bulk?filter_path=errors,items.*.status,items.*.error.type",
    token_header="Authorization",  # noqa: S106 - the name of a header
    token_prefix="ApiKey ",  # noqa: S106
    labels={"index": "logs-lambda-default"},
    has_free_labels=False,
    max_body_bytes=5 * 1024 * 1024,
    limits=(
        "100 MB a request (`http.max_content_length`), 10 MiB in small domains of Amazon "
        "OpenSearch Service"
    ),
    duplicates="each line has its own `_id`, and is created once",
    make=_make,
    problems=_problems,
)

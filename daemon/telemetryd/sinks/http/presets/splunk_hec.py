"""Splunk's HTTP Event Collector: `POST /services/collector/event`.

Sources: "Format events for HTTP Event Collector" and "Troubleshoot HTTP Event Collector" (its table
of error codes). A line that is JSON is an event as it is, any other is a text. Splunk stops at the
first event that it refuses, and says where it stopped, but not always by the same count: the
events around that place are sent again one by one.
"""

from __future__ import annotations

from typing import Final

import msgspec

from telemetryd.errors import PermanentSinkError, TransientSinkError
from telemetryd.sinks.http.answers import ACCEPTED, Reply, Verdict, judge
from telemetryd.sinks.http.formats import Format, Lines
from telemetryd.sinks.http.presets import Labels, Preset
from telemetryd.sinks.http.presets._text import encode, members, split, text_of
from telemetryd.sinks.http.presets._times import fractions, stamps
from telemetryd_proto.errors import DECODE_FAILURES

_OF_LINES: Final = {
    6: "invalid_data_format",
    12: "event_required",
    13: "event_blank",
    15: "indexed_fields_invalid",
}
"""Codes about events, and the reasons they are counted under."""
_OF_CONFIGURATION: Final = {
    1: ("access_denied", "the token is disabled"),
    2: ("credentials_refused", "the token is missing"),
    3: ("credentials_refused", "the token is not in a form it knows"),
    4: ("credentials_refused", "the token is unknown"),
    7: ("not_found", "the index is unknown, or not allowed for the token"),
    10: ("refused", "the token needs a channel: set the header X-Splunk-Request-Channel"),
    11: ("refused", "the header X-Splunk-Request-Channel is not valid"),
    14: ("refused", "acknowledgments are disabled"),
    16: ("refused", "tokens in a query are not allowed"),
}
"""Codes about whatever is sent, with the reason, and in words."""


class _Said(msgspec.Struct, gc=False):
    code: int = 0
    invalid_event: int | None = msgspec.field(default=None, name="invalid-event-number")


_decode: Final = msgspec.json.Decoder(_Said).decode


def _make(labels: Labels) -> Format:
    head = f"{{{members(labels)}"

    def events(lines: Lines) -> bytes:
        text = text_of(lines)
        each = split(text)
        times = fractions(stamps(each, lines.packed_at))
        if not lines.is_json:
            each = [encode(line).decode() for line in each]
        made = [
            f'{head}"time":{time},"event":{line}}}' for time, line in zip(times, each, strict=True)
        ]
        return "".join(made).encode()

    return Format("application/json", events, json="known", judge=_judge)


def _judge(reply: Reply) -> Verdict:
    status, text = reply.answer.status, f"{reply.authority} answered {reply.answer.status}"
    try:
        said = _decode(reply.answer.body)
    except DECODE_FAILURES:
        if status < 300:  # noqa: PLR2004 - RFC 9110
            judge(reply)  # a web page
            raise TransientSinkError("garbled_answer", f"{text}, but not as Splunk does") from None
        return judge(reply)
    if said.code in _OF_CONFIGURATION:
        code, words = _OF_CONFIGURATION[said.code]
        raise PermanentSinkError(code, f"{text}, code {said.code}: {words}", stops_sink=True)
    if said.code in _OF_LINES:
        reason = _OF_LINES[said.code]
        refusal = PermanentSinkError(reason, f"{text}, code {said.code}: {reason}")
        return Verdict(refusal=refusal, suspects=_suspects(said.invalid_event, reply.lines))
    verdict = judge(reply)
    if verdict is ACCEPTED and said.code:
        raise TransientSinkError("garbled_answer", f"{text}, but code {said.code}")
    return verdict


def _suspects(number: int | None, lines: int) -> list[int]:
    """Return the events that may be meant by `number`, which counts from 0 or from 1."""
    if number is None:
        return []
    return [each for each in (number - 1, number) if 0 <= each < lines]


PRESET: Final = Preset(
    path="/services/collector/event",
    token_header="Authorization",  # noqa: S106 - the name of a header
    token_prefix="Splunk ",  # noqa: S106
    labels={"source": "{function}", "sourcetype": "_json", "host": "", "index": ""},
    has_free_labels=False,
    max_body_bytes=1_000_000,
    limits=(
        "1 MB a request is recommended by Splunk Cloud, `max_content_length` of its limits.conf "
        "elsewhere"
    ),
    duplicates="it does not: a request that is sent again arrives twice",
    make=_make,
)

"""Presets against strict servers: what is sent, what is refused, what is wrong to configure."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from helpers.collector_server import Request, Say, no_proxies
from helpers.vendor_servers import (
    CloudWatchServer,
    DatadogServer,
    ElasticServer,
    HoneycombServer,
    LokiServer,
    NewRelicServer,
    SplunkServer,
    VendorServer,
)
from telemetryd.clock import Clock
from telemetryd.commands.check import check
from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.sinks._entries import Entry
from telemetryd.sinks._posting import Place
from telemetryd.sinks.base import Batch, WriteResult
from telemetryd.sinks.http.bodies import FormatBodies
from telemetryd.sinks.http.config import HttpConfig, region_of
from telemetryd.sinks.http.presets import PresetName, preset
from telemetryd.sinks.http.presets._times import milliseconds, nanoseconds, stamps
from telemetryd.sinks.http.sink import HttpItem, HttpSink
from telemetryd.testing import LogBook, Rig, block, context
from telemetryd.testing.rig import dead_letter_at
from telemetryd_proto.framing import Block

SERVERS: dict[PresetName, type[VendorServer]] = {
    "cloudwatch": CloudWatchServer,
    "datadog": DatadogServer,
    "elastic_bulk": ElasticServer,
    "honeycomb": HoneycombServer,
    "loki": LokiServer,
    "new_relic": NewRelicServer,
    "splunk_hec": SplunkServer,
}
TIME = "2026-03-14T12:00:00.123Z"
NANOSECONDS = "1773489600123000000"
PACKED_AT = 1_800_000_000.5
PACKED_DATE = "2027-01-15T08:00:00.500000000Z"
TOKEN = "s3cret-0815"  # noqa: S105 - opens nothing
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"  # noqa: S105 - an example of AWS's
NEEDED: dict[str, dict[str, str]] = {
    "cloudwatch": {"log_group": "telemetry", "log_stream": "orders"}
}
"""Labels without which a preset can't be used."""


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": "a token",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)


def line(number: int, word: str = "line") -> bytes:
    """A line as Lambda sends it."""
    return b'{"time":"%b","type":"function","record":"%b %d"}' % (
        TIME.encode(), word.encode(), number,
    )  # fmt: skip


@pytest.fixture
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    no_proxies(monkeypatch)
    with SERVERS[request.param]() as server:
        yield server
        assert server.violations == []


def for_each(*names: PresetName) -> pytest.MarkDecorator:
    """Run a test with the servers of these presets, or of all."""
    return pytest.mark.parametrize("server", names or tuple(SERVERS), indirect=True)


def name_of(server: VendorServer) -> PresetName:
    return next(name for name, kind in SERVERS.items() if isinstance(server, kind))


def config_of(server: VendorServer, **keys: Any) -> HttpConfig:
    name = name_of(server)
    given: dict[str, Any] = {"type": "http", "url": server.url, "linger_ms": 0, "preset": name}
    given["labels"] = NEEDED.get(name, {})
    given |= keys
    return msgspec.convert(given, HttpConfig)


def deliver(
    server: VendorServer, blocks: list[Block], letters: Path | None = None, **keys: Any
) -> Rig:
    """Send blocks through a worker, until all are settled."""
    config = config_of(server, **keys)
    letter = None if letters is None else dead_letter_at(letters)
    log = LogBook()
    clock = Clock(wall=lambda: PACKED_AT)
    rig = Rig(HttpSink(config, context(log, clock=clock)), config, log=log, dead_letter=letter)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(blocks)
        await rig.flush()
        await rig.stop()

    asyncio.run(scenario())
    if letter is not None:
        letter.close()
    rig.check_end()
    assert rig.log.facts("sink_bug") == []
    return rig


def write(server: VendorServer, *items: HttpItem, **keys: Any) -> WriteResult:
    """The outcome of one write."""

    async def scenario() -> WriteResult:
        sink = HttpSink(config_of(server, **keys), context())
        try:
            return await sink.write(Batch("b", items), attempt=1, deadline=1e9)
        finally:
            await sink.close()

    return asyncio.run(scenario())


def refusal(server: VendorServer, step: Say) -> SinkError:
    """The error that one answer makes of a write."""
    server.script = [step]
    with pytest.raises(SinkError) as caught:
        write(server, HttpItem(line(1) + b"\n", 1, len(line(1)) + 1))
    return caught.value


# -- what is sent --------------------------------------------------------------------------------


@for_each()
def test_lines_arrive_with_their_time(server: VendorServer) -> None:
    """That of a line without one is when it was packed."""
    lines = [line(1), b'{"record":1}', b"plain", b'{"time":"soon"}', b'{"time":null}']
    assert deliver(server, [block(*lines)]).lines() == {"delivered": 5}
    assert server.lines == b"".join(each + b"\n" for each in lines)
    times = [event.time for event in server.stored]
    expected = {
        "loki": (NANOSECONDS, "1800000000500000000"),
        "splunk_hec": ("1773489600.123", "1800000000.500000000"),
        "elastic_bulk": (TIME, PACKED_DATE),
        "cloudwatch": (NANOSECONDS[:13], "1800000000500"),
        "datadog": (NANOSECONDS[:13], "1800000000500"),
        "new_relic": (NANOSECONDS[:13], "1800000000500"),
        "honeycomb": (TIME, PACKED_DATE),
    }[name_of(server)]
    assert times == [expected[0], *[expected[1]] * 4]


@for_each()
def test_labels_have_defaults_and_placeholders(server: VendorServer) -> None:
    """An empty one is not sent."""
    name = name_of(server)
    given: dict[str, dict[str, str]] = {
        "loki": {"service_name": "shop-{version}", "env": "{function}"},
        "splunk_hec": {"source": "", "index": "main", "host": "{instance}"},
        "elastic_bulk": {"index": "logs-{function}-default"},
        "datadog": {"ddtags": "env:prod,version:{version}", "service": "shop"},
        "new_relic": {"service.name": "", "env": "prod", "logtype": "{version}"},
        "honeycomb": {},
        "cloudwatch": NEEDED["cloudwatch"],
    }
    expected: dict[str, dict[str, str]] = {
        "loki": {"service_name": "shop-$LATEST", "env": "orders"},
        "splunk_hec": {"sourcetype": "_json", "host": context().instance, "index": "main"},
        "elastic_bulk": {},
        "datadog": {
            "ddsource": "lambda", "ddtags": "env:prod,version:$LATEST", "service": "shop",
        },
        "new_relic": {"env": "prod", "logtype": "$LATEST"},
        "honeycomb": {},
        "cloudwatch": {},
    }  # fmt: skip
    if isinstance(server, ElasticServer):
        type(server).path, path = server.path.replace("lambda", "orders"), server.path
    try:
        assert deliver(server, [block(line(1))], labels=given[name]).lines() == {"delivered": 1}
    finally:
        if isinstance(server, ElasticServer):
            type(server).path = path
    assert [event.labels for event in server.stored] == [expected[name]]


@for_each()
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_a_wrong_token_stops_the_sink_and_is_never_shown(
    server: VendorServer, compression: str
) -> None:
    if compression not in preset(name_of(server)).compressions:
        pytest.skip("the vendor does not take it")
    server.token = TOKEN
    keys: dict[str, Any] = {"compression": compression}
    assert deliver(server, [block(line(1))], token=TOKEN, **keys).lines() == {"delivered": 1}
    rig = deliver(server, [block(line(2))], token="wrong-4711", **keys)  # noqa: S106
    (reason,) = rig.lines()
    assert reason in ("dropped.credentials_refused", "dropped.access_denied")
    assert len(rig.log.facts("circuit_opened")) == 1
    assert "wrong-4711" not in str(rig.log.records)


@for_each("datadog")
def test_no_request_has_more_entries_than_the_vendor_takes(server: VendorServer) -> None:
    """The strict server refuses more than 1000; short lines reach that before 16 KiB."""
    lines = [b"%d" % number for number in range(4500)]
    assert deliver(server, [block(*lines)]).lines() == {"delivered": 4500}
    assert server.lines.split() == lines
    assert len(server.requests) <= 6


@for_each("elastic_bulk")
def test_documents_keep_their_own_timestamp_and_form(server: VendorServer) -> None:
    lines = [b"{}", b' { "a": 1 } ', b'{"@timestamp":"2026-01-01T00:00:00.5Z","a":1}', b"[1]", b"7"]
    assert deliver(server, [block(*lines)]).lines() == {"delivered": 5}
    rows = server.requests[0].body.decode().split("\n")[1::2]
    documents = [json.loads(row) for row in rows]
    at = {"@timestamp": PACKED_DATE}
    assert documents == [
        at, {**at, "a": 1}, {"@timestamp": "2026-01-01T00:00:00.5Z", "a": 1},
        {**at, "message": "[1]"}, {**at, "message": "7"},
    ]  # fmt: skip


@for_each("elastic_bulk")
def test_a_timestamp_of_the_record_is_not_that_of_the_document(server: ElasticServer) -> None:
    """Loggers of Elastic and Logstash put one there; data streams need one of the document."""
    record = {"@timestamp": "2026-01-01T00:00:00.5Z", "message": "made by an ECS logger"}
    events = [{"type": "function", "record": record}, {"record": {}, **record}]
    lines = [json.dumps(event).encode() for event in events]
    assert deliver(server, [block(*lines)]).lines() == {"delivered": 2}
    rows = server.requests[0].body.decode().split("\n")[1::2]
    assert [json.loads(row) for row in rows] == [
        {"@timestamp": PACKED_DATE, **events[0]}, events[1],
    ]  # fmt: skip


@given(st.lists(st.text(st.characters(exclude_characters="\n")), min_size=1, max_size=5))
@pytest.mark.parametrize("name", SERVERS)
def test_whatever_lines_hold_the_body_is_what_the_vendor_reads(
    name: PresetName, texts: list[str]
) -> None:
    """As JSON texts and as plain ones; the strict server's reader gives the lines back."""
    reader = SERVERS[name].events
    keys = {"url": "http://h", "preset": name, "labels": NEEDED.get(name, {})}
    config = msgspec.convert({"type": "http", **keys}, HttpConfig)
    sink = HttpSink(config, context(clock=Clock(wall=lambda: PACKED_AT)))
    objects = [json.dumps({"k" + text: text}, ensure_ascii=False) for text in texts]
    plain = [text.encode(errors="replace").decode() for text in texts]
    lines = [each.encode() for each in plain + [o for o in objects if o.isprintable()]]
    batch = Batch("b", tuple(sink.pack([block(*lines)])))
    chosen = preset(name)
    bodies = FormatBodies(chosen.make({"service_name": "x"} if name == "loki" else {}), 1 << 20)
    run = [Entry(index, item) for index, item in enumerate(batch.items)]
    assert bodies.fit(batch, run)[0] == len(run)
    body = b"".join(bodies.make(run))
    with SERVERS[name]() as server:
        headers = {"x-aws-log-group": "telemetry", "x-aws-log-stream": "orders"}
        server.token = TOKEN
        server.requests.append(Request("", headers, body))
        assert [event.line for event in reader(server, body)] == [
            _as_kept(name, each) for each in lines
        ]


def _as_kept(name: PresetName, line: bytes) -> bytes:
    """The line as the strict server gives it back, which may be without blanks around JSON."""
    if name in ("cloudwatch", "elastic_bulk") and line.strip() == b"{}":
        return b"{}"
    return line


def test_times_in_every_form() -> None:
    """The quick way and the careful one give the same."""
    texts = [
        '{"time":"2026-03-14T12:00:00Z","a":1}',
        '{"function":"f","version":"1","time":"2026-03-14T12:00:00.5Z"}',
        '{"a":{"time":"1999-01-01T00:00:00Z"},"time":"2026-03-14T14:00:00.000001+02:00"}',
        '{"time":"2026-03-14T12:00:00.123456789Z"}',
        '{"time":"2026-13-14T12:00:00Z"}',
        '{"time":"2026-03-14T12:00:00"}',
        "no",
    ]
    singly = [nanoseconds(stamps([text], 77))[0] for text in texts]
    second = "1773489600"
    assert singly == [
        f"{second}000000000", f"{second}500000000", f"{second}000001000", f"{second}123456789",
        "0000000077", f"{second}000000000", "0000000077",
    ]  # fmt: skip
    together = nanoseconds(stamps(texts, 77))
    assert [each[:16] for each in together] == [each[:16] for each in singly]
    assert milliseconds(stamps(texts[:2], 0)) == [
        f"{second}000", f"{second}500",
    ]  # fmt: skip


# -- what is refused -----------------------------------------------------------------------------


@for_each()
def test_a_refused_line_costs_no_neighbour(server: VendorServer, tmp_path: Path) -> None:
    """Each vendor says it in its own way; the dead letter has its reason."""
    server.refused = b"poison"
    lines = [line(number) for number in range(400)]
    lines[0] = line(0, "poison")
    lines[333] = line(333, "poison")
    rig = deliver(server, [block(*lines[:200]), block(*lines[200:])], tmp_path / "letters")
    assert rig.lines() == {"delivered": 398, "dead_lettered": 2}
    good = [each for each in lines if b"poison" not in each]
    assert set(server.lines.splitlines()) == set(good)
    reason = {
        "loki": "too_old",
        "splunk_hec": "invalid_data_format",
        "elastic_bulk": "document_parsing",
        "cloudwatch": "invalid_request",
        "datadog": "invalid_request",
        "new_relic": "invalid_request",
        "honeycomb": "invalid_request",
    }[name_of(server)]
    letters = (tmp_path / "letters").read_text()
    assert letters.count(reason) == letters.count("poison") == 2
    assert "poison" not in str(rig.log.records)
    if name_of(server) != "splunk_hec":  # which may get lines twice
        assert server.lines.splitlines() == sorted(server.lines.splitlines(), key=good.index)
        assert len(server.stored) == len(good)
    assert len(server.requests) < 50


@for_each("splunk_hec")
@pytest.mark.parametrize(("counts_from", "names_it"), [(0, True), (1, True), (0, False)])
def test_splunk_names_an_event_from_zero_or_from_one_or_not(
    server: SplunkServer, counts_from: int, names_it: bool
) -> None:
    server.refused, server.counts_from, server.names_the_event = b"poison", counts_from, names_it
    lines = [line(number, "poison" if number == 60 else "line") for number in range(100)]
    rig = deliver(server, [block(*lines)])
    assert rig.lines() == {"delivered": 99, "dropped.invalid_data_format": 1}
    assert set(server.lines.splitlines()) == set(lines) - {lines[60]}
    assert len(server.requests) <= (5 if names_it else 20)


@for_each("splunk_hec")
def test_splunk_takes_no_blank_events(server: SplunkServer) -> None:
    rig = deliver(server, [block(line(1), b'""', b" ", line(2))])
    assert rig.lines() == {"delivered": 2, "dropped.event_blank": 2}


@for_each("elastic_bulk", "honeycomb")
def test_lines_that_meet_a_full_queue_are_written_again_alone(
    server: ElasticServer | HoneycombServer,
) -> None:
    server.busy = b"busy"
    lines = [line(number, "busy" if number in (3, 4, 70) else "line") for number in range(100)]
    rig = deliver(server, [block(*lines)])
    assert rig.lines() == {"delivered": 100}
    assert [request.body.count(b"function") for request in server.requests] == [100, 3]
    assert rig.stats.errors == {("transient", "throttled"): 1}
    assert len(server.stored) == 100


@for_each("elastic_bulk")
def test_documents_that_are_there_already_are_delivered(server: ElasticServer) -> None:
    """The answer to the first request was lost: the same ids are sent again."""
    server.script = [Say(503, accept=True)]
    rig = deliver(server, [block(*(line(number) for number in range(50)))])
    assert rig.lines() == {"delivered": 50}
    assert len(server.stored) == 50
    assert len(server.requests) == 2


@for_each("elastic_bulk")
def test_an_index_that_is_not_there_stops_the_sink(server: ElasticServer) -> None:
    server.index_is_there = False
    rig = deliver(server, [block(line(1), line(2))])
    assert rig.lines() == {"dropped.not_found": 2}
    assert len(rig.log.facts("circuit_opened")) == 1


@for_each("loki")
def test_loki_drops_what_comes_again(server: LokiServer) -> None:
    server.script = [Say(500, accept=True)]
    assert deliver(server, [block(line(1), line(2))]).lines() == {"delivered": 2}
    assert len(server.stored) == 2


@for_each("loki")
@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("entry too far behind, entry timestamp is: ..., oldest acceptable", "out_of_order"),
        ("entry for stream '{}' has timestamp too new: 2036", "too_new"),
        ("something else", "invalid_request"),
    ],
)
def test_reasons_of_loki(server: LokiServer, said: str, code: str) -> None:
    assert refusal(server, Say(400, body=said.encode())).code == code


@for_each("splunk_hec")
@pytest.mark.parametrize(
    ("status", "said", "code", "kind"),
    [
        (400, {"code": 7, "invalid-event-number": 1}, "not_found", "stops"),
        (400, {"code": 10}, "refused", "stops"),
        (401, {"code": 2}, "credentials_refused", "stops"),
        (403, {"code": 1}, "access_denied", "stops"),
        (503, {"code": 9, "invalid-event-number": 3}, "server_error", "again"),
        (500, {"code": 8}, "server_error", "again"),
        (400, {"code": 12}, "event_required", "lines"),
        (400, {"text": "odd"}, "invalid_request", "lines"),
        (400, "no object", "invalid_request", "lines"),
        (200, {"code": 3}, "credentials_refused", "stops"),
        (200, {"code": 99}, "garbled_answer", "again"),
        (200, ["odd"], "garbled_answer", "again"),
    ],
)
def test_codes_of_splunk(
    server: SplunkServer, status: int, said: object, code: str, kind: str
) -> None:
    error = refusal(server, Say(status, body=json.dumps(said).encode()))
    assert error.code == code
    stops = isinstance(error, PermanentSinkError) and error.stops_sink
    assert (isinstance(error, TransientSinkError), stops) == (kind == "again", kind == "stops")


@for_each("elastic_bulk")
@pytest.mark.parametrize(
    "said",
    [
        "{}", "[]", "no", '{"errors":true}', '{"errors":true,"items":[]}',
        '{"errors":true,"items":[{"index":{"status":200}}]}', '{"errors":1,"items":[]}',
    ],
)  # fmt: skip
def test_answers_that_say_nothing_of_a_document_are_no_success(
    server: ElasticServer, said: str
) -> None:
    """Such as a partial failure without its items."""
    error = refusal(server, Say(200, body=said.encode()))
    assert (error.code, isinstance(error, TransientSinkError)) == ("garbled_answer", True)


@for_each("honeycomb")
@pytest.mark.parametrize("said", ["{}", "[]", "no", '[{"status":202},{"status":202}]'])
def test_an_answer_to_other_events_is_no_success(server: HoneycombServer, said: str) -> None:
    error = refusal(server, Say(200, body=said.encode()))
    assert (error.code, isinstance(error, TransientSinkError)) == ("garbled_answer", True)


@for_each()
@pytest.mark.parametrize(
    ("step", "code", "seconds"),
    [
        (Say(200, body=b"<!doctype html><p>Log in"), "garbled_answer", 0.0),
        (Say(302, {"Location": "http://portal.test/"}), "redirected", 0.0),
        (Say(404), "not_found", 0.0),
        (Say(429, {"Retry-After": "7"}), "throttled", 7.0),
        (
            Say(
                429,
                {
                    "Date": "Sun, 06 Nov 1994 08:49:37 GMT",
                    "Retry-After": "Sun, 06 Nov 1994 08:49:42 GMT",
                },
            ),
            "throttled",
            5.0,
        ),
        (Say(413), "too_large", 0.0),
    ],
)
def test_answers_that_any_server_may_give(
    server: VendorServer, step: Say, code: str, seconds: float
) -> None:
    """A portal, a redirect, a wrong URL, throttling by number and by date, a line too much."""
    error = refusal(server, step)
    assert error.code == code
    assert getattr(error, "retry_after", 0.0) == seconds


DEEP = "[" * 5000 + "]" * 5000


@for_each()
@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(
    "body",
    [
        f'{{"errors":true,"items":{DEEP}}}', f'{{"code":6,"x":{DEEP}}}', DEEP,
        f'{{"__type":{DEEP}}}',
        '{"errors":true,"items":[{"create":{"status":400,"error":{"type":"\udcff"}}}]}',
        '{"__type":"\udcff"}',
    ],
)  # fmt: skip
def test_no_answer_is_a_bug_of_the_sink(server: VendorServer, status: int, body: str) -> None:
    """However deep it is nested, and if its text is no UTF-8."""
    server.script = [Say(status, body=body.encode(errors="surrogateescape"))] * 3
    with contextlib.suppress(SinkError):
        write(server, HttpItem(line(1) + b"\n", 1, len(line(1)) + 1))


# -- CloudWatch ----------------------------------------------------------------------------------


@for_each("cloudwatch")
def test_requests_are_signed_as_botocore_signs_them(
    server: CloudWatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert deliver(server, [block(line(1))]).lines() == {"delivered": 1}
    (request,) = server.requests
    headers = request.headers
    signed = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    at = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    monkeypatch.setattr(auth, "get_current_datetime", lambda: at)
    own = {"authorization", "x-amz-date", "x-amz-security-token"}
    theirs = AWSRequest(
        "POST", f"{server.url}{server.path}", data=request.body,
        headers={name: headers[name] for name in signed if name not in own},
    )  # fmt: skip
    known = Credentials("AKIDEXAMPLE", SECRET, "a token")
    auth.SigV4Auth(known, "logs", "eu-west-1").add_auth(theirs)
    assert theirs.headers["Authorization"] == headers["authorization"]


@for_each("cloudwatch")
def test_a_time_stands_in_front_of_each_line_that_has_none(server: CloudWatchServer) -> None:
    """JSON logs of Lambda have one in their record, which CloudWatch does not look at."""
    lines = [
        line(1)[:-1] + b',"more":{"timestamp":"x"}}', b'{"timestamp":5,"a":1}', b"{}", b"[1,2]",
        b'{"a":{"timestamp":7}}',
    ]  # fmt: skip
    assert deliver(server, [block(*lines)]).lines() == {"delivered": 5}
    rows = server.requests[0].body.split(b"\n")
    stamp = b"1800000000500"
    assert rows == [
        b'{"timestamp":%b,%b' % (NANOSECONDS[:13].encode(), lines[0][1:]), lines[1],
        b'{"timestamp":%b}' % stamp, b'{"timestamp":%b,"message":"[1,2]"}' % stamp,
        b'{"timestamp":%b,"a":{"timestamp":7}}' % stamp, b"",
    ]  # fmt: skip


@for_each("cloudwatch")
@pytest.mark.parametrize(
    ("status", "kind", "code", "stops"),
    [
        (400, "ResourceNotFoundException", "not_found", True),
        (400, "com.amazonaws.logs#AccessDeniedException", "access_denied", True),
        (400, "ThrottlingException", "throttled", False),
        (400, "InvalidParameterException", "invalid_request", False),
        (403, "ExpiredTokenException", "credentials_expired", False),
        (403, "InvalidSignatureException", "credentials_refused", True),
        (400, "", "invalid_request", False),
        (503, "ServiceUnavailableException", "server_error", False),
    ],
)
def test_errors_of_cloudwatch(
    server: CloudWatchServer, status: int, kind: str, code: str, stops: bool
) -> None:
    """One about the log group says nothing about lines: they must not be lost one by one."""
    error = refusal(server, Say(status, body=json.dumps({"__type": kind}).encode()))
    assert (error.code, getattr(error, "stops_sink", False)) == (code, stops)
    assert len(server.requests) == 1


def test_cloudwatch_finds_the_endpoint_and_says_what_it_needs() -> None:
    keys = {"type": "http", "preset": "cloudwatch", "labels": NEEDED["cloudwatch"]}
    config = msgspec.convert(keys, HttpConfig)
    sink = HttpSink(config, context())
    asyncio.run(sink.open())
    assert sink._place == Place("https", "logs.eu-west-1.amazonaws.com", 443, "/ingest/bulk")
    (need,) = config.aws_needs()
    group = "arn:{partition}:logs:{region}:{account}:log-group:telemetry:log-stream:orders"
    assert (need.actions, need.resource) == (("logs:PutLogEvents",), group)
    assert region_of("https://logs.ap-southeast-2.amazonaws.com") == "ap-southeast-2"
    assert region_of("https://vpce-1.logs.us-gov-west-1.vpce.amazonaws.com") == "us-gov-west-1"
    assert list(msgspec.convert({**keys, "token": "x"}, HttpConfig).aws_needs()) == []


# -- configuration -------------------------------------------------------------------------------


def problems(**keys: Any) -> list[str]:
    given = {"type": "http", "url": "https://h.test", **keys}
    return list(msgspec.convert(given, HttpConfig).problems())


@pytest.mark.parametrize("name", SERVERS)
def test_an_address_is_enough(name: PresetName) -> None:
    assert problems(preset=name, labels=NEEDED.get(name, {})) == []


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"labels": {"a": "b"}}, "labels: need `preset`"),
        ({"preset": "loki", "body": "json"}, "body: is set by `preset`"),
        ({"preset": "loki", "labels": {"service_name": ""}}, "labels: must have 1 to 15"),
        ({"preset": "loki", "labels": {f"l{n}": "x" for n in range(15)}}, "labels: must have 1"),
        ({"preset": "loki", "labels": {"a-b": "x"}}, "labels: 'a-b' is not a name of a label"),
        ({"preset": "loki", "labels": {"a": "{instance}"}}, "labels: {instance} would make"),
        ({"preset": "loki", "labels": {"a": "x" * 2049}}, "labels: a: a name has at most 1024"),
        ({"preset": "loki", "labels": {"a": "{region}"}}, "labels: a: unknown placeholder"),
        ({"preset": "splunk_hec", "labels": {"env": "x"}}, "has no label 'env'; known: source"),
        ({"preset": "datadog", "labels": {"tags": "x"}}, "has no label 'tags'; known: ddsource"),
        ({"preset": "elastic_bulk", "labels": {"index": "Logs"}}, "labels: index: must be"),
        ({"preset": "elastic_bulk", "labels": {"index": ""}}, "labels: index: must be"),
        ({"preset": "loki", "compression": "zstd"}, "compression: preset loki takes none or gzip"),
        ({"preset": "cloudwatch", "labels": {"log_group": "a"}}, "labels: log_stream: must be"),
        ({"url": ""}, "url: is required"),
        ({"url": "", "preset": "loki"}, "url: is required"),
        ({"url": "", "preset": "cloudwatch", "labels": NEEDED["cloudwatch"], "token": "x"}, "url"),
        ({"preset": "honeycomb", "labels": {"dataset": "a/b"}}, "labels: dataset: must be"),
        ({"preset": "new_relic", "labels": {"a": "x" * 4095}}, "labels: a: a name has at most"),
        ({"preset": "datadog", "token": "k", "headers": {"DD-API-Key": "x"}}, "sent twice"),
    ],
)
def test_what_can_not_work(keys: dict[str, Any], says: str) -> None:
    (problem,) = problems(**keys)
    assert says in problem


def test_a_url_with_a_path_is_used_as_it_is() -> None:
    url = "https://h.test/insert/loki/api/v1/push?x=1"
    config = msgspec.convert({"type": "http", "url": url, "preset": "loki"}, HttpConfig)
    assert config.place is not None
    assert config.place.target == "/insert/loki/api/v1/push?x=1"


@pytest.mark.parametrize("name", SERVERS)
def test_check_shows_what_a_preset_sets_and_its_limits_but_no_token(name: PresetName) -> None:
    out, err = io.StringIO(), io.StringIO()
    environ = {
        "TELEMETRYD_SINKS__OUT__TYPE": "http", "TELEMETRYD_SINKS__OUT__PRESET": name,
        "TELEMETRYD_SINKS__OUT__URL": "https://h.test", "TELEMETRYD_SINKS__OUT__TOKEN": TOKEN,
        "TELEMETRYD_SINKS__OUT__LABELS": json.dumps(NEEDED.get(name, {})),
    }  # fmt: skip
    assert check(environ, out, err, default_paths=()) == 0, err.getvalue()
    text = out.getvalue()
    chosen = preset(name)
    assert f"# sinks.out: preset {name}: POST https://h.test:443/" in text
    assert f"body at most {chosen.max_body_bytes} bytes" in text
    assert f"# sinks.out: limits of the vendor: {chosen.limits}\n" in text
    assert f"# sinks.out: duplicates: {chosen.duplicates}\n" in text
    assert TOKEN not in text


def test_the_page_names_each_preset_and_its_labels() -> None:
    page = (Path(__file__).parents[4] / "docs" / "http.md").read_text()
    for name in SERVERS:
        chosen = preset(name)
        (section,) = re.findall(rf"(?ms)^### `{name}`.*?(?=^##)", page)
        for label in chosen.labels:
            assert f"`{label}`" in section, (name, label)
        assert chosen.path.partition("?")[0] in section

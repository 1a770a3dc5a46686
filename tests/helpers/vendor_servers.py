"""Strict loopback servers that answer as vendors document it, one for each preset of the http sink.

What a vendor would not understand is noted as a violation and answered with 400. Lines that hold
`refused` are refused as the vendor does it. `telemetryd.sinks.http.presets` names the sources.
"""

from __future__ import annotations

import gzip
import json
import re
from typing import Any, ClassVar

import msgspec
import zstandard

from helpers.collector_server import CollectorServer, Hang, Raw, Request, Reset, Say, is_probe

KIB = 1024
MIB = 1024 * KIB
MAX_LOKI_LINE = 256 * KIB
MAX_DATADOG_LINES = 1000
MAX_ID_BYTES = 512


class ViolationError(Exception):
    """The request is not what the vendor documents."""


class Event(msgspec.Struct):
    """A line, as it is stored."""

    line: bytes
    time: str
    """As it was sent."""
    key: object = None
    """By which the vendor drops duplicates; None where it does not."""
    labels: dict[str, str] = {}


class VendorServer(CollectorServer):
    """Reads bodies by `events`, and answers by `take`."""

    path: ClassVar[str]
    content_type: ClassVar[str] = "application/json"
    token_header: ClassVar[str] = "authorization"  # noqa: S105 - the name of a header
    token_prefix: ClassVar[str]
    max_body_bytes: ClassVar[int]
    without_lines: ClassVar[Say]
    """The answer to a body without lines."""

    def __init__(self) -> None:
        super().__init__(max_body=self.max_body_bytes)
        self.stored: list[Event] = []
        self._seen_keys: set[object] = set()

    @property
    def url(self) -> str:
        """The address alone: the preset knows the path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def lines(self) -> bytes:
        """All lines that were stored, in order."""
        return b"".join(event.line + b"\n" for event in list(self.stored))

    def answer(self, request: Request) -> Say | Raw | Hang | Reset:
        """Return what to do about a request, and keep what is accepted of it."""
        with self._seen:
            step = self.script.pop(0) if self.script else self.otherwise
            self.requests.append(request)
            self._seen.notify_all()
        try:
            body = self._body(request)
            if is_probe(request.headers):
                return step or self._answer_probe(request)
            events = self.events(body)
        except (ViolationError, ValueError) as error:
            self.violations.append(f"{type(error).__name__}: {error}")
            return Say(400)
        if isinstance(step, Say | Reset) and step.accept:
            self.store(events)
        if step is not None:
            return step
        if self.token and request.headers.get(self.token_header) != (
            f"{self.token_prefix}{self.token}"
        ):
            return self.forbid()
        if len(body) > self.max_body:
            return Say(413)
        return self.take(events)

    def _answer_probe(self, request: Request) -> Say:
        """Answer a body without lines. Vendors look at the token first."""
        wanted = f"{self.token_prefix}{self.token}"
        if self.token and request.headers.get(self.token_header) != wanted:
            return self.forbid()
        return self.without_lines

    def _body(self, request: Request) -> bytes:
        headers = request.headers
        if request.line != f"POST {self.path} HTTP/1.1":
            raise ViolationError(f"the first line is {request.line}")
        if headers.get("content-type") != self.content_type:
            raise ViolationError(f"the type is {headers.get('content-type')}")
        match headers.get("content-encoding", ""):
            case "":
                return request.body
            case "gzip":
                return gzip.decompress(request.body)
            case "zstd":
                return zstandard.decompress(request.body)
            case coding:
                raise ViolationError(f"the coding is {coding}")

    def store(self, events: list[Event]) -> None:
        """Keep events, each once where the vendor can tell."""
        for event in events:
            if event.key is None or event.key not in self._seen_keys:
                self.stored.append(event)
            self._seen_keys.add(event.key)

    def is_refused(self, event: Event) -> bool:
        """True if the test wants the line refused."""
        return bool(self.refused) and self.refused in event.line

    def events(self, body: bytes) -> list[Event]:
        """Return the events of a body. Raises ViolationError, and ValueError for no JSON."""
        raise NotImplementedError

    def take(self, events: list[Event]) -> Say:
        """Keep what is accepted of `events`, and say what was."""
        raise NotImplementedError

    def forbid(self) -> Say:
        """Answer a wrong token."""
        return Say(401)


def _require(is_so: bool, what: str) -> None:
    if not is_so:
        raise ViolationError(what)


def _json(status: int, value: object) -> Say:
    return Say(status, {"Content-Type": "application/json"}, json.dumps(value).encode())


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    _require(len(names) == len(set(names)), f"a member twice: {names}")
    return dict(pairs)


class LokiServer(VendorServer):
    """Keeps what it can of a request, and answers 400 if there was anything it refused."""

    path = "/loki/api/v1/push"
    token_prefix = "Bearer "  # noqa: S105 - no token
    max_body_bytes = 4 * MIB
    without_lines = Say(422, body=b"error at least one valid stream is required for ingestion")
    refusal: str = "entry for stream '{}' has timestamp too old: 2026-01-01T00:00:00Z"

    def events(self, body: bytes) -> list[Event]:
        """Return the entries of all streams."""
        push = json.loads(body.decode(), object_pairs_hook=_no_twice)
        _require(list(push) == ["streams"], "no streams")
        found: list[Event] = []
        for stream in push["streams"]:
            _require(set(stream) == {"stream", "values"}, "no stream")
            labels = stream["stream"]
            _require(0 < len(labels) <= 15, "the number of labels")
            for name, value in labels.items():
                _require(re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", name) is not None, name)
                _require(isinstance(value, str) and "{" not in value, f"{name} = {value}")
            _require(bool(stream["values"]), "no values")
            for time, line in stream["values"]:
                _require(re.fullmatch("[0-9]{19}", time) is not None, f"time {time}")
                key = (tuple(labels.items()), time, line)
                found.append(Event(line.encode(), time, key, labels))
        return found

    def take(self, events: list[Event]) -> Say:
        """Keep all that is not refused."""
        bad = [e for e in events if self.is_refused(e) or len(e.line) > MAX_LOKI_LINE]
        self.store([event for event in events if event not in bad])
        if not bad:
            return Say(204)
        if len(bad[-1].line) > MAX_LOKI_LINE:
            return Say(400, body=b"Max entry size '262144' bytes exceeded for stream '{}'")
        return Say(400, body=self.refusal.encode() + b": " + bad[-1].line)


class SplunkServer(VendorServer):
    """Stops at the first event that it refuses, and says which that was, counted from `counts`."""

    path = "/services/collector/event"
    token_prefix = "Splunk "  # noqa: S105 - no token
    max_body_bytes = 1_000_000
    without_lines = Say(400, body=b'{"text":"No data","code":5}')
    counts_from = 0
    names_the_event = True

    def events(self, body: bytes) -> list[Event]:
        """Return the events, which follow each other without anything between."""
        text, at, found = body.decode(), 0, []
        decoder = json.JSONDecoder(object_pairs_hook=_no_twice)
        while at < len(text):
            event, end = decoder.raw_decode(text, at)
            known = {"time", "host", "source", "sourcetype", "index", "event", "fields"}
            _require(set(event) <= known, f"members {set(event)}")
            _require("event" in event and isinstance(event["time"], float), "no event or no time")
            raw = msgspec.json.decode(text[at:end], type=dict[str, msgspec.Raw])
            is_text = isinstance(event["event"], str) and not event["event"].startswith("json:")
            line = event["event"].encode() if is_text else bytes(raw["event"])
            labels = {k: v for k, v in event.items() if k not in ("time", "event")}
            found.append(Event(line, bytes(raw["time"]).decode(), None, labels))
            at = end
        _require(bool(found), "no data")
        return found

    def take(self, events: list[Event]) -> Say:
        """Keep what comes before the first event that is refused."""
        for number, event in enumerate(events):
            is_blank = not event.line.strip()
            if is_blank or self.is_refused(event):
                self.store(events[:number])
                code, text = (13, "Event field cannot be blank") if is_blank else (6, "Invalid")
                said: dict[str, object] = {"text": text, "code": code}
                if self.names_the_event:
                    said["invalid-event-number"] = number + self.counts_from
                return _json(400, said)
        self.store(events)
        return _json(200, {"text": "Success", "code": 0})

    def forbid(self) -> Say:
        """Answer a wrong token."""
        return _json(403, {"text": "Invalid token", "code": 4})


class ElasticServer(VendorServer):
    """Answers for each document; `busy` ones get 429 the first time."""

    path = "/logs-lambda-default/_bulk?filter_path=errors,items.*.status,items.*.error.type"
    content_type = "application/x-ndjson"
    token_prefix = "ApiKey "  # noqa: S105 - no token
    max_body_bytes = 100 * MIB
    without_lines = Say(400, body=b'{"error":{"type":"parse_exception"},"status":400}')
    busy = b""
    index_is_there = True

    def events(self, body: bytes) -> list[Event]:
        """Return the documents."""
        _require(body.endswith(b"\n"), "the last line does not end")
        rows = body.decode().split("\n")[:-1]
        _require(len(rows) % 2 == 0, "an action without a document")
        found: list[Event] = []
        for action, text in zip(rows[::2], rows[1::2], strict=True):
            create = json.loads(action)
            key = create["create"]["_id"]
            _require(create == {"create": {"_id": key}}, f"the action {action}")
            _require(0 < len(key) <= MAX_ID_BYTES, "the length of an id")
            document = json.loads(text, object_pairs_hook=_no_twice)
            time = document["@timestamp"]
            _require(
                re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z", time) is not None, time
            )
            if set(document) == {"@timestamp", "message"}:
                line = document["message"].encode()
            else:
                line = re.sub(r'^\{"@timestamp":"[^"]*",?', "{", text).encode()
            found.append(Event(line, time, key))
        return found

    def take(self, events: list[Event]) -> Say:
        """Create each document, unless there is one with its id."""
        items: list[dict[str, Any]] = []
        for event in events:
            if not self.index_is_there:
                items.append(_failed(404, "index_not_found_exception"))
            elif event.key in self._seen_keys:
                items.append(_failed(409, "version_conflict_engine_exception"))
            elif self.is_refused(event):
                items.append(_failed(400, "document_parsing_exception"))
            elif self.busy and self.busy in event.line:
                items.append(_failed(429, "es_rejected_execution_exception"))
            else:
                self.store([event])
                items.append({"create": {"status": 201}})
        self.busy = b""
        errors = any(item["create"]["status"] != 201 for item in items)
        return _json(200, {"errors": errors, "items": items})


def _failed(status: int, kind: str) -> dict[str, Any]:
    return {"create": {"status": status, "error": {"type": kind}}}


class DatadogServer(VendorServer):
    """Takes all of a request or nothing, and cuts what is too long."""

    path = "/api/v2/logs"
    token_header = "dd-api-key"  # noqa: S105 - the name of a header
    token_prefix = ""
    max_body_bytes = 5_000_000
    without_lines = Say(202, {"Content-Type": "application/json"}, b"{}")
    max_line_bytes = 1_000_000

    def events(self, body: bytes) -> list[Event]:
        """Return the entries."""
        entries = json.loads(body.decode(), object_pairs_hook=_no_twice)
        _require(isinstance(entries, list) and bool(entries), "no array of entries")
        _require(len(entries) <= MAX_DATADOG_LINES, f"{len(entries)} entries")
        found: list[Event] = []
        for entry in entries:
            _require(isinstance(entry["message"], str), "no message")
            _require(isinstance(entry["timestamp"], int), "no timestamp")
            labels = {k: v for k, v in entry.items() if k not in ("message", "timestamp")}
            _require(
                set(labels) <= {"ddsource", "ddtags", "hostname", "service"}, f"labels {labels}"
            )
            line = entry["message"].encode()[: self.max_line_bytes]
            found.append(Event(line, str(entry["timestamp"]), None, labels))
        return found

    def take(self, events: list[Event]) -> Say:
        """Keep all of it, unless a line is refused."""
        if any(self.is_refused(event) for event in events):
            return _json(400, {"errors": [{"status": "400", "title": "Bad Request"}]})
        self.store(events)
        return _json(202, {})

    def forbid(self) -> Say:
        """Answer a wrong key."""
        return _json(403, {"errors": [{"status": "403", "title": "Forbidden"}]})


class NewRelicServer(VendorServer):
    """Takes all of a request or nothing."""

    path = "/log/v1"
    token_header = "api-key"  # noqa: S105 - the name of a header
    token_prefix = ""
    max_body_bytes = 1_000_000
    without_lines = Say(202, body=b'{"requestId":"1-2-3"}')

    def events(self, body: bytes) -> list[Event]:
        """Return the entries."""
        (batch,) = json.loads(body.decode(), object_pairs_hook=_no_twice)
        _require(set(batch) == {"common", "logs"}, f"members {set(batch)}")
        labels = batch["common"]["attributes"]
        _require(all(isinstance(value, str) for value in labels.values()), "attributes")
        found: list[Event] = []
        for entry in batch["logs"]:
            _require(set(entry) == {"timestamp", "message"}, f"members {set(entry)}")
            _require(isinstance(entry["timestamp"], int), "timestamp")
            found.append(Event(entry["message"].encode(), str(entry["timestamp"]), None, labels))
        _require(bool(found), "no entries")
        return found

    def take(self, events: list[Event]) -> Say:
        """Keep all of it, unless a line is refused."""
        if any(self.is_refused(event) for event in events):
            return Say(400)
        self.store(events)
        return _json(202, {"requestId": "1-2-3"})

    def forbid(self) -> Say:
        """Answer a wrong key."""
        return _json(403, {})


class HoneycombServer(VendorServer):
    """Answers for each event; `busy` ones get 429 the first time."""

    path = "/1/batch/orders"
    token_header = "x-honeycomb-team"  # noqa: S105 - the name of a header
    token_prefix = ""
    max_body_bytes = 5_000_000
    without_lines = Say(200, body=b"[]")
    max_event_bytes = 1_000_000
    busy = b""

    def events(self, body: bytes) -> list[Event]:
        """Return the events."""
        batch = json.loads(body.decode(), object_pairs_hook=_no_twice)
        _require(isinstance(batch, list) and bool(batch), "no array of events")
        raw = msgspec.json.decode(body, type=list[dict[str, msgspec.Raw]])
        found: list[Event] = []
        for event, text in zip(batch, raw, strict=True):
            _require(set(event) == {"time", "data"}, f"members {set(event)}")
            _require(
                re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z", event["time"])
                is not None,
                event["time"],
            )
            data = event["data"]
            _require(isinstance(data, dict), "no columns")
            is_text = set(data) == {"message"}
            line = data["message"].encode() if is_text else bytes(text["data"])
            found.append(Event(line, event["time"]))
        return found

    def take(self, events: list[Event]) -> Say:
        """Keep what is not refused."""
        statuses: list[dict[str, Any]] = []
        for event in events:
            if self.busy and self.busy in event.line:
                statuses.append({"status": 429, "error": "rate limited"})
            elif self.is_refused(event) or len(event.line) > self.max_event_bytes:
                statuses.append({"status": 400, "error": "Event has too many columns."})
            else:
                self.store([event])
                statuses.append({"status": 202})
        self.busy = b""
        return _json(200, statuses)


class CloudWatchServer(VendorServer):
    """Takes signed NDJSON for one log stream, at the time that each line says."""

    path = "/ingest/bulk"
    content_type = "application/x-ndjson"
    token_prefix = "Bearer "  # noqa: S105 - no token
    max_body_bytes = MIB
    without_lines = Say(400, body=b'{"__type":"InvalidParameterException"}')
    group = "telemetry"
    stream = "orders"

    def events(self, body: bytes) -> list[Event]:
        """Return the events."""
        headers = self.requests[-1].headers
        _require(headers.get("x-aws-log-group") == self.group, "the group")
        _require(headers.get("x-aws-log-stream") == self.stream, "the stream")
        if not self.token:
            proof = headers["authorization"]
            _require(proof.startswith("AWS4-HMAC-SHA256 Credential="), proof)
            _require("/logs/aws4_request, SignedHeaders=" in proof, proof)
            _require("x-aws-log-group;x-aws-log-stream" in proof, proof)
        _require(body.endswith(b"\n"), "the last line does not end")
        found: list[Event] = []
        for row in body.decode().split("\n")[:-1]:
            event = json.loads(row, object_pairs_hook=_no_twice)
            _require(isinstance(event["timestamp"], int), "no timestamp")
            if set(event) == {"timestamp", "message"}:
                line = event["message"].encode()
            else:
                line = re.sub(r'^\{"timestamp":[0-9]+,?', "{", row).encode()
            found.append(Event(line, str(event["timestamp"])))
        _require(sum(len(event.line) + 26 for event in found) <= MIB, "1 MiB")
        return found

    def take(self, events: list[Event]) -> Say:
        """Keep all of it, unless a line is refused."""
        if any(self.is_refused(event) for event in events):
            return _json(400, {"__type": "InvalidParameterException", "message": "no"})
        self.store(events)
        return _json(200, {})

    def forbid(self) -> Say:
        """Answer a wrong token."""
        return _json(401, {"__type": "UnrecognizedClientException"})


class LinesServer(VendorServer):
    """Takes NDJSON as it is; each line is an object with a time."""

    content_type = "application/x-ndjson"
    token_prefix = "Bearer "  # noqa: S105 - no token
    max_body_bytes = 10 * MIB

    def events(self, body: bytes) -> list[Event]:
        """Return the lines."""
        _require(body.endswith(b"\n"), "the last line does not end")
        lines = body.split(b"\n")[:-1]
        return [Event(line, json.loads(line)["time"]) for line in lines]

    def take(self, events: list[Event]) -> Say:
        """Keep all of them."""
        self.store(events)
        return _json(200, {"ingested": len(events), "failed": 0, "failures": []})


class AxiomServer(LinesServer):
    """`POST /v1/datasets/<dataset>/ingest`."""

    path = "/v1/datasets/lambda/ingest?timestamp-field=time"


class JsonLineServer(LinesServer):
    """VictoriaLogs, `POST /insert/jsonline`."""

    path = "/insert/jsonline?_time_field=time&_msg_field=record&_stream_fields=type"

    def take(self, events: list[Event]) -> Say:
        """Keep all of them."""
        self.store(events)
        return Say(200)

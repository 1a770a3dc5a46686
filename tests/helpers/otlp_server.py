"""A strict loopback OTLP/HTTP server for logs: the protobuf library judges what is sent."""

from __future__ import annotations

import gzip
import json
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from helpers.collector_server import MIB, CollectorServer, Hang, Raw, Request, Reset, Say

PROTOBUF = "application/x-protobuf"


class OtlpServer(CollectorServer):
    """Keeps the log records that are POSTed to `path`. See `CollectorServer`."""

    def __init__(
        self, *, max_body: int = MIB, path: str = "/v1/logs", as_json: bool = False
    ) -> None:
        super().__init__(max_body=max_body)
        self.path = path
        self.as_json = as_json
        self.exports: list[ExportLogsServiceRequest] = []
        """The requests that were accepted."""
        self._read_last = ExportLogsServiceRequest()

    @property
    def base(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Where to POST."""
        return f"{self.base}{self.path}"

    @property
    def records(self) -> list[LogRecord]:
        """All records that were accepted, in order."""
        return [record for export in self.exports for record in records_of(export)]

    def resource(self) -> dict[str, Any]:
        """Return the attributes of the last resource."""
        (group,) = self.exports[-1].resource_logs
        return {each.key: plain(each.value) for each in group.resource.attributes}

    def answer(self, request: Request) -> Say | Raw | Hang | Reset:
        """Answer as a server of OTLP does."""
        step = super().answer(request)
        if step == Say(204):
            return Say(200, {"Content-Type": request.headers["content-type"]})
        return step

    def _keep(self, request: Request) -> None:
        self.exports.append(self._read_last)
        self._lines += request.lines

    def _read(self, request: Request) -> tuple[str, bytes]:
        headers, body = request.headers, request.body
        if request.line != f"POST {self.path} HTTP/1.1":
            return f"the first line is {request.line}", b""
        assert {"host", "user-agent", "content-length", "content-type"} <= headers.keys()
        coding = headers.get("content-encoding", "")
        if coding == "gzip":
            body = gzip.decompress(body)
        elif coding:
            return f"the coding is {coding}", b""
        wanted = "application/json" if self.as_json else PROTOBUF
        if headers["content-type"] != wanted:
            return f"the type is {headers['content-type']}", b""
        try:
            if self.as_json:
                export = json_format.Parse(_with_base64(body), ExportLogsServiceRequest())
            else:
                export = ExportLogsServiceRequest.FromString(body)
        except (DecodeError, json_format.ParseError, ValueError) as error:
            return f"it can't be read: {error}", b""
        if not self.as_json and export.SerializeToString() != body:
            return "it is not what the library writes", b""
        self._read_last = export
        return "", b"".join(line_of(record) for record in records_of(export))


def response(rejected: int = 0, message: str = "") -> bytes:
    """Return the body of an answer with a partial success."""
    made = ExportLogsServiceResponse()
    made.partial_success.rejected_log_records = rejected
    made.partial_success.error_message = message
    body: bytes = made.SerializeToString()
    return body


def records_of(export: ExportLogsServiceRequest) -> list[LogRecord]:
    """Return the records of a request."""
    return [
        record
        for group in export.resource_logs
        for scope in group.scope_logs
        for record in scope.log_records
    ]


def plain(value: AnyValue) -> Any:
    """Return `value` as Python has it."""
    kind = value.WhichOneof("value")
    if kind == "kvlist_value":
        return {each.key: plain(each.value) for each in value.kvlist_value.values}
    if kind == "array_value":
        return [plain(each) for each in value.array_value.values]
    return None if kind is None else getattr(value, kind)


def attributes(record: LogRecord) -> dict[str, Any]:
    """Return the attributes of a record."""
    return {each.key: plain(each.value) for each in record.attributes}


def line_of(record: LogRecord) -> bytes:
    """Return the line that the suites' lines have become, which are texts or `{"id":1}`."""
    body: object = plain(record.body)
    if isinstance(body, bytes):
        return body + b"\n"
    text = body if isinstance(body, str) else json.dumps(body, separators=(",", ":"))
    return text.encode() + b"\n"


def _with_base64(body: bytes) -> str:
    """Return OTLP's JSON as the library reads JSON: ids are hexadecimal in the one only."""
    message = json.loads(body)
    for group in message["resourceLogs"]:
        for scope in group["scopeLogs"]:
            for record in scope["logRecords"]:
                for key in ("traceId", "spanId"):
                    if key in record:
                        record[key] = _base64(record[key])
    return json.dumps(message)


def _base64(digits: str) -> str:
    from base64 import b64encode

    return b64encode(bytes.fromhex(digits)).decode()

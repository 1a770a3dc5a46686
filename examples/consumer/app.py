"""A Lambda function that reads the stream telemetryd writes: each line once, as a Python object.

Needs the package `telemetryd_proto` beside it (`pip install telemetryd -t .`), and `zstandard` for
records compressed with zstd. Set `FunctionResponseTypes: [ReportBatchItemFailures]` on the event
source mapping, so that a record that fails is retried alone.
"""

from __future__ import annotations

import base64
import json
from collections import OrderedDict
from typing import Any

from telemetryd_proto.kinesis import Decoded, decode_object

REMEMBERED = 10_000
_seen: OrderedDict[str, None] = OrderedDict()
"""Ids of records this environment has handled: a duplicate is mostly seconds behind. To be sure
across environments, put each id into a table with a condition that it is new."""


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Handle a batch of Kinesis records; name those to be tried again."""
    failed = []
    for record in event["Records"]:
        kinesis = record["kinesis"]
        try:
            _handle_record(base64.b64decode(kinesis["data"]))
        except Exception as error:  # noqa: BLE001 - whatever it is, the platform retries
            print(json.dumps({"sequenceNumber": kinesis["sequenceNumber"], "error": repr(error)}))
            failed.append({"itemIdentifier": kinesis["sequenceNumber"]})
            break  # Lambda retries from the first failure on, to keep the order
    return {"batchItemFailures": failed}


def _handle_record(data: bytes) -> None:
    # one record, usually; a sender that quotes an id line makes it look like two, and costs nothing
    for decoded in decode_object(data):
        _handle_decoded(decoded)


def _handle_decoded(decoded: Decoded) -> None:
    if decoded.record_id is not None and decoded.record_id in _seen:
        return
    for line in decoded.lines:
        try:
            event = json.loads(line)
        except ValueError:  # telemetryd passes on what it was sent: trying again would not help
            print(json.dumps({"not_json": line[:200].decode(errors="replace")}))
            continue
        _handle_event(event)
    if decoded.record_id is not None:
        _seen[decoded.record_id] = None
        if len(_seen) > REMEMBERED:
            _seen.popitem(last=False)


def _handle_event(event: dict[str, Any]) -> None:
    """Your code: `event` has `time`, `type` and `record`."""
    print(event["time"], event["type"])

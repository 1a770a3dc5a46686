"""A Lambda function that Firehose calls: records of telemetryd in, rows for a lake out.

Lines may be of either format, and packed and compressed in any way. Rows (`format = "flat"`) come
out unchanged; raw lines become rows. Each record gets the keys `date`, `function` and `level` for
dynamic partitioning. A record that telemetryd did not pack is `ProcessingFailed`, with its bytes
unchanged.

Needs telemetryd beside it (`pip install telemetryd -t .`).
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
from collections.abc import Iterator
from typing import Any, Final, get_args

from telemetryd.flatten import Row, rows_of
from telemetryd_proto.flat import FlatLine, Level
from telemetryd_proto.kinesis import decode_object

MAX_ANSWER: Final = 6_000_000
"""Bytes of the answer. Lambda takes 6 MiB; the difference is for how the runtime writes JSON."""
MAX_DECODED: Final = 8 * 1024 * 1024
"""Bytes that one record may become when it is decompressed. Rows take 4 times as much memory, and
foreign lines of two bytes 40 times. The sink fills records up to 1 MiB (`record_target_bytes`)."""
MAX_KEY: Final = 140
"""Characters of a partition key: the longest name of a function that Lambda reports."""

_LEVELS: Final = ("NONE", *get_args(Level))
_RANKS: Final = {level: rank for rank, level in enumerate(_LEVELS)}
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_$-]")


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Return the rows of each record, as far as the answer has room for them.

    A failed record goes to the error prefix in S3. So no record is lost, and one that fails does
    not affect others.
    """
    records = event["records"]
    compress = os.environ.get("OUTPUT") == "gzip"
    answers = [_answer(record, "ProcessingFailed", record["data"]) for record in records]
    size = sum(map(_size_of, answers))  # not more than the request, and that has the same limit
    for at, record in enumerate(records):
        try:
            answer = _transform(record, compress=compress)
            grown = size - _size_of(answers[at]) + _size_of(answer)
            if grown > MAX_ANSWER:
                raise ValueError(f"its rows would make an answer of {grown} bytes")  # noqa: TRY301
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, others are good
            print(json.dumps({"recordId": record["recordId"], "error": repr(error)[:500]}))
            continue
        answers[at], size = answer, grown
    return {"records": answers}


def _transform(record: dict[str, Any], *, compress: bool) -> dict[str, Any]:
    # Duplicates stay: Firehose calls again after a timeout, and the first call's answer is lost.
    # Tables drop them by `record_id`.
    found = list(_rows_of(record))
    if not found:  # an id line alone, where Firehose has taken a record apart
        return _answer(record, "Dropped", "")
    keys = _keys_of([row.line for row in found])
    rows = b"".join(row.data + b"\n" for row in found)
    if compress:
        rows = gzip.compress(rows, mtime=0)
    answer = _answer(record, "Ok", base64.b64encode(rows).decode())
    return answer | {"metadata": {"partitionKeys": keys}}


def _rows_of(record: dict[str, Any]) -> Iterator[Row]:
    data = base64.b64decode(record["data"], validate=True)
    if data.startswith(b"{") and not data.endswith(b"\n"):
        data += b"\n"  # Firehose took it out of an aggregate
    arrived = record["approximateArrivalTimestamp"] / 1000
    for number, decoded in enumerate(decode_object(data, max_bytes=MAX_DECODED)):
        place = f"{record['recordId']}:{number}"
        yield from rows_of(decoded, place=place, received_at=arrived)


def _keys_of(rows: list[FlatLine]) -> dict[str, str]:
    """Return the keys of a record, which Firehose writes to one place as a whole.

    Its first day; its function, or `several` where lines were sent again with those of others; and
    its highest level, so that all errors are in the partitions of errors.
    """
    functions = {row.function for row in rows}
    function = functions.pop() if len(functions) == 1 else "several"
    level = max((row.level or "NONE" for row in rows), key=_RANKS.__getitem__)
    return {
        "date": min(row.time for row in rows)[:10],
        "function": _UNSAFE.sub("_", function)[:MAX_KEY] or "unknown",
        "level": level,
    }


def _answer(record: dict[str, Any], result: str, data: str) -> dict[str, Any]:
    return {"recordId": record["recordId"], "result": result, "data": data}


def _size_of(answer: dict[str, Any]) -> int:
    """Return the bytes of a record's answer and of the comma behind it."""
    return len(json.dumps(answer)) + 2

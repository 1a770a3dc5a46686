"""Rows of the flat schema for consumers: from lines of either format, raw or flat.

    for decoded in decode_object(data):  # of `telemetryd_proto.kinesis`
        for row in rows_of(decoded, place=f"{shard_id}:{sequence_number}", received_at=arrived):
            row.data, row.line

A row stays as it is. A raw line becomes one. What only the sender knew is then unknown, unless
`fields` put it into the line: docs/flat.md lists it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from telemetryd.core.fields import RequestTracker
from telemetryd.core.flat import FlatReader, Flattener, to_text
from telemetryd.core.line_filter import LineFilter
from telemetryd.core.loose import decode_loosely
from telemetryd.core.router import RouteRules, open_pieces, reader_for
from telemetryd_proto.errors import DECODE_FAILURES
from telemetryd_proto.flat import FlatLine
from telemetryd_proto.framing import Block
from telemetryd_proto.kinesis import Decoded

__all__ = ["ForeignLine", "Row", "rows_of"]

_OF_FIELDS: Final = (
    "function", "version", "instance", "request_id", "trace_id", "tenant_id",
)  # fmt: skip
"""Columns that `fields` may have put into a raw line."""
_NO_TIME: Final = "1970-01-01T00:00:00.000Z"
"""Marks rows of lines without a time, until they get one."""
_SHOWN: Final = 80
"""Bytes of a foreign line in an error."""


class ForeignLine(ValueError):  # noqa: N818 - reads as what it is
    """A line of a record that telemetryd did not pack."""


class Row(NamedTuple):
    """A row, as JSON and decoded."""

    data: bytes
    """Without a newline."""
    line: FlatLine


class _Event(msgspec.Struct, gc=False):
    """An event of the Telemetry API."""

    time: str
    type: str
    record: msgspec.Raw


class _Fields(msgspec.Struct, gc=False):
    """Members that `fields` adds, of any type: senders may have members of these names."""

    function: Any = None
    version: Any = None
    instance: Any = None
    request_id: Any = None
    trace_id: Any = None
    tenant_id: Any = None


_decode_row: Final = msgspec.json.Decoder(FlatLine).decode
_decode_event: Final = msgspec.json.Decoder(_Event).decode
_decode_fields: Final = msgspec.json.Decoder(_Fields).decode
_encode: Final = msgspec.json.Encoder().encode


def rows_of(record: Decoded, *, place: str, received_at: float) -> list[Row]:
    """Return a row for each line of a record, in order.

    A raw line gets its `record_id` from the id of the record and its number among the raw lines,
    so that a record that is sent again has the same ones. Without an id of the record, it comes
    from `place`: any text that no other record has. A line without a time gets that of the first
    raw line that has one, otherwise `received_at`, in seconds since the Unix epoch.

    Raises:
        ForeignLine: the record has no id, and a line is neither a row nor an event. With an id, any
            line is telemetryd's: it delivers whatever it was sent.

    """
    rows = [_row_or_none(line) for line in record.lines]
    raw = [line for line, row in zip(record.lines, rows, strict=True) if row is None]
    if not raw:
        return [row for row in rows if row is not None]
    _refuse_foreign(raw, has_id=record.record_id is not None)
    ours = iter(_flatten(raw, record.record_id, place, received_at))
    return [row or next(ours) for row in rows]


def _row_or_none(line: bytes) -> Row | None:
    try:
        return Row(line, _decode_row(line))
    except DECODE_FAILURES:
        return None


def _refuse_foreign(lines: Sequence[bytes], *, has_id: bool) -> None:
    for line in lines:
        if b"\n" in line:  # a user record of another aggregator
            raise ForeignLine(f"no single line: {line[:_SHOWN]!r}")
        if has_id:
            continue
        try:
            _decode_event(line)
        except DECODE_FAILURES:
            raise ForeignLine(f"no row and no event: {line[:_SHOWN]!r}") from None


def _flatten(
    lines: Sequence[bytes], record_id: str | None, place: str, received_at: float
) -> list[Row]:
    process = "" if record_id is None else record_id.partition("-")[0]
    unique = hashlib.blake2b((record_id or place).encode(), digest_size=16).hexdigest()
    flat = [
        msgspec.structs.replace(row, **_known_of(line, process))
        for line, row in zip(lines, _rows(lines, unique), strict=True)
    ]
    times = (row.time for row in flat if row.time != _NO_TIME)
    time = next(times, None) or to_text(received_at)
    for at, row in enumerate(flat):
        if row.time == _NO_TIME:
            flat[at] = msgspec.structs.replace(row, time=time)
    return [Row(_encode(row), row) for row in flat]


def _rows(lines: Sequence[bytes], instance: str) -> list[FlatLine]:
    """Return the rows that telemetryd would make, numbered as lines of this instance."""
    values = {"function": "", "version": "", "instance": instance}
    reader = FlatReader(values, lambda: 0.0)
    rules = RouteRules(LineFilter(), Flattener(reader, (), values, {}))
    # what else runs in the environment is unknown here, so only ids in lines count
    tracker = RequestTracker(one_at_a_time=False)
    block = Block.of(b"".join([line + b"\n" for line in lines]))
    pieces = open_pieces(block, tracker, reader_for([rules]), reader)
    parts = [part for piece in pieces if (part := piece.select(rules).wanted) is not None]
    return [_decode_row(row) for part in parts for row in part.data.splitlines()]


def _known_of(line: bytes, process: str) -> dict[str, str]:
    """Return columns by what is in a raw line; `process` stands for an unknown instance."""
    known = {"instance": process}
    fields = decode_loosely(_decode_fields, line) if line.lstrip()[:1] == b"{" else None
    if fields is not None:
        found = {name: getattr(fields, name) for name in _OF_FIELDS}
        known |= {name: value for name, value in found.items() if value and type(value) is str}
    return known

"""Compares printed lines with those that arrived at the destination."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.load.collector import records_of
from bench.load.kinesis_service import Record, decoded
from bench.short_life.service import Arrived

PER_REPORT: Final = "memory_used_percent"
"""A metric with one value for each `platform.report`."""
_FUNCTION: Final = "function"


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """Lines; of a sink that delivers figures, invocations reported."""

    printed: int
    arrived: int
    """Of the printed ones, so many at least once."""
    lost: int
    doubled: int
    """Lines that arrived again, or were never printed."""
    in_log: int = 0
    """Of those that arrived, what only the platform's log has: the extension printed it."""


def compare(printed: Counter[str], delivered: Iterable[str], in_log: Iterable[str] = ()) -> Balance:
    """Return what became of lines; equal lines are told apart by their number."""
    found = Counter(delivered)
    missing = printed - found
    saved = missing & Counter(in_log)
    lost = (missing - saved).total()
    return Balance(
        printed=printed.total(),
        arrived=printed.total() - lost,
        lost=lost,
        doubled=(found - printed).total(),
        in_log=saved.total(),
    )


def describe(event: dict[str, Any]) -> str:
    """Return what tells an event from another: the text of a line, the type of a platform event."""
    if event["type"] == _FUNCTION:
        return f"{_FUNCTION}: {str(event['record']).rstrip(chr(10))}"
    return str(event["type"])


def line(text: str) -> str:
    """Return what `describe` makes of a line that the function prints."""
    return f"{_FUNCTION}: {text}"


def events_in(lines: Iterable[bytes]) -> Iterator[str]:
    """Return the description of each event; what is no event, as a line that was cut, is none."""
    for each in lines:
        try:
            event = msgspec.json.decode(each)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if isinstance(event, dict) and "type" in event and "record" in event:
            yield describe(event)


def lines_of_file(path: Path) -> list[bytes]:
    """Return its lines; none where there is no file."""
    return path.read_bytes().splitlines() if path.exists() else []


def lines_of_stream(arrived: Arrived) -> Iterator[bytes]:
    """Return the lines of all records, as a consumer sees them that drops what came twice."""
    for _, lines in decoded(Record(data) for data in arrived.records):
        yield from lines


def lines_of_posts(arrived: Arrived) -> Iterator[bytes]:
    """Return the lines of all bodies."""
    for body in arrived.posted:
        yield from body.splitlines()


def events_of_otlp(arrived: Arrived) -> Iterator[str]:
    """Return the description of the event of each log record."""
    for body in arrived.posted:
        for record in records_of(body):
            yield record.event_name or line(record.body.string_value.rstrip("\n"))


def count_reports(documents: Iterable[bytes | str]) -> int:
    """Return how many values of `PER_REPORT` metric documents hold, as CloudWatch would count."""
    count = 0
    for text in documents:
        try:
            document = msgspec.json.decode(text)
        except msgspec.DecodeError:
            continue  # what an extension logs is printed beside them
        if isinstance(document, dict) and "_aws" in document:
            value = document.get(PER_REPORT, [])
            count += len(value) if isinstance(value, list) else 1
    return count


def compare_reports(reports: int, found: int) -> Balance:
    """Return what became of the figures of so many invocations."""
    return Balance(
        printed=reports,
        arrived=min(found, reports),
        lost=max(reports - found, 0),
        doubled=max(found - reports, 0),
    )


def find_ledger(said: Sequence[bytes]) -> bool:
    """True if an extension's output has one ledger, and that balances."""
    ledgers = []
    for each in said:
        if b'"ledger"' in each:
            try:
                record = msgspec.json.decode(each)
            except msgspec.DecodeError:
                continue
            if isinstance(record, dict) and record.get("event") == "ledger":
                ledgers.append(record)
    return len(ledgers) == 1 and bool(ledgers[0].get("balanced"))

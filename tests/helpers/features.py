"""All that one may ask of a line and of the life cycle, in one configuration of telemetryd.

Masks, tags, fields, samples, rows, OTLP, HTTP, EMF, figures of the system and a hook, on whatever
platform runs it: `variables` configure it, `check` looks at what came of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from helpers.collector_server import CollectorServer
from helpers.daemon import assert_balanced
from helpers.lifecycle import settings, with_hook
from helpers.otlp_signals import SignalServer
from helpers.ports import reserved
from telemetryd_proto.flat import FlatLine

ADDRESS = "ada.lovelace@example.com"
MASK = "[redacted:email]"
PRINTED = 40
EVENT = {"print": PRINTED, "text": f"order of {ADDRESS}"}
"""What the example handler is to print."""
_MARK = f"order of {MASK} i={PRINTED - 1}"


class Features:
    """One process of telemetryd that is configured so."""

    def __init__(
        self, directory: Path, otlp: SignalServer, http: CollectorServer, port: int
    ) -> None:
        self.raw, self.flat = directory / "raw.ndjson", directory / "flat.ndjson"
        self.diary = directory / "diary"
        self._package = directory / "package"
        self.otlp = otlp
        self.http = http
        self.port = port
        """Where `/metrics` is."""

    @property
    def variables(self) -> dict[str, str]:
        """The environment of telemetryd."""
        hook = with_hook(
            self._package, "Diary", budget_ms=20_000, settings={"path": str(self.diary)}
        )
        return hook | settings(
            REDACT='["email"]', TAGS__STAGE="test", SYSTEM__METRICS="true",
            FLUSH__INTERVAL_MS=100, FLUSH__MAX_ADDED_MS=20_000,
            SINKS__RAW__TYPE="file", SINKS__RAW__PATH=self.raw,
            SINKS__RAW__FIELDS="function,cold_start,runtime",
            SINKS__FLAT__TYPE="file", SINKS__FLAT__PATH=self.flat, SINKS__FLAT__FORMAT="flat",
            SINKS__FLAT__SAMPLE='[{type = "function", by = "line", keep = 0.5}]',
            SINKS__OTLP__TYPE="otlp", SINKS__OTLP__ENDPOINT=self.otlp.base,
            SINKS__OTLP__SIGNALS="logs,metrics,traces",
            SINKS__HTTP__TYPE="http", SINKS__HTTP__URL=self.http.url,
            SINKS__EMF__TYPE="emf", METRICS__LISTEN=f"127.0.0.1:{self.port}",
        )  # fmt: skip

    def have_delivered(self, invocations: int) -> bool:
        """True if all that so many invocations printed is at each destination that samples none."""
        taken = (
            self.raw.read_text() if self.raw.exists() else "",
            self.http.lines.decode(),
            "".join(record.body.string_value for record in self.otlp.records),
        )
        return min(text.count(_MARK) for text in taken) >= invocations

    def check(self, ledger: dict[str, Any], invocations: int) -> list[dict[str, Any]]:
        """Check that each line is accounted for, and is what it should be; the lines as kept."""
        assert_balanced(ledger)
        pages, framed = ledger["sinks"], ledger["framed"]["lines"]
        raw = [json.loads(line) for line in self.raw.read_bytes().splitlines()]
        rows = [
            msgspec.json.decode(line, type=FlatLine) for line in self.flat.read_bytes().splitlines()
        ]
        arrived = {
            "raw": len(raw), "flat": len(rows), "otlp": len(self.otlp.records),
            "http": self.http.lines.count(b"\n"),
            "emf": sum(line["type"].startswith("platform.") for line in raw),
        }  # fmt: skip
        assert {name: page["delivered"]["lines"] for name, page in pages.items()} == arrived
        assert len(raw) == framed
        self._check_rows(rows, raw, framed - pages["flat"]["sampled"]["lines"])
        assert ledger["figures"]["redacted"] == {"email": PRINTED * invocations}
        texts = [line["record"] for line in raw if line["type"] == "function"]
        printed = [f"order of {MASK} i={number}\n" for number in range(PRINTED)]
        lines = [text.removesuffix("\n") + "\n" for text in texts if MASK in text]
        assert lines == printed * invocations
        assert {line["stage"] for line in raw} == {"test"}
        for sent in (self.http.lines.decode(), str(self.otlp.exports), self.raw.read_text()):
            assert ADDRESS not in sent
        assert self.otlp.violations == self.http.violations == []
        return raw

    def calls(self) -> list[str]:
        """Which methods of the hook were called, in order, but for `on_events`."""
        called = [line.split()[0] for line in self.diary.read_text().splitlines()]
        return [call for call in called if call != "events"]

    def _check_rows(self, rows: list[FlatLine], raw: list[dict[str, Any]], kept: int) -> None:
        """Check the rows of the lines that the sample has kept."""
        assert len(rows) == kept < len(raw)
        assert len({row.record_id for row in rows}) == kept
        places = [int(row.record_id.rpartition("-")[2]) - 1 for row in rows]
        assert places == sorted(places)
        for row, line in zip(rows, (raw[place] for place in places), strict=True):
            assert (row.time, row.type) == (line["time"], line["type"])
            tags = json.loads(row.tags or "{}")
            assert tags.pop("stage") == "test"
            if row.type == "function":
                assert row.message == line["record"].removesuffix("\n")
                assert tags == {"sample_weight": 2}
            else:
                assert tags == {}


@contextmanager
def features(directory: Path) -> Iterator[Features]:
    """The configuration, with its two servers."""
    with SignalServer() as otlp, CollectorServer() as http, reserved() as port:
        yield Features(directory, otlp, http, port)

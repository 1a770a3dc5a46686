"""Documents of the EMF sink about telemetryd itself."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from telemetryd.clock import Clock
from telemetryd.core.figures import Figures
from telemetryd.sinks.emf.config import EmfConfig
from telemetryd.sinks.emf.sink import EmfSink
from telemetryd.testing import block, context

START = b'{"time":"2026-03-14T10:15:30.123Z","type":"platform.start","record":{"requestId":"r"}}\n'
NAMES = {
    "telemetryd_lines_lost", "telemetryd_delivery_latency", "telemetryd_added_duration",
    "telemetryd_queue_used", "telemetryd_peak_memory", "telemetryd_cpu_time",
}  # fmt: skip


class Stage:
    """A sink with a clock to set, and figures to give."""

    def __init__(self, *, figures: bool = True, **keys: Any) -> None:
        self.now = 1_800_000_000.0
        self.asked = 0
        self.reading = Figures(
            lost_lines=3, cpu_seconds=0.1234, invocations=2, added_seconds=0.05,
            delivery_seconds=1.5, queue_fraction=0.25, peak_rss_bytes=32 << 20,
            facts={"start_ms": {"next": 9.5}},
        )  # fmt: skip
        surroundings = context(function="orders", clock=Clock(wall=lambda: self.now))
        if figures:
            surroundings = msgspec.structs.replace(surroundings, figures=self.figures)
        config = msgspec.convert({"type": "emf", "metrics": ["*"], **keys}, EmfConfig)
        self.sink = EmfSink(config, surroundings)

    def figures(self) -> Figures:
        """What telemetryd would tell."""
        self.asked += 1
        return self.reading

    def documents(self, seconds: float) -> list[dict[str, Any]]:
        """What a batch yields about telemetryd, so many seconds later."""
        self.now += seconds
        return own(self.sink.pack([block(START)]))


def own(items: list[Any]) -> list[dict[str, Any]]:
    """The documents among `items` that are about telemetryd, which stand for no line."""
    documents = [(item, json.loads(item.payload)) for item in items if item.payload]
    found = [(item, document) for item, document in documents if NAMES & document.keys()]
    assert all((item.lines, item.size) == (0, 0) for item, _ in found)
    return [document for _, document in found]


def metrics(document: dict[str, Any]) -> dict[str, Any]:
    """Name and unit of its metrics, and the values."""
    (directive,) = document["_aws"]["CloudWatchMetrics"]
    return {each["Name"]: (document[each["Name"]], each["Unit"]) for each in directive["Metrics"]}


def test_a_document_has_all_of_it() -> None:
    stage = Stage()
    (document,) = stage.documents(60)
    assert metrics(document) == {
        "telemetryd_lines_lost": (3, "Count"),
        "telemetryd_delivery_latency": (1500, "Milliseconds"),
        "telemetryd_added_duration": (50, "Milliseconds"),
        "telemetryd_queue_used": (25, "Percent"),
        "telemetryd_peak_memory": (32, "Megabytes"),
        "telemetryd_cpu_time": (123.4, "Milliseconds"),
    }
    assert document["function_name"] == "orders"
    assert document["logger"] == "telemetryd"
    assert document["telemetryd"] == {"start_ms": {"next": 9.5}}
    assert document["_aws"]["Timestamp"] == stage.now * 1000


def test_what_did_not_happen_costs_nothing() -> None:
    """A metric is billed when it appears."""
    stage = Stage()
    stage.reading = msgspec.structs.replace(
        stage.reading, lost_lines=0, added_seconds=None, delivery_seconds=None
    )
    (document,) = stage.documents(60)
    rest = {"telemetryd_queue_used", "telemetryd_peak_memory", "telemetryd_cpu_time"}
    assert metrics(document).keys() == rest


def test_at_most_one_a_minute_however_often_lines_come() -> None:
    stage = Stage()
    found = [len(stage.documents(seconds)) for seconds in (0, 59, 1, 0, 59.9, 0.1, 3600, 59)]
    assert found == [0, 0, 1, 0, 0, 1, 1, 0]
    assert stage.asked == 3


def test_a_clock_set_back_silences_nothing_for_longer_than_a_minute() -> None:
    stage = Stage()
    assert stage.documents(-7200) == []
    assert len(stage.documents(60)) == 1


def test_the_end_has_the_rest() -> None:
    stage = Stage()
    stage.documents(1)
    (document,) = own(list(stage.sink.own_items("spindown")))
    assert metrics(document).keys() == NAMES


def test_it_can_be_left_out() -> None:
    for stage in (Stage(self_metrics=False), Stage(figures=False), Stage(metrics=("errors",))):
        assert stage.documents(60) == []
        assert own(list(stage.sink.own_items("spindown"))) == []


def test_single_ones_can_be_asked_for() -> None:
    (document,) = Stage(metrics=("telemetryd_lines_lost", "errors")).documents(60)
    assert metrics(document).keys() == {"telemetryd_lines_lost"}

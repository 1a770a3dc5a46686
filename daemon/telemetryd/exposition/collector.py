"""The catalogue in the form of Prometheus' client library, and the body of a scrape's response.

This is the only module that imports prometheus_client. It is imported only when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

from telemetryd.app import Daemon
from telemetryd.core.stats import Histogram
from telemetryd.exposition.catalogue import FAMILIES, PREFIX, Family, Value

_Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

_CLASSES: Final[Mapping[str, Callable[..., _Family]]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}
_UNITS: Final = ("bytes", "seconds")


class DaemonCollector(Collector):
    """Reads all metrics of a daemon at each scrape."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def collect(self) -> Iterable[Metric]:
        """Return every family of the catalogue, with its samples of now."""
        return [_collect(family, self._daemon) for family in FAMILIES]


def _collect(family: Family, daemon: Daemon) -> Metric:
    unit = family.name.rpartition("_")[2]
    found = _CLASSES[family.kind](
        PREFIX + family.name,
        family.meaning.replace("`", ""),
        labels=family.labels,
        unit=unit if unit in _UNITS else "",
    )
    for labels, value in family.read(daemon):
        _add(found, labels, value)
    return found


def _add(found: _Family, labels: Sequence[str], value: Value) -> None:
    if isinstance(found, HistogramMetricFamily):
        assert isinstance(value, Histogram)  # noqa: S101 - the catalogue's types say so
        found.add_metric(labels, list(_buckets(value)), value.sum)
    else:
        assert not isinstance(value, Histogram)  # noqa: S101 - as above
        found.add_metric(labels, value)


def _buckets(histogram: Histogram) -> Iterator[tuple[str, float]]:
    bounds = (*map(floatToGoString, histogram.bounds), "+Inf")
    return zip(bounds, accumulate(histogram.counts), strict=True)


class Scrapes:
    """Answers scrapes of `registry`, on which it registers the daemon's metrics."""

    def __init__(self, daemon: Daemon, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._registry.register(DaemonCollector(daemon))
        ProcessCollector(registry=self._registry)

    def answer(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics of now, in the format that `accept` prefers, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

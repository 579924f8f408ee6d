"""Renders a snapshot for Prometheus. Nothing is counted here: the numbers exist already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gateway.telemetry.families import FAMILIES, HISTOGRAMS, HistogramFamily
from gateway.telemetry.snapshot import HistogramData, Snapshot

_OPEN_METRICS_END = b"# EOF\n"


class GatewayCollector(Collector):
    """Metrics of all gateway processes together, from `totals`."""

    def __init__(self, totals: Callable[[], Snapshot]) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        """Every metric of one snapshot; prometheus_client calls this with each scrape."""
        snapshot = self._totals()
        for family in FAMILIES:
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            metric = kind(family.name, family.help, labels=family.labels)
            for labels, value in family.read(snapshot):
                metric.add_metric(labels, value)
            yield metric
        for histogram in HISTOGRAMS:
            yield _histogram(histogram, snapshot)
        yield from _process_metrics(snapshot.processes)


class Exposition:
    """What `/metrics` answers."""

    def __init__(self, totals: Callable[[], Snapshot]) -> None:
        self._collector = GatewayCollector(totals)

    async def render(self, accept: str = "") -> tuple[bytes, str]:
        """The text and its content type: Prometheus' own form, or OpenMetrics if `accept` asks for it.

        One metric at a time: a fleet's histograms take milliseconds to write down, and streams must not
        wait for that.
        """
        encode, content_type = choose_encoder(accept)
        parts = []
        for metric in self._collector.collect():
            parts.append(encode(_Single(metric)).removesuffix(_OPEN_METRICS_END))
            await asyncio.sleep(0)
        if "openmetrics" in content_type:
            parts.append(_OPEN_METRICS_END)
        return b"".join(parts), content_type


class _Single(Collector):
    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return [self._metric]


def _histogram(family: HistogramFamily, snapshot: Snapshot) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    for labels, data in family.read(snapshot):
        metric.add_metric(labels, buckets=_cumulative(data), sum_value=data.total)
    return metric


def _cumulative(data: HistogramData) -> list[tuple[str, float]]:
    bounds = [*map(floatToGoString, data.bounds), "+Inf"]
    return list(zip(bounds, accumulate(data.counts), strict=True))


def _process_metrics(processes: list[int]) -> list[Metric]:
    """The usual `process_*` metrics: memory, CPU and descriptors added up over the gateway's processes."""
    totals: dict[str, Metric] = {}
    for pid in processes:
        for metric in ProcessCollector(pid=partial(int, pid), registry=None).collect():
            known = totals.setdefault(metric.name, metric)
            if known is metric:
                continue
            (mine,), (theirs,) = known.samples, metric.samples
            earliest = metric.name == "process_start_time_seconds"
            value = min(mine.value, theirs.value) if earliest else mine.value + theirs.value
            known.samples[0] = mine._replace(value=value)
    return list(totals.values())

"""Prometheus metrics of the engine."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from phaseflow.loops import METRIC, Loops
from phaseflow.metric_names import BY_NAME


class _LoopCollector(Collector):
    def __init__(self, loops: Loops) -> None:
        self._loops = loops

    def collect(self) -> Iterator[Metric]:
        metric = BY_NAME[METRIC]
        family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
        for name, time in self._loops.last_iterations().items():
            family.add_metric([name], time)
        yield family


def exposition(loops: Loops) -> bytes:
    """Return the loops' metrics in the Prometheus text format."""
    registry = CollectorRegistry()
    registry.register(_LoopCollector(loops))
    return generate_latest(registry)

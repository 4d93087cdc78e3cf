"""What Prometheus reads of the engine."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from phaseflow.loops import METRIC, Loops


class _LoopCollector(Collector):
    def __init__(self, loops: Loops) -> None:
        self._loops = loops

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            METRIC, "When the loop's last iteration succeeded, in seconds since the epoch.", labels=["loop"]
        )
        for name, time in self._loops.last_iterations().items():
            family.add_metric([name], time)
        yield family


def exposition(loops: Loops) -> bytes:
    """Prometheus' text of the loops."""
    registry = CollectorRegistry()
    registry.register(_LoopCollector(loops))
    return generate_latest(registry)

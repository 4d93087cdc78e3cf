"""Prometheus metrics of the service, among them the live loss of predictions that have received a label."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import prometheus_client
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from phaseflow import loops, metric_names, prediction_types
from phaseflow.contract import Project
from phaseflow.predictor import Row
from phaseflow.reference import MISSING, OTHER
from phaseflow.settings import Settings
from services.serving import catalog
from services.serving.manager import Manager
from services.serving.model import Model

MAX_PENDING: Final = 200_000
"""Predictions in memory that wait for a label. Later labels count only in the reports, which read the log."""
SLICE_VALUES: Final = 50
"""Values of a slice column that get their own series; limited because clients choose the values."""

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped

PendingPrediction = tuple[str, str, Any, tuple[Any, ...]]
"""Project, version, prediction, and values of the gate's slice columns."""


class ServiceMetrics:
    """The counters that the service updates, and their registry."""

    def __init__(
        self,
        manager: Manager,
        settings: Settings,
        spooled: Callable[[], int],
        last_iterations: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self.manager, self.settings, self.spooled, self.last_iterations = manager, settings, spooled, last_iterations
        self.registry = CollectorRegistry()
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self.rows: Counter[tuple[str, str]] = Counter()
        self.feedback: Counter[tuple[str, str]] = Counter()
        self.losses: dict[tuple[str, str, str, str, str], list[float]] = {}
        """Sum and count per project, version, loss, slice and value."""
        duration = metric_names.BY_NAME["phaseflow_request_duration_seconds"]
        self.seconds = Histogram(
            duration.name,
            duration.help,
            duration.labels,
            buckets=metric_names.LATENCY_BUCKETS,
            registry=self.registry,
        )
        self._durations: dict[tuple[str, str], Histogram] = {}
        self._pending: OrderedDict[str, PendingPrediction] = OrderedDict()
        self._slice_values: dict[tuple[str, str], set[str]] = {}
        self.registry.register(ModelCollector(self))

    def record_request(self, project: str, route: str, code: int, seconds: float) -> None:
        """Count one request."""
        self.requests[project, route, str(code)] += 1
        duration = self._durations.get((project, route))
        if duration is None:
            duration = self._durations[project, route] = self.seconds.labels(project, route)
        duration.observe(seconds)

    def record_predictions(
        self, model: Model, ids: Sequence[str], rows: Sequence[Row], predictions: Sequence[Any]
    ) -> None:
        """Count rows, and keep what the live loss of their predictions needs."""
        name, version, slices, pending = model.project.name, model.version, model.slices, self._pending
        self.rows[name, version] += len(rows)
        for identity, row, prediction in zip(ids, rows, predictions, strict=True):
            pending[identity] = (name, version, prediction, tuple([row[position] for _, position in slices]))
        self._forget()

    def _forget(self) -> None:
        while len(self._pending) > MAX_PENDING:
            self._pending.popitem(last=False)

    def restore(self, earlier: Iterable[tuple[str, PendingPrediction]]) -> None:
        """Add predictions of an earlier process, oldest first."""
        older = OrderedDict(earlier)
        older.update(self._pending)
        self._pending = older
        self._forget()

    def record_label(self, project: Project, identity: str, label: Any) -> None:
        """Count a label and, once per prediction, its loss; the version is empty if the prediction is unknown."""
        pending = self._pending.get(identity)
        if pending is None or pending[0] != project.name:
            self.feedback[project.name, ""] += 1
            return
        del self._pending[identity]
        _, version, prediction, values = pending
        self.feedback[project.name, version] += 1
        slices = [("all", "all")]
        for part, value in zip(project.gate.slices, values, strict=False):
            slices.append((part.column, self._slice_value(project, part.column, value)))
        target = project.schema.target
        parsed_prediction, parsed_label = (
            prediction_types.parse(prediction, target),
            prediction_types.parse(label, target),
        )
        for loss, value in prediction_types.losses(parsed_prediction, parsed_label, target).items():
            for column, slice_value in slices:
                totals = self.losses.setdefault((project.name, version, loss, column, slice_value), [0.0, 0])
                totals[0] += value
                totals[1] += 1

    def _slice_value(self, project: Project, column: str, value: Any) -> str:
        if value is None or value == "":
            return MISSING
        values = self._slice_values.setdefault((project.name, column), set(project.schema[column].allowed))
        text = str(value)[:100]
        if text not in values and len(values) >= SLICE_VALUES:
            return OTHER
        values.add(text)
        return text


def new_gauge(name: str, value: float | None = None) -> GaugeMetricFamily:
    """Return an empty family of a gauge of `metric_names`, or one with its only value."""
    metric = metric_names.BY_NAME[name]
    if value is not None:
        return GaugeMetricFamily(metric.name, metric.help, value=value)
    return GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)


def new_counter(name: str) -> CounterMetricFamily:
    """Return an empty family of a counter of `metric_names`."""
    metric = metric_names.BY_NAME[name]
    return CounterMetricFamily(metric.name, metric.help, labels=metric.labels)


class ModelCollector(Collector):
    """Builds the metric families from the counters on each scrape."""

    def __init__(self, metrics: ServiceMetrics) -> None:
        self.metrics = metrics

    def describe(self) -> Iterator[Any]:
        """No families, as none is known before the first model is loaded."""
        return iter(())

    def collect(self) -> Iterator[Any]:
        """Every family. Counters of a loaded model start at 0, so that `rate` sees their first increase."""
        yield from self._models()
        yield from self._traffic()
        yield from self._projects()
        up = float(self.metrics.manager.registry_up)
        yield new_gauge("phaseflow_registry_up", up)
        yield new_gauge("phaseflow_spool_rows", self.metrics.spooled())
        iterations = new_gauge(loops.METRIC)
        for name, last in self.metrics.last_iterations().items():
            iterations.add_metric([name], last)
        yield iterations

    def _models(self) -> Iterator[Any]:
        live = new_counter("phaseflow_feature_bin")
        reference = new_gauge("phaseflow_feature_bin_reference")
        info = new_gauge("phaseflow_model_info")
        created = new_gauge("phaseflow_model_created_timestamp_seconds")
        metric = new_gauge("phaseflow_model_metric")
        for name, model in self.metrics.manager.models.items():
            info.add_metric([name, model.version, "champion", model.manifest.candidate], 1)
            created.add_metric([name, model.version], model.manifest.created.timestamp())
            for key, value in model.manifest.metrics.items():
                if value is not None:
                    metric.add_metric([name, model.version, key], value)
            for counter in model.counters:
                feature = counter.bins.feature
                for bin_label, count, share in zip(
                    counter.bins.labels, counter.counts, counter.bins.shares, strict=True
                ):
                    live.add_metric([name, model.version, feature, bin_label], count)
                    reference.add_metric([name, model.version, feature, bin_label], share)
        yield from (live, reference, info, created, metric)

    def _traffic(self) -> Iterator[Any]:
        metrics = self.metrics
        requests = {(project.name, "predict", "200"): 0 for project in catalog.projects()} | metrics.requests
        loaded = {(name, model.version): 0 for name, model in metrics.manager.models.items()}
        for name, model in metrics.manager.models.items():
            target = model.project.schema.target
            for loss in prediction_types.loss_names(target, model.predictor.classes) if target else ():
                metrics.losses.setdefault((name, model.version, loss, "all", "all"), [0.0, 0])
        family = new_counter("phaseflow_requests")
        for key, count in requests.items():
            family.add_metric(key, count)
        yield family
        for name, counts in (("phaseflow_rows", metrics.rows), ("phaseflow_feedback", metrics.feedback)):
            family = new_counter(name)
            for pair, count in (loaded | counts).items():
                family.add_metric(pair, count)
            yield family
        for index, name in enumerate(("phaseflow_live_loss", "phaseflow_live_loss_rows")):
            family = new_counter(name)
            for labels, pairs in metrics.losses.items():
                family.add_metric(labels, pairs[index])
            yield family

    def _projects(self) -> Iterator[Any]:
        manager, settings = self.metrics.manager, self.metrics.settings
        threshold = new_gauge("phaseflow_drift_threshold")
        minimum = new_gauge("phaseflow_drift_minimum_rows")
        swaps = new_counter("phaseflow_model_swaps")
        failures = new_counter("phaseflow_model_load_failures")
        for project in catalog.projects():
            threshold.add_metric([project.name], project.drift.psi)
            minimum.add_metric([project.name], settings.drift_minimum_rows or project.drift.minimum_rows)
            swaps.add_metric([project.name], manager.swaps[project.name])
            for reason in ("corrupt", "incomplete", "cache"):
                failures.add_metric([project.name, reason], manager.failures[project.name, reason])
        yield from (threshold, minimum, swaps, failures)

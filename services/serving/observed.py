"""What Prometheus reads, and the live loss of answers whose truth came back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from phaseflow import registry
from phaseflow.contract import Project
from services.serving.manager import Manager
from services.serving.model import Model, Row

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series a counter that nothing here reads
REMEMBERED: Final = 200_000
"""Answers whose truth is waited for, in memory; older ones count in Evidently's reports, which read the log."""
BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

Loss = dict[tuple[str, str, str, str, str], list[float]]


class Observed:
    """Counters of the hot path."""

    def __init__(self, manager: Manager) -> None:
        self.manager = manager
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "phaseflow_requests", "Requests by status.", ["project", "route", "code"], registry=self.registry
        )
        self.seconds = Histogram(
            "phaseflow_request_duration_seconds",
            "Time to answer.",
            ["project", "route"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.feedback = Counter(
            "phaseflow_feedback", "Truths that came back.", ["project", "version"], registry=self.registry
        )
        self.spooled = 0
        self.losses: Loss = {}
        """Sum and count by project, version, loss, slice and value."""
        self._answers: OrderedDict[str, tuple[str, str, Any, tuple[str, ...]]] = OrderedDict()
        self._cache: dict[tuple[str, str, int], Any] = {}
        self._spans: dict[tuple[str, str], Any] = {}
        self.registry.register(Reading(self))

    def request(self, project: str, route: str, code: int, seconds: float) -> None:
        """Count one request."""
        key = (project, route, code)
        counter = self._cache.get(key)
        if counter is None:
            counter = self._cache[key] = self.requests.labels(project, route, str(code))
        counter.inc()
        span = self._spans.get((project, route))
        if span is None:
            span = self._spans[project, route] = self.seconds.labels(project, route)
        span.observe(seconds)

    def remember(self, model: Model, ids: list[str], rows: list[Row], predictions: list[Any]) -> None:
        """Keep what the live loss of these answers will need."""
        project, answers = model.project, self._answers
        places = [project.schema.feature_names.index(part.column) for part in project.gate.slices]
        for identity, row, prediction in zip(ids, rows, predictions, strict=True):
            answers[identity] = (project.name, model.version, prediction, tuple(str(row[place]) for place in places))
        while len(answers) > REMEMBERED:
            answers.popitem(last=False)

    def truth(self, project: Project, identity: str, truth: Any) -> None:
        """Count the loss of one answer; each is counted once."""
        known = self._answers.pop(identity, None)
        if known is None or known[0] != project.name:
            self.feedback.labels(project.name, "").inc()
            return
        _, version, prediction, values = known
        self.feedback.labels(project.name, version).inc()
        slices = [("all", "all"), *zip((part.column for part in project.gate.slices), values, strict=True)]
        if isinstance(prediction, float):
            gap = float(truth) - prediction
            losses = {"absolute": abs(gap), "squared": gap * gap}
        else:
            losses = {"error": float(str(truth) != str(prediction))}
        for loss, value in losses.items():
            for name, slice_value in slices:
                found = self.losses.setdefault((project.name, version, loss, name, slice_value), [0.0, 0])
                found[0] += value
                found[1] += 1


class Reading(Collector):
    """Metrics that are read off the models when Prometheus asks."""

    def __init__(self, observed: Observed) -> None:
        self.observed = observed

    def describe(self) -> Iterator[Any]:
        """Nothing is known before the first model."""
        return iter(())

    def collect(self) -> Iterator[Any]:
        """Every family."""
        manager = self.observed.manager
        labels = ["project", "version", "feature", "bin"]
        live = CounterMetricFamily("phaseflow_feature_bin", "Live values by the reference's bins.", labels=labels)
        reference = GaugeMetricFamily("phaseflow_feature_bin_reference", "The reference's share.", labels=labels)
        rows = CounterMetricFamily("phaseflow_rows", "Rows answered.", labels=["project", "version"])
        info = GaugeMetricFamily(
            "phaseflow_model_info", "The served version.", labels=["project", "version", "alias", "candidate"]
        )
        created = GaugeMetricFamily(
            "phaseflow_model_created_timestamp_seconds", "When the version was made.", labels=["project", "version"]
        )
        metric = GaugeMetricFamily(
            "phaseflow_model_metric", "The version's figures on its holdout.", labels=["project", "version", "metric"]
        )
        threshold = GaugeMetricFamily("phaseflow_drift_threshold", "PSI that fires.", labels=["project"])
        minimum = GaugeMetricFamily("phaseflow_drift_minimum_rows", "Rows that a verdict needs.", labels=["project"])
        swaps = CounterMetricFamily("phaseflow_model_swaps", "Versions swapped in.", labels=["project"])
        answered = dict(manager.rows_before)
        for name, model in list(manager.models.items()):
            answered[name, model.version] = answered.get((name, model.version), 0) + model.rows
            info.add_metric([name, model.version, "champion", model.manifest["candidate"]], 1)
            created.add_metric([name, model.version], datetime.fromisoformat(model.manifest["created"]).timestamp())
            for key, value in model.manifest["metrics"].items():
                if value is not None:
                    metric.add_metric([name, model.version, key], value)
            for counter in model.counters:
                feature = counter.bins.feature
                for label, count, share in zip(counter.bins.labels, counter.counts, counter.bins.shares, strict=True):
                    live.add_metric([name, model.version, feature, label], count)
                    reference.add_metric([name, model.version, feature, label], share)
            swaps.add_metric([name], manager.swaps.get(name, 0))
        for (name, version), total in answered.items():
            rows.add_metric([name, version], total)
        settings = manager.settings
        for project in registry.all_projects():
            threshold.add_metric([project.name], project.drift.psi)
            minimum.add_metric([project.name], settings.drift_minimum_rows or project.drift.minimum_rows)
        failures = CounterMetricFamily(
            "phaseflow_model_load_failures", "Versions that could not be loaded.", labels=["project", "reason"]
        )
        for project in registry.all_projects():
            for reason in ("corrupt", "incomplete", "cache"):
                failures.add_metric([project.name, reason], manager.failures.get((project.name, reason), 0))
        kinds = ["project", "version", "loss", "slice", "value"]
        total_loss = CounterMetricFamily("phaseflow_live_loss", "Loss of answers whose truth came.", labels=kinds)
        total_count = CounterMetricFamily("phaseflow_live_loss_rows", "Answers whose truth came.", labels=kinds)
        for loss, (summed, counted) in list(self.observed.losses.items()):
            total_loss.add_metric(list(loss), summed)
            total_count.add_metric(list(loss), counted)
        up = GaugeMetricFamily("phaseflow_registry_up", "Whether MLflow answers.", value=float(manager.registry_up))
        spool = GaugeMetricFamily("phaseflow_spool_rows", "Rows not yet in the store.", value=self.observed.spooled)
        yield from (live, reference, rows, info, created, metric, threshold, minimum, swaps, failures)
        yield from (total_loss, total_count, up, spool)

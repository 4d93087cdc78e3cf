"""What Prometheus reads, and the live loss of answers whose truth came back."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import prometheus_client
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from phaseflow import answers, loops
from phaseflow.contract import Project
from phaseflow.reference import MISSING, OTHER
from phaseflow.settings import Settings
from services.serving import catalog
from services.serving.manager import Manager
from services.serving.model import Model
from services.serving.requests import Row

REMEMBERED: Final = 200_000
"""Answers whose truth is waited for, in memory; older ones count in the reports alone, which read the log."""
SLICE_VALUES: Final = 50
"""Values of a slice's column that get series of their own: requests choose them."""
BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types

Remembered = tuple[str, str, Any, tuple[Any, ...]]
"""Of an answer: project, version, prediction, values of the gate's slices."""


class Observed:
    """Counters of the hot path."""

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
        """Sum and count by project, version, loss, slice and value."""
        self.seconds = Histogram(
            "phaseflow_request_duration_seconds",
            "Time to answer.",
            ["project", "route"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._spans: dict[tuple[str, str], Histogram] = {}
        self._answers: OrderedDict[str, Remembered] = OrderedDict()
        self._slice_values: dict[tuple[str, str], set[str]] = {}
        self.registry.register(Reading(self))

    def request(self, project: str, route: str, code: int, seconds: float) -> None:
        """Count one request."""
        self.requests[project, route, str(code)] += 1
        span = self._spans.get((project, route))
        if span is None:
            span = self._spans[project, route] = self.seconds.labels(project, route)
        span.observe(seconds)

    def answered(self, model: Model, ids: Sequence[str], rows: Sequence[Row], predictions: Sequence[Any]) -> None:
        """Count rows, and keep what the live loss of these answers will need."""
        name, version, slices, known = model.project.name, model.version, model.slices, self._answers
        self.rows[name, version] += len(rows)
        for identity, row, prediction in zip(ids, rows, predictions, strict=True):
            known[identity] = (name, version, prediction, tuple([row[place] for _, place in slices]))
        self._forget()

    def _forget(self) -> None:
        while len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)

    def recall(self, earlier: Iterable[tuple[str, Remembered]]) -> None:
        """Answers of an earlier process, the oldest first."""
        older = OrderedDict(earlier)
        older.update(self._answers)
        self._answers = older
        self._forget()

    def truth(self, project: Project, identity: str, truth: Any) -> None:
        """Count the loss of one answer, once; the version of an unknown one is empty."""
        known = self._answers.get(identity)
        if known is None or known[0] != project.name:
            self.feedback[project.name, ""] += 1
            return
        del self._answers[identity]
        _, version, prediction, values = known
        self.feedback[project.name, version] += 1
        slices = [("all", "all")]
        for part, value in zip(project.gate.slices, values, strict=False):
            slices.append((part.column, self._slice_value(project, part.column, value)))
        target = project.schema.target
        said, true = answers.read(prediction, target), answers.read(truth, target)
        for loss, value in answers.losses(said, true, target).items():
            for column, slice_value in slices:
                found = self.losses.setdefault((project.name, version, loss, column, slice_value), [0.0, 0])
                found[0] += value
                found[1] += 1

    def _slice_value(self, project: Project, column: str, value: Any) -> str:
        if value is None or value == "":
            return MISSING
        seen = self._slice_values.setdefault((project.name, column), set(project.schema[column].allowed))
        text = str(value)[:100]
        if text not in seen and len(seen) >= SLICE_VALUES:
            return OTHER
        seen.add(text)
        return text


class Reading(Collector):
    """Metrics that are read off the counters when Prometheus asks."""

    def __init__(self, observed: Observed) -> None:
        self.observed = observed

    def describe(self) -> Iterator[Any]:
        """Nothing is known before the first model."""
        return iter(())

    def collect(self) -> Iterator[Any]:
        """Every family; what can be counted of a loaded model begins at 0, so that a rate sees its first increase."""
        yield from self._models()
        yield from self._traffic()
        yield from self._projects()
        up = float(self.observed.manager.registry_up)
        yield GaugeMetricFamily("phaseflow_registry_up", "Whether MLflow answers.", value=up)
        yield GaugeMetricFamily("phaseflow_spool_rows", "Rows not yet in the store.", value=self.observed.spooled())
        iterations = GaugeMetricFamily(
            loops.METRIC, "When a background loop's last iteration succeeded.", labels=["loop"]
        )
        for name, last in self.observed.last_iterations().items():
            iterations.add_metric([name], last)
        yield iterations

    def _models(self) -> Iterator[Any]:
        labels = ["project", "version", "feature", "bin"]
        live = CounterMetricFamily("phaseflow_feature_bin", "Live values by the reference's bins.", labels=labels)
        reference = GaugeMetricFamily("phaseflow_feature_bin_reference", "The reference's share.", labels=labels)
        info = GaugeMetricFamily(
            "phaseflow_model_info", "The served version.", labels=["project", "version", "alias", "candidate"]
        )
        created = GaugeMetricFamily(
            "phaseflow_model_created_timestamp_seconds", "When the version was made.", labels=["project", "version"]
        )
        metric = GaugeMetricFamily(
            "phaseflow_model_metric", "The version's figures on its holdout.", labels=["project", "version", "metric"]
        )
        for name, model in self.observed.manager.models.items():
            info.add_metric([name, model.version, "champion", model.manifest.candidate], 1)
            created.add_metric([name, model.version], model.manifest.created.timestamp())
            for key, value in model.manifest.metrics.items():
                if value is not None:
                    metric.add_metric([name, model.version, key], value)
            for counter in model.counters:
                feature = counter.bins.feature
                for label, count, share in zip(counter.bins.labels, counter.counts, counter.bins.shares, strict=True):
                    live.add_metric([name, model.version, feature, label], count)
                    reference.add_metric([name, model.version, feature, label], share)
        yield from (live, reference, info, created, metric)

    def _traffic(self) -> Iterator[Any]:
        observed = self.observed
        requests = {(project.name, "predict", "200"): 0 for project in catalog.projects()} | observed.requests
        loaded = {(name, model.version): 0 for name, model in observed.manager.models.items()}
        for name, model in observed.manager.models.items():
            target = model.project.schema.target
            for loss in answers.loss_names(target, model.classes) if target else ():
                observed.losses.setdefault((name, model.version, loss, "all", "all"), [0.0, 0])
        found = CounterMetricFamily("phaseflow_requests", "Requests by status.", labels=["project", "route", "code"])
        for key, count in requests.items():
            found.add_metric(key, count)
        yield found
        for title, text, counts in (
            ("phaseflow_rows", "Rows answered.", observed.rows),
            ("phaseflow_feedback", "Truths that came back.", observed.feedback),
        ):
            found = CounterMetricFamily(title, text, labels=["project", "version"])
            for pair, count in (loaded | counts).items():
                found.add_metric(pair, count)
            yield found
        kinds = ["project", "version", "loss", "slice", "value"]
        for place, (title, text) in enumerate(
            (
                ("phaseflow_live_loss", "Loss of answers whose truth came, summed."),
                ("phaseflow_live_loss_rows", "Answers whose truth came."),
            )
        ):
            found = CounterMetricFamily(title, text, labels=kinds)
            for labels, pairs in observed.losses.items():
                found.add_metric(labels, pairs[place])
            yield found

    def _projects(self) -> Iterator[Any]:
        manager, settings = self.observed.manager, self.observed.settings
        threshold = GaugeMetricFamily("phaseflow_drift_threshold", "PSI that fires.", labels=["project"])
        minimum = GaugeMetricFamily("phaseflow_drift_minimum_rows", "Rows that a verdict needs.", labels=["project"])
        swaps = CounterMetricFamily("phaseflow_model_swaps", "Versions swapped in.", labels=["project"])
        failures = CounterMetricFamily(
            "phaseflow_model_load_failures", "Versions that could not be loaded.", labels=["project", "reason"]
        )
        for project in catalog.projects():
            threshold.add_metric([project.name], project.drift.psi)
            minimum.add_metric([project.name], settings.drift_minimum_rows or project.drift.minimum_rows)
            swaps.add_metric([project.name], manager.swaps[project.name])
            for reason in ("corrupt", "incomplete", "cache"):
                failures.add_metric([project.name, reason], manager.failures[project.name, reason])
        yield from (threshold, minimum, swaps, failures)

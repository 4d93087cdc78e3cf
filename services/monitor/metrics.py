"""The monitor's metrics: reports, retraining decisions, and the runs of Airflow and KFP, read from their REST APIs."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

from prometheus_client import CollectorRegistry, Gauge, PlatformCollector, ProcessCollector, disable_created_metrics
from prometheus_client import Counter as Counted
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from phaseflow import discovery
from phaseflow.clients import airflow, kfp
from phaseflow.clients.rest import AsyncClient
from phaseflow.errors import PhaseflowError
from phaseflow.log import logger
from phaseflow.loops import METRIC, Loops
from phaseflow.metric_names import BY_NAME
from phaseflow.settings import Settings

disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series per counter, which nothing here reads
Kind = TypeVar("Kind", Gauge, Counted)
OUTCOMES: Final = ("triggered", "duplicate", "cooldown", "cap", "failed", "unconfirmed")
TEST_STATUSES: Final = ("success", "warning", "fail", "error", "skipped")
"""Statuses of Evidently's tests."""
ENDED: Final = frozenset({"success", "failed"})
RUN_STATES: Final = ("success", "failed")
PIPELINE_STATES: Final = (kfp.SUCCEEDED, kfp.FAILED, kfp.CANCELED)


def seconds(start: str | None, end: str | None) -> float | None:
    """Seconds between two ISO times; None if one of them is missing."""
    if not start or not end:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


class MonitorMetrics:
    """The metrics that the monitor sets itself."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.timestamp = self._new(Gauge, "phaseflow_report_timestamp_seconds")
        self.rows = self._new(Gauge, "phaseflow_report_rows")
        self.drifted = self._new(Gauge, "phaseflow_report_drifted_features")
        self.tests = self._new(Gauge, "phaseflow_report_tests")
        self.score = self._new(Gauge, "phaseflow_report_feature_score")
        self.retrains = self._new(Counted, "phaseflow_retrain_requests")
        for project in discovery.names():
            for outcome in OUTCOMES:
                self.retrains.labels(project, outcome)

    def _new(self, kind: type[Kind], name: str) -> Kind:
        metric = BY_NAME[name]
        return kind(metric.name, metric.help, metric.labels, registry=self.registry)

    def retrain(self, project: str, outcome: str) -> None:
        """Count a decision."""
        self.retrains.labels(project, outcome).inc()

    def report(self, project: str, report: Mapping[str, Any]) -> None:
        """Set the metrics of a report."""
        self.timestamp.labels(project).set(report["time"])
        self.rows.labels(project).set(report["rows"])
        self.drifted.labels(project).set(len(report["drifted"]))
        for status in TEST_STATUSES:
            self.tests.labels(project, status).set(report.get("tests", {}).get(status, 0))
        for feature, value in report["scores"].items():
            self.score.labels(project, feature).set(value)


def _gauge(name: str) -> GaugeMetricFamily:
    metric = BY_NAME[name]
    return GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)


def _counter(name: str) -> CounterMetricFamily:
    metric = BY_NAME[name]
    return CounterMetricFamily(metric.name, metric.help, labels=metric.labels)


class LastIterations(Collector):
    """The time of the last successful iteration of each background loop."""

    def __init__(self, loops: Loops) -> None:
        self._loops = loops

    def describe(self) -> Iterator[Any]:
        """Describe nothing: no loop runs before the start."""
        return iter(())

    def collect(self) -> Iterator[Any]:
        """Yield one gauge with a sample per loop."""
        family = _gauge(METRIC)
        for loop, moment in self._loops.last_iterations().items():
            family.add_metric([loop], moment)
        yield family


class Runs(Collector):
    """DAG and pipeline runs as of the last poll."""

    def __init__(self, settings: Settings, airflow_client: AsyncClient) -> None:
        self._airflow = airflow_client
        self._engine = AsyncClient(kfp.server(settings), timeout=10)
        self._problems: dict[str, str] = {}
        self._dags: Counter[tuple[str, str]] = Counter()
        self._pipelines: Counter[tuple[str, str]] = Counter()
        self._counted: set[str] = set()
        self._running: dict[str, int] = {}
        self._training: Counter[str] = Counter()
        self._durations: dict[str, float] = {}
        self._successes: dict[str, float] = {}
        self._tasks: dict[tuple[str, str], float] = {}
        self._pipeline_durations: dict[str, float] = {}

    async def look(self, beat: Callable[[], None]) -> None:
        """Poll Airflow and the pipeline engine once, calling `beat` after each DAG; either may be unavailable or respond wrongly."""
        looks: Mapping[str, Callable[[], Awaitable[None]]] = {
            "Airflow": functools.partial(self._look_at_airflow, beat),
            "the pipeline engine": self._look_at_pipelines,
        }
        for name, look in looks.items():
            try:
                await look()
            except (PhaseflowError, LookupError, ValueError, TypeError) as error:
                problem = f"{type(error).__name__}: {error}"
                if self._problems.get(name) != problem:  # logged once, not every few seconds
                    logger.warning("the runs of %s can't be read: %s", name, problem)
                self._problems[name] = problem
            else:
                self._problems.pop(name, None)

    async def _look_at_airflow(self, beat: Callable[[], None]) -> None:
        for name in discovery.names():
            for dag in (name, f"{name}_monitor"):
                newest = True
                runs = await self._airflow.send(airflow.runs(dag, 100))
                self._running[dag] = sum(run["state"] not in ENDED for run in runs)
                for run in runs:
                    key = f"{dag} {run['dag_run_id']} {run['end_date']}"
                    if run["state"] not in ENDED:
                        continue
                    duration = seconds(run["start_date"], run["end_date"])
                    if newest and duration is not None:
                        self._durations[dag] = duration
                        newest = False
                    if run["state"] == "success" and run["end_date"]:
                        end = datetime.fromisoformat(run["end_date"]).timestamp()
                        self._successes[dag] = max(end, self._successes.get(dag, 0))
                    if key in self._counted:
                        continue
                    self._counted.add(key)
                    self._dags[dag, run["state"]] += 1
                    for task in await self._airflow.send(airflow.tasks(dag, run["dag_run_id"])):
                        if task.get("duration") is not None:
                            self._tasks[dag, task["task_id"]] = task["duration"]
                beat()

    async def _look_at_pipelines(self) -> None:
        projects = set(discovery.names())
        page = await self._engine.send(kfp.runs())
        newest: set[str] = set()
        self._training = Counter(dict.fromkeys(projects, 0))
        for run in page.get("runs") or []:
            project = str(run.get("display_name", "")).split(" ", 1)[0]
            if project in projects and run.get("state") in kfp.LIVE:
                self._training[project] += 1
            if project not in projects or run.get("state") not in PIPELINE_STATES:
                continue
            duration = seconds(run.get("created_at"), run.get("finished_at"))
            if project not in newest and duration is not None:
                self._pipeline_durations[project] = duration
                newest.add(project)
            if run["run_id"] not in self._counted:
                self._counted.add(run["run_id"])
                self._pipelines[project, run["state"]] += 1

    def describe(self) -> Iterator[Any]:
        """Describe nothing: there are no runs before the first poll."""
        return iter(())

    def collect(self) -> Iterator[Any]:
        """Yield every metric family; a state without runs is 0, so that its first increase is visible."""
        runs = _counter("phaseflow_dag_runs")
        pipelines = _counter("phaseflow_pipeline_runs")
        for name in discovery.names():
            for dag in (name, f"{name}_monitor"):
                for state in RUN_STATES:
                    runs.add_metric([dag, state], self._dags[dag, state])
            for state in PIPELINE_STATES:
                pipelines.add_metric([name, state], self._pipelines[name, state])
        yield from (runs, pipelines)
        for name, values in (
            ("phaseflow_dag_runs_running", self._running),
            ("phaseflow_pipeline_runs_running", self._training),
            ("phaseflow_dag_run_duration_seconds", self._durations),
            ("phaseflow_dag_last_success_timestamp_seconds", self._successes),
            ("phaseflow_pipeline_run_duration_seconds", self._pipeline_durations),
        ):
            family = _gauge(name)
            for key, value in values.items():
                family.add_metric([key], value)
            yield family
        tasks = _gauge("phaseflow_task_duration_seconds")
        for (dag, task), value in self._tasks.items():
            tasks.add_metric([dag, task], value)
        yield tasks

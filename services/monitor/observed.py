"""The monitor's metrics: reports, retrain decisions, and the platform's own runs, read from Airflow's and KFP's REST."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import httpx
from prometheus_client import CollectorRegistry, Gauge, PlatformCollector, ProcessCollector, disable_created_metrics
from prometheus_client import Counter as Counted
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from phaseflow import registry
from phaseflow.errors import PhaseflowError
from phaseflow.log import logger
from phaseflow.loops import METRIC, Loops
from phaseflow.settings import Settings
from services.monitor.airflow import Airflow

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series a counter that nothing here reads
OUTCOMES: Final = ("triggered", "duplicate", "cooldown", "cap", "failed", "unconfirmed")
ENDED: Final = frozenset({"success", "failed"})
RUN_STATES: Final = ("success", "failed")
PIPELINE_STATES: Final = ("SUCCEEDED", "FAILED", "CANCELED")


def seconds(start: str | None, end: str | None) -> float | None:
    """Between two ISO times."""
    if not start or not end:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


class Observed:
    """Metrics that the monitor sets itself."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        names = ["project"]
        self.timestamp = Gauge("phaseflow_report_timestamp_seconds", "When.", names, registry=self.registry)
        self.rows = Gauge("phaseflow_report_rows", "Rows of the last report.", names, registry=self.registry)
        self.drifted = Gauge(
            "phaseflow_report_drifted_features",
            "Features that the last report calls drifted.",
            names,
            registry=self.registry,
        )
        self.score = Gauge(
            "phaseflow_report_feature_score",
            "Drift by feature in the last report.",
            ["project", "feature"],
            registry=self.registry,
        )
        self.retrains = Counted(
            "phaseflow_retrain_requests", "What alerts led to.", ["project", "outcome"], registry=self.registry
        )
        for project in registry.names():
            for outcome in OUTCOMES:
                self.retrains.labels(project, outcome)

    def retrain(self, project: str, outcome: str) -> None:
        """Count a decision."""
        self.retrains.labels(project, outcome).inc()

    def report(self, project: str, found: Mapping[str, Any]) -> None:
        """Note a report."""
        self.timestamp.labels(project).set(found["time"])
        self.rows.labels(project).set(found["rows"])
        self.drifted.labels(project).set(len(found["drifted"]))
        for feature, value in found["scores"].items():
            self.score.labels(project, feature).set(value)


class LastIterations(Collector):
    """When each background loop last succeeded."""

    def __init__(self, loops: Loops) -> None:
        self._loops = loops

    def describe(self) -> Iterator[Any]:
        """No loop runs before the start."""
        return iter(())

    def collect(self) -> Iterator[Any]:
        """One gauge."""
        family = GaugeMetricFamily(METRIC, "When the loop's last iteration succeeded.", labels=["loop"])
        for loop, moment in self._loops.last_iterations().items():
            family.add_metric([loop], moment)
        yield family


class Runs(Collector):
    """DAG and pipeline runs as of the last look."""

    def __init__(self, settings: Settings, airflow: Airflow) -> None:
        self._settings, self._airflow = settings, airflow
        self._client = httpx.AsyncClient(timeout=10)
        self._problems: dict[str, str] = {}
        self._dags: Counter[tuple[str, str]] = Counter()
        self._pipelines: Counter[tuple[str, str]] = Counter()
        self._seen: set[str] = set()
        self._running: dict[str, int] = {}
        self._training: Counter[str] = Counter()
        self._durations: dict[str, float] = {}
        self._successes: dict[str, float] = {}
        self._tasks: dict[tuple[str, str], float] = {}
        self._pipeline_durations: dict[str, float] = {}

    async def look(self, beat: Callable[[], None]) -> None:
        """Look once; `beat` is called after each part of it. Either may be away, or answer something else, for as long as it likes."""
        looks: Mapping[str, Callable[[], Awaitable[None]]] = {
            "Airflow": functools.partial(self._look_at_airflow, beat),
            "the pipeline engine": self._look_at_pipelines,
        }
        for name, look in looks.items():
            try:
                await look()
            except (httpx.HTTPError, httpx.InvalidURL, PhaseflowError, LookupError, ValueError, TypeError) as error:
                problem = f"{type(error).__name__}: {error}"
                if self._problems.get(name) != problem:  # said once, not every few seconds
                    logger.warning("the runs of %s are not known: %s", name, problem)
                self._problems[name] = problem
            else:
                self._problems.pop(name, None)

    async def _look_at_airflow(self, beat: Callable[[], None]) -> None:
        for name in registry.names():
            for dag in (name, f"{name}_monitor"):
                newest = True
                found = await self._airflow.runs(dag)
                self._running[dag] = sum(run["state"] not in ENDED for run in found)
                for run in found:
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
                    if key in self._seen:
                        continue
                    self._seen.add(key)
                    self._dags[dag, run["state"]] += 1
                    for task in await self._airflow.tasks(dag, run["dag_run_id"]):
                        if task.get("duration") is not None:
                            self._tasks[dag, task["task_id"]] = task["duration"]
                beat()

    async def _look_at_pipelines(self) -> None:
        known = set(registry.names())
        query: dict[str, str | int] = {"page_size": 100, "sort_by": "created_at desc"}
        answer = await self._client.get(f"{self._settings.pipelines_url}/apis/v2beta1/runs", params=query)
        answer.raise_for_status()
        newest: set[str] = set()
        self._training = Counter(dict.fromkeys(known, 0))
        for run in answer.json().get("runs") or []:
            project = str(run.get("display_name", "")).split(" ", 1)[0]
            if project in known and run.get("state") in {"PENDING", "RUNNING"}:
                self._training[project] += 1
            if project not in known or run.get("state") not in PIPELINE_STATES:
                continue
            duration = seconds(run.get("created_at"), run.get("finished_at"))
            if project not in newest and duration is not None:
                self._pipeline_durations[project] = duration
                newest.add(project)
            if run["run_id"] not in self._seen:
                self._seen.add(run["run_id"])
                self._pipelines[project, run["state"]] += 1

    def describe(self) -> Iterator[Any]:
        """Nothing is known before the first look."""
        return iter(())

    def collect(self) -> Iterator[Any]:
        """Every family; a state that no run has had is 0, so that its first increase shows."""
        runs = CounterMetricFamily("phaseflow_dag_runs", "DAG runs that ended.", labels=["dag", "state"])
        pipelines = CounterMetricFamily(
            "phaseflow_pipeline_runs", "Pipeline runs that ended.", labels=["project", "state"]
        )
        for name in registry.names():
            for dag in (name, f"{name}_monitor"):
                for state in RUN_STATES:
                    runs.add_metric([dag, state], self._dags[dag, state])
            for state in PIPELINE_STATES:
                pipelines.add_metric([name, state], self._pipelines[name, state])
        yield from (runs, pipelines)
        for title, text, label, values in (
            ("phaseflow_dag_runs_running", "DAG runs that are queued or at work.", "dag", self._running),
            ("phaseflow_pipeline_runs_running", "Pipeline runs that wait or are at work.", "project", self._training),
            ("phaseflow_dag_run_duration_seconds", "Of the last run.", "dag", self._durations),
            ("phaseflow_dag_last_success_timestamp_seconds", "When.", "dag", self._successes),
            ("phaseflow_pipeline_run_duration_seconds", "Of the last run.", "project", self._pipeline_durations),
        ):
            family = GaugeMetricFamily(title, text, labels=[label])
            for key, value in values.items():
                family.add_metric([key], value)
            yield family
        tasks = GaugeMetricFamily("phaseflow_task_duration_seconds", "Of the last run.", labels=["dag", "task"])
        for (dag, task), value in self._tasks.items():
            tasks.add_metric([dag, task], value)
        yield tasks

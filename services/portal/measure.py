"""What Prometheus has measured: the queries of the start page, and their results."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from phaseflow.errors import PhaseflowError
from phaseflow.reference import PREDICTIONS
from services.portal.model import DagRun
from services.portal.prometheus import Prometheus, Series

ANSWERS: Final = 'route=~"predict|infer"'
"""Requests for predictions, without those of probes."""
_ALL: Final = f"sum by (project) (rate(phaseflow_requests_total{{{ANSWERS}}}[1m]))"
_ERRORS: Final = f'sum by (project) (rate(phaseflow_requests_total{{{ANSWERS},code=~"5.."}}[1m]))'
QUERIES: Final[Mapping[str, str]] = {
    "requests": _ALL,
    "errors": f"({_ERRORS} or 0 * {_ALL}) / ({_ALL} > 0)",
    "p99": f"histogram_quantile(0.99, sum by (project, le) (rate(phaseflow_request_duration_seconds_bucket{{{ANSWERS}}}[1m])))",
    "psi": "phaseflow:feature_psi",
    "window_rows": "phaseflow:window_rows",
    "threshold": "phaseflow_drift_threshold",
    "minimum_rows": "phaseflow_drift_minimum_rows",
    "created": "phaseflow_model_created_timestamp_seconds",
    "dag_runs": "phaseflow_dag_runs_total",
    "dag_running": "phaseflow_dag_runs_running",
    "dag_seconds": "phaseflow_dag_run_duration_seconds",
    "dag_success": "phaseflow_dag_last_success_timestamp_seconds",
    "pipeline_running": "phaseflow_pipeline_runs_running",
    "targets": "up",
}
HISTORY: Final[Mapping[str, str]] = {
    "requests": _ALL,
    "psi": f'max by (project) (phaseflow:feature_psi{{feature!~"{PREDICTIONS}"}})',
    "dag_runs": "sum by (dag, state) (phaseflow_dag_runs_total)",
    "began": "count(up)",
}
HISTORY_SECONDS: Final = 1800.0
SHORTEST_SECONDS: Final = 180.0
"""Minimum span of the small charts, for a platform that has just started."""
STEP: Final = 5.0


@dataclass(frozen=True, slots=True)
class Measured:
    """Results of Prometheus by the names in QUERIES and HISTORY; empty if it is unavailable."""

    now: Mapping[str, Sequence[Series]]
    past: Mapping[str, Sequence[Series]]
    end: float
    start: float
    """Start of `past`, in Unix seconds."""

    def of(self, query: str, **labels: str) -> list[Series]:
        """The series of `query` that have `labels`."""
        return [s for s in self.now.get(query, ()) if all(s.labels.get(k) == v for k, v in labels.items())]

    def value(self, query: str, **labels: str) -> float | None:
        """The largest value of these series; None if there are none."""
        return max((s.value for s in self.of(query, **labels)), default=None)


async def measure(prometheus: Prometheus, now: float, away: dict[str, str]) -> Measured:
    """Run every query; a failure is described in `away["prometheus"]`."""
    end = now - now % STEP
    try:
        await prometheus.ready()
    except PhaseflowError as error:
        away["prometheus"] = f"There are no metrics: {error}"
        return Measured({}, {}, end, end - HISTORY_SECONDS)
    now_queries = [prometheus.query(expression) for expression in QUERIES.values()]
    past_queries = [
        prometheus.query_range(expression, end - HISTORY_SECONDS, end, STEP) for expression in HISTORY.values()
    ]
    results = await asyncio.gather(*now_queries, *past_queries, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            away["prometheus"] = f"Some metrics are missing: {result}"
    series = [() if isinstance(result, BaseException) else result for result in results]
    now_series, past_series = series[: len(QUERIES)], series[len(QUERIES) :]
    past = dict(zip(HISTORY, past_series, strict=True))
    first = min((s.points[0][0] for s in past["began"]), default=end)
    return Measured(dict(zip(QUERIES, now_series, strict=True)), past, end, min(first, end - SHORTEST_SECONDS))


def dag_run(name: str, measured: Measured) -> DagRun | None:
    """The last run of the DAG `name`: running, otherwise the state whose counter increased last; None if there was no run."""
    counts = {s.labels.get("state", ""): s.value for s in measured.of("dag_runs", dag=name) if s.value > 0}
    running = measured.value("dag_running", dag=name)
    if not counts and not running:
        return None
    last_increases = {
        s.labels.get("state", ""): max(
            (at for (at, new), (_, old) in zip(s.points[1:], s.points, strict=False) if new > old), default=0.0
        )
        for s in measured.past.get("dag_runs", ())
        if s.labels.get("dag") == name
    }
    succeeded = measured.value("dag_success", dag=name)
    if running:
        state = "running"
    elif any(last_increases.values()):
        state = max(last_increases, key=last_increases.__getitem__)
    else:
        state = "success" if "success" in counts else next(iter(counts))
    return DagRun(state=state, seconds=measured.value("dag_seconds", dag=name), succeeded=succeeded)

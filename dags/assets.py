"""A project's assets in Airflow: its snapshot, its champion and its report.

Each event of an asset has the task's result as its extra data, so that Airflow's page of the asset tells which version or
snapshot it was. Other DAGs may be scheduled by them: `DAG(schedule=Asset("titanic_model"))`.
"""

from __future__ import annotations

from typing import Any, Final

from airflow.sdk import Asset, Context

GROUP: Final = "phaseflow"
"""Where Airflow lists them."""


def snapshot(project: str) -> Asset:
    """The rows that a model is trained from. The task `snapshot` updates it."""
    return _asset(project, "snapshot")


def model(project: str) -> Asset:
    """The champion. The task `promote` updates it."""
    return _asset(project, "model")


def report(project: str) -> Asset:
    """Evidently's report on the latest window of live data. The monitor's DAG updates it."""
    return _asset(project, "report")


def _asset(project: str, part: str) -> Asset:
    return Asset(name=f"{project}_{part}", uri=f"phaseflow://{project}/{part}", group=GROUP)


def record(context: Context, result: Any) -> None:
    """Attach the task's result to the events of its outlets; a `post_execute` of their tasks."""
    for asset in context["task"].outlets:
        context["outlet_events"][asset].extra = result if isinstance(result, dict) else {}

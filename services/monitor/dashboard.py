"""The dashboard of a project in Evidently, from its contract, in the format of Evidently's `DashboardModel`.

Source of the metrics' names and labels: https://docs.evidentlyai.com/docs/platform/dashboard_panel_types.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from phaseflow import kinds
from phaseflow.contract import Project
from phaseflow.reports import NAMESPACE

_METRIC: Final = "evidently:metric_v2:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A metric of a panel."""

    metric: str
    legend: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A panel: values over time."""

    title: str
    subtitle: str
    values: Sequence[Value]


def dashboard(project: Project) -> dict[str, Any]:
    """The dashboard of a project: panels of drift, of the data, and of quality if a preset computes it."""
    panels = [*_drift(project), *_data(project), *_quality(project)]
    return {"tabs": [], "panels": [_panel(project, panel) for panel in panels]}


def _panel(project: Project, panel: Panel) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid5(NAMESPACE, f"{project.name}/dashboard/{panel.title}")),
        "title": panel.title,
        "subtitle": panel.subtitle,
        "size": "half",
        "values": [
            {
                "legend": value.legend,
                "tags": [],
                "metadata": {},
                "metric": _METRIC + value.metric,
                "metric_labels": dict(value.labels),
                "view_params": {},
            }
            for value in panel.values
        ],
        "plot_params": {"plot_type": "line"},
    }


def _value(metric: str, legend: str, **labels: str) -> Value:
    return Value(metric=metric, legend=legend, labels=labels)


def _drift(project: Project) -> list[Panel]:
    share = _value("DriftedColumnsCount", "share", value_type="share")
    limit = f"A column has drifted above a PSI of {project.drift.psi:g}."
    return [
        Panel(title="Drifted columns", subtitle=f"Share of the columns, from 0 to 1. {limit}", values=[share]),
        Panel(
            title="Drift per column",
            subtitle="Population stability index against the newest training rows.",
            values=[_value("ValueDrift", "{{column}}")],
        ),
    ]


def _data(project: Project) -> list[Panel]:
    panels = [
        Panel(title="Rows", subtitle="Requests that a report compared.", values=[_value("RowCount", "rows")]),
        Panel(
            title="Missing values",
            subtitle="Share of all values, from 0 to 1.",
            values=[_value("DatasetMissingValueCount", "share", value_type="share")],
        ),
    ]
    if any(kinds.of(column).has_numeric_statistics for column in project.schema.features):
        means = [_value("MeanValue", "{{column}}")]
        panels.append(Panel(title="Mean per column", subtitle="Of numeric columns.", values=means))
    return panels


def _quality(project: Project) -> list[Panel]:
    target = project.schema.target
    if target is None:
        return []
    return _QUALITY.get(kinds.of_target(target).task, [])


_QUALITY: Final[Mapping[str, list[Panel]]] = {
    "classification": [
        Panel(title="Accuracy", subtitle="Of rows with a label.", values=[_value("Accuracy", "accuracy")]),
        Panel(
            title="F1, precision and recall",
            subtitle="Of the positive class, or the mean over more than two classes.",
            values=[_value("F1Score", "F1"), _value("Precision", "precision"), _value("Recall", "recall")],
        ),
    ],
    "regression": [
        Panel(
            title="Errors",
            subtitle="In the unit of the target.",
            values=[_value("MAE", "mean absolute error", value_type="mean"), _value("RMSE", "RMSE")],
        ),
        Panel(title="R²", subtitle="Coefficient of determination.", values=[_value("R2Score", "R²")]),
    ],
    "ranking": [
        Panel(
            title="Hit rate and precision",
            subtitle="Share of rankings with an id that was taken, and share of the ids that were taken.",
            values=[
                _value("HitRate", "hit rate", column="value"),
                _value("PrecisionTopK", "precision", column="value"),
            ],
        ),
        Panel(
            title="Mean reciprocal rank",
            subtitle="Of the first id that was taken.",
            values=[_value("MRR", "MRR", column="value")],
        ),
    ],
}

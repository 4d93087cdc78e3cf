"""Renders `project.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from cli.scaffold.code import Call, render
from cli.scaffold.measure import Measurement
from cli.scaffold.plan import Plan
from cli.scaffold.table.origin import Origin, line, what

FEW_FEATURES: Final = 20
"""With more features, only the most important are monitored, because each one adds a chance of a false alarm."""
MAX_MONITORED: Final = 12
TRAINED_ROWS: Final = 20_000
"""Maximum number of rows per tree, so that training on a large file takes minutes."""
OTHER_METRICS: Final[Mapping[str, tuple[str, ...]]] = {
    "roc_auc": ("accuracy", "log_loss"),
    "balanced_accuracy": ("accuracy", "log_loss"),
    "r2": ("mae", "rmse"),
}


def monitored_features(plan: Plan, measurement: Measurement) -> tuple[str, ...]:
    """Features that are monitored for drift; empty means all."""
    return () if len(plan.features) <= FEW_FEATURES else tuple(measurement.importance)[:MAX_MONITORED]


def declaration(origin: Origin, plan: Plan, measurement: Measurement) -> str:
    """The content of `project.py`."""
    name, title = origin.name, origin.title
    source = {
        "url": origin.url,
        "mirror": f"{name}/{origin.stored}",
        "sample": f"{name}.data:sample",
        "read": f"{name}.data:read",
    }
    if origin.url:
        source["sha256"] = origin.sha256
    drift: dict[str, Any] = {"scenario": f"{name}.drift:simulate"}
    if features := monitored_features(plan, measurement):
        drift = {"features": features} | drift
    # A margin over the measured share, because later files may have more invalid rows.
    quarantine = round(min(1.0, plan.unusable * 1.2 + 0.05), 3)
    first = Call("Metric", kwargs={"name": measurement.metric, "threshold": measurement.threshold})
    value = Call(
        "Project",
        kwargs={
            "name": name,
            "title": title,
            "phase": 2,
            "description": f"{title}: {what(plan)}.",
            "source": Call("Source", kwargs=source),
            "schema": Call("Schema", kwargs={"features": _columns(plan), "target": _target(plan)}),
            "transform": f"{name}.data:transform",
            "train": f"{name}.model:train",
            "candidates": tuple(
                Call("Candidate", kwargs={"name": algorithm, "params": params})
                for algorithm, params in _candidates(plan).items()
            ),
            "metrics": (
                first,
                *(Call("Metric", kwargs={"name": metric}) for metric in OTHER_METRICS[measurement.metric]),
            ),
            "gate": Call("Gate", kwargs={"minimum_gain": 0.002}),
            "drift": Call("Drift", kwargs=drift),
            "quarantine_share": quarantine,
            "example": _example(plan),
            "tags": ("tabular",),
        },
    )
    return (
        f'"""{title}: {what(plan)}."""\n\n'
        "from phaseflow import Candidate, Column, Drift, Gate, Metric, Project, Schema, Source\n\n"
        f"project = {render(value, before=len('project = '))}\n"
    )


def _columns(plan: Plan) -> tuple[Call, ...]:
    calls = []
    for feature in plan.features:
        column_kwargs: dict[str, Any] = {"name": feature.name, "kind": feature.kind}
        if feature.nullable:
            column_kwargs["nullable"] = True
        if feature.part == "days":
            column_kwargs["unit"] = "days since 1970-01-01"
        elif feature.source.unit:
            column_kwargs["unit"] = feature.source.unit
        if feature.part in {"month", "hour"} or feature.source.source != feature.name:
            column_kwargs["description"] = (
                f"{feature.part} of {line(feature.source.source)}" if feature.part else line(feature.source.source)
            )
        if feature.part == "weekday":
            column_kwargs["description"] = f"day of the week of {line(feature.source.source)}, 1 is Monday"
        calls.append(Call("Column", kwargs=column_kwargs))
    return tuple(calls)


def _target(plan: Plan) -> Call:
    column_kwargs: dict[str, Any] = {"name": plan.target.name, "kind": plan.target.kind}
    if plan.classes:
        column_kwargs["allowed"] = plan.classes
    if plan.target.unit:
        column_kwargs["unit"] = plan.target.unit
    return Call("Column", kwargs=column_kwargs)


def _candidates(plan: Plan) -> dict[str, dict[str, Any]]:
    """Candidates with parameters that keep training within minutes and models within a few MB."""
    rows, classes = len(plan.rows), max(len(plan.classes), 1)
    forest: dict[str, Any] = {
        "n_estimators": 100,
        "min_samples_leaf": 2,
        "max_leaf_nodes": max(32, min(1000, 4000 // classes)),
        "max_features": 0.5 if plan.task == "regression" else "sqrt",
    }
    boosting: dict[str, Any] = {"n_estimators": max(10, min(100, 600 // classes)), "max_depth": 3, "learning_rate": 0.1}
    if rows > TRAINED_ROWS:
        share = max(0.01, round(TRAINED_ROWS / rows, 2))
        forest["max_samples"] = share
        boosting["subsample"] = share
    if len(plan.features) > FEW_FEATURES:
        boosting["max_features"] = "sqrt"
    linear: dict[str, dict[str, Any]] = (
        {"ridge": {"alpha": 1.0}} if plan.task == "regression" else {"logistic_regression": {"C": 1.0, "max_iter": 500}}
    )
    return {**linear, "random_forest": forest, "gradient_boosting": boosting}


def _example(plan: Plan) -> dict[str, Any]:
    """The row with the fewest missing values."""
    rows = plan.rows.drop(plan.target.name)
    missing = rows.select(pl.sum_horizontal(pl.all().is_null())).to_series()
    return rows.row(int(missing.arg_min() or 0), named=True)

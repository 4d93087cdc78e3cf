"""Predictions of a served model with the labels, for selection and evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from phaseflow import discovery, prediction_types
from phaseflow.contract import Project
from phaseflow.toolkit import graph
from pipelines.steps import metrics
from pipelines.steps.metrics import Array, EvalBatch


def predict(project: Project, model: bytes | graph.Session, classes: tuple[str, ...], rows: pl.DataFrame) -> EvalBatch:
    """Predict rows [N] with the served model."""
    outputs, target = graph.run(model, graph.feed(rows, project.schema)), project.schema.target
    if target is not None and prediction_types.is_structured(target):
        labels = [prediction_types.parse(text, target) for text in rows[target.name]]
        return EvalBatch(
            labels=metrics.objects(labels),
            predicted=metrics.objects(prediction_types.values(outputs, target, classes)),
            classes=classes,
            outputs=outputs,
            rows=rows,
        )
    # Only a project's own metrics use the outputs and the rows.
    extra: dict[str, Any] = {"outputs": outputs, "rows": rows} if project.evaluate else {}
    label: Array = np.array([])
    if target is not None:
        label = rows[target.name].cast(pl.String if classes else pl.Float64).to_numpy()
    if classes:
        return EvalBatch(
            labels=label.astype(str),
            predicted=outputs["label"].astype(str),
            probabilities=outputs["probabilities"].astype(np.float64),
            classes=classes,
            **extra,
        )
    return EvalBatch(labels=label, predicted=outputs["value"].astype(np.float64), **extra)


def rollout(project: Project, model: graph.Session, batch: EvalBatch, rows: pl.DataFrame) -> EvalBatch:
    """Return the batch to evaluate: episodes simulated with the model if the project has a `rollout`, else `batch`."""
    if not project.rollout:
        return batch

    def predict_outputs(observations: pl.DataFrame) -> dict[str, Array]:
        return graph.run(model, graph.feed(observations, project.schema))

    outputs, games = discovery.load(project.rollout)(predict_outputs, rows, project)
    nothing = np.array([])
    return EvalBatch(labels=nothing, predicted=np.arange(games.height), outputs=outputs, rows=games)

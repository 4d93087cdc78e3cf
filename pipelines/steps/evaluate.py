"""Evaluate all candidates and the champion on the same holdout: metrics, intervals, slices, latency and size.

The winner is selected before, within the training rows (`selection`). The holdout metrics of the other candidates are
only reported.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from phaseflow import discovery, prediction_types
from phaseflow.contract import Metric, Project
from phaseflow.reference import psi
from phaseflow.toolkit import graph
from phaseflow.toolkit.newest import newest_traffic
from phaseflow.toolkit.scalars import prediction_descriptors, prediction_vocabulary, scalars
from pipelines.steps import budget, data, metrics, selection
from pipelines.steps import champion as champions
from pipelines.steps.bins import with_shares
from pipelines.steps.champion import Champion
from pipelines.steps.latency import latency_ms
from pipelines.steps.metrics import Array, EvalBatch
from pipelines.steps.predictions import predict, rollout

NEWEST: Final = 100
"""Number of holdout rows that represent the newest data.

Soon after a change all of them are from after it, and they suffice to detect a difference of five percentage points in
a share. Three times as many training rows represent the newest training data (`phaseflow.toolkit.newest`)."""
TRAINING: Final = 1.0
"""Variance of a gain between trainings, relative to its variance over the holdout's rows.

It can't be estimated from a single training, and tests that ignore it reject too often (Dietterich, Neural Computation
10, 1998; Nadeau and Bengio, Machine Learning 52, 2003). docs/gate.md compares the spread of gains between repeated
trainings with the error of the holdout."""
MIN_NEWEST_ROWS: Final = 50
"""Minimum number of feedback rows. With fewer, the whole holdout represents the newest data."""


def slices(project: Project, batch: EvalBatch, rows: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the primary metric for each value of each of the gate's slices."""
    result: dict[str, dict[str, Any]] = {}
    for gate_slice in project.gate.slices:
        values = rows[gate_slice.column].cast(pl.String).fill_null("(missing)").to_numpy().astype(str)
        result[gate_slice.column] = {
            str(value): {
                "rows": int((values == value).sum()),
                "value": metrics.figure(project, project.primary, batch.take(np.flatnonzero(values == value))),
            }
            for value in sorted(set(values))
        }
    return result


def _at_best_of_slices(project: Project, model: _EvaluatedModel, slice_figures: dict[str, dict[str, Any]]) -> None:
    """Add `at_best`, the optimistic confidence limit, to each slice that is beyond its bound."""
    for gate_slice in project.gate.slices:
        values = model.rows[gate_slice.column].cast(pl.String).fill_null("(missing)").to_numpy().astype(str)
        for value, about in slice_figures[gate_slice.column].items():
            if about["value"] is None or project.primary.within(gate_slice.threshold, about["value"]):
                continue
            indices = np.flatnonzero(values == value)
            batch, rows = model.predictions.take(indices), model.rows[indices]
            samples = selection.resamples(project, rows, batch, _count(project, decides=True))
            drawn = metrics.bootstrap(project, [project.primary], batch, samples)[project.primary.name]
            about["at_best"] = _at_best(project.primary, about["value"], drawn, budget.ALPHA / 2)


def losses(project: Project, batch: EvalBatch) -> dict[str, float]:
    """Return the mean holdout loss of structured predictions, as the baseline of the live losses; empty for scalars."""
    target = project.schema.target
    if target is None or not prediction_types.is_structured(target) or not len(batch.labels):
        return {}
    row_losses = [
        prediction_types.losses(prediction, label, target)
        for prediction, label in zip(batch.predicted, batch.labels, strict=True)
    ]
    return {name: float(np.mean([row[name] for row in row_losses])) for name in row_losses[0]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A candidate's model file and its `trained.json`."""

    onnx: bytes
    about: Mapping[str, Any]


def evaluate(project_name: str, snapshot: str, folders: Sequence[Path]) -> dict[str, Any]:
    """Evaluate the models in `folders` and the champion; the result is a dictionary of plain values."""
    project = discovery.get(project_name)
    contenders = [
        Contender(onnx=(folder / "model.onnx").read_bytes(), about=json.loads((folder / "trained.json").read_text()))
        for folder in folders
    ]
    champion = champions.fetch(project)
    evaluation = compare(
        project,
        data.split(project, snapshot, "holdout"),
        contenders,
        champion,
        snapshot=snapshot,
        source=str(data.manifest(project, snapshot).get("source")),
        earlier=None if champion is None else champions.last_look(project, champion.version),
    )
    if champion is not None:
        train = data.split(project, snapshot, "train")
        evaluation["champion"] |= {
            "drift": drift(project, champion, newest_traffic(project, train)),
            "withstood": champions.withstood(project, champion.version, snapshot=snapshot),
        }
    return evaluation


def drift(project: Project, champion: Champion, rows: pl.DataFrame) -> dict[str, Any] | None:
    """Return the monitored feature of rows [N] with the largest PSI against the champion's reference.

    Returns None if the champion has no reference.
    """
    live = scalars(project.schema, rows, champion.vocabularies)
    monitored = [bins for bins in champion.reference if bins.feature in project.monitored_features]
    indexes = {
        bins.feature: psi(bins.shares, with_shares(bins, live[bins.feature].to_list()).shares) for bins in monitored
    }
    worst = max(indexes, key=lambda feature: indexes[feature], default=None)
    return None if worst is None else {"feature": worst, "psi": indexes[worst], "rows": rows.height}


def compare(
    project: Project,
    rows: pl.DataFrame,
    contenders: Sequence[Contender],
    champion: Champion | None,
    *,
    snapshot: str,
    source: str,
    earlier: Mapping[str, Any] | None = None,
    latency: Callable[[Project, graph.Session, pl.DataFrame], float] = latency_ms,
) -> dict[str, Any]:
    """Compare the contenders and the champion on holdout rows [N], for the gate.

    `earlier` is the last look at the holdout of the same champion.
    """
    evaluation: dict[str, Any] = {"snapshot": snapshot, "source": source, "rows": rows.height, "candidates": {}}
    models = {
        contender.about["candidate"]: _evaluate_model(project, contender.onnx, tuple(contender.about["classes"]), rows)
        for contender in contenders
    }
    best = selection.winner(project, {contender.about["candidate"]: contender.about for contender in contenders})
    primary = project.primary
    for contender in contenders:
        name = contender.about["candidate"]
        metric_list = project.metrics if name == best else [primary]
        evaluation["candidates"][name] = _evaluate_candidate(project, contender, models[name], metric_list) | {
            "latency_ms": latency(project, models[name].session, rows)
        }
    evaluation |= {"winner": best, "curves": curves(project, models[best].predictions), "champion": None, "look": None}
    if champion is None:
        return evaluation
    winner, champion_model = models[best], _evaluate_model(project, champion.onnx, champion.classes, rows)
    pair = [_draws(project, evaluated, [primary], decides=True)[primary.name] for evaluated in (winner, champion_model)]
    sha256 = hashlib.sha256(
        next(contender.onnx for contender in contenders if contender.about["candidate"] == best)
    ).hexdigest()
    look = budget.look(earlier, rows, snapshot=snapshot, model=sha256, same=bool((pair[0] == pair[1]).all()))
    figures = metrics.figures(project, champion_model.batch)
    best_figure = evaluation["candidates"][best]["metrics"][primary.name]
    _at_best_of_slices(project, winner, evaluation["candidates"][best]["slices"])
    evaluation["look"] = look.to_dict()
    evaluation["champion"] = {
        "version": champion.version,
        "candidate": champion.candidate,
        "metrics": figures,
        "slices": slices(project, champion_model.batch, rows),
        "losses": losses(project, champion_model.predictions),
        "latency_ms": latency(project, champion_model.session, rows) if project.gate.margin else None,
        "size_mb": len(champion.onnx) / 1e6,
        "gain": (gain := _gain(primary, best_figure, figures[primary.name], pair, look.level, training=TRAINING)),
        "gain_interval": gain["interval"],
        "share_of_resamples_better": gain["share_better"],
        # The test for a failing champion has twice the level, because the winner must also be better. Chance alone
        # satisfies that for half of all equal pairs.
        "newest": _newest(project, source, rows, winner, champion_model, 2 * look.level),
        "trusted": _trusted(project, source, rows, winner, champion_model),
    }
    return evaluation


def _evaluate_candidate(
    project: Project, contender: Contender, model: _EvaluatedModel, metric_list: Sequence[Metric]
) -> dict[str, Any]:
    """Return what the gate reads of a candidate, with intervals of the metrics in the list."""
    drawn = metrics.bootstrap(project, metric_list, model.batch, model.resamples(_count(project, decides=False)))
    return {key: value for key, value in contender.about.items() if key != "selection"} | {
        "selection": {key: value for key, value in contender.about["selection"].items() if key != "draws"},
        "metrics": metrics.figures(project, model.batch),
        "intervals": {metric: metrics.interval(values) for metric, values in drawn.items()},
        "slices": slices(project, model.batch, model.rows),
        "losses": losses(project, model.predictions),
        "calibration": metrics.calibration_error(model.batch),
        "size_mb": len(contender.onnx) / 1e6,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _EvaluatedModel:
    """A model with its predictions on rows of the holdout."""

    project: Project
    session: graph.Session
    rows: pl.DataFrame
    predictions: EvalBatch
    """Predictions for the rows."""
    batch: EvalBatch
    """What the metrics are computed on: `predictions`, or the simulated episodes of a rollout."""

    def on(self, indices: Array) -> _EvaluatedModel:
        """Return the same model on a subset of the rows."""
        rows, predictions = self.rows[indices], self.predictions.take(indices)
        batch = rollout(self.project, self.session, predictions, rows) if self.project.rollout else predictions
        return _EvaluatedModel(
            project=self.project, session=self.session, rows=rows, predictions=predictions, batch=batch
        )

    def resamples(self, count: int) -> metrics.Resamples:
        return selection.resamples(self.project, self.rows, self.batch, count)


def _evaluate_model(project: Project, onnx: bytes, classes: tuple[str, ...], rows: pl.DataFrame) -> _EvaluatedModel:
    model = graph.session(onnx)
    predictions = predict(project, model, classes, rows)
    return _EvaluatedModel(
        project=project,
        session=model,
        rows=rows,
        predictions=predictions,
        batch=rollout(project, model, predictions, rows),
    )


def _count(project: Project, *, decides: bool) -> int:
    """Return the number of bootstrap samples. Only metrics of a project's own `evaluate` are expensive."""
    if not project.evaluate:
        return metrics.RESAMPLES
    return metrics.OWN_RESAMPLES if decides else metrics.REPORTED_RESAMPLES


def _draws(
    project: Project, model: _EvaluatedModel, metric_list: Sequence[Metric], *, decides: bool = False
) -> dict[str, Array]:
    return metrics.bootstrap(project, metric_list, model.batch, model.resamples(_count(project, decides=decides)))


def _gain(
    metric: Metric,
    winner_value: float | None,
    champion_value: float | None,
    draws: Sequence[Array],
    level: float,
    *,
    training: float = 0.0,
) -> dict[str, Any]:
    """Return the winner's gain over the champion and its confidence limits, paired over the same bootstrap samples.

    With `training`, `low` and `high` include the variance between trainings; `interval` is always that of this model.
    """
    sign = 1.0 if metric.direction == "higher" else -1.0
    gains = sign * (draws[0] - draws[1])
    value = None if winner_value is None or champion_value is None else sign * (winner_value - champion_value)
    low, high = (None, None)
    if value is not None:
        wider = value + math.sqrt(1 + training) * (gains - value)
        low, above = (metrics.lower_end(part * value, part * wider, level) for part in (1.0, -1.0))
        high = None if above is None else -above
    defined = gains[~np.isnan(gains)]
    return {
        "value": value,
        "low": low,
        "high": high,
        "level": level,
        "resamples": len(defined),
        "interval": metrics.interval(gains),
        "share_better": float((defined > 0).mean()) if len(defined) else None,
    }


def _at_best(metric: Metric, value: float | None, draws: Array, level: float) -> float | None:
    """Return the optimistic confidence limit of a metric at `level`."""
    sign = 1.0 if metric.direction == "higher" else -1.0
    worst = None if value is None else metrics.lower_end(-sign * value, -sign * draws, level)
    return None if worst is None else -sign * worst


def _beside(
    project: Project, source: str, winner: _EvaluatedModel, champion: _EvaluatedModel, level: float
) -> dict[str, dict[str, float | None]]:
    """Compare both models by the primary metric and each bounded metric.

    Each entry holds both values, their optimistic limits at `level`, and the limits of the winner's gain.
    """
    metric_list = [
        metric for metric in project.metrics if metric is project.primary or metric.limit(source) is not None
    ]
    draws = [_draws(project, model, metric_list) for model in (winner, champion)]
    figures: dict[str, dict[str, float | None]] = {}
    for metric in metric_list:
        winner_value, champion_value = (metrics.figure(project, metric, model.batch) for model in (winner, champion))
        gain = _gain(metric, winner_value, champion_value, [model_draws[metric.name] for model_draws in draws], level)
        figures[metric.name] = {
            "winner": winner_value,
            "winner_at_best": _at_best(metric, winner_value, draws[0][metric.name], level),
            "champion": champion_value,
            "champion_at_best": _at_best(metric, champion_value, draws[1][metric.name], level),
            "gain_low": gain["low"],
            "gain_high": gain["high"],
        }
    return figures


def _newest(
    project: Project, source: str, rows: pl.DataFrame, winner: _EvaluatedModel, champion: _EvaluatedModel, level: float
) -> dict[str, Any]:
    """Compare both models on the newest feedback rows, or on all rows if there are few of these."""
    indices = np.arange(rows.height)
    feedback = (
        rows.with_row_index("_position").filter(pl.col("_origin") == "feedback") if "_origin" in rows.columns else None
    )
    if feedback is not None and feedback.height >= MIN_NEWEST_ROWS:
        indices = feedback.sort("_time", maintain_order=True).tail(NEWEST)["_position"].to_numpy()
    winner_subset, champion_subset = (
        model if len(indices) == rows.height else model.on(indices) for model in (winner, champion)
    )
    return {"rows": len(indices), "metrics": _beside(project, source, winner_subset, champion_subset, level)}


def _trusted(
    project: Project, source: str, rows: pl.DataFrame, winner: _EvaluatedModel, champion: _EvaluatedModel
) -> dict[str, Any] | None:
    """Compare both models on the rows with trusted labels.

    Returns None if all rows are trusted, none is, or the snapshot has no `_trusted` column.
    """
    if "_trusted" not in rows.columns or rows["_trusted"].n_unique() < 2:
        return None
    indices = np.flatnonzero(rows["_trusted"].fill_null(value=False).to_numpy())
    winner_subset, champion_subset = winner.on(indices), champion.on(indices)
    return {"rows": len(indices), "metrics": _beside(project, source, winner_subset, champion_subset, budget.ALPHA / 2)}


def curves(project: Project, batch: EvalBatch) -> dict[str, Any]:
    """Return the data of the winner's plots: confusion and ROC for classes, labels and predictions for numbers,
    and segment sizes. For structured predictions, the monitored descriptors of predictions and labels.
    """
    target = project.schema.target
    if target is not None and prediction_types.is_structured(target):
        vocabularies = prediction_vocabulary(target, list(batch.labels))
        predicted, labels = (
            prediction_descriptors(target, list(values), vocabularies).to_dict(as_series=False)
            for values in (batch.predicted, batch.labels)
        )
        return {"figures": {name: {"predicted": predicted[name], "label": labels[name]} for name in predicted}}
    if not len(batch.labels):
        return {"sizes": {name: int((batch.predicted == name).sum()) for name in batch.classes}}
    if not batch.classes:
        return {"label": batch.labels.tolist(), "predicted": batch.predicted.tolist()}
    from sklearn.metrics import confusion_matrix, roc_curve  # noqa: PLC0415  # not needed for regression

    confusion = confusion_matrix(batch.labels, batch.predicted, labels=list(batch.classes)).tolist()
    result: dict[str, Any] = {"classes": list(batch.classes), "confusion": confusion}
    if len(batch.classes) == 2 and len(set(batch.labels)) == 2 and batch.probabilities is not None:
        fpr, tpr, thresholds = roc_curve(batch.labels == batch.classes[-1], batch.probabilities[:, -1])
        thresholds = np.minimum(thresholds, 1.0)  # scikit-learn starts at infinity, which JSON can't represent
        result["roc"] = {"fpr": fpr.tolist(), "tpr": tpr.tolist(), "thresholds": thresholds.tolist()}
        result["scores"] = {
            "label": (batch.labels == batch.classes[-1]).tolist(),
            "score": batch.probabilities[:, -1].tolist(),
        }
    return result

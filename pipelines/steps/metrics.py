"""Figures of quality by task, with bootstrap intervals."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn import metrics as sk

from phaseflow import registry
from phaseflow.contract import Metric, Project
from phaseflow.errors import PhaseflowError

Array = npt.NDArray[Any]
RESAMPLES: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a model said of rows [N], beside the truth."""

    truth: Array
    """[N]: class names, numbers, or values of `phaseflow.answers`; empty where the project has no target."""
    predicted: Array
    """[N], likewise."""
    probabilities: Array | None = None
    """[N, classes]."""
    classes: tuple[str, ...] = ()
    said: Mapping[str, Array] = field(default_factory=dict)
    """The graph's outputs, [N, ...] each."""
    rows: pl.DataFrame = field(default_factory=pl.DataFrame)

    def take(self, rows: Array) -> Answers:
        """These rows only."""
        return Answers(
            truth=self.truth[rows] if len(self.truth) else self.truth,
            predicted=self.predicted[rows],
            probabilities=None if self.probabilities is None else self.probabilities[rows],
            classes=self.classes,
            said={name: values[rows] for name, values in self.said.items()},
            rows=self.rows[rows] if self.rows.height else self.rows,
        )


def objects(values: Sequence[Any]) -> Array:
    """Values [N] that are lists themselves as one array of N."""
    found = np.empty(len(values), object)
    for place, value in enumerate(values):
        found[place] = value
    return found


def _positive(a: Answers) -> Array:
    assert a.probabilities is not None  # noqa: S101  # a classifier's answers have them
    return np.asarray(a.probabilities[:, -1])


def _averaged(score: Callable[..., float]) -> Callable[[Answers], float]:
    def figure(a: Answers) -> float:
        if len(a.classes) == 2:
            return score(a.truth, a.predicted, pos_label=a.classes[-1], zero_division=0)
        return score(a.truth, a.predicted, average="macro", zero_division=0)

    return figure


def _roc_auc(a: Answers) -> float:
    if len(a.classes) == 2:
        return float(sk.roc_auc_score(a.truth == a.classes[-1], _positive(a)))
    return float(sk.roc_auc_score(a.truth, a.probabilities, multi_class="ovr", labels=list(a.classes)))


FIGURES: Final[dict[str, Callable[[Answers], float]]] = {
    "accuracy": lambda a: sk.accuracy_score(a.truth, a.predicted),
    "balanced_accuracy": lambda a: sk.balanced_accuracy_score(a.truth, a.predicted),
    "f1": _averaged(sk.f1_score),
    "precision": _averaged(sk.precision_score),
    "recall": _averaged(sk.recall_score),
    "roc_auc": _roc_auc,
    "log_loss": lambda a: sk.log_loss(a.truth, a.probabilities, labels=list(a.classes)),
    "brier": lambda a: float(np.mean(((a.truth[:, None] == np.array(a.classes)) - a.probabilities) ** 2)),
    "mae": lambda a: sk.mean_absolute_error(a.truth, a.predicted),
    "mape": lambda a: sk.mean_absolute_percentage_error(a.truth, a.predicted),
    "rmse": lambda a: sk.root_mean_squared_error(a.truth, a.predicted),
    "rmsle": lambda a: float(np.sqrt(np.mean((np.log1p(np.maximum(a.predicted, 0)) - np.log1p(a.truth)) ** 2))),
    "r2": lambda a: sk.r2_score(a.truth, a.predicted),
}


def measured(project: Project, metrics: Sequence[Metric], answers: Answers) -> dict[str, float | None]:
    """The metrics by name, None where these rows don't define one (one class has no ROC).

    Raises PhaseflowError for a metric that neither this module knows nor the project's `evaluate` gives.
    """
    if not project.evaluate:
        return {metric.name: _known(metric, answers) for metric in metrics}
    given = registry.load(project.evaluate)(answers.said, answers.rows, project)
    missing = [metric.name for metric in metrics if metric.name not in given]
    if missing:
        raise PhaseflowError(
            f"{project.evaluate} gives no {missing[0]!r}; given: {', '.join(sorted(given))}",
            fix="Add it there, or remove the metric from the project",
        )
    own = {metric.name: given[metric.name] for metric in metrics}
    return {name: float(value) if value is not None and np.isfinite(value) else None for name, value in own.items()}


def _known(metric: Metric, answers: Answers) -> float | None:
    """A metric of this module."""
    if metric.name not in FIGURES:
        raise PhaseflowError(
            f"Metric {metric.name!r} has no figure of its own; known: {', '.join(sorted(FIGURES))}",
            fix="Use one of them, or give the project an `evaluate`",
        )
    if answers.classes and len(set(answers.truth)) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = float(FIGURES[metric.name](answers))
        except ValueError:
            return None
    return value if np.isfinite(value) else None


def figure(project: Project, metric: Metric, answers: Answers) -> float | None:
    """One of `measured`."""
    return measured(project, [metric], answers)[metric.name]


def figures(project: Project, answers: Answers) -> dict[str, float | None]:
    """Every metric of the project."""
    return measured(project, project.metrics, answers)


def resamples(count: int, seed: int) -> list[Array]:
    """Row numbers of `RESAMPLES` bootstrap samples of `count` rows; the same for every model, so that pairs compare."""
    random = np.random.default_rng(seed)
    return [random.integers(0, count, count) for _ in range(RESAMPLES)]


def bootstrap(
    project: Project, metrics: Sequence[Metric], answers: Answers, samples: Sequence[Array]
) -> dict[str, Array]:
    """The metrics on each resample, NaN where one is not defined. Efron, Bootstrap Methods (1979)."""
    drawn = [measured(project, metrics, answers.take(rows)) for rows in samples]
    return {
        metric.name: np.array([np.nan if (value := one[metric.name]) is None else value for one in drawn])
        for metric in metrics
    }


def interval(values: Array) -> tuple[float, float] | None:
    """The percentile interval that holds 95 % of the resamples."""
    known = values[~np.isnan(values)]
    return (float(np.quantile(known, 0.025)), float(np.quantile(known, 0.975))) if len(known) else None

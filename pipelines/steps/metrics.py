"""Metrics by task, with bootstrap intervals (Efron, Bootstrap Methods, 1979) over units of dependent rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn import metrics as sk

from phaseflow import discovery
from phaseflow.contract import Metric, Project
from phaseflow.errors import PhaseflowError

Array = npt.NDArray[Any]
RESAMPLES: Final = 2000
"""Bootstrap samples of an evaluation. Fifty of them lie beyond each end of a 95 % interval."""
OWN_RESAMPLES: Final = 1000
"""Bootstrap samples if each one calls the project's own `evaluate`."""
REPORTED_RESAMPLES: Final = 200
"""Bootstrap samples with the project's own `evaluate` if the interval is only reported."""
FIRST_ROWS: Final = 10
"""Rows after which it is usually clear whether a metric is the mean of its rows."""
CELLS: Final = 4_000_000
"""Maximum size of one block of resampling weights, in numbers (32 MB)."""
CALIBRATION_BINS: Final = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalBatch:
    """Predictions and labels of rows [N]."""

    labels: Array
    """[N]: class names, numbers, or values of `phaseflow.prediction_types`; empty if the project has no target."""
    predicted: Array
    """[N], of the same type as `labels`."""
    probabilities: Array | None = None
    """[N, classes]."""
    classes: tuple[str, ...] = ()
    outputs: Mapping[str, Array] = field(default_factory=dict)
    """The model's outputs by name, each [N, ...]."""
    rows: pl.DataFrame = field(default_factory=pl.DataFrame)

    def take(self, rows: Array) -> EvalBatch:
        """Return the batch of the given row indices."""
        return EvalBatch(
            labels=self.labels[rows] if len(self.labels) else self.labels,
            predicted=self.predicted[rows],
            probabilities=None if self.probabilities is None else self.probabilities[rows],
            classes=self.classes,
            outputs={name: values[rows] for name, values in self.outputs.items()},
            rows=self.rows[rows] if self.rows.height else self.rows,
        )


def objects(values: Sequence[Any]) -> Array:
    """Pack values [N], which may be lists, into an object array [N]."""
    array = np.empty(len(values), object)
    for index, value in enumerate(values):
        array[index] = value
    return array


def _positive(a: EvalBatch) -> Array:
    assert a.probabilities is not None  # noqa: S101  # classifiers have probabilities
    return np.asarray(a.probabilities[:, -1])


def _averaged(score: Callable[..., float]) -> Callable[[EvalBatch], float]:
    def figure(a: EvalBatch) -> float:
        if len(a.classes) == 2:
            return score(a.labels, a.predicted, pos_label=a.classes[-1], zero_division=0)
        return score(a.labels, a.predicted, average="macro", zero_division=0)

    return figure


def _roc_auc(a: EvalBatch) -> float:
    if len(a.classes) == 2:
        return float(sk.roc_auc_score(a.labels == a.classes[-1], _positive(a)))
    return float(sk.roc_auc_score(a.labels, a.probabilities, multi_class="ovr", labels=list(a.classes)))


FIGURES: Final[dict[str, Callable[[EvalBatch], float]]] = {
    "accuracy": lambda a: sk.accuracy_score(a.labels, a.predicted),
    "balanced_accuracy": lambda a: sk.balanced_accuracy_score(a.labels, a.predicted),
    "f1": _averaged(sk.f1_score),
    "precision": _averaged(sk.precision_score),
    "recall": _averaged(sk.recall_score),
    "roc_auc": _roc_auc,
    "log_loss": lambda a: sk.log_loss(a.labels, a.probabilities, labels=list(a.classes)),
    "brier": lambda a: float(np.mean(((a.labels[:, None] == np.array(a.classes)) - a.probabilities) ** 2)),
    "mae": lambda a: sk.mean_absolute_error(a.labels, a.predicted),
    "mape": lambda a: sk.mean_absolute_percentage_error(a.labels, a.predicted),
    "rmse": lambda a: sk.root_mean_squared_error(a.labels, a.predicted),
    "rmsle": lambda a: float(np.sqrt(np.mean((np.log1p(np.maximum(a.predicted, 0)) - np.log1p(a.labels)) ** 2))),
    "r2": lambda a: sk.r2_score(a.labels, a.predicted),
}


def compute_metrics(project: Project, metrics: Sequence[Metric], batch: EvalBatch) -> dict[str, float | None]:
    """Return the metrics by name; a metric that is undefined on these rows (ROC of one class) is None.

    Raises PhaseflowError for a metric that neither this module nor the project's `evaluate` provides.
    """
    if not project.evaluate:
        return {metric.name: _builtin_metric(metric, batch) for metric in metrics}
    values = discovery.load(project.evaluate)(batch.outputs, batch.rows, project)
    missing = [metric.name for metric in metrics if metric.name not in values]
    if missing:
        raise PhaseflowError(
            f"{project.evaluate} gives no {missing[0]!r}; given: {', '.join(sorted(values))}",
            fix="Add it there, or remove the metric from the project",
        )
    own = {metric.name: values[metric.name] for metric in metrics}
    return {name: float(value) if value is not None and np.isfinite(value) else None for name, value in own.items()}


def _builtin_metric(metric: Metric, batch: EvalBatch) -> float | None:
    """Compute a metric of this module."""
    if metric.name not in FIGURES:
        raise PhaseflowError(
            f"Metric {metric.name!r} is not built in; known: {', '.join(sorted(FIGURES))}",
            fix="Use one of them, or give the project an `evaluate`",
        )
    if batch.classes and len(set(batch.labels)) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = float(FIGURES[metric.name](batch))
        except ValueError:
            return None
    return value if np.isfinite(value) else None


def figure(project: Project, metric: Metric, batch: EvalBatch) -> float | None:
    """Compute one metric."""
    return compute_metrics(project, [metric], batch)[metric.name]


def figures(project: Project, batch: EvalBatch) -> dict[str, float | None]:
    """Compute all metrics of the project."""
    return compute_metrics(project, project.metrics, batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resamples:
    """Bootstrap samples of N rows that draw whole units: the rows of one group, user or episode."""

    units: Array
    """[N]: index of each row's unit."""
    count: int
    seed: int

    @classmethod
    def of(cls, units: Array, *, count: int, seed: int) -> Resamples:
        """Create samples from any unit names [N]."""
        return cls(units=np.unique(units, return_inverse=True)[1].reshape(-1), count=count, seed=seed)

    def weights(self) -> Iterator[Array]:
        """Yield blocks [samples, N] of how often each row occurs in each sample.

        Every call yields the same weights, so that models are compared in pairs.
        """
        random = np.random.default_rng(self.seed)
        names = int(self.units.max()) + 1 if len(self.units) else 0
        size = max(1, CELLS // max(1, len(self.units)))
        for begin in range(0, self.count, size):
            samples = min(size, self.count - begin)
            drawn = random.integers(0, names, (samples, names)) + np.arange(samples)[:, None] * names
            counts = np.bincount(drawn.reshape(-1), minlength=samples * names).reshape(samples, names)
            yield counts[:, self.units].astype(np.float64)


Weighted = Callable[[Array], Array]
"""Maps weights [samples, N] to the metric of each sample [samples]; NaN if it is undefined."""


def _mean(losses: Array) -> Weighted:
    return lambda weights: np.asarray(weights @ losses / weights.sum(axis=1))


def _area(positive: Array, scores: Array) -> Weighted:
    """ROC AUC by ranks (Mann and Whitney 1947). Equal scores count half."""
    order = np.argsort(scores, kind="stable")
    ordered, hits = scores[order], positive[order].astype(np.float64)
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])

    def area(weights: Array) -> Array:
        sorted_weights = weights[:, order]
        all_of = np.add.reduceat(sorted_weights, begins, axis=1)
        yes = np.add.reduceat(sorted_weights * hits, begins, axis=1)
        no = all_of - yes
        below = np.cumsum(no, axis=1) - no
        both = yes.sum(axis=1) * no.sum(axis=1)
        areas = (yes * (below + no / 2)).sum(axis=1)
        return np.asarray(np.divide(areas, both, out=np.full(len(both), np.nan), where=both > 0))

    return area


def _weighted_auc(a: EvalBatch) -> Weighted:
    assert a.probabilities is not None  # noqa: S101  # classifiers have probabilities
    if len(a.classes) == 2:
        return _area(a.labels == a.classes[-1], _positive(a))
    areas = [_area(a.labels == name, a.probabilities[:, index]) for index, name in enumerate(a.classes)]
    return lambda weights: np.mean([area(weights) for area in areas], axis=0)


def _weighted_log_loss(a: EvalBatch) -> Weighted:
    assert a.probabilities is not None  # noqa: S101  # classifiers have probabilities
    shares = np.clip(a.probabilities, np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
    own = (a.labels[:, None] == np.array(a.classes)) * shares
    return _mean(-np.log(own.sum(axis=1) / shares.sum(axis=1)))


def _weighted_rates(name: str) -> Callable[[EvalBatch], Weighted]:
    """Recall, precision or F1 of the second of two classes, else the mean over the classes that occur."""

    def prepared(a: EvalBatch) -> Weighted:
        labels = np.array(a.classes)
        is_label, is_predicted = (
            (a.labels[:, None] == labels).astype(float),
            (a.predicted[:, None] == labels).astype(float),
        )

        def rate(weights: Array) -> Array:
            hits, positives, calls = weights @ (is_label * is_predicted), weights @ is_label, weights @ is_predicted
            over = {"recall": positives, "precision": calls, "f1": (positives + calls) / 2}[
                name.removeprefix("balanced_")
            ]
            rates = np.divide(hits, over, out=np.zeros_like(hits), where=over > 0)
            if name != "balanced_recall" and len(labels) == 2:
                return np.asarray(rates[:, -1])
            occurs = positives > 0 if name == "balanced_recall" else positives + calls > 0
            return np.asarray((rates * occurs).sum(axis=1) / np.maximum(occurs.sum(axis=1), 1))

        return rate

    return prepared


def _weighted_r2(a: EvalBatch) -> Weighted:
    label = a.labels.astype(np.float64)
    squares = (a.predicted - label) ** 2

    def r2(weights: Array) -> Array:
        total = weights.sum(axis=1)
        spread = weights @ label**2 - (weights @ label) ** 2 / total
        return np.asarray(1 - np.divide(weights @ squares, spread, out=np.full(len(total), np.nan), where=spread > 0))

    return r2


def _root(losses: Array) -> Weighted:
    return lambda weights: np.sqrt(weights @ losses / weights.sum(axis=1))


WEIGHTED: Final[dict[str, Callable[[EvalBatch], Weighted]]] = {
    "accuracy": lambda a: _mean((a.labels == a.predicted).astype(float)),
    "balanced_accuracy": _weighted_rates("balanced_recall"),
    "f1": _weighted_rates("f1"),
    "precision": _weighted_rates("precision"),
    "recall": _weighted_rates("recall"),
    "roc_auc": _weighted_auc,
    "log_loss": _weighted_log_loss,
    "brier": lambda a: _mean((((a.labels[:, None] == np.array(a.classes)) - a.probabilities) ** 2).mean(axis=1)),
    "mae": lambda a: _mean(np.abs(a.labels - a.predicted)),
    "mape": lambda a: _mean(np.abs(a.labels - a.predicted) / np.maximum(np.abs(a.labels), np.finfo(np.float64).eps)),
    "rmse": lambda a: _root((a.labels - a.predicted) ** 2),
    "rmsle": lambda a: _root((np.log1p(np.maximum(a.predicted, 0)) - np.log1p(a.labels)) ** 2),
    "r2": _weighted_r2,
}
"""Vectorized versions of `FIGURES` for thousands of samples."""


def bootstrap(project: Project, metrics: Sequence[Metric], batch: EvalBatch, resamples: Resamples) -> dict[str, Array]:
    """Return each metric in every bootstrap sample [count]; NaN if it is undefined."""
    if project.evaluate:
        means = _row_values(project, metrics, batch)
        if means is not None:
            blocks = [weights @ means / weights.sum(axis=1)[:, None] for weights in resamples.weights()]
            return dict(zip((metric.name for metric in metrics), np.concatenate(blocks).T, strict=True))
        indices = np.arange(len(batch.predicted))
        drawn = [
            compute_metrics(project, metrics, batch.take(np.repeat(indices, sample.astype(int))))
            for weights in resamples.weights()
            for sample in weights
        ]
        return {
            metric.name: np.array(
                [np.nan if (value := sample_metrics[metric.name]) is None else value for sample_metrics in drawn]
            )
            for metric in metrics
        }
    prepared = [(metric.name, WEIGHTED[metric.name](batch)) for metric in metrics]
    draws: dict[str, list[Array]] = {metric.name: [] for metric in metrics}
    labels = (batch.labels[:, None] == np.array(batch.classes)).astype(float) if batch.classes else None
    for weights in resamples.weights():
        undefined = None if labels is None else ((weights @ labels) > 0).sum(axis=1) < 2
        for name, metric_of in prepared:
            values = metric_of(weights)
            draws[name].append(values if undefined is None else np.where(undefined, np.nan, values))
    return {name: np.concatenate(values) for name, values in draws.items()}


def _row_values(project: Project, metrics: Sequence[Metric], batch: EvalBatch) -> Array | None:
    """Return a project's own metrics per row [N, metrics] if they are means over rows, so that no sample is evaluated.

    Returns None if a metric is not a mean, which is tested on all rows and on every third row.
    """
    count = len(batch.predicted)
    singles: list[list[float]] = []
    for index in range(count):
        values = list(compute_metrics(project, metrics, batch.take(np.array([index]))).values())
        if None in values:
            return None
        singles.append([float(value) for value in values if value is not None])
        if index == FIRST_ROWS and not _are_means(project, metrics, batch, np.array(singles), np.arange(index + 1)):
            return None
    row_values = np.array(singles)
    parts = (np.arange(count), np.arange(0, count, 3))
    return row_values if all(_are_means(project, metrics, batch, row_values, part) for part in parts) else None


def _are_means(project: Project, metrics: Sequence[Metric], batch: EvalBatch, singles: Array, indices: Array) -> bool:
    together = list(compute_metrics(project, metrics, batch.take(indices)).values())
    return None not in together and np.allclose(singles[indices].mean(axis=0), np.array(together, float), rtol=1e-9)


def interval(values: Array) -> tuple[float, float] | None:
    """Return the 95 % percentile interval."""
    defined = values[~np.isnan(values)]
    return (float(np.quantile(defined, 0.025)), float(np.quantile(defined, 0.975))) if len(defined) else None


def lower_end(value: float, draws: Array, level: float) -> float | None:
    """Return the one-sided lower confidence limit of a metric at `level`, from its bootstrap draws.

    It is the lower of the percentile limit and the normal limit (Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, chapters 12 and 13). The percentile limit follows skewed distributions; the normal limit extends
    beyond the last draw at small levels. Returns None if fewer than two draws are defined.
    """
    defined = draws[~np.isnan(draws)]
    if len(defined) < 2:
        return None
    normal = value + NormalDist().inv_cdf(level) * float(np.std(defined, ddof=1))
    return min(normal, float(np.quantile(defined, level)))


def calibration_error(batch: EvalBatch) -> float | None:
    """Return the expected calibration error of the predicted class, or None without classes.

    It is the mean difference between confidence and accuracy in bins of equal width (Guo et al., On Calibration of
    Modern Neural Networks, 2017).
    """
    if batch.probabilities is None or not len(batch.labels) or not batch.classes:
        return None
    sure = batch.probabilities.max(axis=1)
    right = (np.array(batch.classes)[batch.probabilities.argmax(axis=1)] == batch.labels).astype(float)
    bins = np.minimum((sure * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=sure - right, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(sure))

"""Figures of quality by task, with bootstrap intervals (Efron, Bootstrap Methods, 1979) of units that depend on each other."""

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

from phaseflow import registry
from phaseflow.contract import Metric, Project
from phaseflow.errors import PhaseflowError

Array = npt.NDArray[Any]
RESAMPLES: Final = 2000
"""Bootstrap samples of a judgement: fifty of them lie beyond the end of an interval of 95 %."""
OWN_RESAMPLES: Final = 1000
"""Where the project's own `evaluate` is asked for each of them."""
REPORTED_RESAMPLES: Final = 200
"""Where it is asked, and the interval decides nothing."""
FIRST_ROWS: Final = 10
"""After them it mostly is clear that a metric is no mean of its rows."""
CELLS: Final = 4_000_000
"""Numbers of one block of resampling weights: 32 MB."""
CALIBRATION_BINS: Final = 15


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Resamples:
    """Bootstrap samples of N rows, in which whole units are drawn: rows of one group, one user, or one game."""

    units: Array
    """[N]: the number of each row's unit."""
    count: int
    seed: int

    @classmethod
    def of(cls, units: Array, *, count: int, seed: int) -> Resamples:
        """From any names of units [N]."""
        return cls(units=np.unique(units, return_inverse=True)[1].reshape(-1), count=count, seed=seed)

    def weights(self) -> Iterator[Array]:
        """Blocks [samples, N]: how often each row stands in each sample; the same at every call, so that models compare in pairs."""
        random = np.random.default_rng(self.seed)
        names = int(self.units.max()) + 1 if len(self.units) else 0
        size = max(1, CELLS // max(1, len(self.units)))
        for begin in range(0, self.count, size):
            samples = min(size, self.count - begin)
            drawn = random.integers(0, names, (samples, names)) + np.arange(samples)[:, None] * names
            counts = np.bincount(drawn.reshape(-1), minlength=samples * names).reshape(samples, names)
            yield counts[:, self.units].astype(np.float64)


Weighted = Callable[[Array], Array]
"""A metric of weights [samples, N]: its value in each sample [samples], NaN where it isn't defined."""


def _mean(losses: Array) -> Weighted:
    return lambda weights: np.asarray(weights @ losses / weights.sum(axis=1))


def _area(positive: Array, scores: Array) -> Weighted:
    """ROC AUC by ranks (Mann and Whitney 1947); equal scores count half."""
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


def _weighted_auc(a: Answers) -> Weighted:
    assert a.probabilities is not None  # noqa: S101  # a classifier's answers have them
    if len(a.classes) == 2:
        return _area(a.truth == a.classes[-1], _positive(a))
    areas = [_area(a.truth == name, a.probabilities[:, place]) for place, name in enumerate(a.classes)]
    return lambda weights: np.mean([area(weights) for area in areas], axis=0)


def _weighted_log_loss(a: Answers) -> Weighted:
    assert a.probabilities is not None  # noqa: S101  # a classifier's answers have them
    shares = np.clip(a.probabilities, np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
    own = (a.truth[:, None] == np.array(a.classes)) * shares
    return _mean(-np.log(own.sum(axis=1) / shares.sum(axis=1)))


def _weighted_rates(name: str) -> Callable[[Answers], Weighted]:
    """Recall, precision and F1 from the counts of each class: of the second of two classes, else the mean of those that occur."""

    def prepared(a: Answers) -> Weighted:
        labels = np.array(a.classes)
        true, told = (a.truth[:, None] == labels).astype(float), (a.predicted[:, None] == labels).astype(float)

        def rate(weights: Array) -> Array:
            hits, positives, calls = weights @ (true * told), weights @ true, weights @ told
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


def _weighted_r2(a: Answers) -> Weighted:
    truth = a.truth.astype(np.float64)
    squares = (a.predicted - truth) ** 2

    def r2(weights: Array) -> Array:
        total = weights.sum(axis=1)
        spread = weights @ truth**2 - (weights @ truth) ** 2 / total
        return np.asarray(1 - np.divide(weights @ squares, spread, out=np.full(len(total), np.nan), where=spread > 0))

    return r2


def _root(losses: Array) -> Weighted:
    return lambda weights: np.sqrt(weights @ losses / weights.sum(axis=1))


WEIGHTED: Final[dict[str, Callable[[Answers], Weighted]]] = {
    "accuracy": lambda a: _mean((a.truth == a.predicted).astype(float)),
    "balanced_accuracy": _weighted_rates("balanced_recall"),
    "f1": _weighted_rates("f1"),
    "precision": _weighted_rates("precision"),
    "recall": _weighted_rates("recall"),
    "roc_auc": _weighted_auc,
    "log_loss": _weighted_log_loss,
    "brier": lambda a: _mean((((a.truth[:, None] == np.array(a.classes)) - a.probabilities) ** 2).mean(axis=1)),
    "mae": lambda a: _mean(np.abs(a.truth - a.predicted)),
    "mape": lambda a: _mean(np.abs(a.truth - a.predicted) / np.maximum(np.abs(a.truth), np.finfo(np.float64).eps)),
    "rmse": lambda a: _root((a.truth - a.predicted) ** 2),
    "rmsle": lambda a: _root((np.log1p(np.maximum(a.predicted, 0)) - np.log1p(a.truth)) ** 2),
    "r2": _weighted_r2,
}
"""`FIGURES` for thousands of samples at once."""


def bootstrap(project: Project, metrics: Sequence[Metric], answers: Answers, resamples: Resamples) -> dict[str, Array]:
    """The metrics in each bootstrap sample [count], NaN where one is not defined."""
    if project.evaluate:
        means = _row_values(project, metrics, answers)
        if means is not None:
            blocks = [weights @ means / weights.sum(axis=1)[:, None] for weights in resamples.weights()]
            return dict(zip((metric.name for metric in metrics), np.concatenate(blocks).T, strict=True))
        places = np.arange(len(answers.predicted))
        drawn = [
            measured(project, metrics, answers.take(np.repeat(places, sample.astype(int))))
            for weights in resamples.weights()
            for sample in weights
        ]
        return {
            metric.name: np.array([np.nan if (value := one[metric.name]) is None else value for one in drawn])
            for metric in metrics
        }
    prepared = [(metric.name, WEIGHTED[metric.name](answers)) for metric in metrics]
    found: dict[str, list[Array]] = {metric.name: [] for metric in metrics}
    truths = (answers.truth[:, None] == np.array(answers.classes)).astype(float) if answers.classes else None
    for weights in resamples.weights():
        undefined = None if truths is None else ((weights @ truths) > 0).sum(axis=1) < 2
        for name, metric_of in prepared:
            values = metric_of(weights)
            found[name].append(values if undefined is None else np.where(undefined, np.nan, values))
    return {name: np.concatenate(values) for name, values in found.items()}


def _row_values(project: Project, metrics: Sequence[Metric], answers: Answers) -> Array | None:
    """A project's own metrics of each row alone [N, metrics], where they are means of these: then no sample needs to be asked for.

    None where one of them is no mean: of all rows, or of every third one.
    """
    count = len(answers.predicted)
    singles: list[list[float]] = []
    for place in range(count):
        values = list(measured(project, metrics, answers.take(np.array([place]))).values())
        if None in values:
            return None
        singles.append([float(value) for value in values if value is not None])
        if place == FIRST_ROWS and not _are_means(project, metrics, answers, np.array(singles), np.arange(place + 1)):
            return None
    found = np.array(singles)
    parts = (np.arange(count), np.arange(0, count, 3))
    return found if all(_are_means(project, metrics, answers, found, part) for part in parts) else None


def _are_means(project: Project, metrics: Sequence[Metric], answers: Answers, singles: Array, places: Array) -> bool:
    together = list(measured(project, metrics, answers.take(places)).values())
    return None not in together and np.allclose(singles[places].mean(axis=0), np.array(together, float), rtol=1e-9)


def interval(values: Array) -> tuple[float, float] | None:
    """The percentile interval that holds 95 % of the resamples."""
    known = values[~np.isnan(values)]
    return (float(np.quantile(known, 0.025)), float(np.quantile(known, 0.975))) if len(known) else None


def lower_end(value: float, draws: Array, level: float) -> float | None:
    """The one-sided lower confidence limit of a figure at `level`, from its bootstrap draws; None where none is defined.

    The lower one of the percentile limit and of the normal one (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 12
    and 13): the first follows a skewed figure, the second goes on beyond the last draw, where a level is small.
    """
    known = draws[~np.isnan(draws)]
    if len(known) < 2:
        return None
    normal = value + NormalDist().inv_cdf(level) * float(np.std(known, ddof=1))
    return min(normal, float(np.quantile(known, level)))


def calibration_error(answers: Answers) -> float | None:
    """Expected calibration error of the predicted class, in bins of equal width (Guo et al., On Calibration of Modern Neural Networks,
    2017); None without classes. The mean distance between how sure the model is and how often it is right.
    """
    if answers.probabilities is None or not len(answers.truth) or not answers.classes:
        return None
    sure = answers.probabilities.max(axis=1)
    right = (np.array(answers.classes)[answers.probabilities.argmax(axis=1)] == answers.truth).astype(float)
    bins = np.minimum((sure * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=sure - right, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(sure))

"""Measure a quick model and a baseline on the file, to choose the threshold of the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from cli.scaffold.plan import Plan
from phaseflow.errors import DataError

ROWS: Final = 3000
"""Approximate number of rows for the measurement."""
MIN_DISTINCT_ROWS: Final = 8
"""Minimum number of distinct rows; with fewer, a split may leave one side empty."""
FOLDS: Final = 4
"""With four folds, each fold is as large as the holdout, and as noisy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Scores of the primary metric over the folds; higher is better."""

    metric: str
    """Name of the metric. It does not depend on a scale, so its threshold remains valid after drift."""
    baseline: float
    """Score of a constant prediction: the most frequent class or the mean."""
    quick: float
    """Score of a linear model or of a small random forest, whichever is better."""
    threshold: float
    """Threshold of the gate: halfway between the two scores, lower if the folds vary."""
    importance: Mapping[str, float]
    """Importance of each feature in the forest, largest first."""

    @property
    def beats_baseline(self) -> bool:
        """Whether the quick model is clearly better than the baseline."""
        return self.quick > self.baseline + 0.02


def measure(plan: Plan, seed: int) -> Measurement:
    """Cross-validate on about `ROWS` rows.

    Raises DataError if there are too few distinct rows for a split into training and holdout.
    """
    rows = _sample_rows(plan, seed)
    numbers, text = _kinds(plan)
    columns = rows.select(
        *(pl.col(name).cast(pl.Float64) for name in numbers), *(pl.col(name).fill_null("") for name in text)
    )
    label = rows[plan.target.name].to_numpy()
    prepare = _prepare(plan)
    trees: dict[str, Any] = {
        "n_estimators": 50,
        "max_depth": 12,
        "min_samples_leaf": 2,
        "max_features": 0.3 if plan.task == "regression" else "sqrt",
        "random_state": seed,
    }
    if plan.task == "classification":
        metric = "roc_auc" if len(plan.classes) == 2 else "balanced_accuracy"
        dummy: Any = DummyClassifier(strategy="most_frequent")
        models: list[Any] = [LogisticRegression(max_iter=300), RandomForestClassifier(**trees)]
        split: Any = StratifiedGroupKFold
    else:
        metric, dummy = "r2", DummyRegressor(strategy="mean")
        models = [Ridge(), RandomForestRegressor(**trees)]
        split = GroupKFold

    folds = _folds(rows.select(feature.name for feature in plan.features), label, split, seed)

    def scores(model: Any) -> Any:
        return cross_validate(
            make_pipeline(prepare, model), columns, label, scoring=metric, cv=folds, error_score="raise"
        )["test_score"]

    baseline = float(np.mean(scores(dummy)))
    quick = max((scores(model) for model in models), key=lambda fold_scores: float(np.mean(fold_scores)))
    quick_mean = float(np.mean(quick))
    # The holdout is as small as a fold: if the folds vary, the threshold allows for an unlucky split.
    margin = max((quick_mean - baseline) / 2, 4 * float(np.std(quick)), 0.02)
    return Measurement(
        metric=metric,
        baseline=round(baseline, 3),
        quick=round(quick_mean, 3),
        threshold=round(quick_mean - margin, 3) if metric == "r2" else round(max(quick_mean - margin, 0.0), 3),
        importance=_importance(plan, make_pipeline(prepare, models[1]).fit(columns, label)),
    )


def _folds(columns: pl.DataFrame, label: Any, split: Any, seed: int) -> list[Any]:
    """Indices of the training and holdout rows of each fold. Raises DataError if there are too few distinct rows."""
    # Equal rows belong to one group, as in the split of a snapshot.
    groups = columns.hash_rows(0).to_numpy()
    if (distinct_count := len(set(groups))) < MIN_DISTINCT_ROWS:
        raise DataError(
            f"The columns have {distinct_count} distinct rows; allowed: {MIN_DISTINCT_ROWS} or more",
            fix="Give columns that differ between rows",
        )
    folds = [
        fold
        for repeat in range(2)
        for fold in split(n_splits=FOLDS, shuffle=True, random_state=seed + repeat).split(columns, label, groups)
        if min(len(set(label[part])) for part in fold) > 1
    ]
    if not folds:
        raise DataError("No split of the rows has two classes in both training and holdout", fix="Give more rows")
    return folds


def _sample_rows(plan: Plan, seed: int) -> pl.DataFrame:
    """About `ROWS` shuffled rows, with at least 50 rows per class if the class has them."""
    rows = plan.rows.sample(fraction=1.0, shuffle=True, seed=seed)
    if plan.task == "regression":
        return rows.head(ROWS)
    share = min(1.0, ROWS / len(rows))
    rank, size = pl.int_range(pl.len()).over(plan.target.name), pl.len().over(plan.target.name)
    return rows.filter((rank < 50) | (rank < size * share))


def _kinds(plan: Plan) -> tuple[list[str], list[str]]:
    """Names of the numeric features, and of the categorical features."""
    text = [feature.name for feature in plan.features if feature.kind == "category"]
    return [feature.name for feature in plan.features if feature.name not in text], text


def _prepare(plan: Plan) -> ColumnTransformer:
    numbers, text = _kinds(plan)
    fill = SimpleImputer(strategy="median", keep_empty_features=True)
    words = OneHotEncoder(
        handle_unknown="infrequent_if_exist",
        max_categories=30,
        sparse_output=False,
        feature_name_combiner=lambda feature, _: feature,
    )
    return ColumnTransformer([("numbers", make_pipeline(fill, StandardScaler()), numbers), ("text", words, text)])


def _importance(plan: Plan, pipeline: Any) -> dict[str, float]:
    """Feature importances of the forest, summed over the values of each category."""
    numbers, text = _kinds(plan)
    values = pipeline[0].named_transformers_["text"].get_feature_names_out() if text else []
    owners = [*numbers, *(str(name) for name in values)]
    total = dict.fromkeys(owners, 0.0)
    for name, weight in zip(owners, pipeline[1].feature_importances_, strict=True):
        total[name] += float(weight)
    return dict(sorted(total.items(), key=lambda item: -item[1]))

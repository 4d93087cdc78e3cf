"""What a quick model reaches on the file, over an answer that looks at no column: where the gate's bound belongs."""

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

from phaseflow.errors import DataError
from phaseflow.scaffold.plan import Plan

ROWS: Final = 3000
"""Rows that are looked at."""
DIFFERENT: Final = 8
"""Different rows below which a split by row leaves one side empty."""
FOLDS: Final = 4
"""A fold is then as large as the holdout, and as noisy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The metric that decides, higher is better, over the folds."""

    metric: str
    """Without a scale of its own, so that its bound still holds after the world has changed."""
    baseline: float
    """Of the answer that looks at no column: the most frequent class, the mean."""
    quick: float
    """Of the better of a linear model and a small forest."""
    bound: float
    """What a model must reach: halfway between the two, less where the folds differ much."""
    importance: Mapping[str, float]
    """Of each feature in the forest, largest first."""

    @property
    def learned(self) -> bool:
        """Whether the quick model is worth more than the baseline."""
        return self.quick > self.baseline + 0.02


def measure(plan: Plan, seed: int) -> Measured:
    """Cross-validate on about `ROWS` rows.

    Raises DataError when too few rows differ for a split into training and holdout.
    """
    rows = _some(plan, seed)
    numbers, text = _kinds(plan)
    columns = rows.select(
        *(pl.col(name).cast(pl.Float64) for name in numbers), *(pl.col(name).fill_null("") for name in text)
    )
    truth = rows[plan.target.name].to_numpy()
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

    # Equal rows stay together, as in a snapshot's split.
    groups = rows.select(feature.name for feature in plan.features).hash_rows(0).to_numpy()
    if (different := len(set(groups))) < DIFFERENT:
        raise DataError(
            f"The columns make {different} different rows; allowed: {DIFFERENT} or more",
            fix="Give columns that differ between rows",
        )
    folds = [
        fold
        for again in range(2)
        for fold in split(n_splits=FOLDS, shuffle=True, random_state=seed + again).split(columns, truth, groups)
        if min(len(set(truth[part])) for part in fold) > 1
    ]
    if not folds:
        raise DataError("No part of the rows holds two classes in training and in the holdout", fix="Give more rows")

    def scores(model: Any) -> Any:
        return cross_validate(
            make_pipeline(prepare, model), columns, truth, scoring=metric, cv=folds, error_score="raise"
        )["test_score"]

    baseline = float(np.mean(scores(dummy)))
    quick = max((scores(model) for model in models), key=lambda found: float(np.mean(found)))
    reached = float(np.mean(quick))
    # The holdout is as small as a fold: where folds differ, the bound leaves room for an unlucky one.
    margin = max((reached - baseline) / 2, 4 * float(np.std(quick)), 0.02)
    return Measured(
        metric=metric,
        baseline=round(baseline, 3),
        quick=round(reached, 3),
        bound=round(reached - margin, 3) if metric == "r2" else round(max(reached - margin, 0.0), 3),
        importance=_importance(plan, make_pipeline(prepare, models[1]).fit(columns, truth)),
    )


def _some(plan: Plan, seed: int) -> pl.DataFrame:
    """About `ROWS` shuffled rows, and at least 50 of each class that has them."""
    rows = plan.rows.sample(fraction=1.0, shuffle=True, seed=seed)
    if plan.task == "regression":
        return rows.head(ROWS)
    share = min(1.0, ROWS / len(rows))
    place, size = pl.int_range(pl.len()).over(plan.target.name), pl.len().over(plan.target.name)
    return rows.filter((place < 50) | (place < size * share))


def _kinds(plan: Plan) -> tuple[list[str], list[str]]:
    """Names of the features that are numbers, and of those that are text."""
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
    """The forest's weights, summed over the values of a category."""
    numbers, text = _kinds(plan)
    values = pipeline[0].named_transformers_["text"].get_feature_names_out() if text else []
    owners = [*numbers, *(str(name) for name in values)]
    total = dict.fromkeys(owners, 0.0)
    for name, weight in zip(owners, pipeline[1].feature_importances_, strict=True):
        total[name] += float(weight)
    return dict(sorted(total.items(), key=lambda item: -item[1]))

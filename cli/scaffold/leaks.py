"""Find columns that leak the target: copies, summands of a total, codes of the class.

A leaking column makes every model look perfect, but it is unknown at prediction time (Kaufman et al., Leakage in Data
Mining, 2012).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score
from sklearn.tree import DecisionTreeClassifier

NEAR: Final = 0.9995
"""Correlation or balanced accuracy of a single column from which it counts as a leak."""
ROWS: Final = 5000
"""Maximum number of rows in the analysis."""
PARTS: Final = 6
"""Maximum number of columns whose sum counts as a definition of the target."""


def find(features: pl.DataFrame, target: pl.Series, task: str) -> dict[str, str]:
    """Return the leaking columns of `features` with the reasons. `target` has no missing values."""
    rows = pl.Series(np.random.default_rng(0).permutation(len(target))[:ROWS])
    features, target = features[rows], target[rows]
    if task == "classification":
        return {name: reason for name in features.columns if (reason := _predicts_class(features[name], target))}
    numeric = features.select(pl.selectors.numeric() | pl.selectors.boolean()).cast(pl.Float64)
    label = target.cast(pl.Float64).to_numpy()
    single_leaks = {
        name: reason for name in numeric.columns if (reason := _predicts_number(numeric[name].to_numpy(), label))
    }
    return single_leaks | _identity(numeric.drop(single_leaks), label)


def _predicts_number(column: NDArray[np.float64], label: NDArray[np.float64]) -> str:
    finite = np.isfinite(column)
    if finite.mean() < 0.5 or finite.sum() < 20 or np.ptp(column[finite]) == 0 or np.ptp(label[finite]) == 0:
        return ""
    correlation = abs(np.corrcoef(column[finite], label[finite])[0, 1])
    return f"predicts the target by itself (correlation {correlation:.5f})" if correlation >= NEAR else ""


def _predicts_class(column: pl.Series, target: pl.Series) -> str:
    if column.dtype == pl.String:
        pairs = pl.DataFrame({"value": column.fill_null(""), "class": target})
        if pairs["value"].n_unique() > max(10, 2 * target.n_unique()):
            return ""
        guess = pairs.with_columns(pl.col("class").mode().first().over("value").alias("guess"))["guess"].to_numpy()
    else:
        values = column.cast(pl.Float64).fill_null(float("nan")).to_numpy().reshape(-1, 1).astype(np.float32)
        tree = DecisionTreeClassifier(max_leaf_nodes=2 * target.n_unique() + 1, random_state=0)
        guess = tree.fit(values, target.to_numpy()).predict(values)
    accuracy = balanced_accuracy_score(target.to_numpy(), guess)
    return f"predicts the class by itself (balanced accuracy {accuracy:.2%})" if accuracy >= NEAR else ""


def _identity(numeric: pl.DataFrame, label: NDArray[np.float64]) -> dict[str, str]:
    """Columns whose weighted sum is exactly the target, such as `casual + registered` for the total count."""
    complete = numeric.select(column for column in numeric if column.null_count() == 0)
    leaking: dict[str, str] = {}
    while complete.width >= 2 and len(label) > 2 * complete.width:
        parts = _support(complete, label)
        if not parts:
            break
        leaking |= dict.fromkeys(parts, f"adds up to the target: {' and '.join(parts)}")
        complete = complete.drop(parts)
    return leaking


def _support(columns: pl.DataFrame, label: NDArray[np.float64]) -> list[str]:
    """The fewest columns, at most `PARTS`, whose sum, difference or mean is exactly `label`; may be empty."""
    if not _exact(columns, label):
        return []
    values = columns.to_numpy()
    scale = values.std(axis=0) + 1e-300
    weights = np.abs(np.linalg.lstsq((values - values.mean(axis=0)) / scale, label - label.mean(), rcond=None)[0])
    parts = list(columns.columns)
    for index in np.argsort(weights):
        remaining = [name for name in parts if name != columns.columns[index]]
        if remaining and _exact(columns.select(remaining), label):
            parts = remaining
    if len(parts) > PARTS:
        return []
    shares = np.abs(np.linalg.lstsq(columns.select(pl.lit(1.0), *parts).to_numpy(), label, rcond=None)[0][1:])
    return parts if shares.max() <= 1.001 * shares.min() else []


def _exact(columns: pl.DataFrame, label: NDArray[np.float64]) -> bool:
    values = columns.to_numpy()
    values = np.column_stack([np.ones(len(values)), (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-300)])
    weights = np.linalg.lstsq(values, label, rcond=None)[0]
    return bool(np.abs(values @ weights - label).max() <= 1e-6 * (label.std() + 1e-300))

"""Columns that tell the target because they are made from it: copies, totals' parts, codes of the class.

Such a column makes every model look perfect and is not there when a prediction is needed (Kaufman et al., Leakage in
Data Mining, 2012).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score
from sklearn.tree import DecisionTreeClassifier

NEAR: Final = 0.9995
"""Correlation, or share of right answers, from one column alone that is too good to be true."""
ROWS: Final = 5000
"""Rows that are looked at."""
PARTS: Final = 6
"""Most columns whose sum is taken for the target's definition."""


def find(features: pl.DataFrame, target: pl.Series, task: str) -> dict[str, str]:
    """The leaking columns of `features`, each with the reason; `target` has no missing value."""
    rows = pl.Series(np.random.default_rng(0).permutation(len(target))[:ROWS])
    features, target = features[rows], target[rows]
    if task == "classification":
        return {name: reason for name in features.columns if (reason := _tells_class(features[name], target))}
    numeric = features.select(pl.selectors.numeric() | pl.selectors.boolean()).cast(pl.Float64)
    truth = target.cast(pl.Float64).to_numpy()
    alone = {name: reason for name in numeric.columns if (reason := _tells_number(numeric[name].to_numpy(), truth))}
    return alone | _identity(numeric.drop(alone), truth)


def _tells_number(column: NDArray[np.float64], truth: NDArray[np.float64]) -> str:
    known = np.isfinite(column)
    if known.mean() < 0.5 or known.sum() < 20 or np.ptp(column[known]) == 0 or np.ptp(truth[known]) == 0:
        return ""
    correlation = abs(np.corrcoef(column[known], truth[known])[0, 1])
    return f"tells the target by itself (correlation {correlation:.5f})" if correlation >= NEAR else ""


def _tells_class(column: pl.Series, target: pl.Series) -> str:
    if column.dtype == pl.String:
        pairs = pl.DataFrame({"value": column.fill_null(""), "class": target})
        if pairs["value"].n_unique() > max(10, 2 * target.n_unique()):
            return ""
        guess = pairs.with_columns(pl.col("class").mode().first().over("value").alias("guess"))["guess"].to_numpy()
    else:
        values = column.cast(pl.Float64).fill_null(float("nan")).to_numpy().reshape(-1, 1).astype(np.float32)
        tree = DecisionTreeClassifier(max_leaf_nodes=2 * target.n_unique() + 1, random_state=0)
        guess = tree.fit(values, target.to_numpy()).predict(values)
    right = balanced_accuracy_score(target.to_numpy(), guess)
    return f"tells the class by itself ({right:.2%} right)" if right >= NEAR else ""


def _identity(numeric: pl.DataFrame, truth: NDArray[np.float64]) -> dict[str, str]:
    """Columns whose weighted sum is the target exactly: `casual + registered` is the count of both."""
    complete = numeric.select(column for column in numeric if column.null_count() == 0)
    found: dict[str, str] = {}
    while complete.width >= 2 and len(truth) > 2 * complete.width:
        parts = _support(complete, truth)
        if not parts:
            break
        found |= dict.fromkeys(parts, f"adds up to the target: {' and '.join(parts)}")
        complete = complete.drop(parts)
    return found


def _support(columns: pl.DataFrame, truth: NDArray[np.float64]) -> list[str]:
    """The fewest columns whose sum, difference or mean is `truth` exactly: at most `PARTS`, or none."""
    if not _exact(columns, truth):
        return []
    values = columns.to_numpy()
    scale = values.std(axis=0) + 1e-300
    weights = np.abs(np.linalg.lstsq((values - values.mean(axis=0)) / scale, truth - truth.mean(), rcond=None)[0])
    parts = list(columns.columns)
    for place in np.argsort(weights):
        fewer = [name for name in parts if name != columns.columns[place]]
        if fewer and _exact(columns.select(fewer), truth):
            parts = fewer
    if len(parts) > PARTS:
        return []
    shares = np.abs(np.linalg.lstsq(columns.select(pl.lit(1.0), *parts).to_numpy(), truth, rcond=None)[0][1:])
    return parts if shares.max() <= 1.001 * shares.min() else []


def _exact(columns: pl.DataFrame, truth: NDArray[np.float64]) -> bool:
    values = columns.to_numpy()
    values = np.column_stack([np.ones(len(values)), (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-300)])
    weights = np.linalg.lstsq(values, truth, rcond=None)[0]
    return bool(np.abs(values @ weights - truth).max() <= 1e-6 * (truth.std() + 1e-300))

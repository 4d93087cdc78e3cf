"""Four regressions and the average of two of them, on the logarithm of the price.

With the logarithm, an error of 10 % weighs the same for a hut and a villa.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor, VotingRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from phaseflow import Candidate, Project
from phaseflow.toolkit.model import Trained
from phaseflow.toolkit.tabular import fit_regressor

ALGORITHMS = {
    "linear_regression": LinearRegression,
    "ridge": Ridge,
    "random_forest": RandomForestRegressor,
    "gradient_boosting": GradientBoostingRegressor,
}
LINEAR = ("linear_regression", "ridge")


def estimator(name: str, params: Mapping[str, Any], project: Project) -> Any:
    """The estimator of a candidate, with the parameters of the project declaration."""
    seed = {} if name == "linear_regression" else {"random_state": project.seed}
    return ALGORITHMS[name](**params, **seed)


def average(names: Sequence[str], project: Project) -> VotingRegressor:
    """The average of the predictions of the named candidates, each fitted on the same rows.

    A linear model and trees make different errors, so their average makes smaller errors than either (Dietterich,
    Ensemble Methods in Machine Learning, 2000).
    """
    params = {candidate.name: candidate.params for candidate in project.candidates}
    parts = [(name, estimator(name, params[name], project)) for name in names]
    # Only the linear model's numbers are scaled: in single precision, scaling would move the thresholds of trees.
    scaled = [(name, make_pipeline(StandardScaler(), part) if name in LINEAR else part) for name, part in parts]
    return VotingRegressor(scaled)


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on rows [N] of the schema's columns; scale numbers only for linear models."""
    if candidate.name == "average":
        return fit_regressor(rows, project.schema, average(candidate.params["of"], project), log=True)
    chosen = estimator(candidate.name, candidate.params, project)
    return fit_regressor(rows, project.schema, chosen, scale=candidate.name in LINEAR, log=True)

"""Four regressions on the logarithm of the price: an error of 10 % weighs the same for a hut and a villa."""

from __future__ import annotations

import polars as pl
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import LinearRegression, Ridge

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


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on rows [N] of the schema's columns; only linear models need their numbers scaled."""
    seed = {} if candidate.name == "linear_regression" else {"random_state": project.seed}
    estimator = ALGORITHMS[candidate.name](**candidate.params, **seed)
    return fit_regressor(rows, project.schema, estimator, scale=candidate.name in LINEAR, log=True)

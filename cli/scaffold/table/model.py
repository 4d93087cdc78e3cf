"""Renders `model.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cli.scaffold.plan import Plan

ESTIMATORS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "classification": {
        "logistic_regression": ("linear_model", "LogisticRegression"),
        "random_forest": ("ensemble", "RandomForestClassifier"),
        "gradient_boosting": ("ensemble", "GradientBoostingClassifier"),
    },
    "regression": {
        "ridge": ("linear_model", "Ridge"),
        "random_forest": ("ensemble", "RandomForestRegressor"),
        "gradient_boosting": ("ensemble", "GradientBoostingRegressor"),
    },
}


def model(plan: Plan) -> str:
    """The content of `model.py`."""
    algorithms = ESTIMATORS[plan.task]
    by_module: dict[str, list[str]] = {}
    for module, estimator in algorithms.values():
        by_module.setdefault(module, []).append(estimator)
    imports = "\n".join(
        f"from sklearn.{module} import {', '.join(sorted(names))}" for module, names in sorted(by_module.items())
    )
    table = "\n".join(f'    "{name}": {estimator},' for name, (_, estimator) in algorithms.items())
    fit = "fit_classifier" if plan.task == "classification" else "fit_regressor"
    linear = next(iter(algorithms))
    return f'''"""Three candidates with the same preprocessing."""

from __future__ import annotations

import polars as pl
{imports}

from phaseflow import Candidate, Project
from phaseflow.toolkit.model import Trained
from phaseflow.toolkit.tabular import {fit}

ALGORITHMS = {{
{table}
}}


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on rows [N] of the schema's columns. Only the linear model needs scaled numbers."""
    estimator = ALGORITHMS[candidate.name](**candidate.params, random_state=project.seed)
    return {fit}(rows, project.schema, estimator, scale=candidate.name == "{linear}")
'''

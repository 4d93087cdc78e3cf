"""Four classic algorithms behind one preprocessing."""

from __future__ import annotations

import polars as pl
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from phaseflow import Candidate, Project
from phaseflow.toolkit.model import Trained
from phaseflow.toolkit.tabular import fit_classifier

ALGORITHMS = {
    "logistic_regression": LogisticRegression,
    "decision_tree": DecisionTreeClassifier,
    "random_forest": RandomForestClassifier,
    "gradient_boosting": GradientBoostingClassifier,
}


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on rows [N] of the schema's columns; only the linear model needs its numbers scaled."""
    estimator = ALGORITHMS[candidate.name](**candidate.params, random_state=project.seed)
    return fit_classifier(rows, project.schema, estimator, scale=candidate.name == "logistic_regression")

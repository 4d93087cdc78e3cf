"""Four classic algorithms with the same preprocessing, and the average of three of them."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from phaseflow import Candidate, Project
from phaseflow.toolkit.model import Trained
from phaseflow.toolkit.tabular import fit_classifier

LINEAR = "logistic_regression"
ALGORITHMS = {
    LINEAR: LogisticRegression,
    "decision_tree": DecisionTreeClassifier,
    "random_forest": RandomForestClassifier,
    "gradient_boosting": GradientBoostingClassifier,
}


def average(names: Sequence[str], project: Project) -> VotingClassifier:
    """The average of the probabilities of the named candidates, each fitted on the same rows.

    A linear model and trees make different errors, so their average makes fewer errors than either (Dietterich,
    Ensemble Methods in Machine Learning, 2000).
    """
    params = {candidate.name: candidate.params for candidate in project.candidates}
    parts = [(name, ALGORITHMS[name](**params[name], random_state=project.seed)) for name in names]
    # Only the linear model's numbers are scaled: in single precision, scaling would move the thresholds of trees.
    scaled = [(name, make_pipeline(StandardScaler(), part) if name == LINEAR else part) for name, part in parts]
    return VotingClassifier(
        scaled, voting="soft", flatten_transform=False
    )  # the ONNX converter supports only this setting


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on rows [N] of the schema's columns; scale numbers only for the linear model."""
    if candidate.name == "average":
        return fit_classifier(rows, project.schema, average(candidate.params["of"], project))
    estimator = ALGORITHMS[candidate.name](**candidate.params, random_state=project.seed)
    return fit_classifier(rows, project.schema, estimator, scale=candidate.name == LINEAR)

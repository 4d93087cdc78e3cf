"""Cheap fits give the results of plain ones."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier

from bench import cheap_fits

RANDOM = np.random.default_rng(1)
ROWS = pl.DataFrame({f"x{index}": RANDOM.normal(size=200) for index in range(4)})
LABELS = np.where(ROWS["x0"].to_numpy() + RANDOM.normal(size=200) > 0, "yes", "no")


def candidates(seed: int = 3) -> Iterator[Any]:
    """A tree, the average of two ensembles, and the same two alone."""
    forest, boosting = (
        RandomForestClassifier(n_estimators=8, min_samples_leaf=2, random_state=seed),
        GradientBoostingClassifier(n_estimators=8, random_state=seed),
    )
    parts = [("forest", forest), ("boosting", boosting)]
    for estimator in (DecisionTreeClassifier(random_state=seed), VotingClassifier(parts, voting="soft"), *parts):
        model = estimator[1] if isinstance(estimator, tuple) else estimator
        yield Pipeline([("fill", SimpleImputer()), ("estimator", model)])


def fitted(labels: Any = LABELS, seed: int = 3) -> list[Any]:
    return [model.fit(ROWS, labels) for model in candidates(seed)]


@pytest.fixture
def cheap() -> Iterator[None]:
    with cheap_fits.unchecked(), cheap_fits.shared():
        yield


def test_probabilities_and_classes_are_those_of_plain_fits() -> None:
    plain = [(model.predict_proba(ROWS), model.classes_) for model in fitted()]
    with cheap_fits.unchecked(), cheap_fits.shared():
        for model, (probabilities, classes) in zip(fitted(), plain, strict=True):
            assert (model.predict_proba(ROWS) == probabilities).all()
            assert (model.classes_ == classes).all()
            assert (pickle.loads(pickle.dumps(model)).predict_proba(ROWS) == probabilities).all()


@pytest.mark.usefixtures("cheap")
def test_equal_ensembles_are_fitted_once() -> None:
    with ExitStack() as stack:
        grown = stack.enter_context(
            mock.patch.object(
                cheap_fits._forest, "_parallel_build_trees", wraps=cheap_fits._forest._parallel_build_trees
            )
        )
        fitted()
        assert grown.call_count == 8
        fitted(seed=4)
        assert grown.call_count == 16
        fitted(labels=np.roll(LABELS, 1))
        assert grown.call_count == 24


def test_scikit_learn_is_as_before_afterwards() -> None:
    before = {
        name: dict(vars(module)) for name, module in (("forest", cheap_fits._forest), ("tree", cheap_fits._classes))
    }
    fit = RandomForestClassifier.fit
    with cheap_fits.unchecked(), cheap_fits.shared():
        pass
    assert RandomForestClassifier.fit is fit
    assert "fit" not in vars(RandomForestClassifier)
    assert before == {"forest": dict(vars(cheap_fits._forest)), "tree": dict(vars(cheap_fits._classes))}

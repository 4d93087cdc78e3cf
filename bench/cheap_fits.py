"""Fits of scikit-learn with the same results and less work, for thousands of simulated trainings.

A tree of the simulated retrainings takes a millisecond to grow. scikit-learn needs twice as long to check and copy its
parameters, and equal fits are repeated: a candidate that averages others fits these again on the same rows.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final
from unittest import mock

import joblib
import numpy as np
import sklearn
from sklearn import pipeline
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, _forest
from sklearn.tree import _classes

SHARED: Final = (RandomForestClassifier, GradientBoostingClassifier)
"""The estimators that several candidates contain, and that take most of the time."""


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Skip what scikit-learn checks of each tree, for the duration of a `with` block.

    The forest checks the rows, labels and weights before it grows the first tree.
    """
    names: Any = functools.cache(BaseEstimator._get_param_names.__func__)
    with contextlib.ExitStack() as stack:
        stack.enter_context(sklearn.config_context(assume_finite=True, skip_parameter_validation=True))
        stack.enter_context(mock.patch.object(BaseEstimator, "_get_param_names", classmethod(names)))
        stack.enter_context(mock.patch.multiple(_forest, Parallel=_in_order, delayed=joblib.delayed))
        stack.enter_context(
            mock.patch.multiple(
                _classes,
                check_classification_targets=lambda _: None,
                check_is_fitted=lambda _: None,
                is_classifier=lambda estimator: isinstance(estimator, ClassifierMixin),
                _check_sample_weight=lambda weights, _, dtype: np.ascontiguousarray(weights, dtype),
            )
        )
        yield


def _in_order(**_: Any) -> Callable[[Iterable[Any]], list[Any]]:
    """Call delayed functions one after the other, like joblib's `Parallel` with one job."""
    return lambda calls: [function(*arguments, **named) for function, arguments, named in calls]


@contextlib.contextmanager
def shared() -> Iterator[None]:
    """Fit equal estimators on equal rows once, for the duration of a `with` block.

    A fit is determined by the parameters, which include the seed, and by the rows. So the second fit would have the
    same trees, and every comparison of candidates is the one that independent fits would give.
    """
    fits: dict[bytes, Any] = {}
    with contextlib.ExitStack() as stack:
        transform = _transformed_once(pipeline._fit_transform_one, fits)
        stack.enter_context(mock.patch.object(pipeline, "_fit_transform_one", transform))
        for estimator in SHARED:
            stack.enter_context(mock.patch.object(estimator, "fit", _fitted_once(estimator.fit, fits)))
        yield


def _transformed_once(transform: Callable[..., Any], fits: dict[bytes, Any]) -> Callable[..., Any]:
    """The function that fits a transformer, which returns the transformed rows and the transformer."""

    def once(transformer: Any, rows: Any, labels: Any, *more: Any) -> Any:
        key = _key(type(transformer), transformer.get_params(deep=False), rows, labels)
        if key not in fits:
            fits[key] = transform(transformer, rows, labels, *more)
        return fits[key]

    return once


def _fitted_once(fit: Callable[..., Any], fits: dict[bytes, Any]) -> Callable[..., Any]:
    """The method that fits a classifier. Trees depend on the classes' order, and not on their names."""

    @functools.wraps(fit)
    def once(self: Any, rows: Any, labels: Any) -> Any:
        classes, codes = np.unique(labels, return_inverse=True)
        key = _key(type(self), self.get_params(), rows, codes)
        if isinstance(self.random_state, int) and key in fits:
            self.__dict__.update(fits[key].__dict__, classes_=classes)
            return self
        fits[key] = fit(self, rows, labels)
        return self

    return once


def _key(*parts: Any) -> bytes:
    return hashlib.sha256(pickle.dumps(parts)).digest()

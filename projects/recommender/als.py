"""Matrix factorisation for implicit feedback: Hu, Koren and Volinsky, Collaborative Filtering for Implicit Feedback
(2008).

An item that a user took has preference 1 with high confidence; any other item has preference 0 with low confidence.
Users and items get a few factors each, whose product approximates the preference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Pairs = Sequence[tuple[int, int]]
"""Indices of a user and an item."""


def factorise(
    pairs: Pairs,
    users: int,
    items: int,
    *,
    factors: int,
    confidence: float,
    regularization: float,
    sweeps: int,
    random: np.random.Generator,
) -> tuple[Array, Array, list[float]]:
    """Factors of users [U, F] and items [I, F], and the loss after each sweep.

    Alternately fixes one side and solves the other. Each step is a least-squares problem with a unique solution, so the
    loss never increases. The confidence is 1 + `confidence` for pairs in `pairs`, and 1 for others.
    """
    of_user, of_item = _lists(pairs, users), _lists([(item, user) for user, item in pairs], items)
    left = random.normal(0, 0.1, (users, factors))
    right = random.normal(0, 0.1, (items, factors))
    history = []
    for _ in range(sweeps):
        left = solve(right, of_user, confidence, regularization)
        right = solve(left, of_item, confidence, regularization)
        history.append(loss(left, right, pairs, confidence, regularization))
    return left, right, history


def _lists(pairs: Pairs, count: int) -> list[list[int]]:
    partners: list[list[int]] = [[] for _ in range(count)]
    for first, second in pairs:
        partners[first].append(second)
    return partners


def solve(other: Array, interactions: Sequence[Sequence[int]], confidence: float, regularization: float) -> Array:
    """The optimal factors [N, F] for fixed factors `other` [M, F]: x = (Y'Y + c Y'taken Ytaken + lambda 1)^-1 (1 + c)
    Y'taken.

    Y'Y is computed once for all rows, so the cost of a row depends on its interactions only, not on M.
    """
    everyone = other.T @ other + regularization * np.eye(other.shape[1])
    rows = np.zeros((len(interactions), other.shape[1]))
    for index, positives in enumerate(interactions):
        if positives:
            own = other[list(positives)]
            rows[index] = np.linalg.solve(everyone + confidence * own.T @ own, (1 + confidence) * own.sum(axis=0))
    return rows


def loss(left: Array, right: Array, pairs: Pairs, confidence: float, regularization: float) -> float:
    """Squared error of the preferences over all U x I cells, weighted by confidence, plus the regularization."""
    users, items = np.array(pairs).T
    predictions = (left[users] * right[items]).sum(axis=1)
    everywhere = float(
        ((left.T @ left) * (right.T @ right)).sum()
    )  # the sum of the squares of all cells, without computing the cells
    observed = float(((1 + confidence) * (1 - predictions) ** 2 - predictions**2).sum())
    return everywhere + observed + regularization * float((left**2).sum() + (right**2).sum())

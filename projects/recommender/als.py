"""Matrix factorisation of what users did, without stars: Hu, Koren and Volinsky, Collaborative Filtering for Implicit Feedback (2008).

That somebody took an item says, with confidence, that it is wanted (preference 1); that nobody took it says little (preference
0, with little confidence). Users and items get a few numbers each, whose product is the preference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Pairs = Sequence[tuple[int, int]]
"""Places of a user and an item."""


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
    """Users [U, F], items [I, F] and the loss after each sweep.

    One side is held still and the other one solved, in turns: each step is a least-squares problem with one answer, so that
    the loss never rises. A pair's confidence is 1 + `confidence`, that of no pair 1.
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
    found: list[list[int]] = [[] for _ in range(count)]
    for one, other in pairs:
        found[one].append(other)
    return found


def solve(other: Array, taken: Sequence[Sequence[int]], confidence: float, regularization: float) -> Array:
    """The best rows [N, F] against `other` [M, F]: x = (Y'Y + c Y'taken Ytaken + lambda 1)^-1 (1 + c) Y'taken.

    Y'Y is the same for everyone, so that a row costs only what it has taken, not all that there is.
    """
    everyone = other.T @ other + regularization * np.eye(other.shape[1])
    rows = np.zeros((len(taken), other.shape[1]))
    for place, chosen in enumerate(taken):
        if chosen:
            own = other[list(chosen)]
            rows[place] = np.linalg.solve(everyone + confidence * own.T @ own, (1 + confidence) * own.sum(axis=0))
    return rows


def loss(left: Array, right: Array, pairs: Pairs, confidence: float, regularization: float) -> float:
    """Squared distance to the preferences, weighed by confidence, plus what large factors cost; over all U x I cells."""
    users, items = np.array(pairs).T
    said = (left[users] * right[items]).sum(axis=1)
    everywhere = float(((left.T @ left) * (right.T @ right)).sum())  # the sum of all cells squared, without making them
    taken = float(((1 + confidence) * (1 - said) ** 2 - said**2).sum())
    return everywhere + taken + regularization * float((left**2).sum() + (right**2).sum())

"""The lesson's own arithmetic, and what the graph answers to known people and to strangers."""

from __future__ import annotations

import itertools
import json

import numpy as np
import polars as pl
import pytest

from phaseflow import registry
from phaseflow.toolkit import graph
from projects.recommender import als, data, model

PROJECT = registry.get("recommender")
RANDOM = np.random.default_rng(3)
TAKEN = RANDOM.random((12, 9)) < 0.35
PAIRS = [tuple(map(int, pair)) for pair in np.argwhere(TAKEN)]


def dense_loss(left: np.ndarray, right: np.ndarray, confidence: float, regularization: float) -> float:
    weight = 1 + confidence * TAKEN
    return float((weight * (TAKEN - left @ right.T) ** 2).sum() + regularization * ((left**2).sum() + (right**2).sum()))


def test_the_loss_is_that_of_every_cell() -> None:
    left, right = RANDOM.normal(size=(12, 4)), RANDOM.normal(size=(9, 4))
    assert als.loss(left, right, PAIRS, 5.0, 0.3) == pytest.approx(dense_loss(left, right, 5.0, 0.3))


def test_a_solved_side_is_the_weighted_ridge_regression_of_all_cells() -> None:
    right = RANDOM.normal(size=(9, 4))
    left = als.solve(right, [np.flatnonzero(row).tolist() for row in TAKEN], 5.0, 0.3)
    for place, row in enumerate(TAKEN):
        weight = np.diag(1 + 5.0 * row)
        expected = np.linalg.solve(right.T @ weight @ right + 0.3 * np.eye(4), right.T @ weight @ row)
        np.testing.assert_allclose(left[place], expected, atol=1e-9)


def test_no_sweep_makes_it_worse() -> None:
    _, _, history = als.factorise(
        PAIRS, 12, 9, factors=4, confidence=5.0, regularization=0.3, sweeps=15, random=np.random.default_rng(1)
    )
    assert all(later <= before + 1e-9 for before, later in itertools.pairwise(history))


def visits() -> pl.DataFrame:
    """Two tastes: a, b, c and x, y, z; everyone has had two of three."""
    rows = [
        (f"u{place}{taste}", [taste[place % 3], taste[(place + 1) % 3]])
        for place in range(9)
        for taste in ("abc", "xyz")
    ]
    rows.append(("u0abc", ["c"]))  # the most famous of all
    return pl.DataFrame({"user": [user for user, _ in rows], "items": [json.dumps(items) for _, items in rows]})


def ranked(candidate: int, users: list[str]) -> list[list[str]]:
    trained = model.train(visits(), PROJECT, PROJECT.candidates[candidate])
    return graph.run(trained.onnx, graph.feed(pl.DataFrame({"user": users}), PROJECT.schema))["ranking"].tolist()


def test_people_get_what_those_like_them_took_and_not_what_they_have() -> None:
    (first, second) = ranked(1, ["u1abc", "u1xyz"])
    assert first[0] == "a"  # had b and c
    assert second[0] == "x"
    assert set(first[-2:]) == {"b", "c"}


def test_a_stranger_gets_what_most_people_took() -> None:
    for candidate in (0, 1):
        (row,) = ranked(candidate, ["nobody"])
        assert row[0] == "c"


def test_ndcg_by_hand() -> None:
    assert model.ndcg(["a", "b", "c"], {"a"}) == 1
    assert model.ndcg(["a", "b", "c"], {"c"}) == pytest.approx(0.5)
    assert model.ndcg(["a", "b", "c"], {"b", "x"}) == pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)))
    assert model.ndcg(["a", "b"], {"q"}) == 0


def test_visits_are_in_the_order_of_time_and_hold_what_is_new_and_liked() -> None:
    lines = b"7\t1\t5\t300\n7\t2\t4\t100\n7\t1\t5\t200\n8\t9\t3\t50\n8\t4\t5\t150\n" + b"".join(
        b"7\t%d\t5\t%d\n" % (item, 400 + item) for item in range(10, 14)
    )
    assert data.read(lines).rows() == [("8", '["4"]'), ("7", '["2","1","10","11"]'), ("7", '["12","13"]')]

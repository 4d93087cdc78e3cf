"""ALS and EASE against reference solutions, and the graph's rankings for known and unknown users."""

from __future__ import annotations

import itertools
import json

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import Ridge

from phaseflow import discovery
from phaseflow.toolkit import graph
from projects.recommender import als, data, model

PROJECT = discovery.get("recommender")
RANDOM = np.random.default_rng(3)
INTERACTIONS = RANDOM.random((12, 9)) < 0.35
PAIRS = [tuple(map(int, pair)) for pair in np.argwhere(INTERACTIONS)]


def dense_loss(left: np.ndarray, right: np.ndarray, confidence: float, regularization: float) -> float:
    weight = 1 + confidence * INTERACTIONS
    return float(
        (weight * (INTERACTIONS - left @ right.T) ** 2).sum() + regularization * ((left**2).sum() + (right**2).sum())
    )


def test_the_loss_covers_every_cell() -> None:
    left, right = RANDOM.normal(size=(12, 4)), RANDOM.normal(size=(9, 4))
    assert als.loss(left, right, PAIRS, 5.0, 0.3) == pytest.approx(dense_loss(left, right, 5.0, 0.3))


def test_a_solved_side_is_the_weighted_ridge_regression_of_all_cells() -> None:
    right = RANDOM.normal(size=(9, 4))
    left = als.solve(right, [np.flatnonzero(row).tolist() for row in INTERACTIONS], 5.0, 0.3)
    for index, row in enumerate(INTERACTIONS):
        weight = np.diag(1 + 5.0 * row)
        expected = np.linalg.solve(right.T @ weight @ right + 0.3 * np.eye(4), right.T @ weight @ row)
        np.testing.assert_allclose(left[index], expected, atol=1e-9)


def test_no_sweep_increases_the_loss() -> None:
    _, _, history = als.factorise(
        PAIRS, 12, 9, factors=4, confidence=5.0, regularization=0.3, sweeps=15, random=np.random.default_rng(1)
    )
    assert all(later <= before + 1e-9 for before, later in itertools.pairwise(history))


def visits() -> pl.DataFrame:
    """Visits of users with two tastes (a, b, c and x, y, z); everyone took two of three items."""
    rows = [
        (f"u{index}{taste}", [taste[index % 3], taste[(index + 1) % 3]])
        for index in range(9)
        for taste in ("abc", "xyz")
    ]
    rows.append(("u0abc", ["c"]))  # makes c the most popular item
    return pl.DataFrame({"user": [user for user, _ in rows], "items": [json.dumps(items) for _, items in rows]})


def ranked(candidate: int, users: list[str]) -> list[list[str]]:
    trained = model.train(visits(), PROJECT, PROJECT.candidates[candidate])
    return graph.run(trained.onnx, graph.feed(pl.DataFrame({"user": users}), PROJECT.schema))["ranking"].tolist()


def test_weights_are_those_of_ridge_regression_without_the_item_itself() -> None:
    shop = model.build_shop(visits())
    matrix = model.interaction_matrix(shop).astype(float)
    weights = model.ease(shop, regularization=0.5)
    for item in range(len(shop.items)):
        others = [index for index in range(len(shop.items)) if index != item]
        ridge = Ridge(alpha=0.5, fit_intercept=False).fit(matrix[:, others], matrix[:, item])
        np.testing.assert_allclose(weights[others, item], ridge.coef_, atol=1e-8)
        assert weights[item, item] == 0


def test_the_graph_ranks_by_interactions_times_weights() -> None:
    shop = model.build_shop(visits())
    wishes = model.interaction_matrix(shop) @ model.ease(
        shop, **PROJECT.candidates[1].params
    ) - 1e3 * model.interaction_matrix(shop)
    expected_rankings = [[shop.items[index] for index in np.argsort(-row, kind="stable")] for row in wishes[:-1]]
    rankings = ranked(1, list(shop.users))
    for actual_ranking, expected_ranking, row in zip(rankings, expected_rankings, wishes, strict=False):
        scores = dict(zip(shop.items, row, strict=True))
        np.testing.assert_allclose(
            [scores[item] for item in actual_ranking], [scores[item] for item in expected_ranking], rtol=1e-5
        )


@pytest.mark.parametrize("candidate", [1, 2])
def test_users_get_items_of_similar_users_that_they_have_not_taken(candidate: int) -> None:
    (first, second) = ranked(candidate, ["u1abc", "u1xyz"])
    assert first[0] == "a"  # took b and c
    assert second[0] == "x"
    assert set(first[-2:]) == {"b", "c"}


def test_an_unknown_user_gets_the_most_popular_items() -> None:
    for candidate in (0, 1, 2):
        (row,) = ranked(candidate, ["nobody"])
        assert row[0] == "c"


def test_ndcg_by_hand() -> None:
    assert model.ndcg(["a", "b", "c"], {"a"}) == 1
    assert model.ndcg(["a", "b", "c"], {"c"}) == pytest.approx(0.5)
    assert model.ndcg(["a", "b", "c"], {"b", "x"}) == pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)))
    assert model.ndcg(["a", "b"], {"q"}) == 0


def test_visits_are_in_order_of_time_and_contain_new_liked_items() -> None:
    lines = b"7\t1\t5\t300\n7\t2\t4\t100\n7\t1\t5\t200\n8\t9\t3\t50\n8\t4\t5\t150\n" + b"".join(
        b"7\t%d\t5\t%d\n" % (item, 400 + item) for item in range(10, 14)
    )
    assert data.read(lines).rows() == [("8", '["4"]'), ("7", '["2","1","10","11"]'), ("7", '["12","13"]')]

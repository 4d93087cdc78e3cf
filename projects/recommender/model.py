"""A ranking of items for each user: by popularity, by EASE, or by matrix factorisation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from onnx import TensorProto, helper

from phaseflow import Candidate, Project
from phaseflow.toolkit import graph, pictures
from phaseflow.toolkit.model import Trained
from projects.recommender import als
from projects.recommender.als import Array

RANKING_SIZE: Final = 10
"""Items per ranking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """The users and items of a shop, and who took what."""

    users: tuple[str, ...]
    items: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    fame: Array
    """[items]: the share of the users who took each item."""


def build_shop(rows: pl.DataFrame) -> Shop:
    """The shop of visits [N]; a pair of user and item counts once."""
    events = [(user, item) for user, items in rows.iter_rows() for item in json.loads(items)]
    users, items = sorted({user for user, _ in events}), sorted({item for _, item in events})
    user_indices, item_indices = ({name: index for index, name in enumerate(names)} for names in (users, items))
    pairs = tuple(dict.fromkeys((user_indices[user], item_indices[item]) for user, item in events))
    counts = Counter(item for _, item in pairs)
    fame = np.array([counts[index] / len(users) for index in range(len(items))])
    return Shop(users=tuple(users), items=tuple(items), pairs=pairs, fame=fame)


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on visits [N] of `user` and `items`, oldest first."""
    shop = build_shop(rows.select("user", "items"))
    params, plots = dict(candidate.params), {"fame.png": fame(shop)}
    left: Array | None
    if candidate.name == "popularity":
        left, right = np.ones((len(shop.users), 1)), shop.fame[:, None]
    elif candidate.name == "ease":
        left, right = None, ease(shop, **params).T
    else:
        left, right, history = als.factorise(
            shop.pairs, len(shop.users), len(shop.items), random=np.random.default_rng(project.seed), **params
        )
        plots["learning_curve.png"] = pictures.curve("Loss", "sweep", "over all users and items", {"": history})
    return Trained(
        onnx=to_onnx(shop, left, right, project),
        pictures=plots,
        notes={"users": f"{len(shop.users):,}", "items": f"{len(shop.items):,}", "pairs": f"{len(shop.pairs):,}"},
    )


def interaction_matrix(shop: Shop) -> Array:
    """uint8 [users + 1, items]: 1 if the user took the item; the last row (all 0) is for unknown users."""
    matrix = np.zeros((len(shop.users) + 1, len(shop.items)), np.uint8)
    matrix[tuple(np.array(shop.pairs).T)] = 1
    return matrix


def ease(shop: Shop, regularization: float) -> Array:
    """Weights [items, items] from items taken to items recommended: Steck, Embarrassingly Shallow Autoencoders (2019).

    The matrix B with a zero diagonal that minimises |X - X B|² + regularization |B|². With P, the inverse of
    X'X + regularization 1, it is 1 - P / diag(P), column by column.
    """
    own = interaction_matrix(shop).astype(np.float64)
    inverse = np.linalg.inv(own.T @ own + regularization * np.eye(own.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return np.asarray(weights)


def to_onnx(shop: Shop, left: Array | None, right: Array, project: Project) -> bytes:
    """The graph from a user's id to the ids of the best items, by `left` [users, F] times `right` [items, F].

    Without `left`, a user is represented by the items taken, and F is the number of items.

    An additional factor is popularity, which counts only for unknown users, so that they get the most popular items.
    Items that a user has already taken come last.
    """
    users, items = len(shop.users), len(shop.items)
    stranger = np.zeros((users + 1, 1), np.float32)
    stranger[users] = 1
    people = stranger if left is None else np.hstack([np.vstack([left, np.zeros(left.shape[1])]), stranger])
    things = np.hstack([right, shop.fame[:, None]]).astype(np.float32)
    nodes = [
        helper.make_node("Reshape", ["user", "flat"], ["names"]),
        helper.make_node(
            "LabelEncoder",
            ["names"],
            ["places"],
            domain="ai.onnx.ml",
            keys_strings=list(shop.users),
            values_int64s=list(range(users)),
            default_int64=users,
        ),
        helper.make_node("Gather", ["taken", "places"], ["had"]),
        helper.make_node("Cast", ["had"], ["had_already"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["people", "places"], ["learned"]),
        helper.make_node("Concat", ["had_already", "learned"] if left is None else ["learned"], ["own"], axis=1),
        helper.make_node("MatMul", ["own", "things"], ["wished"]),
        helper.make_node("Mul", ["had_already", "far"], ["fall"]),
        helper.make_node("Sub", ["wished", "fall"], ["left_to_wish"]),
        helper.make_node("TopK", ["left_to_wish", "shown"], ["scores", "best"], axis=1),
        helper.make_node("Gather", ["items", "best"], ["ranking"]),
    ]
    constants = [
        graph.constant("flat", np.array([-1], np.int64)),
        graph.constant("people", people.astype(np.float32)),
        graph.constant("things", things.T.copy()),
        graph.constant("taken", interaction_matrix(shop)),
        graph.constant("far", np.float32(1e3)),
        graph.constant("shown", np.array([min(RANKING_SIZE, items)], np.int64)),
        graph.constant("items", np.array(shop.items, dtype=object)),
    ]
    outputs = [
        helper.make_tensor_value_info("ranking", TensorProto.STRING, [None, None]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, None]),
    ]
    return graph.build_model(project.schema, nodes, constants, outputs)


def evaluate(outputs: Mapping[str, Array], rows: pl.DataFrame, project: Project) -> dict[str, float | None]:  # noqa: ARG001
    """NDCG and hit rate at `RANKING_SIZE` of rankings [N, K] against the items of each visit, and `coverage`.

    NDCG (Jaervelin and Kekaelaeinen 2002): a hit counts 1 / log2(1 + its position), relative to the best order.
    Coverage is the share of recommended items among all items that are recommended or were taken.
    """
    rankings, labels = outputs["ranking"].tolist(), [set(json.loads(text)) for text in rows["items"]]
    pairs = list(zip(rankings, labels, strict=True))
    shown_items = {item for ranking in rankings for item in ranking}
    return {
        "ndcg": float(np.mean([ndcg(ranking, label) for ranking, label in pairs])),
        "hit_rate": float(np.mean([not label.isdisjoint(ranking) for ranking, label in pairs])),
        "coverage": len(shown_items) / len(shown_items.union(*labels)),
    }


def ndcg(ranking: list[str], label: set[str]) -> float:
    """The NDCG of one ranking: 1 if the items of the label come first."""
    worth = 1 / np.log2(np.arange(2, len(ranking) + 2))
    hits = np.array([item in label for item in ranking])
    return float((worth * hits).sum() / worth[: len(label)].sum())


def fame(shop: Shop) -> bytes:
    """A plot (PNG) of the share of users who took each item, most popular first: the head and the long tail."""
    figure, axes = pictures.axes("Fame", "items, the most famous first", "share of the users", (5.2, 3.2))
    axes.fill_between(range(len(shop.fame)), np.sort(shop.fame)[::-1], color=pictures.BLUE)
    return pictures.png(figure)

"""From visits to a ranking for each user: by fame alone, or by matrix factorisation."""

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

SHOWN: Final = 10
"""Items of a ranking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """What happened: places of users and items, and the pairs of them."""

    users: tuple[str, ...]
    items: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    fame: Array
    """[items]: the share of the users that took each."""


def shop(rows: pl.DataFrame) -> Shop:
    """The shop of visits [N]; a user and an item count once."""
    taken = [(user, item) for user, items in rows.iter_rows() for item in json.loads(items)]
    users, items = sorted({user for user, _ in taken}), sorted({item for _, item in taken})
    at_user, at_item = ({name: place for place, name in enumerate(names)} for names in (users, items))
    pairs = tuple(dict.fromkeys((at_user[user], at_item[item]) for user, item in taken))
    counts = Counter(item for _, item in pairs)
    fame = np.array([counts[place] / len(users) for place in range(len(items))])
    return Shop(users=tuple(users), items=tuple(items), pairs=pairs, fame=fame)


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on visits [N] of `user` and `items`, the oldest first."""
    known = shop(rows.select("user", "items"))
    told, history = dict(candidate.params), [0.0]
    if candidate.name == "popularity":
        left, right = np.zeros((len(known.users), 1)), np.zeros((len(known.items), 1))
        left[:] = 1
        right[:, 0] = known.fame
    else:
        left, right, history = als.factorise(
            known.pairs, len(known.users), len(known.items), random=np.random.default_rng(project.seed), **told
        )
    drawn = {"fame.png": fame(known)}
    if candidate.name != "popularity":
        drawn["learning_curve.png"] = pictures.curve("Loss", "sweep", "over all users and items", {"": history})
    return Trained(
        onnx=to_onnx(known, left, right, project),
        pictures=drawn,
        notes={"users": f"{len(known.users):,}", "items": f"{len(known.items):,}", "pairs": f"{len(known.pairs):,}"},
    )


def to_onnx(known: Shop, left: Array, right: Array, project: Project) -> bytes:
    """The graph from a user's id to the ids of the `SHOWN` best items.

    One more direction is fame, in which only a stranger looks: who is unknown gets what most people like. What a user has taken
    already falls to the end.
    """
    users, items = len(known.users), len(known.items)
    people = np.zeros((users + 1, left.shape[1] + 1), np.float32)
    people[:users, :-1], people[users, -1] = left, 1
    things = np.hstack([right, known.fame[:, None]]).astype(np.float32)
    taken = np.zeros((users + 1, items), np.uint8)
    taken[tuple(np.array(known.pairs).T)] = 1
    nodes = [
        helper.make_node("Reshape", ["user", "flat"], ["names"]),
        helper.make_node(
            "LabelEncoder",
            ["names"],
            ["places"],
            domain="ai.onnx.ml",
            keys_strings=list(known.users),
            values_int64s=list(range(users)),
            default_int64=users,
        ),
        helper.make_node("Gather", ["people", "places"], ["own"]),
        helper.make_node("MatMul", ["own", "things"], ["wished"]),
        helper.make_node("Gather", ["taken", "places"], ["had"]),
        helper.make_node("Cast", ["had"], ["had_already"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["had_already", "far"], ["fall"]),
        helper.make_node("Sub", ["wished", "fall"], ["left_to_wish"]),
        helper.make_node("TopK", ["left_to_wish", "shown"], ["scores", "best"], axis=1),
        helper.make_node("Gather", ["items", "best"], ["ranking"]),
    ]
    constants = [
        graph.constant("flat", np.array([-1], np.int64)),
        graph.constant("people", people),
        graph.constant("things", things.T.copy()),
        graph.constant("taken", taken),
        graph.constant("far", np.float32(1e3)),
        graph.constant("shown", np.array([min(SHOWN, items)], np.int64)),
        graph.constant("items", np.array(known.items, dtype=object)),
    ]
    outputs = [
        helper.make_tensor_value_info("ranking", TensorProto.STRING, [None, None]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, None]),
    ]
    return graph.built(project.schema, nodes, constants, outputs)


def evaluate(said: Mapping[str, Array], rows: pl.DataFrame, project: Project) -> dict[str, float | None]:  # noqa: ARG001
    """NDCG and hit rate at `SHOWN` of rankings [N, K] against what each visit took, and `coverage`: the share
    that is shown of all items that are shown or were taken.

    NDCG (Jaervelin and Kekaelaeinen 2002): a hit counts 1 / log2(1 + its place), against the best order there is.
    """
    rankings, truths = said["ranking"].tolist(), [set(json.loads(text)) for text in rows["items"]]
    pairs = list(zip(rankings, truths, strict=True))
    shown = {item for ranking in rankings for item in ranking}
    return {
        "ndcg": float(np.mean([ndcg(ranking, truth) for ranking, truth in pairs])),
        "hit_rate": float(np.mean([not truth.isdisjoint(ranking) for ranking, truth in pairs])),
        "coverage": len(shown) / len(shown.union(*truths)),
    }


def ndcg(ranking: list[str], truth: set[str]) -> float:
    """Of one ranking; 1 where what was taken stands first."""
    worth = 1 / np.log2(np.arange(2, len(ranking) + 2))
    found = np.array([one in truth for one in ranking])
    return float((worth * found).sum() / worth[: len(truth)].sum())


def fame(known: Shop) -> bytes:
    """The share of users that took each item, the most famous first, as a PNG: the head, and the long tail."""
    figure, axes = pictures.axes("Fame", "items, the most famous first", "share of the users", (5.2, 3.2))
    axes.fill_between(range(len(known.fame)), np.sort(known.fame)[::-1], color=pictures.BLUE)
    return pictures.png(figure)

"""Nearest neighbours: the graph and NumPy find the same ones, and large classes are reduced to cluster centres."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from phaseflow.contract import Column, Schema
from phaseflow.errors import PhaseflowError
from phaseflow.toolkit import graph, neighbours

SCHEMA = Schema(
    features=(Column(name="picture", kind="image", shape=(4, 6, 1)),),
    target=Column(name="kind", kind="category", allowed=("a", "b", "c")),
)
CLASSES = ("a", "b", "c")


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images [count, 24] of three kinds, and their kinds."""
    random = np.random.default_rng(seed)
    kinds = random.integers(0, 3, count)
    return random.integers(0, 256, (count, 24)).astype(np.uint8) // 2 + (kinds * 40).astype(np.uint8)[:, None], kinds


def frame(pixels: np.ndarray, kinds: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "picture": pl.Series([image.tobytes() for image in pixels], dtype=pl.Binary),
            "kind": [CLASSES[kind] for kind in kinds],
        }
    )


@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_graph_votes_like_numpy(count: int) -> None:
    pixels, kinds = images(200, 1)
    pixels[50:100] = pixels[:50]  # twins, of other kinds: ties
    trained = neighbours.fit(frame(pixels, kinds), SCHEMA, CLASSES, neighbours=count, max_rows=1000, seed=1)
    prototypes = neighbours.select_prototypes(pixels, kinds, 3, max_rows=1000, seed=1)
    queries, query_kinds = images(300, 2)
    votes = neighbours.scores(np.concatenate([queries, pixels]), prototypes, count)
    rows = frame(np.concatenate([queries, pixels]), np.concatenate([query_kinds, kinds]))
    outputs = graph.run(trained.onnx, graph.feed(rows, SCHEMA))
    expected = np.exp(votes) / np.exp(votes).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-6)
    assert outputs["label"].tolist() == [CLASSES[index] for index in votes.argmax(axis=1)]


def test_fewer_images_than_voters_all_vote() -> None:
    pixels, kinds = images(2, 1)
    trained = neighbours.fit(frame(pixels, kinds), SCHEMA, CLASSES, neighbours=5, max_rows=10, seed=1)
    assert graph.run(trained.onnx, graph.feed(frame(pixels, kinds), SCHEMA))["probabilities"].shape == (2, 3)


def test_a_large_class_is_represented_by_cluster_centres() -> None:
    pixels, kinds = images(600, 3)
    prototypes = neighbours.select_prototypes(pixels, kinds, 3, max_rows=20, seed=1)
    assert np.bincount(prototypes.classes).tolist() == [20, 20, 20]
    assert prototypes.pixels.max() < 128
    queries, query_kinds = images(300, 4)
    assert (neighbours.scores(queries, prototypes, 3).argmax(axis=1) == query_kinds).mean() > 0.9


def test_images_whose_distances_would_not_be_exact_are_rejected() -> None:
    with pytest.raises(
        PhaseflowError,
        match=r"images have 3,072 values each; allowed for nearest neighbours: 1,040\. Shrink the images",
    ):
        neighbours.select_prototypes(np.zeros((2, 3072), np.uint8), np.array([0, 1]), 2, max_rows=10, seed=1)

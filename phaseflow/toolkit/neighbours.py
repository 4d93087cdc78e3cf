"""k-nearest-neighbours classification of images, in NumPy and as nodes of the served graph.

Images are compared with seven bits per pixel. Every sum is then a whole number that single precision represents
exactly, so that the graph finds the same neighbours as NumPy; ties go to the prototype that comes first.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
from onnx import NodeProto, TensorProto, helper
from sklearn.cluster import MiniBatchKMeans

from phaseflow.contract import Schema
from phaseflow.errors import PhaseflowError
from phaseflow.toolkit import graph
from phaseflow.toolkit.model import Trained
from phaseflow.toolkit.pixels import image_column

Array = npt.NDArray[Any]
MAX_PIXELS: Final = 2**24 // 127**2
"""Maximum values per image for which sums of products stay exact."""
SMOOTHING: Final = 0.02
"""Votes added to each class, so that no class is impossible (Laplace)."""


@dataclass(frozen=True, slots=True)
class Prototypes:
    """The stored images that vote."""

    pixels: Array
    """uint8 [M, D], values of 0 to 127."""
    classes: Array
    """int64 [M]: the class of each image."""
    count: int
    """Number of classes."""

    @property
    def lengths(self) -> Array:
        """float32 [M]: the squared length of each image."""
        return np.asarray((self.pixels.astype(np.float32) ** 2).sum(axis=1))


def fit(
    rows: pl.DataFrame, schema: Schema, classes: Sequence[str], *, neighbours: int, max_rows: int, seed: int
) -> Trained:
    """Store the images of rows [N] as prototypes; the majority of the `neighbours` nearest decides (Cover and Hart
    1967).

    `max_rows` and errors are those of `select_prototypes`.
    """
    assert schema.target is not None  # noqa: S101  # every supervised schema has one; the contract's suite holds it
    column = image_column(schema)
    labels = np.array([classes.index(name) for name in rows[schema.target.name]])
    prototypes = select_prototypes(
        graph.pixels(rows[column.name], (column.size,)), labels, len(classes), max_rows=max_rows, seed=seed
    )
    voting, constants = nodes(column.name, "scores", prototypes, neighbours)
    return Trained(
        onnx=graph.classifier(schema, voting, constants, "scores", classes),
        classes=tuple(classes),
        notes={"images that vote": f"{len(prototypes.pixels):,}"},
    )


def select_prototypes(pixels: Array, classes: Array, count: int, *, max_rows: int, seed: int) -> Prototypes:
    """Prototypes for images (uint8 [N, D] of 0 to 255) with classes (int64 [N]), at most `max_rows` per class.

    A class with more images is represented by the centres of `max_rows` clusters, which limits the size of the model
    (Hart 1968 has the same aim and selects images). Raises PhaseflowError for images of more than `MAX_PIXELS` values.
    """
    if pixels.shape[1] > MAX_PIXELS:
        raise PhaseflowError(
            f"The images have {pixels.shape[1]:,} values each; allowed for nearest neighbours: {MAX_PIXELS:,}",
            fix="Shrink the images",
        )
    halves, parts = pixels >> 1, list[tuple[Array, int]]()
    for class_index in range(count):
        own = halves[classes == class_index]
        if len(own) > max_rows:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # equal images may leave a cluster empty, which is harmless
                centres = MiniBatchKMeans(max_rows, n_init=1, random_state=seed).fit(own.astype(np.float32))
            own = np.rint(centres.cluster_centers_).astype(np.uint8)
        parts.append((own, class_index))
    return Prototypes(
        pixels=np.concatenate([own for own, _ in parts]),
        classes=np.concatenate([np.full(len(own), class_index) for own, class_index in parts]),
        count=count,
    )


def scores(images: Array, prototypes: Prototypes, neighbours: int) -> Array:
    """The logarithm of the votes [N, classes] for images (uint8 [N, D] of 0 to 255)."""
    halves = (images >> 1).astype(np.float32)
    # |x - y|² = |x|² - 2 x·y + |y|², and |x|² is the same for every y.
    distances = prototypes.lengths - 2 * halves @ prototypes.pixels.T.astype(np.float32)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, : min(neighbours, len(prototypes.pixels))]
    return np.asarray(np.log(np.eye(prototypes.count)[prototypes.classes[nearest]].sum(axis=1) + SMOOTHING))


def nodes(image: str, out: str, prototypes: Prototypes, neighbours: int) -> tuple[list[NodeProto], list[TensorProto]]:
    """Nodes and constants from the input `image` (uint8 [N, height, width, channels]) to `out`, like `scores`."""
    vote_nodes = [
        helper.make_node("Flatten", [image], ["flat"], axis=1),
        helper.make_node("BitShift", ["flat", "one_bit"], ["halves"], direction="RIGHT"),
        helper.make_node("Cast", ["halves"], ["own"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["known"], ["others"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["own", "others"], ["products"]),
        helper.make_node("Mul", ["products", "two"], ["twice"]),
        helper.make_node("Sub", ["lengths", "twice"], ["distances"]),
        helper.make_node("TopK", ["distances", "neighbours"], ["least", "nearest"], axis=1, largest=0),
        helper.make_node("Gather", ["ballots", "nearest"], ["cast"], axis=0),
        helper.make_node("ReduceSum", ["cast", "second"], ["votes"], keepdims=0),
        helper.make_node("Add", ["votes", "smoothing"], ["smoothed"]),
        helper.make_node("Log", ["smoothed"], [out]),
    ]
    constants = [
        graph.constant("one_bit", np.uint8(1)),
        graph.constant("known", prototypes.pixels.T.copy()),
        graph.constant("two", np.float32(2)),
        graph.constant("lengths", prototypes.lengths),
        graph.constant("neighbours", np.array([min(neighbours, len(prototypes.pixels))], np.int64)),
        graph.constant("ballots", np.eye(prototypes.count, dtype=np.float32)[prototypes.classes]),
        graph.constant("second", np.array([1], np.int64)),
        graph.constant("smoothing", np.float32(SMOOTHING)),
    ]
    return vote_nodes, constants

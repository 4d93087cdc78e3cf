"""K-Means on the logarithm of what customers spend: in the six columns, in their two principal components, or in their sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
from onnx import TensorProto, helper
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score

from phaseflow import Candidate, Project
from phaseflow.toolkit import graph, pictures
from phaseflow.toolkit.model import Trained

Array = npt.NDArray[Any]
COUNTS: Final = range(2, 9)
"""Numbers of segments that are tried."""
LEAST_SHARE: Final = 0.05
"""Of the customers, in a segment: smaller ones are a few strange customers, and nobody makes a plan for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """What was found in customers [N] of F columns."""

    axes: Array
    """[F, D]: the directions in which customers are compared."""
    centres: Array
    """[K, D]: each segment's middle in those directions."""
    means: Array
    """[K, F]: each segment's average customer."""
    average: Array
    """[F]: the average customer of all."""
    width: float
    """Mean squared distance to the own centre in one direction."""
    names: tuple[str, ...]
    scores: Mapping[int, float]
    """Silhouette by the number of segments that were tried."""


def logarithms(rows: pl.DataFrame) -> Array:
    """log(1 + spend), [N, F]: a customer twice as large is as far away in a kiosk as in a supermarket."""
    return np.asarray(np.log1p(rows.to_numpy().astype(np.float64)))


def silhouette(values: Array, labels: Array) -> float | None:
    """The mean silhouette of rows [N, F] (Rousseeuw 1987): 1 where every row is far nearer to its own segment than to the next.

    None where there are fewer than two segments. Repeated rows count once: they would flatter it.
    """
    _, first = np.unique(values, axis=0, return_index=True)
    own, said = values[first], np.asarray(labels)[first]
    return float(silhouette_score(own, said)) if 2 <= len(set(said)) < len(said) else None


def directions(values: Array, how: str) -> Array:
    """[F, D]: all columns, their two principal components, or their sum."""
    if how == "columns":
        return np.eye(values.shape[1])
    if how == "components":
        return np.asarray(PCA(2).fit(values).components_.T)
    return np.full((values.shape[1], 1), values.shape[1] ** -0.5)


def find(values: Array, columns: list[str], how: str, seed: int) -> Segments:
    """The segments of customers [N, F], as many as have the best silhouette in all columns."""
    axes = directions(values, how)
    seen = values @ axes
    tried: dict[int, tuple[float, KMeans]] = {}
    for count in COUNTS:
        fitted = KMeans(count, n_init=10, random_state=seed).fit(seen)
        shares = np.bincount(fitted.labels_, minlength=count) / len(values)
        score = silhouette(values, fitted.labels_)
        if score is not None and (shares.min() >= LEAST_SHARE or count == COUNTS[0]):
            tried[count] = (score, fitted)
    best = max(tried, key=lambda count: tried[count][0])
    _, fitted = tried[best]
    means = np.array([values[fitted.labels_ == place].mean(axis=0) for place in range(best)])
    average = values.mean(axis=0)
    return Segments(
        axes=axes,
        centres=fitted.cluster_centers_,
        means=means,
        average=average,
        width=float(fitted.inertia_ / seen.size),
        names=names(means - average, columns),
        scores={count: score for count, (score, _) in tried.items()},
    )


def names(gaps: Array, columns: list[str]) -> tuple[str, ...]:
    """A name for each segment by how its average customer differs from that of all [K, F]: "much milk, little fresh"."""
    found: list[str] = []
    for gap in gaps:
        order = np.argsort(-np.abs(gap))[:2]
        name = ", ".join(f"{'much' if gap[place] > 0 else 'little'} {columns[place]}" for place in order)
        found.append(name if name not in found else f"{name} ({len(found) + 1})")
    return tuple(found)


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Find segments in rows [N] of spends."""
    columns = list(project.schema.feature_names)
    values = logarithms(rows.select(columns))
    found = find(values, columns, candidate.params["compare"], project.seed)
    return Trained(
        onnx=to_onnx(found, project),
        classes=found.names,
        pictures={"choice_of_k.png": choice(found), "segments.png": plane(values, found)},
        notes={
            "segments": f"{len(found.names)}, {', '.join(f'{k}: {s:.3f}' for k, s in found.scores.items())} by silhouette"
        },
    )


def to_onnx(found: Segments, project: Project) -> bytes:
    """The segments as a graph that also says why.

    Membership is what spherical normal distributions of equal width around the centres would say: the softmax of
    -distance² / (2 width). A column's contribution is by how much it is nearer to the segment's average customer than to
    the average of all, in squared distance.
    """
    nodes = [
        helper.make_node("Concat", list(project.schema.feature_names), ["spends"], axis=1),
        helper.make_node("Add", ["spends", "one"], ["shifted"]),
        helper.make_node("Log", ["shifted"], ["values"]),
        helper.make_node("MatMul", ["values", "axes"], ["seen"]),
        helper.make_node("Unsqueeze", ["seen", "second"], ["each"]),
        helper.make_node("Sub", ["each", "centres"], ["gaps"]),
        helper.make_node("Mul", ["gaps", "gaps"], ["squares"]),
        helper.make_node("ReduceSum", ["squares", "last"], ["distances"], keepdims=0),
        helper.make_node("Div", ["distances", "widths"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["nearest"], axis=1, keepdims=0),
        helper.make_node("Gather", ["means", "nearest"], ["own"], axis=0),
        helper.make_node("Sub", ["values", "own"], ["to_own"]),
        helper.make_node("Sub", ["values", "average"], ["to_all"]),
        helper.make_node("Mul", ["to_own", "to_own"], ["to_own_squared"]),
        helper.make_node("Mul", ["to_all", "to_all"], ["to_all_squared"]),
        helper.make_node("Sub", ["to_all_squared", "to_own_squared"], ["contributions"]),
    ]
    constants = [
        graph.constant("one", np.float32(1)),
        graph.constant("axes", found.axes.astype(np.float32)),
        graph.constant("second", np.array([1], np.int64)),
        graph.constant("last", np.array([2], np.int64)),
        graph.constant("centres", found.centres[None].astype(np.float32)),
        graph.constant("widths", np.float32(-2 * found.width)),
        graph.constant("means", found.means.astype(np.float32)),
        graph.constant("average", found.average.astype(np.float32)),
    ]
    told = helper.make_tensor_value_info("contributions", TensorProto.FLOAT, [None, len(found.average)])
    return graph.classifier(project.schema, nodes, constants, "scores", found.names, more=[told])


def evaluate(said: Mapping[str, Array], rows: pl.DataFrame, project: Project) -> dict[str, float | None]:
    """The silhouette in the logarithm of all six columns, whatever a model compared, and the smallest segment's share."""
    labels = said["label"].astype(str)
    _, counts = np.unique(labels, return_counts=True)
    return {
        "silhouette": silhouette(logarithms(rows.select(project.schema.feature_names)), labels),
        "smallest_share": float(counts.min() / counts.sum()),
    }


def choice(found: Segments) -> bytes:
    """The silhouette by the number of segments, as a PNG."""
    figure, axes = pictures.axes("How many segments?", "segments", "silhouette", (5.2, 3.2))
    axes.plot(list(found.scores), list(found.scores.values()), "o-", color=pictures.BLUE)
    axes.axvline(len(found.names), linestyle=":", color=pictures.GREY)
    return pictures.png(figure)


def plane(values: Array, found: Segments) -> bytes:
    """The customers [N, F] in the plane of their two principal components, coloured by segment, as a PNG."""
    components = PCA(2).fit(values)
    points = components.transform(values)
    labels = ((values @ found.axes)[:, None] - found.centres[None]) ** 2
    nearest = labels.sum(axis=2).argmin(axis=1)
    shares = components.explained_variance_ratio_
    figure, axes = pictures.axes(
        "Customers", f"first component ({shares[0]:.0%} of the variance)", f"second ({shares[1]:.0%})", (6.4, 4.6)
    )
    for place, name in enumerate(found.names):
        axes.plot(*points[nearest == place].T, ".", label=name, alpha=0.6)
    axes.legend(frameon=False, fontsize=8)
    return pictures.png(figure)

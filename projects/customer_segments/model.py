"""Clusters of the logarithms of customers' spends: K-Means on all columns, principal components or their sum, and a
mixture.
"""

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
from sklearn.mixture import GaussianMixture

from phaseflow import Candidate, Project
from phaseflow.toolkit import graph, pictures
from phaseflow.toolkit.model import Trained

Array = npt.NDArray[Any]
COUNTS: Final = range(2, 9)
"""Candidate numbers of segments."""
MIN_SHARE: Final = 0.05
"""Minimum share of the customers in a segment: smaller segments are a few outliers, and of no use for planning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """The segments of customers [N] with F columns."""

    axes: Array
    """[F, D]: the directions that customers are projected on."""
    centres: Array
    """[K, D]: the centre of each segment in those directions."""
    means: Array
    """[K, F]: the mean of each segment."""
    average: Array
    """[F]: the mean of all customers."""
    widths: Array
    """[K]: the mean squared distance of each segment to its centre, per direction."""
    shares: Array
    """[K]: the relative density of each segment at its centre; need not add up to 1."""
    names: tuple[str, ...]
    scores: Mapping[int, float]
    """The silhouette for each candidate number of segments."""


def logarithms(rows: pl.DataFrame) -> Array:
    """log(1 + spend), [N, F]: a factor of two is the same distance for a kiosk and a supermarket."""
    return np.asarray(np.log1p(rows.to_numpy().astype(np.float64)))


def silhouette(values: Array, labels: Array) -> float | None:
    """The mean silhouette of rows [N, F] (Rousseeuw 1987): 1 if all rows are far closer to their own segment.

    None for fewer than two segments. Duplicate rows count once, because they would inflate it.
    """
    _, unique_rows = np.unique(values, axis=0, return_index=True)
    points, point_labels = values[unique_rows], np.asarray(labels)[unique_rows]
    return float(silhouette_score(points, point_labels)) if 2 <= len(set(point_labels)) < len(point_labels) else None


def directions(values: Array, how: str) -> Array:
    """[F, D]: the directions of all columns, of two principal components, or of the sum of the columns."""
    if how == "columns":
        return np.eye(values.shape[1])
    if how == "components":
        return np.asarray(PCA(2).fit(values).components_.T)
    return np.full((values.shape[1], 1), values.shape[1] ** -0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clustering:
    """A clustering of customers; `Segments` describes the fields."""

    labels: Array
    axes: Array
    centres: Array
    widths: Array
    shares: Array


def by_means(values: Array, how: str, count: int, seed: int) -> Clustering:
    """`count` segments by K-Means (Lloyd 1957), after projection on `directions`."""
    axes = directions(values, how)
    projected = values @ axes
    kmeans = KMeans(count, n_init=10, random_state=seed).fit(projected)
    return Clustering(
        labels=kmeans.labels_,
        axes=axes,
        centres=kmeans.cluster_centers_,
        widths=np.full(count, kmeans.inertia_ / projected.size),
        shares=np.ones(count),
    )


def by_mixture(values: Array, count: int, seed: int) -> Clustering:
    """`count` segments as spherical normal distributions of unequal widths and sizes (Fraley, Raftery 2002, "VII")."""
    mixture = GaussianMixture(count, covariance_type="spherical", n_init=3, random_state=seed).fit(values)
    return Clustering(
        labels=mixture.predict(values),
        axes=np.eye(values.shape[1]),
        centres=mixture.means_,
        widths=mixture.covariances_,
        shares=mixture.weights_ * mixture.covariances_ ** (-values.shape[1] / 2),
    )


def find(values: Array, columns: list[str], how: str, seed: int) -> Segments:
    """The segments of customers [N, F]; their number has the best silhouette in all columns."""
    fits: dict[int, tuple[float, Clustering]] = {}
    for count in COUNTS:
        clustering = by_mixture(values, count, seed) if how == "widths" else by_means(values, how, count, seed)
        sizes = np.bincount(clustering.labels, minlength=count) / len(values)
        score = silhouette(values, clustering.labels)
        if score is not None and sizes.min() > 0 and (sizes.min() >= MIN_SHARE or count == COUNTS[0]):
            fits[count] = (score, clustering)
    best_count = max(fits, key=lambda count: fits[count][0])
    _, clustering = fits[best_count]
    means = np.array([values[clustering.labels == index].mean(axis=0) for index in range(best_count)])
    average = values.mean(axis=0)
    return Segments(
        axes=clustering.axes,
        centres=clustering.centres,
        means=means,
        average=average,
        widths=clustering.widths,
        shares=clustering.shares,
        names=names(means - average, columns),
        scores={count: score for count, (score, _) in fits.items()},
    )


def costs(values: Array, segments: Segments) -> Array:
    """[N, K]: squared distances of customers [N, F] to the centres, relative to the widths, minus 2 log(share).

    A customer belongs to the segment with the lowest cost.
    """
    distances = (((values @ segments.axes)[:, None] - segments.centres[None]) ** 2).sum(axis=2)
    return np.asarray(distances / segments.widths - 2 * np.log(segments.shares))


def names(gaps: Array, columns: list[str]) -> tuple[str, ...]:
    """A name per segment for the two largest differences [K, F] between its mean and the overall mean: "much milk,
    little fresh".
    """
    unique_names: list[str] = []
    for gap in gaps:
        order = np.argsort(-np.abs(gap))[:2]
        name = ", ".join(f"{'much' if gap[index] > 0 else 'little'} {columns[index]}" for index in order)
        unique_names.append(name if name not in unique_names else f"{name} ({len(unique_names) + 1})")
    return tuple(unique_names)


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Find the segments in rows [N] of spends."""
    columns = list(project.schema.feature_names)
    values = logarithms(rows.select(columns))
    segments = find(values, columns, candidate.params["compare"], project.seed)
    return Trained(
        onnx=to_onnx(segments, project),
        classes=segments.names,
        pictures={"choice_of_k.png": choice(segments), "segments.png": plane(values, segments)},
        notes={
            "segments": f"{len(segments.names)}, {', '.join(f'{k}: {s:.3f}' for k, s in segments.scores.items())} by silhouette"
        },
    )


def to_onnx(segments: Segments, project: Project) -> bytes:
    """The segments as a graph that also explains its predictions.

    Probabilities are those of spherical normal distributions around the centres: the softmax of log(share) - distance²
    / (2 width). The contribution of a column is its squared distance to the overall mean minus its squared distance to
    the mean of the segment.
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
        helper.make_node("Div", ["distances", "widths"], ["closeness"]),
        helper.make_node("Add", ["closeness", "shares"], ["scores"]),
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
        graph.constant("axes", segments.axes.astype(np.float32)),
        graph.constant("second", np.array([1], np.int64)),
        graph.constant("last", np.array([2], np.int64)),
        graph.constant("centres", segments.centres[None].astype(np.float32)),
        graph.constant("widths", (-2 * segments.widths).astype(np.float32)),
        graph.constant("shares", np.log(segments.shares).astype(np.float32)),
        graph.constant("means", segments.means.astype(np.float32)),
        graph.constant("average", segments.average.astype(np.float32)),
    ]
    contributions = helper.make_tensor_value_info("contributions", TensorProto.FLOAT, [None, len(segments.average)])
    return graph.classifier(project.schema, nodes, constants, "scores", segments.names, more=[contributions])


def evaluate(outputs: Mapping[str, Array], rows: pl.DataFrame, project: Project) -> dict[str, float | None]:
    """The silhouette in the logarithms of all six columns, for every candidate, and the smallest segment's share."""
    labels = outputs["label"].astype(str)
    _, counts = np.unique(labels, return_counts=True)
    return {
        "silhouette": silhouette(logarithms(rows.select(project.schema.feature_names)), labels),
        "smallest_share": float(counts.min() / counts.sum()),
    }


def choice(segments: Segments) -> bytes:
    """A plot (PNG) of the silhouette by the number of segments."""
    figure, axes = pictures.axes("How many segments?", "segments", "silhouette", (5.2, 3.2))
    axes.plot(list(segments.scores), list(segments.scores.values()), "o-", color=pictures.BLUE)
    axes.axvline(len(segments.names), linestyle=":", color=pictures.GREY)
    return pictures.png(figure)


def plane(values: Array, segments: Segments) -> bytes:
    """A plot (PNG) of customers [N, F] on two principal components, coloured by segment."""
    components = PCA(2).fit(values)
    points = components.transform(values)
    nearest = costs(values, segments).argmin(axis=1)
    shares = components.explained_variance_ratio_
    figure, axes = pictures.axes(
        "Customers", f"first component ({shares[0]:.0%} of the variance)", f"second ({shares[1]:.0%})", (6.4, 4.6)
    )
    for index, name in enumerate(segments.names):
        axes.plot(*points[nearest == index].T, ".", label=name, alpha=0.6)
    axes.legend(frameon=False, fontsize=8)
    return pictures.png(figure)

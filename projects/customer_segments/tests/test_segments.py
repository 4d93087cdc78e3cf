"""The segments of customers, and the contributions of columns."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.mixture import GaussianMixture

from phaseflow import discovery
from phaseflow.toolkit import graph, source
from phaseflow.toolkit.fit import fit
from projects.customer_segments import data, model

PROJECT = discovery.get("customer_segments")
COLUMNS = list(PROJECT.schema.feature_names)


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    loaded = source.Loaded(frame=source.read_csv(data.sample(PROJECT.seed)), origin="sample", sha256="")
    return source.rows(loaded, PROJECT)


def test_the_number_of_segments_is_that_of_the_generated_kinds(rows: pl.DataFrame) -> None:
    segments = model.find(model.logarithms(rows), COLUMNS, "columns", PROJECT.seed)
    assert len(segments.centres) == len(data.KINDS)
    assert len(set(segments.names)) == len(segments.names)


def test_a_few_outliers_are_not_a_segment(rows: pl.DataFrame) -> None:
    outliers = rows.head(4).with_columns(pl.lit(10_000_000, pl.Int64).alias(name) for name in COLUMNS)
    values = model.logarithms(pl.concat([rows, outliers]))
    segments = model.find(values, COLUMNS, "columns", PROJECT.seed)
    nearest = ((values[:, None] - segments.centres[None]) ** 2).sum(axis=2).argmin(axis=1)
    assert np.bincount(nearest).min() >= model.MIN_SHARE * len(values)


def test_the_graph_and_numpy_find_the_same_segment(rows: pl.DataFrame) -> None:
    for candidate in PROJECT.candidates:
        values = model.logarithms(rows)
        segments = model.find(values, COLUMNS, candidate.params["compare"], PROJECT.seed)
        outputs = graph.run(model.to_onnx(segments, PROJECT), graph.feed(rows, PROJECT.schema))
        costs = model.costs(values, segments)
        assert outputs["label"].tolist() == [segments.names[index] for index in costs.argmin(axis=1)]
        powers = np.exp(-(costs - costs.min(axis=1, keepdims=True)) / 2)
        np.testing.assert_allclose(outputs["probabilities"], powers / powers.sum(axis=1, keepdims=True), atol=1e-4)


def test_the_mixture_matches_scikit_learn_and_beats_the_total(rows: pl.DataFrame) -> None:
    values = model.logarithms(rows)
    segments = model.find(values, COLUMNS, "widths", PROJECT.seed)
    mixture = GaussianMixture(
        len(segments.names), covariance_type="spherical", n_init=3, random_state=PROJECT.seed
    ).fit(values)
    outputs = graph.run(model.to_onnx(segments, PROJECT), graph.feed(rows, PROJECT.schema))
    np.testing.assert_allclose(outputs["probabilities"], mixture.predict_proba(values), atol=1e-3)
    total = model.find(values, COLUMNS, "total", PROJECT.seed)
    baseline = model.silhouette(values, model.costs(values, total).argmin(axis=1))
    assert model.silhouette(values, outputs["label"]) > baseline + 0.1


def test_contributions_add_up_to_the_explained_distance(rows: pl.DataFrame) -> None:
    segments = model.find(model.logarithms(rows), COLUMNS, "columns", PROJECT.seed)
    outputs = graph.run(model.to_onnx(segments, PROJECT), graph.feed(rows, PROJECT.schema))
    values = model.logarithms(rows)
    own = segments.means[[segments.names.index(name) for name in outputs["label"]]]
    explained = ((values - segments.average) ** 2).sum(axis=1) - ((values - own) ** 2).sum(axis=1)
    np.testing.assert_allclose(outputs["contributions"].sum(axis=1), explained, rtol=1e-3, atol=1e-3)
    assert (
        explained > 0
    ).mean() > 0.9  # nearly every customer is closer to the mean of its segment than to the overall mean


def test_a_customer_without_spends_has_finite_probabilities() -> None:
    rows = pl.DataFrame({name: [0] for name in COLUMNS})
    outputs = graph.run(fit(rows_of_three(), PROJECT, PROJECT.candidates[1]).onnx, graph.feed(rows, PROJECT.schema))
    assert np.isfinite(outputs["probabilities"]).all()


def rows_of_three() -> pl.DataFrame:
    """Customers in three tight groups."""
    random = np.random.default_rng(1)
    size = random.choice([10, 1000, 100_000], 60)
    return pl.DataFrame({name: size + random.integers(0, 3, 60) for name in COLUMNS})


def test_names_of_segments_are_unique() -> None:
    gaps = np.array([[2.0, -1.0, 0.1], [2.0, -1.0, 0.1], [-0.1, 0.2, -3.0]])
    assert model.names(gaps, ["milk", "fresh", "frozen"]) == (
        "much milk, little fresh",
        "much milk, little fresh (2)",
        "little frozen, much fresh",
    )

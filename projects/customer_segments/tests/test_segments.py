"""What is found in customers, and why a customer belongs to it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from phaseflow import registry
from phaseflow.toolkit import graph, source
from phaseflow.toolkit.fit import fit
from projects.customer_segments import data, model

PROJECT = registry.get("customer_segments")
COLUMNS = list(PROJECT.schema.feature_names)


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    loaded = source.Loaded(frame=source.read_csv(data.sample(PROJECT.seed)), origin="sample", sha256="")
    return source.rows(loaded, PROJECT)


def test_the_number_of_segments_is_that_of_the_kinds_that_were_made(rows: pl.DataFrame) -> None:
    found = model.find(model.logarithms(rows), COLUMNS, "columns", PROJECT.seed)
    assert len(found.centres) == len(data.KINDS)
    assert len(set(found.names)) == len(found.names)


def test_a_segment_of_a_few_strange_customers_is_none(rows: pl.DataFrame) -> None:
    strange = rows.head(4).with_columns(pl.lit(10_000_000, pl.Int64).alias(name) for name in COLUMNS)
    values = model.logarithms(pl.concat([rows, strange]))
    found = model.find(values, COLUMNS, "columns", PROJECT.seed)
    nearest = ((values[:, None] - found.centres[None]) ** 2).sum(axis=2).argmin(axis=1)
    assert np.bincount(nearest).min() >= model.LEAST_SHARE * len(values)


def test_the_graph_finds_the_segment_that_numpy_finds(rows: pl.DataFrame) -> None:
    for candidate in PROJECT.candidates:
        values = model.logarithms(rows)
        found = model.find(values, COLUMNS, candidate.params["compare"], PROJECT.seed)
        said = graph.run(model.to_onnx(found, PROJECT), graph.feed(rows, PROJECT.schema))
        gaps = ((values @ found.axes)[:, None] - found.centres[None]) ** 2
        squares = gaps.sum(axis=2)
        assert said["label"].tolist() == [found.names[place] for place in squares.argmin(axis=1)]
        powers = np.exp(-(squares - squares.min(axis=1, keepdims=True)) / (2 * found.width))
        np.testing.assert_allclose(said["probabilities"], powers / powers.sum(axis=1, keepdims=True), atol=1e-4)


def test_contributions_add_up_to_what_the_segment_explains(rows: pl.DataFrame) -> None:
    found = model.find(model.logarithms(rows), COLUMNS, "columns", PROJECT.seed)
    said = graph.run(model.to_onnx(found, PROJECT), graph.feed(rows, PROJECT.schema))
    values = model.logarithms(rows)
    own = found.means[[found.names.index(name) for name in said["label"]]]
    explained = ((values - found.average) ** 2).sum(axis=1) - ((values - own) ** 2).sum(axis=1)
    np.testing.assert_allclose(said["contributions"].sum(axis=1), explained, rtol=1e-3, atol=1e-3)
    assert (explained > 0).mean() > 0.9  # nearly every customer is nearer to its own kind than to the average


def test_nothing_spent_is_answered() -> None:
    rows = pl.DataFrame({name: [0] for name in COLUMNS})
    said = graph.run(fit(rows_of_three(), PROJECT, PROJECT.candidates[1]).onnx, graph.feed(rows, PROJECT.schema))
    assert np.isfinite(said["probabilities"]).all()


def rows_of_three() -> pl.DataFrame:
    """Three tight groups."""
    random = np.random.default_rng(1)
    size = random.choice([10, 1000, 100_000], 60)
    return pl.DataFrame({name: size + random.integers(0, 3, 60) for name in COLUMNS})


def test_names_tell_segments_apart() -> None:
    gaps = np.array([[2.0, -1.0, 0.1], [2.0, -1.0, 0.1], [-0.1, 0.2, -3.0]])
    assert model.names(gaps, ["milk", "fresh", "frozen"]) == (
        "much milk, little fresh",
        "much milk, little fresh (2)",
        "little frozen, much fresh",
    )

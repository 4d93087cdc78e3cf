"""Rows as monitoring sees them: descriptors replace non-scalar values (images, texts), one column each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from phaseflow import kinds, prediction_types
from phaseflow.contract import Column, Schema
from phaseflow.reference import PREDICTION

Vocabularies = Mapping[str, Sequence[str]]
"""The known words of text columns and the known ids of id columns, by column name."""


def vocabularies(schema: Schema, rows: pl.DataFrame, every: pl.DataFrame | None = None) -> dict[str, tuple[str, ...]]:
    """The known words of the text features of rows [N], and the ids of the rows `every` (default: `rows`)."""
    vocabulary = {}
    for column in schema.features:
        kind = kinds.of(column)
        if kind.vocabulary_statistics:
            whole = rows if every is None else every
            vocabulary[column.name] = kind.vocabulary(rows[column.name], whole[column.name])
    return vocabulary


def scalars(schema: Schema, rows: pl.DataFrame, vocabulary: Vocabularies) -> pl.DataFrame:
    """Rows [N] with non-scalar features replaced by their descriptors: Float64 or String, null if undefined."""
    for column in schema.features:
        if kinds.of(column).statistics(column):
            figures = _described(column, rows[column.name], vocabulary.get(column.name, ()), column.descriptors)
            rows = rows.drop(column.name).with_columns(figures)
    return rows


def _described(
    column: Column, values: Iterable[Any], vocabulary: Sequence[str], names: Sequence[str]
) -> list[pl.Series]:
    """The descriptors of values [N] as one series [N] per name."""
    words = frozenset(vocabulary)
    described = [kinds.describe(column, value, words) for value in values]
    dtype = pl.Float64 if kinds.of(column).has_numeric_statistics else pl.String
    return [pl.Series(name, [row[index] for row in described], dtype=dtype) for index, name in enumerate(names)]


def prediction_descriptors(target: Column | None, values: Sequence[Any], vocabulary: Vocabularies) -> pl.DataFrame:
    """Predictions (or labels) [N] as monitoring sees them, named by `prediction_types.monitored_names`.

    `vocabulary` has the known words of text predictions under `prediction`.
    """
    if target is None or not prediction_types.is_structured(target):
        return pl.DataFrame({PREDICTION: values})
    names = prediction_types.monitored_names(target)
    return pl.DataFrame(_described(target, values, vocabulary.get(PREDICTION, ()), names))


def label_descriptors(target: Column | None, rows: pl.DataFrame, name: str, vocabulary: Vocabularies) -> pl.DataFrame:
    """Rows [N] with the non-scalar labels of the column `name` replaced by their descriptors, `<name>.<descriptor>`.

    `vocabulary` has the known words of text labels under `prediction`.
    """
    if target is None or name not in rows.columns or not prediction_types.is_structured(target):
        return rows
    values = [None if text is None else prediction_types.parse(text, target) for text in rows[name]]
    described = prediction_descriptors(target, values, vocabulary)
    return rows.drop(name).with_columns(
        described.rename({column: name + column.removeprefix(PREDICTION) for column in described.columns})
    )


def prediction_vocabulary(target: Column | None, values: Sequence[Any]) -> dict[str, tuple[str, ...]]:
    """The known words of text predictions, under `prediction`; empty for other kinds of targets."""
    if target is None or not prediction_types.is_structured(target) or not kinds.of(target).vocabulary_statistics:
        return {}
    return {PREDICTION: kinds.of(target).vocabulary(values, values)}

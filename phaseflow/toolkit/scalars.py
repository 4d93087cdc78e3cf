"""Rows as monitoring sees them: what is no scalar (an image, a text) becomes its figures, a column each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from phaseflow import derived
from phaseflow.contract import DERIVED, Schema

Vocabularies = Mapping[str, Sequence[str]]
"""The known words of a text column, by its name."""


def vocabularies(schema: Schema, rows: pl.DataFrame) -> dict[str, tuple[str, ...]]:
    """The known words of every text feature of rows [N]."""
    return {column.name: derived.vocabulary(rows[column.name]) for column in schema.features if column.kind == "text"}


def scalars(schema: Schema, rows: pl.DataFrame, known: Vocabularies) -> pl.DataFrame:
    """Rows [N] in which every feature that is no scalar is replaced by its figures, Float64 (null where it has none)."""
    for column in schema.features:
        if column.kind not in DERIVED:
            continue
        words = frozenset(known.get(column.name, ()))
        found = [derived.figures(column, value, words) for value in rows[column.name]]
        figures = [
            pl.Series(name, [one[place] for one in found], dtype=pl.Float64)
            for place, name in enumerate(column.figures)
        ]
        rows = rows.drop(column.name).with_columns(figures)
    return rows

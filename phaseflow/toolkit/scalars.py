"""Rows as monitoring sees them: what is no scalar (an image, a text) becomes its figures, a column each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from phaseflow import answers, derived
from phaseflow.contract import DERIVED, NAMED, Column, Schema
from phaseflow.reference import PREDICTION

Vocabularies = Mapping[str, Sequence[str]]
"""The known words of a text column, or the known ids of one of ids, by its name."""


def vocabularies(schema: Schema, rows: pl.DataFrame, every: pl.DataFrame | None = None) -> dict[str, tuple[str, ...]]:
    """The known words of every text feature of rows [N], and every id that stands in `every` row (by default the same)."""
    found = {}
    for column in schema.features:
        if column.kind == "text":
            found[column.name] = derived.vocabulary(rows[column.name])
        if column.kind == "id":
            found[column.name] = tuple(sorted((rows if every is None else every)[column.name].drop_nulls().unique()))
    return found


def scalars(schema: Schema, rows: pl.DataFrame, known: Vocabularies) -> pl.DataFrame:
    """Rows [N] in which every feature that is no scalar is replaced by its figures, Float64 or names (null where it has none)."""
    for column in schema.features:
        if column.kind not in DERIVED:
            continue
        words = frozenset(known.get(column.name, ()))
        found = [derived.figures(column, value, words) for value in rows[column.name]]
        figures = [
            pl.Series(name, [one[place] for one in found], dtype=_dtype(column))
            for place, name in enumerate(column.figures)
        ]
        rows = rows.drop(column.name).with_columns(figures)
    return rows


def _dtype(column: Column) -> type[pl.String | pl.Float64]:
    return pl.String if column.kind in NAMED else pl.Float64


def answered(target: Column | None, values: Sequence[Any], known: Vocabularies) -> pl.DataFrame:
    """Answers [N] (or truths) as monitoring sees them, under the names of `answers.watched`.

    `known` holds the words of texts under `prediction`.
    """
    if target is None or not answers.structured(target):
        return pl.DataFrame({PREDICTION: values})
    words = frozenset(known.get(PREDICTION, ()))
    found = [derived.figures(target, value, words) for value in values]
    return pl.DataFrame(
        [
            pl.Series(name, [one[place] for one in found], dtype=_dtype(target))
            for place, name in enumerate(answers.watched(target))
        ]
    )


def figured_truths(target: Column | None, rows: pl.DataFrame, name: str, known: Vocabularies) -> pl.DataFrame:
    """Rows [N] in which truths that are no scalars, the column `name`, are replaced by their figures, `<name>.<figure>`.

    `known` holds the words of texts under `prediction`.
    """
    if target is None or name not in rows.columns or not answers.structured(target):
        return rows
    values = [None if text is None else answers.read(text, target) for text in rows[name]]
    found = answered(target, values, known)
    return rows.drop(name).with_columns(
        found.rename({one: name + one.removeprefix(PREDICTION) for one in found.columns})
    )


def words_of_answers(target: Column | None, values: Sequence[Any]) -> dict[str, tuple[str, ...]]:
    """The known words of answers that are texts, under `prediction`; nothing for others."""
    return {PREDICTION: derived.vocabulary(values)} if target is not None and target.kind == "text" else {}

"""Pseudonyms for the personal values of a frame."""

from __future__ import annotations

import polars as pl

from phaseflow import personal
from phaseflow.contract import Project
from phaseflow.settings import Settings


def pseudonymised(rows: pl.DataFrame, project: Project, settings: Settings) -> pl.DataFrame:
    """Rows [N] with personal values replaced by keyed hashes, the same as the service computes.

    Keys and groups of rows are computed from this frame. Raises PlatformError if the secret `personal_key` is missing.
    """
    pseudonyms = personal.pseudonyms(project, settings)
    if pseudonyms is None:
        return rows
    return rows.with_columns(
        pl.Series(column.name, [pseudonyms(column.name, value) for value in rows[column.name]], dtype=pl.String)
        for column in personal.hashed(project)
    )

"""A frame's personal values as the platform keeps them."""

from __future__ import annotations

import polars as pl

from phaseflow import personal
from phaseflow.contract import Project
from phaseflow.settings import Settings


def pseudonymised(rows: pl.DataFrame, project: Project, settings: Settings) -> pl.DataFrame:
    """Rows [N] with keyed hashes in the place of personal values, the same as the service makes of them.

    Whatever is computed of a row's content (its key, its group) is computed of this frame. Raises PlatformError when the secret
    `personal_key` is missing.
    """
    pseudonyms = personal.pseudonyms(project, settings)
    if pseudonyms is None:
        return rows
    return rows.with_columns(
        pl.Series(column.name, [pseudonyms(column.name, value) for value in rows[column.name]], dtype=pl.String)
        for column in personal.hashed(project)
    )

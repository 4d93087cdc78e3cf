"""Which rows a model never trains on: decided by their content, or where rows are a history by time."""

from __future__ import annotations

import hashlib

import polars as pl

from phaseflow.contract import Project


def keys(rows: pl.DataFrame, project: Project) -> pl.Series:
    """SHA-256 of each row's features: equal rows have equal keys, now and in every later snapshot.

    Where rows are a history, the features are the same again and again, and the truth belongs to the key.
    """
    columns = project.schema.columns if project.history else project.schema.features
    found = lines(rows.select([column.name for column in columns]))
    return pl.Series("_key", [hashlib.sha256(line.encode()).hexdigest() for line in found], dtype=pl.String)


def lines(rows: pl.DataFrame) -> pl.Series:
    """Each row as one text, by which rows are told apart."""
    cells = [
        (pl.col(name).bin.encode("base64") if dtype == pl.Binary else pl.col(name).cast(pl.String)).fill_null("\x00")
        for name, dtype in rows.schema.items()
    ]
    return rows.select(pl.concat_str(cells, separator="\x1f")).to_series()


def in_holdout(key: str, share: float) -> bool:
    """Whether a row belongs to the holdout: its key decides, so that no row ever changes sides."""
    return int(key[:8], 16) < share * 2**32


def sides(rows: pl.DataFrame, project: Project) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows [N] with `_key`, in order: those to train on, and those that are held out.

    By the key a row stays on its side for ever. Of a history the newest rows are held out, as they are what a model will meet:
    a repeated row counts once, a value of `history` with a single row is decided by its key, and a row may go from the holdout to
    the train rows when newer ones come, never back.
    """
    if not project.history:
        held = pl.Series([in_holdout(key, project.holdout_share) for key in rows["_key"]], dtype=pl.Boolean)
        return rows.filter(~held), rows.filter(held)
    rows = rows.unique("_key", keep="first", maintain_order=True)
    single = pl.Series([int(not in_holdout(key, project.holdout_share)) for key in rows["_key"]], dtype=pl.Int64)
    of_all, place = pl.len().over(project.history), pl.int_range(pl.len()).over(project.history)
    newest = (of_all * project.holdout_share).ceil().cast(pl.Int64)
    kept = pl.when(of_all == 1).then(single).otherwise(of_all.cast(pl.Int64) - newest)
    held = rows.select(place >= kept).to_series()
    return rows.filter(~held), rows.filter(held)

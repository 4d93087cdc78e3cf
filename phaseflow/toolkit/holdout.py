"""The split into train and holdout rows: by the hash of a row's group, or by time if the rows are a history."""

from __future__ import annotations

import hashlib

import polars as pl

from phaseflow.contract import Column, Project
from phaseflow.kinds import spelling


def row_hashes(rows: pl.DataFrame, project: Project) -> pl.Series:
    """SHA-256 of each row's features: equal rows have equal keys, in this and every later snapshot.

    In a history features repeat, so the key includes the label.
    """
    return hash_texts(row_texts(rows.select([column.name for column in identity(project)]))).rename("_key")


def identity(project: Project) -> tuple[Column, ...]:
    """The columns that identify a row: features, for a history also the target; without columns that the log omits."""
    columns = project.schema.columns if project.temporal_group else project.schema.features
    return tuple(column for column in columns if not column.omitted) or columns


def row_texts(rows: pl.DataFrame) -> pl.Series:
    """Each row as one text, different for different rows."""
    cells = [
        (pl.col(name).bin.encode("base64") if dtype == pl.Binary else pl.col(name).cast(pl.String)).fill_null("\x00")
        for name, dtype in rows.schema.items()
    ]
    return rows.select(pl.concat_str(cells, separator="\x1f")).to_series()


def hash_texts(texts: pl.Series) -> pl.Series:
    """SHA-256 of each text [N], as 64 hexadecimal digits; null for null."""
    digests = [None if text is None else hashlib.sha256(text.encode()).hexdigest() for text in texts]
    return pl.Series(texts.name, digests, dtype=pl.String)


def hash_groups(frame: pl.DataFrame, project: Project) -> pl.Series:
    """`_group` [N]: SHA-256 of the normalised value of the column `Project.group`; null if the value is missing."""
    is_text = any(column.name == project.group and column.kind == "text" for column in project.schema.features)
    cell = spelling.normalize(pl.col(project.group), punctuation=not is_text)
    return hash_texts(frame.select(cell.alias("_group")).to_series())


def groups(rows: pl.DataFrame, project: Project) -> pl.Series:
    """`_group` of source rows [N], which have `_key`: 64 hexadecimal digits, equal for rows that must stay together.

    The default is the row's key. If `Project.group` is not a feature, `rows` must have the column `_group` of
    `hash_groups`; groups that share equal rows are merged under the name of the first.
    """
    if not project.group:
        return rows["_key"].rename("_group")
    if project.group in project.schema.feature_names:
        group_hashes = hash_groups(rows, project)
        return group_hashes.zip_with(group_hashes.is_not_null(), rows["_key"])
    linked = rows.select("_key", pl.coalesce("_group", "_key").alias("_group")).with_row_index("_first")
    # Connected components of the graph of groups and keys by label propagation: one turn per link of the longest chain
    while True:
        propagated = linked.with_columns(pl.col("_first").min().over("_key"))
        propagated = propagated.with_columns(pl.col("_first").min().over("_group"))
        if propagated["_first"].equals(linked["_first"]):
            return linked["_group"].gather(linked["_first"])
        linked = propagated


def feedback_groups(rows: pl.DataFrame, project: Project) -> pl.Series:
    """`_group` of feedback rows [N], which have `_key` and `_sent` (the group sent with the label, or "").

    If `Project.group` is a feature, it names the group. Else the group is the one that was sent, or the row's key. Each
    row is decided on its own, so that it stays on its side whatever other feedback arrives and however the source
    grows.
    """
    if project.group in project.schema.feature_names:
        return groups(rows, project)
    return rows.select(pl.when(pl.col("_sent") != "").then("_sent").otherwise("_key").alias("_group")).to_series()


def in_holdout(key: str, share: float) -> bool:
    """Whether a row belongs to the holdout; the hash of its group decides, so that a row never changes sides."""
    return int(key[:8], 16) < share * 2**32


def train_holdout_split(rows: pl.DataFrame, project: Project) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The train rows and the holdout rows of rows [N], which have `_key`; both keep the order of the rows.

    `_group`, or the key if `rows` has no `_group`, decides the side of a row for good. With `Project.temporal_group`
    the newest rows of each group are held out, because they resemble future requests. Duplicate rows then count once,
    the key decides for a group of a single row, and a row may move from the holdout to the train rows when newer rows
    arrive, but never back.
    """
    if not project.temporal_group:
        keys = rows["_group" if "_group" in rows.columns else "_key"]
        holdout_mask = pl.Series([in_holdout(key, project.holdout_share) for key in keys], dtype=pl.Boolean)
        return rows.filter(~holdout_mask), rows.filter(holdout_mask)
    rows = rows.unique("_key", keep="first", maintain_order=True)
    single = pl.Series([int(not in_holdout(key, project.holdout_share)) for key in rows["_key"]], dtype=pl.Int64)
    group_size, position = pl.len().over(project.temporal_group), pl.int_range(pl.len()).over(project.temporal_group)
    holdout_count = (group_size * project.holdout_share).ceil().cast(pl.Int64)
    train_count = pl.when(group_size == 1).then(single).otherwise(group_size.cast(pl.Int64) - holdout_count)
    holdout_mask = rows.select(position >= train_count).to_series()
    return rows.filter(~holdout_mask), rows.filter(holdout_mask)

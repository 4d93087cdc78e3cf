"""Which rows a model never trains on: decided by the group that a row belongs to, or where rows are a history by time."""

from __future__ import annotations

import hashlib

import polars as pl

from phaseflow.contract import Column, Project


def keys(rows: pl.DataFrame, project: Project) -> pl.Series:
    """SHA-256 of each row's features: equal rows have equal keys, now and in every later snapshot.

    Where rows are a history, the features are the same again and again, and the truth belongs to the key.
    """
    return hashed(lines(rows.select([column.name for column in identity(project)]))).rename("_key")


def identity(project: Project) -> tuple[Column, ...]:
    """The columns by which rows are told apart: the features, of a history the target too; without those that the log leaves out."""
    columns = project.schema.columns if project.history else project.schema.features
    return tuple(column for column in columns if not column.omitted) or columns


def lines(rows: pl.DataFrame) -> pl.Series:
    """Each row as one text, by which rows are told apart."""
    cells = [
        (pl.col(name).bin.encode("base64") if dtype == pl.Binary else pl.col(name).cast(pl.String)).fill_null("\x00")
        for name, dtype in rows.schema.items()
    ]
    return rows.select(pl.concat_str(cells, separator="\x1f")).to_series()


def hashed(texts: pl.Series) -> pl.Series:
    """SHA-256 of each text [N], in 64 hexadecimal digits; null of a null."""
    digests = [None if text is None else hashlib.sha256(text.encode()).hexdigest() for text in texts]
    return pl.Series(texts.name, digests, dtype=pl.String)


def normalised(cell: pl.Expr, kind: str = "category") -> pl.Expr:
    """A value as text, without what people write now so and now otherwise; null where nothing is left.

    Unicode's compatibility forms, case and blanks are made one. Of a free text punctuation is a blank; in a word it may carry the
    meaning (`<=50K`).
    """
    text = cell.cast(pl.String).str.normalize("NFKC").str.to_lowercase()
    text = text.str.replace_all(r"[^\p{L}\p{N}]+" if kind == "text" else r"\s+", " ").str.strip_chars()
    return pl.when(text != "").then(text)


def hashed_groups(frame: pl.DataFrame, project: Project) -> pl.Series:
    """`_group` [N] of what stands in the column `Project.group`: SHA-256 of its normalised value; null where it has none."""
    features = {column.name: column.kind for column in project.schema.features}
    cell = normalised(pl.col(project.group), features.get(project.group, "category"))
    return hashed(frame.select(cell.alias("_group")).to_series())


def groups(rows: pl.DataFrame, project: Project) -> pl.Series:
    """`_group` of the source's rows [N], which have `_key`: 64 hexadecimal digits, equal for rows that must not be parted.

    By default a row's key. `rows` has a column `_group` of `hashed_groups` where `Project.group` is no feature; equal rows of two
    groups make them one, which bears the name of the first.
    """
    if not project.group:
        return rows["_key"].rename("_group")
    if project.group in project.schema.feature_names:
        own = hashed_groups(rows, project)
        return own.zip_with(own.is_not_null(), rows["_key"])
    linked = rows.select("_key", pl.coalesce("_group", "_key").alias("_group")).with_row_index("_first")
    while (
        True
    ):  # the components of a graph of groups and keys, by label propagation: as many turns as the longest chain
        turn = linked.with_columns(pl.col("_first").min().over("_key"))
        turn = turn.with_columns(pl.col("_first").min().over("_group"))
        if turn["_first"].equals(linked["_first"]):
            return linked["_group"].gather(linked["_first"])
        linked = turn


def feedback_groups(rows: pl.DataFrame, project: Project) -> pl.Series:
    """`_group` of rows [N] that came back, which have `_key` and `_sent`: the group that came with the label, "" where none came.

    A feature names the group whoever sent the row. Else it is the group that was sent, or the row's key. A row is decided by itself
    alone, so that it stays on its side whatever else comes back and however the source grows.
    """
    if project.group in project.schema.feature_names:
        return groups(rows, project)
    return rows.select(pl.when(pl.col("_sent") != "").then("_sent").otherwise("_key").alias("_group")).to_series()


def in_holdout(key: str, share: float) -> bool:
    """Whether a row belongs to the holdout: the hash of its group decides, so that no row ever changes sides."""
    return int(key[:8], 16) < share * 2**32


def sides(rows: pl.DataFrame, project: Project) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows [N] with `_key`, in order: those to train on, and those that are held out.

    By `_group`, where `rows` has it, else by the key, a row stays on its side for ever. Of a history the newest rows of each of its
    values are held out, as they are what a model will meet: a repeated row counts once, a value of `history` with a single row is
    decided by its key, and a row may go from the holdout to the train rows when newer ones come, never back.
    """
    if not project.history:
        decisive = rows["_group" if "_group" in rows.columns else "_key"]
        held = pl.Series([in_holdout(one, project.holdout_share) for one in decisive], dtype=pl.Boolean)
        return rows.filter(~held), rows.filter(held)
    rows = rows.unique("_key", keep="first", maintain_order=True)
    single = pl.Series([int(not in_holdout(key, project.holdout_share)) for key in rows["_key"]], dtype=pl.Int64)
    of_all, place = pl.len().over(project.history), pl.int_range(pl.len()).over(project.history)
    newest = (of_all * project.holdout_share).ceil().cast(pl.Int64)
    kept = pl.when(of_all == 1).then(single).otherwise(of_all.cast(pl.Int64) - newest)
    held = rows.select(place >= kept).to_series()
    return rows.filter(~held), rows.filter(held)

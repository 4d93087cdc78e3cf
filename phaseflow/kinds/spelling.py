"""Normalisation of texts, so that spellings of the same value are equal."""

from __future__ import annotations

from phaseflow.kinds.kind import Expr


def normalize(cell: Expr, *, punctuation: bool) -> Expr:
    """Cells as normalised text, without differences in spelling that don't matter; null if nothing is left.

    Unicode compatibility forms, case and blanks are normalised. `punctuation` may carry the meaning of a category
    (`<=50K`); without it, punctuation counts as a blank.
    """
    import polars as pl

    text = cell.cast(pl.String).str.normalize("NFKC").str.to_lowercase()
    text = text.str.replace_all(r"\s+" if punctuation else r"[^\p{L}\p{N}]+", " ").str.strip_chars()
    return pl.when(text != "").then(text)

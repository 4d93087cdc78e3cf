"""A version's reference: the bins that the service counts in, and the share of its newest training traffic in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from phaseflow.contract import Project
from phaseflow.reference import Bins
from phaseflow.toolkit.scalars import Vocabularies, answered, scalars

MOST_BINS: Final = 10
MOST_VALUES: Final = 20
CLOSE: Final = 1e-3
"""Of a value that fills all deciles: what differs less is the same."""


def numeric(feature: str, values: pl.Series) -> Bins:
    """Bins at the deciles of rows [N]; a value that fills several deciles keeps one edge."""
    known = values.drop_nulls().cast(pl.Float64)
    known = known.filter(known.is_finite())
    if known.is_empty():
        edges: tuple[float, ...] = (0.0,)
    else:
        cuts = np.quantile(known.to_numpy(), np.linspace(0, 1, MOST_BINS + 1)[1:-1])
        edges = tuple(dict.fromkeys(float(cut) for cut in cuts))
        if len(edges) == 1:  # nearly always the same: what is larger is another value, and has a bin of its own
            edges = (edges[0], edges[0] + max(abs(edges[0]), 1.0) * CLOSE)
    empty = Bins(feature=feature, edges=edges, shares=(0.0,) * (len(edges) + 2))
    return counted(empty, values.cast(pl.Float64).to_list())


def categorical(feature: str, values: pl.Series) -> Bins:
    """A bin for each of the most frequent values of rows [N]."""
    known = values.drop_nulls().cast(pl.String)
    counts = known.value_counts(sort=True).head(MOST_VALUES)
    words = tuple(sorted(word for word in counts[feature].to_list() if word))
    empty = Bins(feature=feature, values=words, shares=(0.0,) * (len(words) + 2))
    return counted(empty, values.cast(pl.String).to_list())


def counted(bins: Bins, values: Sequence[Any]) -> Bins:
    """The same bins with the shares of `values` in them."""
    counts = np.zeros(len(bins.shares))
    for value in values:
        counts[bins.index(value)] += 1
    shares = counts / max(counts.sum(), 1)
    return Bins(feature=bins.feature, edges=bins.edges, values=bins.values, shares=tuple(float(s) for s in shares))


def reference(project: Project, rows: pl.DataFrame, predictions: Sequence[Any], known: Vocabularies) -> list[Bins]:
    """Bins of everything that is watched and of the predictions, over rows [N]; `known` are the words of its texts."""
    seen = scalars(project.schema, rows, known)
    said = answered(project.schema.target, predictions, known)
    return [
        numeric(values.name, values) if values.dtype.is_numeric() else categorical(values.name, values)
        for values in (*(seen[name] for name in project.watched), *said.iter_columns())
    ]

"""The reference of a model version: the bins that the service counts in.

Each bin holds the share of the version's newest training traffic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from phaseflow.contract import Project
from phaseflow.reference import Bins
from phaseflow.toolkit.scalars import Vocabularies, prediction_descriptors, scalars

MAX_BINS: Final = 10
MAX_VALUES: Final = 20
CLOSE: Final = 1e-3
"""Relative tolerance within which a value counts as equal to a constant feature."""


def numeric(feature: str, values: pl.Series) -> Bins:
    """Return bins at the deciles of values [N]. Equal deciles share one edge."""
    numbers = values.drop_nulls().cast(pl.Float64)
    numbers = numbers.filter(numbers.is_finite())
    if numbers.is_empty():
        edges: tuple[float, ...] = (0.0,)
    else:
        cuts = np.quantile(numbers.to_numpy(), np.linspace(0, 1, MAX_BINS + 1)[1:-1])
        edges = tuple(dict.fromkeys(float(cut) for cut in cuts))
        if len(edges) == 1:  # a nearly constant feature: larger values get a bin of their own
            edges = (edges[0], edges[0] + max(abs(edges[0]), 1.0) * CLOSE)
    empty = Bins(feature=feature, edges=edges, shares=(0.0,) * (len(edges) + 2))
    return with_shares(empty, values.cast(pl.Float64).to_list())


def categorical(feature: str, values: pl.Series) -> Bins:
    """Return one bin for each of the `MAX_VALUES` most frequent values of a column [N]."""
    texts = values.drop_nulls().cast(pl.String)
    counts = texts.value_counts(sort=True).head(MAX_VALUES)
    words = tuple(sorted(word for word in counts[feature].to_list() if word))
    empty = Bins(feature=feature, values=words, shares=(0.0,) * (len(words) + 2))
    return with_shares(empty, values.cast(pl.String).to_list())


def with_shares(bins: Bins, values: Sequence[Any]) -> Bins:
    """Return the same bins with the shares of `values`."""
    counts = np.zeros(len(bins.shares))
    for value in values:
        counts[bins.index(value)] += 1
    shares = counts / max(counts.sum(), 1)
    return Bins(feature=bins.feature, edges=bins.edges, values=bins.values, shares=tuple(float(s) for s in shares))


def reference(
    project: Project, rows: pl.DataFrame, predictions: Sequence[Any], vocabularies: Vocabularies
) -> list[Bins]:
    """Return the bins of the monitored features and of the predictions over rows [N].

    `vocabularies` holds the words of the text columns.
    """
    features = scalars(project.schema, rows, vocabularies)
    predicted = prediction_descriptors(project.schema.target, predictions, vocabularies)
    return [
        numeric(values.name, values) if values.dtype.is_numeric() else categorical(values.name, values)
        for values in (*(features[name] for name in project.monitored_features), *predicted.iter_columns())
    ]

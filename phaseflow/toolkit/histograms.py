"""Histograms of an hour's values with fixed bins.

Counts of several hours can be added, and compared with any later reference.

The width of a number's bin is proportional to its value, so that every quantile of the histogram has a relative error
of at most `WIDTH` (DDSketch: Masson, Rim and Lee, PVLDB 12, 2019). Categories are counted by name, for the `MAX_VALUES`
most frequent values.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final

import polars as pl

from phaseflow import formats, kinds
from phaseflow.contract import Column, Project
from phaseflow.reference import MISSING, OTHER, PREDICTION, psi
from phaseflow.toolkit.scalars import prediction_descriptors, scalars

WIDTH: Final = 0.02
MAX_VALUES: Final = 100
MAX_DESCRIBED: Final = 2_000
"""Rows per batch whose images and texts are described: each descriptor takes tens of microseconds."""
DECILES: Final = 10
MAX_CATEGORIES: Final = 20
_GAMMA: Final = math.log((1 + WIDTH) / (1 - WIDTH))


@dataclass(slots=True)
class Histogram:
    """Counts of one monitored feature by bin: a signed bin number for numbers, else the value itself."""

    numeric: bool
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, other: Histogram) -> None:
        """Add the counts of another histogram; if the feature changed between numeric and categorical, start again."""
        if other.numeric != self.numeric:
            self.numeric, self.counts = other.numeric, Counter()
        self.counts.update(other.counts)


Histograms = dict[str, dict[str, Histogram]]
"""Histograms by version and monitored feature; the name "" counts the rows of a version."""


def of(project: Project, batches: Iterable[pl.DataFrame]) -> Histograms:
    """The histograms of logged predictions; an id counts once per batch."""
    histograms: Histograms = {}
    for batch in batches:
        if "version" not in batch.columns:
            continue
        rows = batch.unique("id", keep="any")
        for (version,), part in rows.partition_by("version", as_dict=True).items():
            merge(histograms, {str(version): of_rows(project, part)})
    return histograms


def of_rows(project: Project, rows: pl.DataFrame) -> dict[str, Histogram]:
    """The histograms of the monitored features of rows [N], and of `prediction` if the rows have it."""
    columns = [name for name in project.monitored_features if name in rows.columns and "." not in name]
    histograms = {name: _counted(rows[name]) for name in columns}
    figures = [
        name
        for name in project.monitored_features
        if "." in name and not _needs_vocabulary(name, project.schema[name.partition(".")[0]])
    ]
    sampled = (
        rows.head(MAX_DESCRIBED) if rows.height <= MAX_DESCRIBED else rows.sample(MAX_DESCRIBED, seed=project.seed)
    )
    if figures:
        described = scalars(project.schema, sampled, {})
        histograms |= {name: _counted(described[name]) for name in figures}
    if PREDICTION in rows.columns:
        histograms |= _of_predictions(project, rows, sampled)
    return histograms | {"": Histogram(False, Counter({"rows": rows.height}))}


def _of_predictions(project: Project, rows: pl.DataFrame, sampled: pl.DataFrame) -> dict[str, Histogram]:
    from phaseflow import prediction_types  # noqa: PLC0415  # imported only if there are predictions

    target = project.schema.target
    if not prediction_types.is_structured(target):
        return {PREDICTION: _counted(rows[PREDICTION])}
    values = [None if text is None else prediction_types.parse(text, target) for text in sampled[PREDICTION]]
    described = prediction_descriptors(target, values, {})
    return {
        name: _counted(described[name])
        for name in described.columns
        if target is not None and not _needs_vocabulary(name, target)
    }


def _needs_vocabulary(descriptor: str, column: Column) -> bool:
    """Whether a descriptor depends on the vocabulary of a version, which the log does not have."""
    return descriptor.rpartition(".")[2] in kinds.of(column).vocabulary_statistics


def _counted(values: pl.Series) -> Histogram:
    numeric = values.dtype.is_numeric()
    if numeric:
        number = values.cast(pl.Float64)
        size = number.abs()
        index = (size.log() / _GAMMA).ceil()
        frame = pl.DataFrame({"value": number, "index": index}).select(
            pl.when(pl.col("value").is_null() | ~pl.col("value").is_finite())
            .then(pl.lit(MISSING))
            .when(pl.col("value") == 0)
            .then(pl.lit("0"))
            .otherwise(
                pl.when(pl.col("value") < 0).then(pl.lit("-")).otherwise(pl.lit("+"))
                + pl.col("index").cast(pl.Int64, strict=False).cast(pl.String)
            )
            .alias("bin")
        )
        return Histogram(True, Counter(dict(frame["bin"].value_counts().iter_rows())))
    text = values.cast(pl.String).replace("", None).fill_null(MISSING)
    counts: Counter[str] = Counter(dict(text.value_counts().iter_rows()))
    return Histogram(False, _bounded(counts))


def _bounded(counts: Counter[str]) -> Counter[str]:
    """The counts of the most frequent values, and the sum of all others."""
    special = {name: counts.pop(name) for name in (MISSING, OTHER) if name in counts}
    frequent = Counter(dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_VALUES]))
    rest = sum(counts.values()) - sum(frequent.values())
    frequent.update(special)
    if rest:
        frequent[OTHER] += rest
    return frequent


def merge(into: Histograms, more: Mapping[str, Mapping[str, Histogram]]) -> None:
    """Add counts by version and monitored feature."""
    for version, figures in more.items():
        merged = into.setdefault(version, {})
        for name, histogram in figures.items():
            merged.setdefault(name, Histogram(histogram.numeric)).add(histogram)
            if not histogram.numeric and name:
                merged[name].counts = _bounded(merged[name].counts)


def value(bin_name: str) -> float:
    """The number that represents a bin, within a relative distance of `WIDTH` of every number in it."""
    if bin_name == "0":
        return 0.0
    size = 2 * math.exp(int(bin_name[1:]) * _GAMMA) / (1 + math.exp(_GAMMA))
    return -size if bin_name[0] == "-" else size


def difference(reference: Histogram, live: Histogram) -> float | None:
    """PSI of `live` against the deciles or most frequent values of `reference`; None if either is empty."""
    sums = sum(reference.counts.values()), sum(live.counts.values())
    if not all(sums) or reference.numeric != live.numeric:
        return None
    bin_index = _binning(reference)
    shares = [Counter[int](), Counter[int]()]
    for share, histogram, total in zip(shares, (reference, live), sums, strict=True):
        for name, count in histogram.counts.items():
            share[bin_index(name)] += count / total  # type: ignore[assignment]  # a share is not an integer
    bins = sorted(shares[0].keys() | shares[1].keys())
    return psi([shares[0][index] for index in bins], [shares[1][index] for index in bins])


def _binning(reference: Histogram) -> Any:
    """A function from a bin's name to the index of its decile or category in the reference (-1: missing or other)."""
    if not reference.numeric:
        ranks = {name: number for number, (name, _) in enumerate(reference.counts.most_common(MAX_CATEGORIES))}
        return lambda name: ranks.get(name, -1)
    ordered = sorted((value(name), count) for name, count in reference.counts.items() if name != MISSING)
    total = sum(count for _, count in ordered)
    ends = list(accumulate(count for _, count in ordered))
    edges = sorted(
        {
            next(number for (number, _), end in zip(ordered, ends, strict=True) if end >= total * part / DECILES)
            for part in range(1, DECILES)
            if total
        }
    )
    return lambda name: -1 if name == MISSING else sum(value(name) > edge for edge in edges)


def to_json(histograms: Histograms) -> bytes:
    """The content of the statistics file of a compacted hour."""
    return json.dumps(
        {
            "format": formats.STATISTICS,
            "versions": {
                version: {
                    name: {"numeric": histogram.numeric, "counts": dict(histogram.counts)}
                    for name, histogram in figures.items()
                }
                for version, figures in histograms.items()
            },
        }
    ).encode()


def from_json(content: bytes, name: str) -> Histograms:
    """The histograms that `to_json` wrote; raises PermanentError if the file `name` has another format."""
    document = json.loads(content)
    formats.require(name, document.get("format"), formats.STATISTICS)
    return {
        version: {figure: Histogram(entry["numeric"], Counter(entry["counts"])) for figure, entry in figures.items()}
        for version, figures in document["versions"].items()
    }

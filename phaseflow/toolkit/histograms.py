"""How the values of an hour were spread, in bins that never change: counts of two hours add up, and any later reference can be compared.

A number's bin is as wide as `WIDTH` of its value, so that any quantile of the histogram is that close to the true one (DDSketch: Masson,
Rim and Lee, PVLDB 12, 2019). The values of a category are counted by name, the most frequent `MOST_VALUES` of them.
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

from phaseflow import formats
from phaseflow.contract import DERIVED, Project
from phaseflow.reference import MISSING, OTHER, PREDICTION, psi
from phaseflow.toolkit.scalars import answered, scalars

WIDTH: Final = 0.02
MOST_VALUES: Final = 100
MOST_FIGURED: Final = 2_000
"""Rows of a batch whose images and texts are looked at: a figure of one takes tens of microseconds."""
DECILES: Final = 10
MOST_CATEGORIES: Final = 20
VOCABULARY: Final = frozenset({"unknown"})
"""Figures that need a version's vocabulary, which the log does not have."""
_GAMMA: Final = math.log((1 + WIDTH) / (1 - WIDTH))


@dataclass(slots=True)
class Histogram:
    """Counts of one figure by bin: the number of a bin of numbers (negative numbers have a `-` before it), or a value."""

    numeric: bool
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, other: Histogram) -> None:
        """Add another one's counts; a figure that was a number and is one no more begins anew."""
        if other.numeric != self.numeric:
            self.numeric, self.counts = other.numeric, Counter()
        self.counts.update(other.counts)


Histograms = dict[str, dict[str, Histogram]]
"""By version and figure; the rows of a version are counted under the figure "" ."""


def of(project: Project, batches: Iterable[pl.DataFrame]) -> Histograms:
    """The histograms of logged predictions; an id counts once in a batch."""
    found: Histograms = {}
    for batch in batches:
        if "version" not in batch.columns:
            continue
        rows = batch.unique("id", keep="any")
        for (version,), part in rows.partition_by("version", as_dict=True).items():
            merge(found, {str(version): of_rows(project, part)})
    return found


def of_rows(project: Project, rows: pl.DataFrame) -> dict[str, Histogram]:
    """The histograms of what is watched of rows [N], and of `prediction` where they have it."""
    derived_columns = {column.name for column in project.schema.features if column.kind in DERIVED}
    plain = [name for name in project.watched if name in rows.columns and name not in derived_columns]
    found = {name: _counted(rows[name]) for name in plain}
    figures = [name for name in project.watched if "." in name and name.rpartition(".")[2] not in VOCABULARY]
    ids = {column.name for column in project.schema.features if column.kind == "id"}
    figures = [name for name in figures if name.partition(".")[0] not in ids]
    few = rows.head(MOST_FIGURED) if rows.height <= MOST_FIGURED else rows.sample(MOST_FIGURED, seed=project.seed)
    if figures:
        seen = scalars(project.schema, few, {})
        found |= {name: _counted(seen[name]) for name in figures}
    if PREDICTION in rows.columns:
        found |= _of_predictions(project, rows, few)
    return found | {"": Histogram(False, Counter({"rows": rows.height}))}


def _of_predictions(project: Project, rows: pl.DataFrame, few: pl.DataFrame) -> dict[str, Histogram]:
    from phaseflow import answers  # noqa: PLC0415  # a layer's neighbour: only where there are predictions

    target = project.schema.target
    if not answers.structured(target):
        return {PREDICTION: _counted(rows[PREDICTION])}
    values = [None if text is None else answers.read(text, target) for text in few[PREDICTION]]
    seen = answered(target, values, {})
    return {name: _counted(seen[name]) for name in seen.columns if name.rpartition(".")[2] not in VOCABULARY}


def _counted(values: pl.Series) -> Histogram:
    numeric = values.dtype.is_numeric()
    if numeric:
        number = values.cast(pl.Float64)
        size = number.abs()
        place = (size.log() / _GAMMA).ceil()
        frame = pl.DataFrame({"value": number, "place": place}).select(
            pl.when(pl.col("value").is_null() | ~pl.col("value").is_finite())
            .then(pl.lit(MISSING))
            .when(pl.col("value") == 0)
            .then(pl.lit("0"))
            .otherwise(
                pl.when(pl.col("value") < 0).then(pl.lit("-")).otherwise(pl.lit("+"))
                + pl.col("place").cast(pl.Int64, strict=False).cast(pl.String)
            )
            .alias("bin")
        )
        return Histogram(True, Counter(dict(frame["bin"].value_counts().iter_rows())))
    text = values.cast(pl.String).replace("", None).fill_null(MISSING)
    counts: Counter[str] = Counter(dict(text.value_counts().iter_rows()))
    return Histogram(False, _bounded(counts))


def _bounded(counts: Counter[str]) -> Counter[str]:
    """The most frequent values, and all others together."""
    special = {name: counts.pop(name) for name in (MISSING, OTHER) if name in counts}
    frequent = Counter(dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_VALUES]))
    rest = sum(counts.values()) - sum(frequent.values())
    frequent.update(special)
    if rest:
        frequent[OTHER] += rest
    return frequent


def merge(into: Histograms, more: Mapping[str, Mapping[str, Histogram]]) -> None:
    """Add counts by version and figure."""
    for version, figures in more.items():
        known = into.setdefault(version, {})
        for name, histogram in figures.items():
            known.setdefault(name, Histogram(histogram.numeric)).add(histogram)
            if not histogram.numeric and name:
                known[name].counts = _bounded(known[name].counts)


def value(bin_name: str) -> float:
    """The number that stands for a bin, within `WIDTH` of every number in it."""
    if bin_name == "0":
        return 0.0
    size = 2 * math.exp(int(bin_name[1:]) * _GAMMA) / (1 + math.exp(_GAMMA))
    return -size if bin_name[0] == "-" else size


def difference(reference: Histogram, live: Histogram) -> float | None:
    """PSI of `live` against `reference`, over the deciles of the reference or its most frequent values; None where either is empty."""
    sums = sum(reference.counts.values()), sum(live.counts.values())
    if not all(sums) or reference.numeric != live.numeric:
        return None
    place = _places(reference)
    shares = [Counter[int](), Counter[int]()]
    for share, histogram, total in zip(shares, (reference, live), sums, strict=True):
        for name, count in histogram.counts.items():
            share[place(name)] += count / total  # type: ignore[assignment]  # a share is no whole number
    bins = sorted(shares[0].keys() | shares[1].keys())
    return psi([shares[0][each] for each in bins], [shares[1][each] for each in bins])


def _places(reference: Histogram) -> Any:
    """The number of the larger bin that contains each bin, by the name of the bin."""
    if not reference.numeric:
        known = {name: number for number, (name, _) in enumerate(reference.counts.most_common(MOST_CATEGORIES))}
        return lambda name: known.get(name, -1)
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


def to_json(found: Histograms) -> bytes:
    """As the file beside a compacted hour."""
    return json.dumps(
        {
            "format": formats.STATISTICS,
            "versions": {
                version: {name: {"numeric": one.numeric, "counts": dict(one.counts)} for name, one in figures.items()}
                for version, figures in found.items()
            },
        }
    ).encode()


def from_json(content: bytes, name: str) -> Histograms:
    """What `to_json` wrote; raises PermanentError when the file `name` is of another format."""
    found = json.loads(content)
    formats.require(name, found.get("format"), formats.STATISTICS)
    return {
        version: {figure: Histogram(one["numeric"], Counter(one["counts"])) for figure, one in figures.items()}
        for version, figures in found["versions"].items()
    }

"""The reference of a model version: the distribution of its training data over bins, per feature.

The service counts live values in the same bins, and PSI compares the two distributions. A numeric feature has the edges
e_0 < ... < e_k, which define k + 2 bins: below e_0, [e_i, e_{i+1}), and e_k and above. A categorical feature has one
bin per value and one for all other values. The last bin is for missing values.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

OTHER: Final = "(other)"
MISSING: Final = "(missing)"
PREDICTION: Final = "prediction"
"""The name under which predictions are counted. Non-scalar predictions have one per descriptor: `prediction.count`."""
PREDICTIONS: Final = f"{PREDICTION}([.].+)?"
"""A regular expression that matches these names."""
FLOOR: Final = 1e-4
"""Minimum share of a bin in PSI, so that an empty bin yields a large value instead of infinity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bins:
    """The bins of a feature and the share of the reference in each. `shares` sum to 1; missing values are last."""

    feature: str
    shares: tuple[float, ...]
    edges: tuple[float, ...] = ()
    """Edges of a numeric feature, ascending."""
    values: tuple[str, ...] = ()
    """Values of a categorical feature."""

    def __post_init__(self) -> None:
        if len(self.shares) != len(self.labels):
            raise ValueError(f"{self.feature}: {len(self.shares)} shares for {len(self.labels)} bins")

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the bins, the values of the metric label `bin`."""
        if self.edges:
            inner = [f"[{low:.6g}, {high:.6g})" for low, high in zip(self.edges, self.edges[1:], strict=False)]
            return (f"< {self.edges[0]:.6g}", *inner, f">= {self.edges[-1]:.6g}", MISSING)
        return (*self.values, OTHER, MISSING)

    def index(self, value: Any) -> int:
        """The index of the bin of `value`. None, NaN and the empty string count as missing."""
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            return len(self.shares) - 1
        if self.edges:
            return bisect_right(self.edges, value)
        text = value if isinstance(value, str) else str(value)
        try:
            return self.values.index(text)
        except ValueError:
            return len(self.values)


def psi(reference: Sequence[float], live: Sequence[float]) -> float:
    """Population stability index of two distributions over the same bins: the sum of (q - p) ln(q / p).

    Shares below `FLOOR` are raised to it. PSI is symmetric, and 0 for equal distributions. Siddiqi, Credit Risk
    Scorecards (2006).
    """
    total = 0.0
    for expected, actual in zip(reference, live, strict=True):
        p, q = max(expected, FLOOR), max(actual, FLOOR)
        total += (q - p) * math.log(q / p)
    return total


def to_json(bins: Sequence[Bins]) -> list[dict[str, Any]]:
    """Convert bins to dictionaries."""
    return [
        {"feature": b.feature, "shares": list(b.shares), "edges": list(b.edges), "values": list(b.values)} for b in bins
    ]


def from_json(content: str | Sequence[Mapping[str, Any]]) -> tuple[Bins, ...]:
    """Parse the output of `to_json`. Raises ValueError if it is malformed."""
    items = json.loads(content) if isinstance(content, str) else content
    try:
        return tuple(
            Bins(
                feature=item["feature"],
                shares=tuple(item["shares"]),
                edges=tuple(item["edges"]),
                values=tuple(item["values"]),
            )
            for item in items
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a reference: {error}") from error

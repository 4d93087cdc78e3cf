"""The reference of a model version: how its training traffic was spread over bins, a feature at a time.

The service counts live values in the same bins, and PSI compares the two. A numeric feature has `edges`
e_0 < ... < e_k, which make k + 2 bins: below e_0, [e_i, e_{i+1}), e_k and above; a categorical one has a bin a value
and one for all others. Missing values have a bin of their own, the last.
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
"""The name under which predictions are counted, beside the features'; what is no scalar by its figures, `prediction.count`."""
PREDICTIONS: Final = f"{PREDICTION}([.].+)?"
"""A regular expression of those names."""
FLOOR: Final = 1e-4
"""Least share of a bin in PSI, so that an empty bin gives a large figure and not an infinite one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bins:
    """Bins of one feature and the reference's share in each; `shares` sum to 1 and end with the missing bin's."""

    feature: str
    shares: tuple[float, ...]
    edges: tuple[float, ...] = ()
    """Of a numeric feature, ascending."""
    values: tuple[str, ...] = ()
    """Of a categorical feature."""

    def __post_init__(self) -> None:
        if len(self.shares) != len(self.labels):
            raise ValueError(f"{self.feature}: {len(self.shares)} shares for {len(self.labels)} bins")

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the bins, as in the metric label `bin`."""
        if self.edges:
            inner = [f"[{low:.6g}, {high:.6g})" for low, high in zip(self.edges, self.edges[1:], strict=False)]
            return (f"< {self.edges[0]:.6g}", *inner, f">= {self.edges[-1]:.6g}", MISSING)
        return (*self.values, OTHER, MISSING)

    def index(self, value: Any) -> int:
        """The bin of `value`; None, NaN and the empty string are missing."""
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
    """Population stability index of two spreads over the same bins: the sum of (q - p) ln(q / p).

    Shares are floored at `FLOOR`. 0 for equal spreads; symmetric. Siddiqi, Credit Risk Scorecards (2006).
    """
    total = 0.0
    for expected, actual in zip(reference, live, strict=True):
        p, q = max(expected, FLOOR), max(actual, FLOOR)
        total += (q - p) * math.log(q / p)
    return total


def to_json(bins: Sequence[Bins]) -> list[dict[str, Any]]:
    """Plain dictionaries."""
    return [
        {"feature": b.feature, "shares": list(b.shares), "edges": list(b.edges), "values": list(b.values)} for b in bins
    ]


def from_json(content: str | Sequence[Mapping[str, Any]]) -> tuple[Bins, ...]:
    """What `to_json` made; raises ValueError when it is not that."""
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

"""The error budget of a holdout. Repeated looks at the same rows would otherwise promote a lucky challenger.

Alpha-investing (Foster and Stine, JRSS B 70, 2008): each champion starts with an error budget (wealth) of `ALPHA`. Each
look spends half of the remaining wealth as its significance level. New rows in the holdout restore wealth in proportion
to their share. The probability that a challenger replaces a champion by chance is therefore at most `ALPHA` per renewal
of the holdout, plus `FLOOR` per look.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import polars as pl

ALPHA: Final = 0.05
FLOOR: Final = 0.001
"""Minimum level, so that a far better challenger can win at any look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One comparison of a challenger with a champion on the holdout."""

    number: int
    """Number of the look since the champion's promotion, from 1."""
    level: float
    """One-sided significance level. The first look has 0.025, one side of a 95 % interval."""
    left: float
    """Wealth that remains after this look."""
    newest: str
    """Latest time of the holdout's rows; "" if no row has a time."""
    snapshot: str
    model: str
    """SHA-256 of the challenger."""

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return asdict(self)


def look(
    earlier: Mapping[str, Any] | None, rows: pl.DataFrame, *, snapshot: str, model: str, same: bool = False
) -> Look:
    """Return this look at holdout rows [N]; `earlier` is the last look (`Look.to_dict`) at the same champion.

    The same challenger on the same snapshot is the same look. A challenger whose predictions equal the champion's
    (`same`) spends nothing.
    """
    if earlier is not None and (earlier["snapshot"], earlier["model"]) == (snapshot, model):
        return Look(**earlier)
    times = rows["_time"].drop_nulls().cast(pl.Datetime("us", "UTC")) if "_time" in rows.columns else pl.Series([])
    newest = times.max().isoformat() if len(times) else ""  # type: ignore[union-attr]  # the column holds times
    wealth, number = ALPHA, 1
    if earlier is not None:
        fresh = sum(time.isoformat() > earlier["newest"] for time in times.to_list()) / max(1, rows.height)
        wealth, number = min(ALPHA, earlier["left"] + ALPHA * fresh), earlier["number"] + 1
    level = max(wealth / 2, FLOOR)
    left = wealth if same else max(wealth - level, 0.0)
    return Look(number=number, level=level, left=left, newest=newest, snapshot=snapshot, model=model)
